"""A witness: what it cosigns, what it refuses, and that it never cosigns two histories."""

import hashlib
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from sqlalchemy import text

from coafi.database import Database
from coafi.errors import CoafiError, IntegrityError, ResourceNotFoundError, Unavailable, ValidationError
from coafi.federation.messages import CheckpointPublished
from coafi.federation.witness import (
    MAX_REQUEST,
    AddCheckpoint,
    MalformedRequest,
    NotConsistent,
    NotSigned,
    OtherSize,
    Sight,
    UnknownLog,
    WitnessedLog,
    format_request,
    parse_request,
)
from coafi.federation.witnessed import Grade
from coafi.ledger.checkpoint import (
    Checkpoint,
    SignedCheckpoint,
    open_checkpoint,
    parse_note,
    sign_checkpoint,
    sign_note,
)
from coafi.ledger.cosignature import cosignatures, parse_cosignatures
from coafi.ledger.fork import verify_fork
from coafi.ledger.keyfile import HeldKey
from coafi.ledger.keys import Signer, VerifierKey
from coafi.ledger.log import Ledger
from coafi.ledger.proof import Proof
from coafi.ledger.rotation import rotate
from coafi.names import EntryType
from tests.coafi.federation.witnesses import COSIGNER, LOG, Setting, request, witnessing
from tests.coafi.ledger.making import HANG, ORIGIN, draft
from tests.coafi.ledger.test_rotation import NEW, OLD, ledger_with
from tests.coafi.ledger.trees import MOST, SIGNER, Tree
from tests.postgresql import where
from tests.processes import start

TREE = Tree(MOST)
FORKED = Tree(MOST, forked=5)
STRANGER = Signer(SIGNER.name, bytes([9]) * 32)
STRANGER_THERE = Signer(ORIGIN, bytes([9]) * 32)

# Checkpoints and proof that the tests of github.com/transparency-dev/witness publish
MONKEYS = "monkeys+db4d9f7e+AULaJMvTtDLHPUcUrjdDad9vDlh/PTfC2VV60JUtCfWT"
FIVE = (
    "monkeys\n5\n41smjBUiAU70EtKlT6lIOIYtRTYxYXsDB+XHfcvu/BE=\n\n\N{EM DASH} monkeys 202fftzGl3LVoqjXfwCFZZXs8I+5G22+Ek"
    "2K0AOyBuSJ/8/CZawNF+6fNlTKOCd622pbzJNkkJFWuw9DbicZCkEx9AY=\n"
)
EIGHT = (
    "monkeys\n8\nV8K9aklZ4EPB+RMOk1/8VsJUdFZR77GDtZUQq84vSbo=\n\n\N{EM DASH} monkeys 202ffoUEboiQYpHzICeaFmoy3RNviHTpAx"
    "Yrq/eO4QQVQMvu9UebKBMX2MJC76NLthZaKsnKbCA8GxrjePZhvDCH7Ag=\n"
)
FROM_FIVE = tuple(
    bytes.fromhex(one)
    for one in (
        "b9e1d62618f7fee8034e4c5010f727ab24d8e4705cb296c374bf2025a87a10d2",
        "aac66cd7a79ce4012d80762fe8eec3a77f22d1ca4145c3f4cee022e7efcd599d",
        "89d0f753f66a290c483b39cd5e9eafb12021293395fad3d4a2ad053cfbcfdc9e",
        "29e40bb79c966f4c6fe96aff6f30acfce5f3e8d84c02215175d6e018a5dee833",
    )
)


@pytest.fixture
def there(place: Path) -> Iterator[Setting]:
    """A witness on SQLite, and then on PostgreSQL."""
    with witnessing(place) as setting:
        yield setting


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Setting]:
    with witnessing(tmp_path) as setting:
        yield setting


def split_views() -> float:
    return REGISTRY.get_sample_value("coafi_peer_split_views_total", {"grade": "proved"}) or 0.0


def recorded(setting: Setting) -> list[object]:
    found = setting.ledger.entries(0, setting.ledger.size())
    return [one.entry.data for one in found if one.entry.type == EntryType.PEER_SPLIT_VIEW]


# ------------------------------------------------------------------------------------------- cosigning


def test_a_log_grows_and_each_checkpoint_is_cosigned(there: Setting) -> None:
    old = 0
    for size in (1, 2, 3, 3, 8, 9, MOST):
        there.now += 1
        line = there.witness.add_checkpoint(request(TREE, old, size))
        (found,) = parse_cosignatures(TREE.signed(size).checkpoint.text(), line, [COSIGNER.key])
        assert found.time == there.now
        old = size
    kept = there.witness.record.last(SIGNER.name)
    assert kept is not None
    assert kept.time == there.now
    assert open_checkpoint(kept.signed.note, SIGNER.key).checkpoint == TREE.signed().checkpoint
    assert [one.line for one in cosignatures(kept.signed.note, [COSIGNER.key])] == [line]
    assert there.witness.record.all() == [kept]
    assert there.witness.record.split_views() == []
    assert recorded(there) == []


def test_the_published_checkpoints_are_cosigned(here: Setting) -> None:
    here.logs.known["monkeys"] = WitnessedLog("monkeys", VerifierKey.parse(MONKEYS), "")
    for old, proof, note in ((0, (), FIVE), (5, FROM_FIVE, EIGHT)):
        line = here.witness.add_checkpoint(format_request(AddCheckpoint(old, proof, note)))
        assert len(parse_cosignatures(parse_note(note).text, line, [COSIGNER.key])) == 1
    with pytest.raises(OtherSize) as caught:
        here.witness.add_checkpoint(format_request(AddCheckpoint(5, FROM_FIVE, EIGHT)))
    assert caught.value.size == 8


def test_the_empty_log_is_cosigned_and_then_the_first_entry(there: Setting) -> None:
    assert there.witness.add_checkpoint(request(TREE, 0, 0))
    assert there.witness.add_checkpoint(request(TREE, 0, 0))
    assert there.witness.add_checkpoint(request(TREE, 0, 1))


def test_other_signatures_and_lines_of_a_checkpoint_do_not_matter_and_are_not_kept(here: Setting) -> None:
    note = sign_note(TREE.signed(7).checkpoint.text() + "an extension\n", Signer("x.example", bytes(32)), SIGNER)
    line = here.witness.add_checkpoint(format_request(AddCheckpoint(0, (), note)))
    assert len(parse_cosignatures(parse_note(note).text, line, [COSIGNER.key])) == 1  # extension lines are covered
    kept = here.witness.record.last(SIGNER.name)
    assert kept is not None
    assert [one.name for one in parse_note(kept.signed.note).signatures] == [SIGNER.name, COSIGNER.name]


def test_the_clock_of_a_machine_that_begins_before_1970(here: Setting) -> None:
    here.now = -5.0
    line = here.witness.add_checkpoint(request(TREE, 0, 1))
    assert parse_cosignatures(TREE.signed(1).checkpoint.text(), line, [COSIGNER.key])[0].time == 1


# --------------------------------------------------------------------------------------------- refusing


def test_a_log_that_nobody_knows(here: Setting) -> None:
    with pytest.raises(UnknownLog):
        here.witness.add_checkpoint(request(TREE, 0, 3, Signer("other.example", bytes(32))))


@pytest.mark.parametrize("old", [0, 9])  # the signature comes before all else
def test_a_signature_that_is_none(here: Setting, old: int) -> None:
    by_stranger = TREE.signed(3, STRANGER).note
    wrong = TREE.signed(4).note.replace("\n4\n", "\n3\n")
    for note in (by_stranger, wrong):
        with pytest.raises(NotSigned):
            here.witness.add_checkpoint(format_request(AddCheckpoint(old, (), note)))
    assert here.witness.record.all() == []


def test_it_begins_beyond_its_end(here: Setting) -> None:
    with pytest.raises(MalformedRequest, match="begins at 4 entries, and its checkpoint has 3"):
        here.witness.add_checkpoint(format_request(AddCheckpoint(4, (), TREE.signed(3).note)))


def test_it_begins_elsewhere(there: Setting) -> None:
    for known, old in ((0, 2), (5, 0), (5, 3), (5, 6)):
        if known and not there.witness.record.all():
            there.witness.add_checkpoint(request(TREE, 0, known))
        with pytest.raises(OtherSize) as caught:
            there.witness.add_checkpoint(request(TREE, old, 9))
        assert caught.value.size == known


def test_a_proof_that_does_not_verify(there: Setting) -> None:
    note = TREE.signed(9).note
    for old, proof in ((0, (bytes(32),)), (0, tuple(TREE.consistency(3, 9)))):
        with pytest.raises(NotConsistent):
            there.witness.add_checkpoint(format_request(AddCheckpoint(old, proof, note)))
    there.witness.add_checkpoint(request(TREE, 0, 5))
    right = tuple(TREE.consistency(5, 9))
    for proof in (
        (),
        right[:-1],
        (*right, bytes(32)),
        right[::-1],
        (bytes(32), *right[1:]),
        tuple(TREE.consistency(4, 9)),
    ):
        with pytest.raises(NotConsistent):
            there.witness.add_checkpoint(format_request(AddCheckpoint(5, proof, note)))
    with pytest.raises(NotConsistent):  # of one size nothing has to be proved
        there.witness.add_checkpoint(format_request(AddCheckpoint(5, right, TREE.signed(5).note)))
    kept = there.witness.record.last(SIGNER.name)
    assert kept is not None
    assert kept.checkpoint.size == 5
    assert there.witness.record.split_views() == []  # a wrong proof says nothing about the log
    assert there.witness.add_checkpoint(format_request(AddCheckpoint(5, right, note)))


def test_the_empty_log_with_another_root(here: Setting) -> None:
    other = TREE.signed(0).checkpoint.text().replace("47DE", "57DE")
    with pytest.raises(NotConsistent):
        here.witness.add_checkpoint(format_request(AddCheckpoint(0, (), sign_note(other, SIGNER))))


@pytest.mark.parametrize(
    "head",
    [
        "",
        "old 1",
        "old 01\n\n",
        "old -1\n\n",
        "old  1\n\n",
        "old 1 \n\n",
        "new 1\n\n",
        "old ١\n\n",
        f"old {2**63}\n\n",
        "old 99999999999999999999\n\n",
        "old 0\nAAAA\n\n",
        "old 0\n?\n\n",
        "old 0\r\n\r\n",
        "\n\n",
        "old 0\n" + (("A" * 43 + "=\n") * 64) + "\n",
    ],
)
def test_a_request_that_is_none(head: str) -> None:
    with pytest.raises(MalformedRequest) as caught:
        parse_request(head.encode() + TREE.signed(1).note.encode())
    assert caught.value.remedy


@pytest.mark.parametrize("body", [b"", b"\xff", b"old 0\n\n", b"old 0\n\nx", b"old 0\n\n" + b"x" * MAX_REQUEST])
def test_no_checkpoint_follows(here: Setting, body: bytes) -> None:
    with pytest.raises(MalformedRequest):
        here.witness.add_checkpoint(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(body: bytes) -> None:
    for data in (body, b"old 5\n" + body, b"old 5\n\n" + body):
        try:
            found = parse_request(data)
        except MalformedRequest:
            continue
        assert format_request(found) == data


@given(st.integers(0, 2**63 - 1), st.lists(st.binary(min_size=32, max_size=32), max_size=63), st.text(max_size=50))
def test_requests_read_back(old: int, proof: list[bytes], note: str) -> None:
    made = AddCheckpoint(old, tuple(proof), note.encode("utf-8", "replace").decode())
    assert parse_request(format_request(made)) == made


# ------------------------------------------------------------------------------------------- split views


def test_two_roots_of_one_size_are_a_split_view_and_recorded_once(there: Setting) -> None:
    there.witness.add_checkpoint(request(TREE, 0, 9))
    before = split_views()
    for old in (9, 0, 9):
        with pytest.raises(NotConsistent if old else OtherSize):
            there.witness.add_checkpoint(format_request(AddCheckpoint(old, (), FORKED.signed(9).note)))
    (view,) = there.witness.record.split_views()
    assert (view.grade, view.peer) == (Grade.PROVED, "plant-b")
    assert view.fork is not None
    assert {one.root for one in verify_fork(view.fork, SIGNER.key)} == {
        TREE.signed(9).checkpoint.root,
        FORKED.signed(9).checkpoint.root,
    }
    (data,) = recorded(there)
    assert isinstance(data, dict)
    assert data["peer"] == "plant-b"
    assert data["evidenceDigest"] == hashlib.sha256(view.fork.model_dump_json().encode()).hexdigest()
    assert view.entry == 0
    assert there.witness.record.suspects() == {"plant-b": Grade.PROVED}
    assert split_views() == before + 1
    assert there.witness.add_checkpoint(request(TREE, 9, 12))  # of the history that it knows


@pytest.mark.parametrize(("kept", "shown"), [(9, 20), (20, 9), (16, 17), (8, 40), (40, 8), (9, 9)])
def test_a_log_that_shows_another_history_is_found_out(here: Setting, kept: int, shown: int) -> None:
    assert here.witness.see(SIGNER.name, TREE.signed(kept).note).sight is Sight.NEWER
    here.shown = FORKED
    seen = here.witness.see(SIGNER.name, FORKED.signed(shown).note)
    if shown < kept:  # which of the two it shows the proof of does not matter: it has signed both
        seen = here.witness.see(SIGNER.name, FORKED.signed(MOST).note)
    assert seen.sight is Sight.SPLIT
    assert seen.kept == kept
    proofs = [one for one in here.witness.record.split_views() if one.grade is Grade.PROVED]
    assert [one.fork for one in proofs if one.fork and verify_fork(one.fork, SIGNER.key)] == [proofs[0].fork]
    last = here.witness.record.last(SIGNER.name)
    assert last is not None
    assert last.checkpoint == TREE.signed(kept).checkpoint
    assert len(recorded(here)) == 1


def test_a_submission_whose_proof_shows_another_history_is_a_split_view(here: Setting) -> None:
    here.witness.add_checkpoint(request(TREE, 0, 9))
    with pytest.raises(NotConsistent, match="two histories, which is recorded"):
        here.witness.add_checkpoint(request(FORKED, 9, 20))
    assert len(recorded(here)) == 1


def test_a_checkpoint_that_is_late_is_no_split_view(there: Setting) -> None:
    assert there.witness.see(SIGNER.name, TREE.signed(30).note).sight is Sight.NEWER
    for size in (29, 8, 1, 0):
        seen = there.witness.see(SIGNER.name, TREE.signed(size).note)
        assert (seen.sight, seen.size, seen.kept) == (Sight.BEHIND, size, 30)
    assert there.witness.see(SIGNER.name, TREE.signed(30).note).sight is Sight.KNOWN
    assert there.witness.record.split_views() == []


def test_what_a_log_cannot_prove_is_a_doubt_until_it_does(there: Setting) -> None:
    there.witness.see(SIGNER.name, TREE.signed(30).note)
    there.shown = Tree(20)  # put back to an old copy: it has signed 30 entries, and knows nothing of that
    for _ in range(2):
        seen = there.witness.see(SIGNER.name, TREE.signed(20).note)
        assert seen.sight is Sight.UNPROVED
        assert seen.view is not None
        assert "30 and of 20" in seen.view.problem
    (view,) = there.witness.record.split_views()
    assert (view.grade, view.fork, view.entry) == (Grade.UNPROVED, None, None)
    assert there.witness.record.suspects() == {"plant-b": Grade.UNPROVED}
    assert recorded(there) == []
    there.shown = TREE
    assert there.witness.see(SIGNER.name, TREE.signed(20).note).sight is Sight.BEHIND
    assert there.witness.record.split_views() == []


def test_hashes_that_prove_nothing_are_a_doubt(here: Setting) -> None:
    @dataclass(frozen=True)
    class Liar:
        def consistency(self, _old: int, _new: int) -> Sequence[bytes]:
            return [bytes(32)]

        def inclusion(self, _index: int, _size: int) -> Sequence[bytes]:
            raise ResourceNotFoundError("none")

    for kept in (8, 9):
        here.witness.see(SIGNER.name, TREE.signed(kept).note)
        assert here.witness.see(SIGNER.name, TREE.signed(12).note, Liar()).sight is Sight.UNPROVED


def test_a_log_out_of_reach_is_no_doubt(here: Setting) -> None:
    class Away:
        def consistency(self, _old: int, _new: int) -> Sequence[bytes]:
            raise Unavailable("away")

        inclusion = consistency

    here.witness.see(SIGNER.name, TREE.signed(3).note)
    with pytest.raises(Unavailable):
        here.witness.see(SIGNER.name, TREE.signed(9).note, Away())
    assert here.witness.record.split_views() == []


def test_what_is_seen_must_be_of_the_log(here: Setting) -> None:
    with pytest.raises(UnknownLog):
        here.witness.see("other.example", TREE.signed(3, Signer("other.example", bytes(32))).note)
    with pytest.raises(MalformedRequest, match=r"of 'log\.example', not of 'other"):
        here.witness.see("other.example", TREE.signed(3).note)
    with pytest.raises(NotSigned):
        here.witness.see(SIGNER.name, TREE.signed(3, STRANGER).note)
    with pytest.raises(MalformedRequest):
        here.witness.see(SIGNER.name, "x")


def test_a_message_of_a_peer_is_of_its_own_ledger_and_says_what_its_checkpoint_says(here: Setting) -> None:
    signed = TREE.signed(9)
    said = CheckpointPublished(origin=SIGNER.name, size=9, root=signed.checkpoint.root.hex(), note=signed.note)
    assert here.witness.published("plant-b", said).sight is Sight.NEWER
    assert here.witness.published("plant-b", said).sight is Sight.KNOWN
    with pytest.raises(UnknownLog, match="not known here as the ledger of plant-c"):
        here.witness.published("plant-c", said)
    for changes in ({"size": 8}, {"root": "0" * 64}):
        with pytest.raises(MalformedRequest, match="and the checkpoint in it 9"):
            here.witness.published("plant-b", said.model_copy(update=changes))
    here.shown = FORKED
    other = FORKED.signed(12)
    shown = CheckpointPublished(origin=SIGNER.name, size=12, root=other.checkpoint.root.hex(), note=other.note)
    assert here.witness.published("plant-b", shown).sight is Sight.SPLIT


# ------------------------------------------------------------------------------------------- an old copy


@pytest.mark.parametrize(
    "statement", ["DELETE FROM witnessed", "UPDATE witnessed SET size = 9, root = :root, note = :note"]
)
def test_a_database_that_was_put_back_cosigns_nothing(there: Setting, place: Path, statement: str) -> None:
    there.witness.add_checkpoint(request(TREE, 0, 9))
    old = there.witness.record.last(SIGNER.name)
    assert old is not None
    there.witness.add_checkpoint(request(TREE, 9, 20))
    database = Database(where(place))
    with database.write() as connection:
        values = {"root": old.checkpoint.root, "note": old.signed.note} if ":root" in statement else {}
        connection.execute(text(statement), values)
    database.close()
    for body in (request(FORKED, 0, 30), request(TREE, 9, 20), request(TREE, 20, 30)):
        with pytest.raises(IntegrityError, match="with 20 entries was cosigned here, and the database knows of"):
            there.witness.add_checkpoint(body)
    with pytest.raises(IntegrityError):
        there.witness.see(SIGNER.name, TREE.signed(30).note)


# ----------------------------------------------------------------------------------------- another key


def test_a_log_that_is_begun_again_is_forgotten_by_an_operator_alone(there: Setting) -> None:
    there.witness.add_checkpoint(request(TREE, 0, 9))
    with pytest.raises(ValidationError, match="the key that this log has"):
        there.witness.forget(SIGNER.name)
    there.logs.known[SIGNER.name] = WitnessedLog("plant-b", STRANGER.key, LOG.url)
    with pytest.raises(NotSigned, match="no hand-over leads there") as caught:
        there.witness.add_checkpoint(request(FORKED, 0, 9, STRANGER))
    assert "coafi witness forget" in caught.value.remedy
    there.witness.forget(SIGNER.name)
    assert there.witness.add_checkpoint(request(FORKED, 0, 9, STRANGER))
    assert there.witness.record.split_views() == []
    with pytest.raises(UnknownLog):
        there.witness.forget("other.example")


@dataclass
class Rotating:
    """A ledger that hands over from ``OLD`` to ``NEW``, as it shows itself."""

    ledger: Ledger
    away: CoafiError | None = None

    def consistency(self, old: int, new: int) -> Sequence[bytes]:
        """See :class:`coafi.ledger.fork.LogProofs`."""
        return self.ledger.consistency_proof(old, new)

    def inclusion(self, index: int, size: int) -> Sequence[bytes]:
        """See :class:`coafi.ledger.fork.LogProofs`."""
        return self.ledger.inclusion_proof(index, size)

    def hand_overs(self) -> Sequence[Proof]:
        """See :class:`coafi.federation.witness.ShownLog`."""
        if self.away is not None:
            raise self.away
        return [one.proof for one in self.ledger.hand_overs()]

    def grow(self, entries: int) -> SignedCheckpoint:
        """Append so many entries; the checkpoint that covers them."""
        size = self.ledger.size()
        self.ledger.append([draft(size + number) for number in range(entries)])
        return self.ledger.checkpoint(force=True)

    def request(self, old: int, signed: SignedCheckpoint) -> bytes:
        """A request to cosign a checkpoint."""
        proof = tuple(self.ledger.consistency_proof(old, signed.size)) if 0 < old < signed.size else ()
        return format_request(AddCheckpoint(old, proof, signed.note))


def other_history(size: int, signer: Signer) -> bytes:
    """A request to cosign another tree of the ledger's name."""
    signed = sign_checkpoint(Checkpoint(ORIGIN, size, bytes([size]) * 32), signer)
    return format_request(AddCheckpoint(size, (), signed.note))


@contextmanager
def rotating(setting: Setting, directory: Path) -> Iterator[Rotating]:
    """The ledger, which the witness knows by its old key."""
    directory.mkdir()
    with ledger_with(directory, HeldKey(OLD, NEW)) as ledger:
        setting.shown = found = Rotating(ledger)
        trust(setting, OLD)
        yield found


def trust(setting: Setting, signer: Signer) -> None:
    setting.logs.known[ORIGIN] = WitnessedLog("plant-b", signer.key, LOG.url)


def test_a_log_whose_new_key_is_given_is_followed_from_its_old_one(there: Setting, tmp_path: Path) -> None:
    with rotating(there, tmp_path / "log") as log:
        there.witness.add_checkpoint(log.request(0, log.grow(5)))
        rotate(log.ledger, NEW)
        trust(there, NEW)
        with pytest.raises(ValidationError, match="or of one that handed over to it"):
            there.witness.forget(ORIGIN)
        with pytest.raises(NotSigned, match="not shown that this checkpoint continues it"):
            there.witness.add_checkpoint(other_history(9, NEW).replace(b"old 9", b"old 5"))
        signed = log.grow(3)
        assert there.witness.add_checkpoint(log.request(5, signed))
        assert there.witness.see(ORIGIN, signed.note).sight is Sight.KNOWN
        last = there.witness.record.last(ORIGIN)
        assert last is not None
        assert last.checkpoint == signed.checkpoint
        log.away = Unavailable("away")  # what was seen is known
        assert there.witness.add_checkpoint(log.request(signed.size, log.grow(1)))
    assert there.witness.record.split_views() == []


@pytest.mark.parametrize("away", [Unavailable("away"), ResourceNotFoundError("no keys"), IntegrityError("not its own")])
def test_a_log_that_cannot_be_asked_for_hand_overs_is_not_forgotten(
    there: Setting, tmp_path: Path, away: CoafiError
) -> None:
    with rotating(there, tmp_path / "log") as log:
        there.witness.add_checkpoint(log.request(0, log.grow(5)))
        rotate(log.ledger, NEW)
        trust(there, NEW)
        log.away = away
        with pytest.raises((Unavailable, NotSigned)):
            there.witness.add_checkpoint(log.request(5, log.grow(1)))
        with pytest.raises(type(away), match="whether its key was handed over") as caught:
            there.witness.forget(ORIGIN)
        assert "--without-asking" in caught.value.remedy
        assert there.witness.record.last(ORIGIN) is not None
        log.away = None
        with pytest.raises(ValidationError, match="handed over to it"):
            there.witness.forget(ORIGIN, without_asking=True)


def test_a_log_without_an_address_that_is_begun_again_is_forgotten_unasked(here: Setting, tmp_path: Path) -> None:
    with rotating(here, tmp_path / "log") as log:
        here.witness.add_checkpoint(log.request(0, log.grow(5)))
        log.away = Unavailable("it has no address")
        with pytest.raises(ValidationError, match="the key that this log has"):
            here.witness.forget(ORIGIN, without_asking=True)
        trust(here, STRANGER_THERE)
        here.witness.forget(ORIGIN, without_asking=True)
        assert here.witness.record.all() == []
        assert here.witness.add_checkpoint(other_history(9, STRANGER_THERE).replace(b"old 9", b"old 0"))


def test_hand_overs_of_another_ledger_lead_nowhere(here: Setting, tmp_path: Path) -> None:
    with rotating(here, tmp_path / "log") as log:
        here.witness.add_checkpoint(log.request(0, log.grow(5)))
        rotate(log.ledger, NEW)
        trust(here, STRANGER_THERE)
        with pytest.raises(NotSigned, match="do not lead from or to the key"):
            here.witness.add_checkpoint(other_history(9, STRANGER_THERE))
        with pytest.raises(IntegrityError, match="do not lead from or to the key"):
            here.witness.forget(ORIGIN)


def test_a_key_that_signed_beyond_its_hand_over_is_not_forgotten_either(there: Setting, tmp_path: Path) -> None:
    """A log that was put back to five entries, and changed its key then."""
    with rotating(there, tmp_path / "log") as log:
        there.witness.add_checkpoint(other_history(9, OLD).replace(b"old 9", b"old 0"))
        log.grow(5)
        rotate(log.ledger, NEW)
        signed = log.grow(6)
        for signer in (OLD, NEW):
            trust(there, signer)
            with pytest.raises(NotConsistent):
                there.witness.add_checkpoint(log.request(9, signed))
            assert there.witness.see(ORIGIN, signed.note).sight is Sight.UNPROVED
            with pytest.raises(ValidationError):
                there.witness.forget(ORIGIN)
    assert recorded(there) == []  # it would convince nobody who knows the hand-over


@pytest.mark.parametrize("by_key", [False, True], ids=["by name", "by key, as before"])
def test_a_new_key_does_not_hide_that_the_database_was_put_back(
    there: Setting, tmp_path: Path, place: Path, by_key: bool
) -> None:
    with rotating(there, tmp_path / "log") as log:
        there.witness.add_checkpoint(log.request(0, log.grow(2)))
        old = there.witness.record.last(ORIGIN)
        assert old is not None
        there.witness.add_checkpoint(log.request(2, log.grow(3)))
        if by_key:
            directory = place / "witnessed"
            name, key = (hashlib.sha256(one.encode()).hexdigest()[:32] for one in (ORIGIN, str(OLD.key)))
            (directory / key).mkdir(exist_ok=True)
            (directory / name / "checkpoint").rename(directory / key / "checkpoint")
        database = Database(where(place))
        with database.write() as connection:
            connection.execute(
                text("UPDATE witnessed SET size = 2, root = :root, note = :note"),
                {"root": old.checkpoint.root, "note": old.signed.note},
            )
        database.close()
        rotate(log.ledger, NEW)
        trust(there, NEW)
        with pytest.raises(IntegrityError, match="with 5 entries was cosigned here, and the database knows of 2"):
            there.witness.add_checkpoint(log.request(2, log.grow(1)))


def test_what_was_forgotten_is_forgotten_outside_the_database_too(there: Setting, place: Path) -> None:
    there.witness.add_checkpoint(request(TREE, 0, 20))
    there.logs.known[SIGNER.name] = WitnessedLog("plant-b", STRANGER.key, LOG.url)
    database = Database(where(place))
    with database.write() as connection:
        connection.execute(text("DELETE FROM witnessed"))  # killed between the two, or put back
    database.close()
    with pytest.raises(IntegrityError, match="the database knows of none"):
        there.witness.add_checkpoint(request(FORKED, 0, 9, STRANGER))
    there.witness.forget(SIGNER.name)
    assert there.witness.add_checkpoint(request(FORKED, 0, 9, STRANGER))
    with pytest.raises(UnknownLog):
        there.witness.forget("other.example")


# ------------------------------------------------------------------------------ split views of several keys


def test_each_key_of_a_log_that_is_begun_again_is_found_out(there: Setting) -> None:
    before = split_views()
    there.witness.add_checkpoint(request(TREE, 0, 9))
    with pytest.raises(NotConsistent):
        there.witness.add_checkpoint(request(FORKED, 9, 9))
    there.logs.known[SIGNER.name] = WitnessedLog("plant-b", STRANGER.key, LOG.url)
    there.witness.forget(SIGNER.name)
    there.witness.add_checkpoint(request(FORKED, 0, 9, STRANGER))
    for _ in range(2):
        with pytest.raises(NotConsistent, match="which is recorded"):
            there.witness.add_checkpoint(request(TREE, 9, 9, STRANGER))
    views = there.witness.record.split_views(SIGNER.name)
    assert {one.key for one in views} == {str(SIGNER.key), str(STRANGER.key)}
    assert {one.entry for one in views} == {0, 1}
    for one in views:
        assert one.fork is not None
        assert len(verify_fork(one.fork, VerifierKey.parse(one.key))) == 2
    assert [one["key"] for one in recorded(there) if isinstance(one, dict)] == [str(SIGNER.key), str(STRANGER.key)]
    assert split_views() == before + 2


def test_each_key_that_was_handed_over_is_found_out_once(there: Setting, tmp_path: Path) -> None:
    with rotating(there, tmp_path / "log") as log:
        there.witness.add_checkpoint(log.request(0, log.grow(5)))
        with pytest.raises(NotConsistent):
            there.witness.add_checkpoint(other_history(5, OLD))
        rotate(log.ledger, NEW)
        there.witness.add_checkpoint(log.request(5, log.grow(2)))
        for signer in (OLD, NEW):  # by whichever of the two it is known
            trust(there, signer)
            with pytest.raises(NotConsistent):
                there.witness.add_checkpoint(other_history(8, NEW))
    views = there.witness.record.split_views(ORIGIN)
    assert [one.key for one in views] == [str(OLD.key), str(NEW.key)]
    assert len(recorded(there)) == 2


def test_doubts_are_kept_for_each_key(here: Setting) -> None:
    for signer in (SIGNER, STRANGER):
        here.logs.known[SIGNER.name] = WitnessedLog("plant-b", signer.key, LOG.url)
        if signer is STRANGER:
            here.witness.forget(SIGNER.name)
        here.shown = TREE
        here.witness.see(SIGNER.name, TREE.signed(30, signer).note)
        here.shown = Tree(20)
        for _ in range(2):
            assert here.witness.see(SIGNER.name, TREE.signed(20, signer).note).sight is Sight.UNPROVED
    assert {one.key for one in here.witness.record.split_views()} == {str(SIGNER.key), str(STRANGER.key)}


def test_a_split_view_from_before_keys_were_kept_is_not_recorded_again(there: Setting, place: Path) -> None:
    there.witness.add_checkpoint(request(TREE, 0, 9))
    for statement in ("SELECT 1", "UPDATE split_view SET key = ''"):
        database = Database(where(place))
        with database.write() as connection:
            connection.execute(text(statement))
        database.close()
        with pytest.raises(NotConsistent):
            there.witness.add_checkpoint(request(FORKED, 9, 9))
    assert [one.key for one in there.witness.record.split_views()] == [""]
    assert len(recorded(there)) == 1


# -------------------------------------------------------------------------- at the same time, and killed


def roots_by_size(lines: list[str]) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for line in lines:
        size, root, _ = line.split(" ", 2)
        found.setdefault(int(size), set()).add(root)
    return found


def assert_one_history(lines: list[str]) -> None:
    """What was cosigned is of one of the two histories; both begin alike."""
    found = roots_by_size(lines)
    assert all(len(roots) == 1 for roots in found.values()), found
    histories = [
        all(roots == {tree.signed(size).checkpoint.root.hex()} for size, roots in found.items())
        for tree in (TREE, FORKED)
    ]
    assert any(histories)


def test_threads_that_show_two_histories_get_one_cosigned(there: Setting) -> None:
    told: list[str] = []
    failures: list[BaseException] = []
    ready = threading.Barrier(4)

    def race(number: int) -> None:
        tree = (TREE, FORKED)[number % 2]
        old, size = 0, 1
        ready.wait(HANG)
        while size <= 12:
            try:
                line = there.witness.add_checkpoint(request(tree, old, size))
            except OtherSize as other:
                old, size = other.size, other.size + 1
            except NotConsistent:
                return  # the other history was first
            except BaseException as error:
                failures.append(error)
                raise
            else:
                told.append(f"{size} {tree.signed(size).checkpoint.root.hex()} {line}")
                old, size = size, size + 1

    threads = [threading.Thread(target=race, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    assert failures == []
    assert_one_history(told)
    kept = there.witness.record.last(SIGNER.name)
    assert kept is not None
    assert kept.checkpoint.size == max(roots_by_size(told)) == 12


def test_processes_that_are_killed_never_cosign_two_histories(place: Path) -> None:
    """They are killed at any moment; whoever comes next holds to whatever any of them has given away."""
    with witnessing(place):
        pass
    lines: list[str] = []
    log = place / "log"
    for turn in range(2):
        processes = [
            start((sys.executable, "-m", "tests.coafi.federation.witnesses", str(place), str(name)), os.environ, log)
            for name in (2 * turn, 2 * turn + 1)
        ]
        deadline = time.monotonic() + HANG
        while not all((place / f"ready-{2 * turn + one}").exists() for one in (0, 1)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        (place / "go").touch()
        time.sleep(0.15 + 0.1 * turn)
        for process in processes:
            process.kill()
            process.wait()
        (place / "go").unlink()
    for file in sorted(place.glob("cosigned-*")):
        lines += [line for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
    assert lines
    assert_one_history(lines)
    with witnessing(place) as setting:
        kept = setting.witness.record.last(SIGNER.name)
        assert kept is not None
        assert kept.checkpoint.size >= max(roots_by_size(lines))  # durable before the answer
