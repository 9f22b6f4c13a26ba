"""The check of a file with the files around it: total, repeatable, and in bounded time, whatever these are."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.canonical import canonical_json
from coafi.documents.check import check_file
from coafi.documents.context import CheckContext
from coafi.documents.facts import document_facts
from coafi.documents.rules import RULES
from coafi.findings import Severity
from tests.coafi.documents.samples import BUILTIN
from tests.coafi.documents.test_check import FRAGMENTS, HOSTILE
from tests.coafi.documents.trees import MemoryTree

NAMES = st.sampled_from(
    [
        *("a.md", "b.md", "x/a.md", "x/y/b.md", "README.md", "COAFI-A-0001-SPEC-A.md"),
        *(
            "a.yaml",
            "x/a.json",
            "a.schema.json",
            "schemas/a.yaml",
            ".coafi.yaml",
            "schemas.yaml",
            "x/a.png",
            "\udcff.md",
        ),
    ]
)
PIECE = st.sampled_from(
    [
        *(
            b"---\n",
            b"title: x\n",
            b"document_id: COAFI-A-0001-SPEC-A\n",
            b"document_id: X\n",
            b"infoCode: INFO-SPEC\n",
        ),
        *(
            b"[a](b.md)",
            b"[a](../x/a.md#t)",
            b"![a](a.png)",
            b"[a](%ff%00)",
            b"[a](//)",
            b"[a]: y/b.md\n",
            b"[a]",
            b"<a href='",
        ),
        *(
            b"# T\n",
            b"## t\n",
            b"<h1>",
            b"\xc3\xa2\xe2\x82\xac\xe2\x80\x9c",
            b"\xff",
            b"\x00",
            b"`",
            b"\n",
            b"\r",
            b"> ",
        ),
        *(
            b"$schema: a.schema.json\n",
            b"# yaml-language-server: $schema=",
            b"schemas/a.yaml\n",
            b'{"$schema": "',
            b'"}',
        ),
        *(b"rules: {link/empty: off, yaml/syntax: info}\n", b"schemas: [{schema: a.schema.json, files: ['**']}]\n"),
        *(b"type: text\n", b"$ref: '#'\n", b"{", b"}", b"[", b"]", b":", b"a"),
    ]
)
CONTENT = st.one_of(st.binary(max_size=30), st.lists(PIECE, max_size=8).map(b"".join), FRAGMENTS)


@given(st.dictionaries(NAMES, CONTENT, min_size=1, max_size=6), st.lists(NAMES, max_size=2))
def test_every_file_of_every_tree_gets_a_verdict(files: dict[str, bytes], links: list[str]) -> None:
    tree = MemoryTree(files, links=links)
    context = CheckContext.of(tree)
    for path, content in files.items():
        report = check_file(path, content, BUILTIN, context=context)
        assert (report.verdict == "invalid") == any(one.severity is Severity.ERROR for one in report.findings)
        assert all(one.rule in RULES and one.message and one.remedy for one in report.findings)
        lines = content.count(b"\n") + content.count(b"\r") + 1
        assert all((one.line or 1) <= lines for one in report.findings)
        again = check_file(path, content, BUILTIN, context=CheckContext.of(tree))
        assert canonical_json(again) == canonical_json(report)


@pytest.mark.soak
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "name", sorted(name for name, (path, _) in HOSTILE.items() if path == "a.md" or "wide" in name)
)
def test_hostile_files_take_bounded_time_in_a_tree_too(name: str) -> None:
    path, make = HOSTILE[name]
    content = make()
    tree = MemoryTree({"s.schema.json": "{}", "schemas.yaml": "schemas: [{schema: s.schema.json, files: ['*']}]"})
    start = time.process_time()
    report = check_file(path, content, BUILTIN, context=CheckContext.of(tree))
    document_facts(content)
    assert report.verdict in ("valid", "invalid")
    assert time.process_time() - start < 120


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "content",
    [
        b'{"$schema": "https://json-schema.org/draft/2020-12/schema", "allOf": [' + b"{}," * 400_000 + b"{}]}",
        b'{"$schema": "http://json-schema.org/draft-03/schema#", "extends": [' + b"{}," * 50_000 + b"{}]}",
        b'{"$schema": "https://json-schema.org/draft/2020-12/schema", "x": ' + b"[" * 95 + b"]" * 95 + b"}",
        b'{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "' + b"x" * 9_000_000 + b'"}',
        b'{"$schema": "https://json-schema.org/draft/2020-12/schema", "not": ' * 90 + b"1" + b"}" * 90,
    ],
    ids=["wide", "wide in draft 3", "deep", "long", "nested"],
)
def test_hostile_schemas_take_bounded_time(content: bytes) -> None:
    start = time.process_time()
    report = check_file("a.json", content, BUILTIN)
    assert report.verdict in ("valid", "invalid")
    assert sum(len(one.message) for one in report.findings) < 50_000
    assert time.process_time() - start < 20
