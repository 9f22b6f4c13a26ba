"""Hostile files in a commit: a verdict for each, within bounds, and their neighbours do not notice."""

import asyncio
import json
from pathlib import Path

import pytest
from git import Repo

from coafi.names import EntryType, Phase
from tests.harness import ACTOR, Repository, documents, push_payload, running_stack
from tests.strength import size

MIB = 2**20

MANY = size(10_000, soak=100_000)
"""Repetitions of what takes long to read, the more so while coverage is measured."""

HOSTILE: dict[str, tuple[bytes, set[str]]] = {
    "docs/large.md": (b"# Large\n" + b"x" * (50 * MIB), {"skipped"}),
    "docs/bomb.yaml": (
        b"a: &a [x,x,x,x,x,x,x,x,x]\n"
        + b"".join(b"%c: &%c [%s]\n" % (n + 1, n + 1, b",".join([b"*%c" % n] * 9)) for n in range(97, 105)),
        {"invalid"},
    ),
    "docs/deep.json": (b"[" * 10_000 + b"]" * 10_000, {"invalid"}),
    "docs/deep.yaml": (b"[" * 10_000 + b"]" * 10_000, {"invalid"}),
    "docs/deep.md": (b"> " * 10_000 + b"x", {"valid"}),
    "docs/not-utf8.md": (b"---\ntitle: caf\xe9\n---\n", {"invalid"}),
    "docs/nul.json": (b'{"a": "\x00"}', {"invalid", "skipped"}),
    "docs/nul.md": (b"# A\x00B\n", {"invalid", "skipped", "valid"}),
    "docs/table.md": (b"|" + b"a|" * 2_000 + b"\n|" + b"-|" * 2_000 + b"\n" + b"|b\n" * 2_000, {"valid"}),
    "docs/script.md": (
        b"---\ntitle: x\n---\n<script>alert(1)</script><img src=x onerror=alert(1)>\n[go](javascript:alert(1))\n",
        {"valid"},
    ),
    "docs/brackets.md": (b"[" * 2 * MANY, {"valid"}),
    "docs/emphasis.md": (b"*a_ " * MANY, {"valid"}),
    "docs/symbols.md": ("Ã¼\n".encode() * 3 * MANY, {"valid"}),
    "docs/heading.md": (b"# " + b"*a*b" * 2 * MANY, {"valid"}),
    "docs/links.md": (b"<div>\n" + b"<a href=b>" * MANY, {"valid"}),
    "docs/keys.json": (
        (b'{"' + b"k" * 40_000 + b'":') * 95 + b"[" + b"1," * 60_000 + b'{"a":1,"a":2}]' + b"}" * 95,
        {"invalid"},
    ),
    "docs/word.svg": (
        b"<svg xmlns='http://www.w3.org/2000/svg'><style>(" + b"a" * (2 * MIB) + b"</style></svg>",
        {"valid"},
    ),
    "docs/attributes.svg": (
        b"<!DOCTYPE svg [" + b"".join(b"<!ATTLIST g a%d CDATA 'b'>" % n for n in range(5_000)) + b"]>"
        b"<svg xmlns='http://www.w3.org/2000/svg'>" + b"<g/>" * 40_000 + b"</svg>",
        {"invalid"},
    ),
    "docs/pattern.schema.json": (
        b'{"$schema": "https://json-schema.org/draft/2020-12/schema", "pattern": "^(a+)+$"}',
        {"valid", "invalid"},
    ),
    "docs/evil.svg": (
        b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script></svg>',
        {"valid"},
    ),
    "docs/entities.svg": (
        b'<!DOCTYPE svg [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]>'
        b'<svg xmlns="http://www.w3.org/2000/svg"><text>&b;</text></svg>',
        {"invalid"},
    ),
    ".coafi.yaml": (b"rules: [[[", {"invalid"}),
    "schemas.yaml": (b"- &a *a\n", {"invalid"}),
}


@pytest.mark.also_in_soak
@pytest.mark.timeout(size(180, soak=700))
async def test_every_hostile_file_gets_a_verdict_and_its_neighbours_theirs(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack:
        repository = Repository.create(tmp_path / "repo")
        before = repository.head
        repository.commit({**{path: content for path, (content, _) in HOSTILE.items()}, **documents(5)})
        with Repo(repository.path) as repo:
            (repository.path / "docs" / "link.md").symlink_to("/etc/passwd")
            repo.git.add(all=True)
            repo.git.update_index("--add", "--cacheinfo", f"160000,{before},docs/submodule")
            repo.index.update().commit("Links", author=ACTOR, committer=ACTOR)
        push = push_payload(repository.path.as_uri(), repository.head, before=before)
        handle = await stack.accepted(push)
        receipt = await asyncio.wait_for(handle.result(), size(150, soak=600))
        assert receipt.phase is Phase.PROCESSED
        tries = [
            event.activity_task_started_event_attributes.attempt
            async for event in handle.fetch_history_events()
            if event.HasField("activity_task_started_event_attributes")
        ]
        assert tries
        assert set(tries) == {1}, "no worker counted as lost over a slow file"
        verdicts = {
            str(one.entry.data["path"]): str(one.entry.data["verdict"])
            for one in stack.entries(EntryType.FILE_PROCESSED)
        }
        for path, (_, allowed) in HOSTILE.items():
            assert verdicts[path] in allowed, path
        assert verdicts["docs/link.md"] == verdicts["docs/submodule"] == "skipped"
        assert all(verdicts[path] == "valid" for path in documents(5))
        made = [one.entry.data for one in stack.entries(EntryType.ARTIFACT_GENERATED)]
        assert {str(data["path"]) for data in made} >= set(documents(5))
        for data in made:
            content = stack.resources.objects.get(str(data["digest"]))
            if str(data["mediaType"]).startswith(("text/html", "image/svg")):
                assert b"<script" not in content
                assert b"onerror" not in content or b"<img src=x" not in content
                assert b'href="javascript:' not in content
            else:
                json.loads(content)
        stack.verify()
