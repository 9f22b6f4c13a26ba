import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.errors import IntegrityError, ValidationError
from coafi.ledger import merkle, tiles
from coafi.ledger import verifier as module
from coafi.ledger.checkpoint import Checkpoint, sign_checkpoint
from coafi.ledger.keys import Signer
from coafi.ledger.merkle import Node, leaf_hash
from coafi.ledger.proof import Proof
from coafi.ledger.tiles import TileId
from coafi.ledger.verifier import verify_consistency, verify_inclusion, verify_log
from tests.coafi.ledger.making import ORIGIN, SIGNER, draft

KEY = SIGNER.key
TIME = "2026-11-23T20:03:29.123Z"


@dataclass(frozen=True)
class Sample:
    """A log, made without the log's own code."""

    bodies: tuple[bytes, ...]
    tiles: dict[TileId, bytes]

    def note(self, size: int | None = None) -> str:
        """A checkpoint of the first ``size`` entries, by default of all."""
        size = len(self.bodies) if size is None else size
        edge = tiles.grow(0, {}, [leaf_hash(body) for body in self.bodies[:size]]).edge
        return sign_checkpoint(Checkpoint(ORIGIN, size, tiles.root(edge)), SIGNER).note

    def read(self, nodes: Sequence[Node]) -> list[bytes]:
        """The hashes of nodes."""
        places = [tiles.place(node) for node in nodes]
        return [tiles.node_in(self.tiles[place.tile], place) for place in places]

    def proof(self, index: int) -> Proof:
        """The proof of an entry."""
        size = len(self.bodies)
        hashes = merkle.inclusion_proof(index, size, self.read)
        return Proof(
            index=index,
            size=size,
            entry=self.bodies[index].decode(),
            hashes=tuple(hash_.hex() for hash_ in hashes),
            checkpoint=self.note(),
        )


@lru_cache
def sample(size: int) -> Sample:
    bodies = tuple(draft(i).body(TIME) for i in range(size))
    return Sample(bodies, tiles.grow(0, {}, [leaf_hash(body) for body in bodies]).fresh)


def flipped(data: bytes, at: int, mask: int = 1) -> bytes:
    changed = bytearray(data)
    changed[at] ^= mask
    return bytes(changed)


def test_the_verifier_knows_neither_store_nor_log_nor_database() -> None:
    program = f"import sys, {module.__name__}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "coafi.ledger.merkle" in loaded
    for name in ("coafi.ledger.store", "coafi.ledger.log", "coafi.ledger.published", "coafi.database", "sqlalchemy"):
        assert name not in loaded


# ------------------------------------------------------------------ whole logs


def test_a_sound_log_is_found_sound_and_progress_is_told() -> None:
    log = sample(2_100)
    told: list[int] = []
    report = verify_log(log.bodies, log.note(), KEY, stored_tiles=log.tiles.items(), on_progress=told.append)
    assert (report.checkpoint.size, report.beyond, report.tiles) == (2_100, 0, len(log.tiles))
    assert told == [1_024, 2_048, 2_100]
    assert verify_log(log.bodies, log.note(), KEY).tiles == 0


def test_entries_beyond_the_checkpoint_are_counted() -> None:
    log = sample(600)
    report = verify_log(iter(log.bodies), log.note(500), KEY, stored_tiles=log.tiles.items())
    assert (report.checkpoint.size, report.beyond) == (500, 100)


def test_tiles_older_than_the_entries_are_no_contradiction() -> None:
    report = verify_log(sample(600).bodies, sample(500).note(), KEY, stored_tiles=sample(500).tiles.items())
    assert report.beyond == 100


def test_an_empty_log_is_sound() -> None:
    assert verify_log([], sample(0).note(), KEY, stored_tiles=[]).checkpoint.size == 0


@given(st.data())
def test_any_flipped_byte_of_an_entry_is_found_and_named(data: st.DataObject) -> None:
    log = sample(300)
    index = data.draw(st.integers(0, 299))
    at = data.draw(st.integers(0, len(log.bodies[index]) - 1))
    bodies = list(log.bodies)
    bodies[index] = flipped(bodies[index], at, data.draw(st.integers(1, 255)))
    with pytest.raises(IntegrityError, match=f"^entry {index} was changed: .*{leaf_hash(log.bodies[index]).hex()}"):
        verify_log(bodies, log.note(), KEY, stored_tiles=log.tiles.items())
    with pytest.raises(IntegrityError):
        verify_log(bodies, log.note(), KEY)


@given(st.data())
def test_any_flipped_byte_of_a_tile_is_found_and_named(data: st.DataObject) -> None:
    log = sample(600)
    id_ = data.draw(st.sampled_from(sorted(log.tiles)))
    at = data.draw(st.integers(0, len(log.tiles[id_]) - 1))
    stored = log.tiles | {id_: flipped(log.tiles[id_], at, data.draw(st.integers(1, 255)))}
    with pytest.raises(IntegrityError, match=rf"hash {at // 32} of tile/{id_.level}/00{id_.n} "):
        verify_log(log.bodies, log.note(), KEY, stored_tiles=stored.items())


@pytest.mark.parametrize(
    ("id_", "hashes", "message"),
    [
        (TileId(1, 0), None, r"tile/1/000\.p/2 is missing or too short"),
        (TileId(0, 1), None, r"tile/0/001 is missing or too short"),
        (TileId(0, 2), b"", r"tile/0/002\.p/88 is missing or too short"),
        (TileId(2, 0), b"\0" * 32, "hash 0 of tile/2/000 is not that"),
        (TileId(0, 2), sample(600).tiles[TileId(0, 2)] + b"\0", "hash 88 of tile/0/002 is not that"),
    ],
)
def test_missing_short_and_surplus_tiles_are_found(id_: TileId, hashes: bytes | None, message: str) -> None:
    stored = dict(sample(600).tiles)
    if hashes is None:
        del stored[id_]
    else:
        stored[id_] = hashes
    with pytest.raises(IntegrityError, match=message):
        verify_log(sample(600).bodies, sample(600).note(), KEY, stored_tiles=stored.items())


@pytest.mark.parametrize("removed", [0, 150, 299])
def test_a_removed_entry_is_found(removed: int) -> None:
    log = sample(300)
    bodies = log.bodies[:removed] + log.bodies[removed + 1 :]
    with pytest.raises(IntegrityError, match="has 299 entries, and its checkpoint says 300"):
        verify_log(bodies, log.note(), KEY)
    with pytest.raises(IntegrityError, match=f"entry {removed} was changed" if removed < 299 else "entry 299 is the"):
        verify_log(bodies, log.note(), KEY, stored_tiles=log.tiles.items())


def test_swapped_entries_are_found() -> None:
    log = sample(300)
    bodies = list(log.bodies)
    bodies[4], bodies[9] = bodies[9], bodies[4]
    with pytest.raises(IntegrityError, match="at least one of them was changed"):
        verify_log(bodies, log.note(), KEY)
    with pytest.raises(IntegrityError, match="entry 4 was changed"):
        verify_log(bodies, log.note(), KEY, stored_tiles=log.tiles.items())


def test_a_log_with_other_entries_and_matching_tiles_fails_on_its_signature() -> None:
    forged = [draft(i, data={"forged": i}).body(TIME) for i in range(300)]
    made = tiles.grow(0, {}, [leaf_hash(body) for body in forged]).fresh
    with pytest.raises(IntegrityError, match="first 300 entries have root"):
        verify_log(forged, sample(300).note(), KEY, stored_tiles=made.items())


def test_one_step_recorded_twice_is_a_defect_that_is_named() -> None:
    bodies = [draft(1).body(TIME), draft(2).body(TIME), draft(1).body("2026-11-23T20:03:30.000Z")]
    log = Sample(tuple(bodies), {})
    with pytest.raises(IntegrityError, match="entry 2 repeats the key of an earlier one"):
        verify_log(bodies, log.note(), KEY)


def test_a_signed_body_that_is_no_entry_is_named() -> None:
    log = Sample((draft(1).body(TIME), b"{}"), {})
    with pytest.raises(IntegrityError, match="entry 1: these bytes are not a ledger entry"):
        verify_log(log.bodies, log.note(), KEY)
    other = Sample((draft(1).body(TIME).replace(b"process/1", b"process/2"),), {})
    with pytest.raises(IntegrityError, match=r"entry 0: .* carries another's key"):
        verify_log(other.bodies, other.note(), KEY)


def test_a_checkpoint_of_another_key_is_refused_before_anything_is_read() -> None:
    def never() -> Iterator[bytes]:
        yield pytest.fail("an entry was read")

    with pytest.raises(ValidationError, match="not signed by"):
        verify_log(never(), sample(3).note(), Signer(ORIGIN, bytes(32)).key)


# --------------------------------------------------------------------- proofs


@pytest.mark.parametrize(("index", "size"), [(0, 1), (0, 300), (255, 300), (256, 300), (299, 300)])
def test_a_proof_verifies_after_a_trip_through_json(index: int, size: int) -> None:
    proof = Proof.parse(sample(size).proof(index).model_dump_json())
    found = verify_inclusion(proof, KEY)
    assert (found.index, found.entry.step, found.checkpoint.size) == (index, f"files.process/{index}", size)


@given(st.data())
def test_no_changed_proof_verifies(data: st.DataObject) -> None:
    proof = sample(300).proof(data.draw(st.integers(0, 299)))
    text = proof.model_dump_json().encode()
    changed = flipped(text, data.draw(st.integers(0, len(text) - 1)), data.draw(st.integers(1, 255)))
    with pytest.raises((IntegrityError, ValidationError)):
        verify_inclusion(Proof.parse(changed), KEY)


@pytest.mark.parametrize(
    "change",
    [
        {"index": 8},
        {"size": 299},
        {"entry": "other"},
        {"entry": "\ud800"},
        {"hashes": ()},
        {"hashes": ("0" * 64,) * 9},
        {"checkpoint": sample(299).note()},
    ],
)
def test_a_proof_whose_parts_do_not_belong_together_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(IntegrityError):
        verify_inclusion(sample(300).proof(7).model_copy(update=change), KEY)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_garbage_is_no_proof(garbage: bytes) -> None:
    with pytest.raises(ValidationError, match="not a proof"):
        Proof.parse(garbage)


@pytest.mark.parametrize("member", ['"index":4', '"entry":"x"', '"checkpoint":"x"', '"hashes":[]'])
def test_a_proof_that_says_a_member_twice_is_refused(member: str) -> None:
    said = sample(300).proof(3).model_dump_json()
    with pytest.raises(ValidationError, match="a member twice"):
        Proof.parse(f"{{{member},{said[1:]}")


def test_a_huge_proof_is_refused_unread() -> None:
    with pytest.raises(ValidationError, match="too long"):
        Proof.parse(b"[" * 2_000_000)


def test_a_log_that_grew_is_consistent_and_one_that_was_rewritten_is_not() -> None:
    log = sample(300)
    hashes = merkle.consistency_proof(100, 300, log.read)
    old, new = verify_consistency(log.note(100), log.note(300), hashes, KEY)
    assert (old.size, new.size) == (100, 300)
    forged = Sample(tuple(draft(i, data={"forged": i}).body(TIME) for i in range(100)), {})
    with pytest.raises(IntegrityError, match="not a continuation"):
        verify_consistency(forged.note(), log.note(), hashes, KEY)
    with pytest.raises(IntegrityError, match="cannot become"):
        verify_consistency(log.note(), log.note(100), hashes, KEY)
