"""Every parser that bytes from outside reach, and the examples that damaged input is made from."""

import contextlib
import hashlib
import io
import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pydantic

from coafi.artifacts.compose import PageLocation, compose
from coafi.artifacts.generate import generate
from coafi.artifacts.markdown import TooCostly, render
from coafi.artifacts.model import ArtifactKind, GeneratorConfig
from coafi.canonical import canonical_json, sha256
from coafi.documents.check import FileReport, check_file
from coafi.documents.context import CheckContext
from coafi.documents.damage import damages, may_be_damaged, repaired
from coafi.documents.facts import document_facts
from coafi.documents.links import broken_links
from coafi.documents.outline import read_outline
from coafi.documents.rules import RULES, Example
from coafi.documents.svg import NotSvg, clean_svg
from coafi.errors import CoafiError
from coafi.federation.witness import format_request, parse_request
from coafi.git.archive import read_archive, write_archive
from coafi.git.changes import Change, ChangedFile, parse_raw_diff
from coafi.git.manifest import manifest_file, read_manifest
from coafi.git.refs import check_branch
from coafi.git.urls import UrlPolicy, parse_repository_url
from coafi.ledger.bundle import encode_bundle, parse_bundle
from coafi.ledger.checkpoint import open_checkpoint, parse_note
from coafi.ledger.cosignature import cosign, cosignatures, parse_cosignatures
from coafi.ledger.entry import Entry, timestamp
from coafi.ledger.fork import Fork, compare, verify_fork
from coafi.ledger.handover import keyring, parse_hand_overs
from coafi.ledger.keyfile import HeldKey
from coafi.ledger.keys import Cosigner, Keyring, Signer, VerifierKey, parse_private_key
from coafi.ledger.policy import parse_policy
from coafi.ledger.proof import Proof
from coafi.ledger.rotation import rotate
from coafi.ledger.verifier import verify_inclusion
from coafi.ledger.wire import (
    AppendRequest,
    DraftMessage,
    EntriesAnswer,
    EntryMessage,
    HashesAnswer,
    HeadAnswer,
    KeysAnswer,
)
from coafi.objects.local import LocalObjectStore
from coafi.paths import display_path, judge_path
from coafi.receipts.dsse import open_envelope, parse_envelope
from coafi.receipts.tlog_proof import format_tlog_proof, parse_tlog_proof
from coafi.receipts.verify import verify_receipt
from coafi.trees.listing import TreeFile, directories_of, files_of, read_listing
from coafi.webhooks.github import is_branch_push, parse_body, push_event
from tests.coafi.artifacts.site import provenance
from tests.coafi.artifacts.test_markdown import ATTACKS
from tests.coafi.documents.samples import BUILTIN, GOOD, PNG, SVG
from tests.coafi.documents.test_svg import ATTACKS as DRAWINGS
from tests.coafi.documents.trees import MemoryTree
from tests.coafi.federation.witnesses import COSIGNER, request
from tests.coafi.ledger.making import SIGNER, draft, opened
from tests.coafi.ledger.trees import SIGNER as LOG_SIGNER
from tests.coafi.ledger.trees import Tree
from tests.coafi.receipts.making import SIGNER as RECEIPTS
from tests.coafi.receipts.making import service
from tests.samples.repository import SAMPLES

SCHEMA = b"""{"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Part", "type": "object",
"properties": {"id": {"type": "string", "pattern": "^[A-Z]+$", "format": "uri"}, "n": {"$ref": "#/$defs/n"}},
"required": ["id"], "additionalProperties": false, "$defs": {"n": {"enum": [1, 2.5, null], "default": 1}}}"""
FIRST, SECOND = (Signer("keys.example/log", bytes([number]) * 32) for number in (1, 2))
_TIME = datetime(2026, 11, 24, tzinfo=UTC)


@dataclass(frozen=True)
class Target:
    """One parser.

    Attributes:
        run: gives it some input. ``CoafiError`` may come out, and what it says in ``raises``.
        seeds: makes the examples.
        raises: errors that the parser promises its caller.
    """

    run: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    raises: tuple[type[Exception], ...] = field(default=())


class _Active(HTMLParser):
    """Refuses what could act, as a browser would read it."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "iframe", "object", "embed", "foreignobject", "base", "link"), (
            self.get_starttag_text()
        )
        for name, value in attrs:
            target = re.sub(r"[\x00-\x20]", "", value or "").lower()
            assert not name.startswith("on"), self.get_starttag_text()
            if name.endswith(("href", "src", "action")):
                assert not target.startswith(("javascript:", "vbscript:", "data:text")), self.get_starttag_text()

    handle_startendtag = handle_starttag


def _acts_not(html: bytes) -> None:
    reader = _Active()
    reader.feed(html.decode())
    reader.close()


def _around() -> dict[str, bytes | str]:
    return {
        "docs/b.md": "# Other\n\n## Part\n",
        "docs/COAFI-ENG-0001-SPEC-A.md": GOOD,
        "data/s.schema.json": SCHEMA,
        "README.md": "# Read me\n",
    }


def _check(path: str, content: bytes, **around: bytes) -> FileReport:
    """Check a file in a small repository, generate what derives from it, and look at both."""
    tree = MemoryTree({**_around(), **around, path: content}, links=["lib"])
    report = check_file(path, content, BUILTIN, context=CheckContext.of(tree))
    canonical_json(report)
    lines = content.count(b"\n") + content.count(b"\r") + 1
    for finding in report.findings:
        assert finding.line is None or 1 <= finding.line <= lines, finding
        assert finding.remedy or RULES[finding.rule].remedy, finding
    for artifact in generate(report.kind, content, report, GeneratorConfig()).artifacts:
        if artifact.kind is ArtifactKind.PAGE:
            whole = compose(artifact.content, location=PageLocation(path), provenance=provenance(path, content))
            _acts_not(whole)
        elif artifact.name.endswith((".svg", ".html")):
            _acts_not(artifact.content)
    return report


def _markdown(data: bytes) -> None:
    _check("docs/a.md", data)
    document_facts(data)


def _front_matter(data: bytes) -> None:
    _markdown(b"---\n" + data + b"\n---\n\n# Title\n")


def _html(data: bytes) -> None:
    rendered = render(data.decode("utf-8", "replace"), "Title", GeneratorConfig())
    html = rendered.html.encode("utf-8", "replace")
    _acts_not(html)


def _links(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    outline = read_outline(text)
    for broken in broken_links("docs/a.md", text, outline, MemoryTree(_around(), links=["lib"]), 50):
        assert 0 <= broken.start <= len(text.encode())


def _damage(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    found = list(damages(text))
    assert not found or may_be_damaged(text)
    assert all(0 <= one.offset < len(text) for one in found)
    repaired(text)


def _schema(data: bytes) -> None:
    _check("data/t.schema.json", data)
    _check("data/a.json", b'{"$schema": "t.schema.json", "id": "A", "n": 3}', **{"data/t.schema.json": data})


def _svg(data: bytes) -> None:
    _check("img/a.svg", data)
    content = clean_svg(data).content
    _acts_not(content)
    assert clean_svg(content).removed == (), "what is clean stays as it is"


def _image(data: bytes) -> None:
    for name in ("a.png", "a.gif", "a.jpg", "a.webp"):
        _check(f"img/{name}", data)


def _settings(data: bytes) -> None:
    _check(".coafi.yaml", data)
    _check("docs/a.md", b"# A\n\n[x](y.md)\n", **{".coafi.yaml": data})


def _bindings(data: bytes) -> None:
    _check("schemas.yaml", data)
    _check("data/a.yaml", b"id: 5\n", **{"schemas.yaml": data})


def _webhook(data: bytes) -> None:
    for kind in ("application/json", "application/x-www-form-urlencoded"):
        with contextlib.suppress(CoafiError):
            payload = parse_body(data, kind)
            is_branch_push(payload)
            event = push_event(payload, delivery="1", body=data, received=_TIME, traceparent=None)
            canonical_json(event)
            event.model_dump_json()


def _diff(data: bytes) -> None:
    for path in data.split(b"\0"):
        judge_path(path)
        assert display_path(path).isprintable() or not path.isascii()
    for position, file in enumerate(parse_raw_diff(data)):
        manifest_file(file, position=position, batch=0)


@cache
def _store() -> LocalObjectStore:
    directory = tempfile.TemporaryDirectory(prefix="coafi-fuzz-")
    store = LocalObjectStore(Path(directory.name))
    store.kept = directory  # type: ignore[attr-defined]  # it lives as long as the store
    return store


def _manifest(data: bytes) -> None:
    read_manifest(_store(), _store().put(data))


def _listing(data: bytes) -> None:
    list(files_of(_store().put(data), lambda _path, digest: read_listing(_store(), digest)))


def _archive(data: bytes) -> None:
    list(read_archive(data))


def _proof(data: bytes) -> None:
    verify_inclusion(Proof.parse(data), SIGNER.key)


def _note(data: bytes) -> None:
    for parse in (
        lambda: open_checkpoint(data, SIGNER.key),
        lambda: parse_private_key(data),
        lambda: Entry.parse(data),
    ):
        with contextlib.suppress(CoafiError):
            parse()
    VerifierKey.parse(data.decode("utf-8", "replace"))


def _add_checkpoint(data: bytes) -> None:
    assert format_request(parse_request(data)) == data


def _cosigned(data: bytes) -> None:
    """A checkpoint with a cosignature, and what a witness answers."""
    with contextlib.suppress(CoafiError):
        parse_cosignatures(Tree(7).signed().checkpoint.text(), data, [COSIGNER.key])
    found = cosignatures(data, [COSIGNER.key])
    assert not found or parse_note(data).text == Tree(7).signed().checkpoint.text(), "nobody but the witness cosigns"


def _policy(data: bytes) -> None:
    policy = parse_policy(data)
    assert policy.quorum == "none" or not policy.is_met([]), "without witnesses nothing is cosigned"


def _split_view(data: bytes) -> None:
    proved = verify_fork(Fork.parse(data), LOG_SIGNER.key)
    assert [one.size for one in proved] == [6, 11], "a proof that was changed proves nothing"


def _hand_overs(data: bytes) -> None:
    ring = keyring(FIRST.key, parse_hand_overs(data))
    assert ring in (Keyring.of(FIRST.key), _changed()[1]), "nobody but both keys can hand over"


def _receipt(data: bytes) -> None:
    verify_receipt(io.BytesIO(data), [RECEIPTS.key])
    assert data in _receipts(), "a receipt that was changed proves nothing"


def _tlog_proof(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    found = parse_tlog_proof(text)
    assert format_tlog_proof(found.index, found.hashes, found.checkpoint, extra=found.extra) == text


def _envelope(data: bytes) -> None:
    open_envelope(parse_envelope(data), [RECEIPTS.key])


def _bundle(data: bytes) -> None:
    assert encode_bundle(parse_bundle(data)) == data


def _append(data: bytes) -> None:
    """As the gateway reads what another instance sends."""
    for one in AppendRequest.model_validate_json(data).drafts:
        body = one.draft.body(timestamp(_TIME))
        Entry.parse(body).check_canonical(body)


def _answers(data: bytes) -> None:
    """As an instance reads what another ledger answers."""
    for model in (EntriesAnswer, HashesAnswer, HeadAnswer, KeysAnswer):
        with contextlib.suppress(CoafiError, pydantic.ValidationError):
            found = model.model_validate_json(data)
            if isinstance(found, EntriesAnswer):
                for one in found.entries:
                    one.recorded.entry.check_canonical(one.recorded.body)


def _names(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    with contextlib.suppress(CoafiError):
        check_branch(text)
    parse_repository_url(text, UrlPolicy(ssh_hosts=frozenset({"github.com"}), allow_http=True))


def _of(*suffixes: str) -> list[bytes]:
    """The samples and the rules' examples with such a name."""
    examples: list[Example] = [one for rule in RULES.values() for one in (rule.breaks, rule.keeps)]
    contents: list[tuple[str, bytes | str | None]] = [(one.path, one.content) for one in examples]
    contents += [pair for one in examples for pair in one.around.items()]
    contents += [(one.path, one.content) for one in SAMPLES]
    found = [one.encode() if isinstance(one, str) else one for path, one in contents if one and path.endswith(suffixes)]
    return sorted({one for one in found if len(one) < 20_000})


def _front_matters() -> list[bytes]:
    return [one.split(b"---\n")[1] for one in _of(".md") if one.startswith(b"---\n") and one.count(b"---\n") > 1]


def _drawings() -> list[bytes]:
    return [*_of(".svg"), *((SVG % one).encode() for one in DRAWINGS)]


def _pushes() -> list[bytes]:
    push = {
        "ref": "refs/heads/main",
        "before": "a" * 40,
        "after": "b" * 40,
        "created": False,
        "forced": True,
        "repository": {"clone_url": "https://github.com/acme/docs.git"},
        "pusher": {"name": "ada"},
        "head_commit": {"author": {"name": "Ada"}, "message": "Add a part\n\nöäü"},
        "commits": [{"id": "b" * 40, "added": ["a.md"]}],
    }
    text = json.dumps(push)
    return [
        text.encode(),
        json.dumps(push, ensure_ascii=False).encode(),
        b"payload=%7B%22ref%22%3A%22x%22%7D&a=b",
        b"{}",
    ]


_CONTENT = b"Hello, World!"
_BLOB = hashlib.sha1(b"blob %d\0" % len(_CONTENT) + _CONTENT, usedforsecurity=False).hexdigest()
_CHANGED = ChangedFile(
    path=b"docs/a.md",
    old_path=None,
    change=Change.ADDED,
    mode="100644",
    old_mode=None,
    blob=_BLOB,
    old_blob=None,
    size=13,
)


def _diffs() -> list[bytes]:
    zeros, ones = b"0" * 40, b"1" * 40
    return [
        b":000000 100644 %b %b A\0docs/a.md\0:100644 000000 %b %b D\0b.md\0" % (zeros, ones, ones, zeros),
        b":100644 100755 %b %b R087\0old name.md\0new/na\xffme.md\0:100644 120000 %b %b T\0l\0"
        % (ones, ones, ones, zeros),
        b":160000 160000 %b %b M\0../x\0" % (ones, zeros),
    ]


def _manifests() -> list[bytes]:
    file = manifest_file(_CHANGED, position=0, batch=0).model_dump(mode="json", exclude_none=True)
    person = {"name": "Ada", "email": "ada@example.org", "time": "2026-11-24T00:00:00Z"}
    value = {
        "format": "coafi.git.manifest/1",
        "repository": "https://example.org/r",
        "commit": "a" * 40,
        "tree": "b" * 40,
        "parents": ["c" * 40],
        "base": "c" * 40,
        "base_kind": "before",
        "before_lost": False,
        "author": person,
        "committer": person,
        "subject": "Add",
        "message_digest": sha256(b"Add"),
        "files": [file],
        "batches": [{"index": 0, "archive": sha256(b""), "files": 1, "size": 13}],
    }
    return [canonical_json(value)]  # type: ignore[arg-type]  # mypy takes the values apart too strictly


def _listings() -> list[bytes]:
    files = [TreeFile("docs/a.md", "100644", "1" * 40), TreeFile("é.md", "120000", "2" * 40)]
    return [one.listing for one in directories_of(files, 1)]


def _archives() -> list[bytes]:
    return [write_archive([manifest_file(_CHANGED, position=0, batch=0)], [_CONTENT])]


@cache
def _proven() -> Proof:
    with tempfile.TemporaryDirectory(prefix="coafi-fuzz-") as directory, opened(Path(directory)) as ledger:
        ledger.append([draft(number) for number in range(20)])
        return ledger.prove(7)


def _notes() -> list[bytes]:
    return [_proven().checkpoint.encode(), _proven().entry.encode(), str(SIGNER.key).encode()]


def _requests() -> list[bytes]:
    return [request(Tree(11), *sizes) for sizes in ((0, 0), (0, 7), (6, 11), (8, 11))]


def _cosigned_notes() -> list[bytes]:
    note = Tree(7).signed().note
    line = cosign(parse_note(note).text, COSIGNER, 1_700_000_000)
    return [(note + line).encode(), line.encode()]


def _policies() -> list[bytes]:
    keys = [Cosigner(f"w{n}.example", bytes([n]) * 32).key for n in (1, 2, 3)]
    lines = [f"witness w{n} {key} https://w{n}.example" for n, key in enumerate(keys)]
    return ["\n".join([f"log {LOG_SIGNER.key}", *lines, "group g 2 w0 w1 w2", "quorum g", ""]).encode()]


def _split_views() -> list[bytes]:
    found = compare(Tree(6).signed(), Tree(11, forked=2).signed(), Tree(11, forked=2)).fork
    assert found is not None
    return [found.model_dump_json().encode()]


@cache
def _changed() -> tuple[KeysAnswer, Keyring]:
    """What a ledger says of a change of its keys."""
    with (
        tempfile.TemporaryDirectory(prefix="coafi-fuzz-") as directory,
        service(Path(directory), HeldKey(FIRST, SECOND)) as running,
    ):
        running.rejected()
        rotate(running.ledger, SECOND)
        return KeysAnswer.of(running.ledger.key, running.ledger.hand_overs()), running.ledger.keys


@cache
def _receipts() -> list[bytes]:
    with tempfile.TemporaryDirectory(prefix="coafi-fuzz-") as directory, service(Path(directory)) as running:
        refs = running.rejected(), running.processed(), running.parked(), running.dead_lettered()
        return [running.receipt(ref) for ref in refs]


def _entries() -> list[str]:
    return [one["entry"] for receipt in _receipts() for one in json.loads(receipt)["entries"]]


def _tlog_proofs() -> list[bytes]:
    proofs = [one["proof"].encode() for receipt in _receipts() for one in json.loads(receipt)["entries"]]
    return [*proofs, proofs[0].replace(b"\nindex", b"\nextra eA==\nindex")]


def _envelopes() -> list[bytes]:
    return [json.dumps(json.loads(receipt)["envelope"]).encode() for receipt in _receipts()]


def _drafts() -> list[bytes]:
    made = [draft(1, data={"a": [1, None, {"b": 0.5}], "é": "\U0001f600"}), draft(2)]
    return [AppendRequest(drafts=tuple(map(DraftMessage.of, made))).model_dump_json().encode()]


def _answered() -> list[bytes]:
    entry = EntryMessage(index=7, body=_entries()[0], fresh=True)
    said = (
        EntriesAnswer(entries=(entry, entry)),
        HashesAnswer(hashes=("0" * 64, "f" * 64)),
        HeadAnswer(origin="example.org/log", size=9, root="0" * 64),
        _changed()[0],
    )
    return [one.model_dump_json().encode() for one in said]


def _texts() -> list[bytes]:
    return [*_of(".md"), "cafÃ© â€“ naïve ï»¿ Ð¿Ñ€Ð¸Ð²ÐµÑ‚ \ufffd".encode(), "a\u200bb\u202ec\u0085".encode()]


_URLS = [
    b"https://github.com/acme/docs.git",
    b"ssh://git@github.com:22/acme/docs",
    b"git@github.com:acme/docs.git",
    b"https://user:secret@ex%C3%A4mple.org:8443/a/../b?x#y",
    b"http://[::1]/a",
    b"file:///tmp/x",
    "https://exämple.org/é".encode(),
    b"feature/a.b_c-1",
]

TARGETS: dict[str, Target] = {
    "markdown": Target(_markdown, lambda: _of(".md")),
    "front-matter": Target(_front_matter, _front_matters),
    "html": Target(_html, lambda: [*_of(".md"), *(one.encode() for one in ATTACKS)], raises=(TooCostly,)),
    "links": Target(_links, lambda: [one for one in _of(".md") if b"](" in one or b"]:" in one]),
    "damage": Target(_damage, _texts),
    "yaml": Target(lambda data: _check("data/a.yaml", data), lambda: _of(".yaml", ".yml")),
    "json": Target(lambda data: _check("data/a.json", data), lambda: _of(".json")),
    "schema": Target(_schema, lambda: [SCHEMA, *_of(".schema.json")]),
    "svg": Target(_svg, _drawings, raises=(NotSvg,)),
    "image": Target(_image, lambda: [PNG, b"GIF89a\x04\0\x04\0\0\0\0;", *_of(".png", ".gif", ".jpg", ".webp")]),
    "settings": Target(
        _settings, lambda: [b"rules:\n  link/missing: off\n  yaml/syntax: warning\n", *_of(".coafi.yaml")]
    ),
    "bindings": Target(
        _bindings,
        lambda: [b"schemas:\n- {schema: data/s.schema.json, files: ['data/**', '!data/b*']}\n", *_of("schemas.yaml")],
    ),
    "webhook": Target(_webhook, _pushes),
    "git-diff": Target(_diff, _diffs),
    "manifest": Target(_manifest, _manifests),
    "listing": Target(_listing, _listings),
    "archive": Target(_archive, _archives),
    "proof": Target(_proof, lambda: [_proven().model_dump_json().encode()]),
    "note": Target(_note, _notes),
    "add-checkpoint": Target(_add_checkpoint, _requests),
    "cosignature": Target(_cosigned, _cosigned_notes),
    "policy": Target(_policy, _policies),
    "split-view": Target(_split_view, _split_views),
    "hand-overs": Target(_hand_overs, lambda: [_changed()[0].model_dump_json().encode()]),
    "receipt": Target(_receipt, _receipts),
    "tlog-proof": Target(_tlog_proof, _tlog_proofs),
    "envelope": Target(_envelope, _envelopes),
    "bundle": Target(_bundle, lambda: [encode_bundle([b"", b"a", _entries()[0].encode(), b"x" * 300])]),
    "append": Target(_append, _drafts, raises=(pydantic.ValidationError,)),
    "answers": Target(_answers, _answered),
    "names": Target(_names, lambda: _URLS),
}
