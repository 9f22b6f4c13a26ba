"""What a receipt proves, and that nothing in it can be changed, left out, added or borrowed."""

import base64
import contextlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.artifacts.compose import PageLocation, Provenance, compose
from coafi.artifacts.model import GENERATOR_VERSION
from coafi.canonical import JsonObject, canonical_json
from coafi.errors import CoafiError, IntegrityError, ValidationError
from coafi.ledger.checkpoint import Checkpoint, sign_checkpoint, sign_note
from coafi.ledger.entry import Draft
from coafi.ledger.keys import Signer
from coafi.ledger.merkle import leaf_hash, node_hash
from coafi.names import EntryType, Phase
from coafi.receipts.dsse import seal
from coafi.receipts.layout import MAX_LINE, Item, ReceiptWriter
from coafi.receipts.make import write_receipt
from coafi.receipts.statement import statement_of
from coafi.receipts.story import OPEN, Story
from coafi.receipts.tlog_proof import format_tlog_proof
from coafi.receipts.verify import verify_artifact, verify_receipt
from tests.coafi.receipts.making import COMMIT, OTHER, SIGNER, Service, service, verified
from tests.harness import document


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("receipts")) as one:
        yield one


@pytest.fixture(scope="module")
def processed(running: Service) -> bytes:
    """The receipt of a push, between other events."""
    running.rejected("before")
    ref = running.processed("whole")
    running.rejected("after")
    return running.receipt(ref)


@pytest.fixture(scope="module")
def small(running: Service) -> bytes:
    """A small receipt, of a rejected event."""
    return running.receipt(running.rejected("small"))


def refused(receipt: bytes, problem: str, *keys: Signer) -> None:
    with pytest.raises((ValidationError, IntegrityError), match=problem) as caught:
        verified(receipt, *(one.key for one in keys))
    assert caught.value.remedy


Edit = Callable[[list[Item]], list[Item]]


def items(receipt: bytes) -> list[Item]:
    """The entries of a receipt."""
    return [Item(one["entry"].encode(), one["proof"]) for one in json.loads(receipt)["entries"]]


def written(entries: list[Item], envelope: Any) -> bytes:
    """A receipt of these entries and this envelope."""
    file = io.BytesIO()
    writer = ReceiptWriter(file)
    for one in entries:
        writer.add(one)
    writer.end(envelope)
    return file.getvalue()


def resealed(receipt: bytes, edit: Edit = lambda all_: all_, change: Callable[[Any], Any] = lambda said: said) -> bytes:
    """A receipt that whoever holds the log's key made of another one: entries or statement changed, and signed."""
    said = change(json.loads(base64.b64decode(json.loads(receipt)["envelope"]["payload"])))
    payload = said if isinstance(said, bytes) else canonical_json(said)
    return written(edit(items(receipt)), seal(payload, SIGNER.key, SIGNER.sign))


# ---------------------------------------------------------------------- what is proved


def test_a_processed_event_is_told_whole(running: Service, processed: bytes) -> None:
    receipt = verified(processed)
    story = receipt.story
    assert (story.phase, story.commit, story.event_id) == ("PROCESSED", COMMIT, "whole")
    assert story.received.data.principal == "github-webhook"
    assert [file.verdict for _, file in story.files] == ["valid", "invalid"]
    assert story.builds == {"1.2.3"}
    assert receipt.key == receipt.statement_key == SIGNER.key
    assert story.count == len(items(processed))
    assert receipt.checkpoint.size > story.ranges[-1][1] + 1, "others came after it"


def test_the_same_state_gives_the_same_bytes(running: Service) -> None:
    ref = running.processed("again")
    first = running.receipt(ref)
    assert running.receipt(ref) == first
    running.rejected("one more")
    second = running.receipt(ref)
    assert second != first
    assert verified(second).checkpoint.size > verified(first).checkpoint.size


def test_an_open_event_is_told_as_far_as_it_went(running: Service) -> None:
    story = verified(running.receipt(running.parked())).story
    assert (story.phase, story.conclusion, story.commit) == (OPEN, None, "")
    assert [one.step for one in story.failures] == ["git.fetch"]


def test_a_rejected_event_says_why(running: Service, small: bytes) -> None:
    story = verified(small).story
    assert story.phase == "REJECTED"
    assert story.conclusion
    assert [one.rule for one in story.conclusion.data.findings][:1] == ["payload/required"]
    assert story.received.data.parameters == {}


def test_a_dead_letter_says_who_decided(running: Service) -> None:
    story = verified(running.receipt(running.dead_lettered())).story
    assert story.phase == "FAILED"
    assert story.conclusion
    assert [(one.by, one.reason) for one in story.conclusion.data.decisions] == [("ada", "gone")]


def test_the_last_conclusion_counts(running: Service) -> None:
    ref = running.dead_lettered("saved after all")
    running.conclude(ref, Phase.PROCESSED, counts={"files": 0}, digests={"manifest": "1" * 64})
    story = verified(running.receipt(ref)).story
    assert (story.phase, story.commit) == ("PROCESSED", COMMIT)


def test_another_body_under_the_same_id_is_told_apart(running: Service) -> None:
    ref = running.processed("reused")
    running.receive("reused", body="1", run="run-2")
    story = verified(running.receipt(ref)).story
    assert story.phase == "PROCESSED"
    assert len(story.conflicts) == 1
    assert story.received.data.body_digest == "0" * 64


def test_entries_of_older_versions_are_taken(running: Service) -> None:
    ref = running.receive("old")
    (new,) = running.entries(ref)
    old = {name: value for name, value in new.data.items() if name not in ("parameters", "runId", "build")}
    draft = Draft(
        namespace="older",
        workflow_id=ref.workflow_id,
        step="receive",
        type=EntryType.EVENT_RECEIVED,
        event_id="old",
        utids=ref.utids,
        inputs={},
        data=old,
    )
    file = io.BytesIO()
    write_receipt(running.ledger, running.ledger.append([draft]), file)
    said = json.loads(verified(file.getvalue()).statement)["predicate"]
    assert said["runDetails"]["metadata"]["invocationId"] == ref.workflow_id
    assert said["runDetails"]["builder"]["version"] == {}
    assert said["buildDefinition"]["externalParameters"]["parameters"] == {}


def test_progress_is_told(running: Service) -> None:
    ref = running.receive("many")
    drafts = [
        running.recorder.draft(ref, EntryType.EVENT_UNPROCESSED, step=str(n), inputs={}, data={}) for n in range(1_100)
    ]
    running.ledger.append(drafts)
    file, seen = io.BytesIO(), list[int]()
    write_receipt(running.ledger, running.entries(ref), file, on_progress=seen.append)
    file.seek(0)
    verify_receipt(file, [SIGNER.key], on_progress=seen.append)
    assert seen == [1_000, 1_000]


def test_a_key_among_others_is_found_and_another_one_does_not_do(processed: bytes) -> None:
    assert verified(processed, OTHER.key, SIGNER.key).key == SIGNER.key
    refused(processed, "not signed by other.example/log", OTHER)
    refused(processed, "not signed by", Signer(SIGNER.name, bytes(32)))


def test_without_a_key_nothing_is_proved(processed: bytes) -> None:
    with pytest.raises(ValidationError, match="no key is given"):
        verify_receipt(io.BytesIO(processed), [])


def test_the_statement_may_be_signed_by_the_key_that_came_after(processed: bytes) -> None:
    newer = Signer(SIGNER.name, b"\x07" * 32)
    payload = verified(processed).statement
    receipt = written(items(processed), seal(payload, newer.key, newer.sign))
    assert verified(receipt, SIGNER.key, newer.key).statement_key == newer.key
    refused(receipt, "the envelope is signed by .* none of the given keys")


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "every", [pytest.param(1, marks=[pytest.mark.soak, pytest.mark.timeout(600)]), 13], ids=["each", "some"]
)
def test_no_byte_can_be_changed(small: bytes, every: int) -> None:
    verified(small)
    for at, byte in list(enumerate(small))[::every]:
        for flip in (1, 0x20):
            changed = small[:at] + bytes([byte ^ flip]) + small[at + 1 :]
            with pytest.raises((ValidationError, IntegrityError)):
                verified(changed)


def test_no_byte_of_a_page_of_entries_can_be_changed(processed: bytes) -> None:
    for at in range(0, len(processed), 37):
        changed = processed[:at] + bytes([processed[at] ^ 1]) + processed[at + 1 :]
        with pytest.raises((ValidationError, IntegrityError)):
            verified(changed)


def test_no_end_can_be_cut_off_and_nothing_added(small: bytes) -> None:
    for length in range(0, len(small), 3):
        with pytest.raises((ValidationError, IntegrityError)):
            verified(small[:length])
    refused(small[:-1], "envelope is missing or cut off")
    refused(small + b"\n", "envelope is missing or cut off|follows after the end")
    refused(small + small, "envelope is longer|follows after the end|cut off")
    refused(b"\xef\xbb\xbf" + small, "line 1")
    refused(small.replace(b"\n", b"\r\n"), "line")


SPELLINGS = [
    (b'{"entry":', b'{"entry":"x","entry":'),
    (b'{"entry":', b'{"a":0,"entry":'),
    (b'{"entry":', b'{ "entry":'),
    (b'"proof":"c2sp', b'"proof":"\\u00632sp'),
    (b'"signatures":[', b'"signatures":[{"keyid":"x","sig":"eA=="},'),
    (b'"envelope":{"payload"', b'"envelope":{"payload":"eA==","payload"'),
    (b'"payloadType":"application/vnd.in-toto+json"', b'"payloadType":"text/plain"'),
    (b'"payloadType":"application/vnd.in-toto+json",', b""),
    (b"coafi.receipt/1", b"coafi.receipt/2"),
]


@pytest.mark.parametrize(("old", "new"), SPELLINGS)
def test_there_is_one_spelling(processed: bytes, old: bytes, new: bytes) -> None:
    assert old in processed
    refused(processed.replace(old, new, 1), "line|envelope")


HEAD = b'{"format":"coafi.receipt/1","entries":[\n'


@pytest.mark.parametrize(
    ("receipt", "problem"),
    [
        (b"", "line 1"),
        (b"{}", "line 1"),
        (b"\xff" * 1_000, "line 1"),
        (b"[" * 1_000_000, "line 1"),
        (HEAD, "line 2.*cut off"),
        (HEAD + b"],", "line 2.*cut off"),
        (HEAD + b"[" * 200_000 + b",\n", "line 2.*no entry"),
        (HEAD + b'{"a":' * 50_000 + b"\n", "line 2.*no entry"),
        (HEAD + b"x" * (MAX_LINE + 1), "longer than"),
        (HEAD + b'{"entry":1,"proof":"x"}\n', "no entry"),
        (HEAD + b'{"entry":"x","proof":[]}\n', "not spelled"),
        (HEAD + b'{"entry":"\\ud800","proof":"x"}\n', "no entry"),
        (HEAD + b'{"entry":"x","proof":"\\ud800"}\n', "no entry"),
        (HEAD + b'{"entry":' + b"9" * 5_000 + b"}\n", "no entry"),
        (HEAD + b'{"entry":"x"}\n', "no entry"),
        (HEAD + b"[1]\n", "no entry"),
        (HEAD + b'"entry"\n', "no entry"),
        (HEAD + b"null\n", "no entry"),
        (HEAD + b"\n", "no entry"),
        (HEAD + b'],"envelope":{}}\n', "no entry"),
        (HEAD + b'{"entry":"x","proof":"x"}\n', "number 1 of the receipt: this is not a tlog-proof"),
    ],
    ids=range(21),
)
def test_what_is_no_receipt_is_refused(receipt: bytes, problem: str) -> None:
    refused(receipt, problem)


def swap(entries: list[Item]) -> list[Item]:
    one, two, *rest = entries
    return [Item(one.body, two.proof), Item(two.body, one.proof), *rest]


def reproved(pattern: str, replacement: str) -> Edit:
    """Change the proof of the second entry."""

    def edit(entries: list[Item]) -> list[Item]:
        proof, found = re.subn(pattern, replacement, entries[1].proof, count=1)
        assert found
        return [entries[0], Item(entries[1].body, proof), *entries[2:]]

    return edit


def checkpoints(note: str) -> Edit:
    """Give every proof another checkpoint."""
    return lambda entries: [Item(one.body, one.proof.split("\n\n")[0] + "\n\n" + note) for one in entries]


ROOT = Checkpoint(SIGNER.name, 1_000, b"\x05" * 32)


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (swap, "entry number 1 of the receipt: entry .* is not in the tree"),
        (lambda entries: [entries[1], entries[0], *entries[2:]], "comes after entry"),
        (lambda entries: [entries[0], *entries], "comes after entry"),
        (lambda entries: entries[1:], "EVENT_RECEIVED"),
        (lambda entries: [entries[0], *entries[2:]], r"entry \d+ is left out: entry \d+ says"),
        (lambda entries: entries[:-1], "the statement is not what the entries tell"),
        (reproved("index", "extra eA==\nindex"), "number 2 of the receipt: its proof holds extra data"),
        (reproved(r"index \d+", "index 4294967296"), "cannot be in a tree"),
        (reproved(r"(index \d+\n)[^\n]+\n", r"\1"), "too short|is not in the tree"),
        (reproved(r"(index \d+\n)([^\n]+\n)", r"\1\2\2"), "too long|is not in the tree"),
        (reproved(r"\n\n(.*)", r"\n\nx\1"), "another checkpoint than the first one"),
        (checkpoints(sign_checkpoint(ROOT, SIGNER).note), "too short|is not in the tree of 1000 entries"),
        (checkpoints(sign_checkpoint(Checkpoint(OTHER.name, 1_000, bytes(32)), OTHER).note), "not signed by"),
        (checkpoints(sign_note(Checkpoint("x.example", 9, bytes(32)).text(), SIGNER)), "the checkpoint is of 'x.exam"),
        (checkpoints("nonsense\n"), "number 1 of the receipt: this is not a signed checkpoint"),
    ],
)
def test_not_even_who_holds_the_key_can_change_the_entries(processed: bytes, edit: Edit, problem: str) -> None:
    refused(resealed(processed, edit), problem)


def test_a_checkpoint_of_another_size_is_refused(running: Service, processed: bytes) -> None:
    size = verified(processed).checkpoint.size
    larger = Checkpoint(SIGNER.name, size + 1, verified(processed).checkpoint.checkpoint.root)
    changed = resealed(processed, checkpoints(sign_checkpoint(larger, SIGNER).note))
    refused(changed, "is not in the tree|too|size says .* and they tell")


def test_an_entry_of_another_event_is_refused(running: Service) -> None:
    one, two = running.processed("one"), running.processed("two")
    running.receipt(two)
    ours, theirs = items(running.receipt(one)), items(running.receipt(two))
    receipt = running.receipt(one)
    refused(
        resealed(receipt, lambda _: [*ours, theirs[0]]), "is about event 'two' .* the entries before it about 'one'"
    )


def test_a_receipt_of_another_log_is_refused(tmp_path: Path, processed: bytes) -> None:
    with service(tmp_path / "other", OTHER) as other:
        foreign = other.receipt(other.processed("whole"))
    assert verified(foreign, OTHER.key).story.event_id == "whole"
    refused(foreign, "not signed by receipts.example/log")
    mixed = resealed(processed, lambda entries: [entries[0], items(foreign)[1], *entries[2:]])
    refused(mixed, "another checkpoint", SIGNER, OTHER)


def with_value(said: Any, pointer: str, value: Any) -> Any:
    """The statement with another value at a place."""
    *path, last = pointer.strip("/").split("/")
    place = said
    for name in path:
        place = place[int(name)] if isinstance(place, list) else place[name]
    place[int(last) if isinstance(place, list) else last] = value
    return said


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda said: with_value(said, "/subject/0/digest/sha256", "0" * 64),
            '/subject/0/digest/sha256 says "0000',
        ),
        (lambda said: with_value(said, "/subject/0/extra", 1), "/subject/0/extra is more than they tell"),
        (lambda said: {**said, "subject": said["subject"][1:]}, "/subject"),
        (lambda said: {**said, "subject": [*said["subject"], {}]}, r"/subject has \d+ items, and they tell \d+"),
        (lambda said: with_value(said, "/predicate/runDetails/metadata", {}), "metadata/finishedOn is missing"),
        (
            lambda said: with_value(said, "/predicate/buildDefinition/internalParameters/principal", "eve"),
            'principal says "eve", and they tell "github-webhook"',
        ),
        (lambda said: json.dumps(said).encode(), "it is spelled otherwise"),
        (lambda said: b"\xff", "not JSON"),
        (lambda said: b"[" * 2_000, "not JSON"),
        (lambda said: canonical_json(said) * 4, "envelope is longer than any statement"),
        (lambda said: [], "says"),
    ],
)
def test_a_statement_that_says_other_things_than_the_entries_is_refused(
    processed: bytes, change: Callable[[Any], Any], problem: str
) -> None:
    refused(resealed(processed, change=change), re.escape(problem) if "\\" not in problem else problem)


def forged(running: Service, *drafts: Draft) -> bytes:
    """The receipt of entries that no step of ours records, made without a look at them."""
    recorded = running.ledger.append(drafts)
    signed = running.ledger.checkpoint(force=True)
    proofs = running.ledger.inclusion_proofs([one.index for one in recorded], signed.size)
    made = [
        Item(one.body, format_tlog_proof(one.index, hashes, signed.note))
        for one, hashes in zip(recorded, proofs, strict=True)
    ]
    story = Story()
    try:
        for one in recorded:
            story.add(one.index, one.body)
        payload = statement_of(story, signed)
    except IntegrityError:
        payload = b"{}"
    return written(made, seal(payload, SIGNER.key, SIGNER.sign))


def odd(entry_type: EntryType, step: str, data: JsonObject, workflow: str = "git.commit:s:odd") -> Draft:
    return Draft(
        namespace="forged",
        workflow_id=workflow,
        step=step,
        type=entry_type,
        event_id="odd",
        utids="x",
        inputs={},
        data=data,
    )


RECEIVED: JsonObject = {
    "source": "s",
    "eventType": "git.commit",
    "principal": "p",
    "bodyDigest": "0" * 64,
    "payloadDigest": "0" * 64,
    "schema": {"id": "x", "version": "1", "digest": "0" * 64},
}


ARTIFACT: JsonObject = {
    "path": "docs/a.md",
    "blob": "b" * 40,
    "artifact": "page",
    "mediaType": "text/html",
    "digest": "d" * 64,
    "generator": "1",
}
TIME = "2026-11-23T20:03:29.123Z"


def test_entries_that_contradict_themselves_are_refused(running: Service) -> None:
    good = odd(EntryType.EVENT_RECEIVED, "receive", RECEIVED)
    assert verified(forged(running, good)).story.phase == OPEN
    refused(forged(running, good, odd(EntryType.EVENT_RECEIVED, "twice", RECEIVED)), "is received twice")
    refused(forged(running, odd(EntryType.EVENT_RECEIVED, "x", {**RECEIVED, "source": "t"})), "not that of its event")
    refused(forged(running, odd(EntryType.EVENT_RECEIVED, "y", {})), "EVENT_RECEIVED: data/source: Field required")
    refused(forged(running, odd(EntryType.EVENT_UNPROCESSED, "z", {})), "nothing says what they are about")
    conclusion: JsonObject = {"phase": "PROCESSED", "entries": [{"first": 0, "last": 2**50}]}
    refused(forged(running, odd(EntryType.EVENT_PROCESSED, "conclude", conclusion), good), "comes after|is left out")


def test_bytes_in_the_log_that_are_no_entry_are_refused() -> None:
    body = b"not an entry"
    note = sign_checkpoint(Checkpoint(SIGNER.name, 1, leaf_hash(body)), SIGNER).note
    receipt = written([Item(body, format_tlog_proof(0, (), note))], seal(b"{}", SIGNER.key, SIGNER.sign))
    refused(receipt, "entry 0: these bytes are not a ledger entry")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"digest":"', b'"digest":"%b","digest":"' % (b"e" * 64)),
        (b'"data":{', b'"data":{"artifact":"page"},"data":{'),
        (b'{"data"', b'{ "data"'),
        (b'"version":1', b'"version":1.0'),
    ],
)
def test_an_entry_that_others_could_read_otherwise_proves_nothing(old: bytes, new: bytes) -> None:
    """The log's owner signed these bytes; a program that takes the first of two members sees another artifact."""
    bodies = [
        odd(EntryType.EVENT_RECEIVED, "receive", RECEIVED).body(TIME),
        odd(EntryType.ARTIFACT_GENERATED, "artifact", ARTIFACT).body(TIME),
    ]
    verified(signed_by_its_owner(*bodies))
    assert old in bodies[1]
    refused(signed_by_its_owner(bodies[0], bodies[1].replace(old, new, 1)), "entry 1: .*canonical JSON|entry 1: these")


def signed_by_its_owner(*bodies: bytes) -> bytes:
    """A receipt of a log of these two bodies."""
    one, two = map(leaf_hash, bodies)
    signed = sign_checkpoint(Checkpoint(SIGNER.name, 2, node_hash(one, two)), SIGNER)
    story = Story()
    for index, body in enumerate(bodies):
        with contextlib.suppress(IntegrityError):
            story.add(index, body)
    made = [
        Item(body, format_tlog_proof(index, (other,), signed.note))
        for index, (body, other) in enumerate(zip(bodies, (two, one), strict=True))
    ]
    return written(made, seal(statement_of(story, signed), SIGNER.key, SIGNER.sign))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.data())
def test_any_change_of_its_structure_is_refused_with_a_reason(small: bytes, data: st.DataObject) -> None:
    whole = json.loads(small)
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        for at in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
            places.append((value, at))
            walk(value[at])

    walk(whole)
    holder, at = data.draw(st.sampled_from(places))
    before = holder[at]
    parts = [json.dumps(holder[at]) for holder, at in places]
    holder[at] = data.draw(JSON | st.sampled_from(parts).map(json.loads))
    if holder[at] == before:
        return
    entries = whole["entries"] if isinstance(whole["entries"], list) else []
    lines = ",\n".join(json.dumps(one, separators=(",", ":"), ensure_ascii=False) for one in entries)
    text = f'{{"format":"coafi.receipt/1","entries":[\n{lines}\n],"envelope":{json.dumps(whole["envelope"])}}}\n'
    for receipt in (text, text.replace(": ", ":").replace(", ", ","), json.dumps(whole)):
        changed = receipt.encode("utf-8", "surrogatepass")
        if changed == small:
            continue
        with pytest.raises(CoafiError) as caught:
            verified(changed)
        assert caught.value.message


@given(st.binary(max_size=200), st.integers(0, 10_000))
def test_garbage_anywhere_is_refused_with_a_reason(small: bytes, garbage: bytes, at: int) -> None:
    changed = small[: at % len(small)] + garbage + small[at % len(small) + len(garbage) :]
    if changed != small:
        with pytest.raises(CoafiError):
            verified(changed)


# ---------------------------------------------------------------------- artifacts


def page_and_provenance(running: Service, receipt: bytes) -> tuple[bytes, Provenance]:
    """The page of the receipt's document as it was generated, and what the service says of it."""
    story = verified(receipt).story
    index, page = next(one for one in story.artifacts if one[1].artifact == "page")
    assert story.conclusion
    said = Provenance(
        repository="https://git.example/acme/docs",
        branch="main",
        commit=COMMIT,
        path=page.path,
        blob=page.blob,
        event=story.event_id,
        utids=story.received.utids,
        artifact=page.digest,
        generator=GENERATOR_VERSION,
        file_entry=story.files[0][0],
        artifact_entry=index,
        receipt=story.conclusion.index,
    )
    return running.objects.get(page.digest), said


def composed(page: bytes, said: Provenance, **changes: Any) -> bytes:
    return compose(page, location=PageLocation(said.path), provenance=said.model_copy(update=changes))


def test_an_artifact_as_it_was_generated_is_proved(running: Service, processed: bytes) -> None:
    page, said = page_and_provenance(running, processed)
    found = verify_artifact(verified(processed), page)
    assert (found.digest, found.provenance) == (said.artifact, None)
    assert [(one.entry, one.data.path) for one in found.subjects] == [(said.artifact_entry, "docs/a.md")]


def test_the_same_bytes_of_two_files_are_both(running: Service) -> None:
    text = document(7).encode()
    receipt = running.receipt(running.processed("twins", {"a.md": text, "b.md": text}))
    page, _ = page_and_provenance(running, receipt)
    found = verify_artifact(verified(receipt), page)
    assert {one.data.path for one in found.subjects} == {"a.md", "b.md"}
    shown = verify_artifact(verified(receipt), composed(*page_and_provenance(running, receipt)))
    assert [one.data.path for one in shown.subjects] == ["a.md"]


def test_a_page_as_the_service_shows_it_is_proved(running: Service, processed: bytes) -> None:
    page, said = page_and_provenance(running, processed)
    found = verify_artifact(verified(processed), composed(page, said))
    assert (found.digest, found.provenance, found.unproved) == (said.artifact, said, ())
    early = verify_artifact(verified(processed), composed(page, said, receipt=None, branch=None))
    assert early.unproved == ()


def test_what_a_page_says_beyond_the_receipt_is_named(running: Service, processed: bytes) -> None:
    page, said = page_and_provenance(running, processed)
    shown = composed(page, said, branch="other", commit="b" * 40, repository="https://x/y", file_entry=0, receipt=0)
    assert verify_artifact(verified(processed), shown).unproved == (
        "repository",
        "branch",
        "commit",
        "entry of the file",
        "entry of the conclusion",
    )


def test_no_byte_of_a_page_can_be_changed(running: Service, processed: bytes) -> None:
    receipt = verified(processed)
    shown = composed(*page_and_provenance(running, processed))
    verify_artifact(receipt, shown)
    for at in range(len(shown)):
        with pytest.raises(IntegrityError):
            verify_artifact(receipt, shown[:at] + bytes([shown[at] ^ 1]) + shown[at + 1 :])


def test_a_page_of_another_event_is_not_proved(running: Service, processed: bytes) -> None:
    receipt = verified(processed)
    page, said = page_and_provenance(running, processed)
    for changes, problem in (
        ({"event": "another"}, "comes from event another"),
        ({"utids": "another"}, "comes from event"),
        ({"artifact": "0" * 64}, "when it was generated, and now is"),
        ({"artifact_entry": 0}, "says that entry 0 names it"),
        ({"path": "docs/b.md"}, "no such entry"),
        ({"blob": "b" * 40}, "no such entry"),
    ):
        with pytest.raises(IntegrityError, match=problem):
            verify_artifact(receipt, composed(page, said, **changes))
    with pytest.raises(IntegrityError, match="is no artifact of this event"):
        verify_artifact(receipt, b"something else")


# ---------------------------------------------------------------------- independence


@pytest.mark.parametrize("module", ["coafi.receipts.verify", "starters.receipts"])
def test_verifying_needs_no_database(module: str) -> None:
    script = (
        f"import sys, {module}\n"
        "loaded = {'sqlalchemy', 'pysqlite3', 'temporalio', 'coafi.database', 'coafi.settings'} & set(sys.modules)\n"
        "sys.exit(', '.join(loaded) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_key_signs_no_checkpoint_for_others(running: Service) -> None:
    with pytest.raises(ValidationError, match="could be a checkpoint"):
        running.ledger.signer().sign(Checkpoint(SIGNER.name, 1, bytes(32)).text().encode())
