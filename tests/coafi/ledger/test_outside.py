"""What comes from outside, cut, mixed and mutated: notes, proofs, keys, entries. Refused with a reason, no crash."""

import base64
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.errors import CoafiError, IntegrityError, ValidationError
from coafi.ledger import checkpoint as notes
from coafi.ledger.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint, parse_note, sign_checkpoint
from coafi.ledger.entry import Entry
from coafi.ledger.handover import key_change, open_hand_over
from coafi.ledger.keys import Keyring, Signer, Term, VerifierKey, parse_private_key
from coafi.ledger.proof import Proof
from coafi.ledger.verifier import verify_inclusion
from tests.coafi.ledger.making import ORIGIN, SIGNER, draft
from tests.coafi.ledger.test_checkpoint import NOTE, VKEY
from tests.coafi.ledger.test_verifier import TIME, sample

NEXT = Signer(ORIGIN, bytes([9]) * 32)
RING = Keyring((Term(SIGNER.key, 0, 300), Term(NEXT.key, 300)))
SEED = base64.b64encode(b"\x01" + SIGNER.seed).decode()
PRIVATE = f"PRIVATE+KEY+{ORIGIN}+{SIGNER.key.key_id.hex()}+{SEED}\n".encode()
NOTES = (
    NOTE.encode(),
    sample(300).note().encode(),
    sign_checkpoint(Checkpoint(ORIGIN, 300, bytes(32)), SIGNER, NEXT).note.encode(),
)
PARSERS: dict[str, tuple[Callable[[bytes], object], tuple[bytes, ...]]] = {
    "note": (parse_note, NOTES),
    "checkpoint": (
        lambda data: parse_checkpoint(data.decode("utf-8", "replace")),
        tuple(one.rpartition(b"\n\n")[0] + b"\n" for one in NOTES[1:]),
    ),
    "signed checkpoint": (lambda data: open_checkpoint(data, RING), NOTES[1:]),
    "proof": (
        lambda data: verify_inclusion(Proof.parse(data), RING),
        tuple(sample(300).proof(index).model_dump_json().encode() for index in (0, 299)),
    ),
    "hand-over": (lambda data: open_hand_over(Proof.parse(data)), (sample(300).proof(5).model_dump_json().encode(),)),
    "entry": (
        lambda data: Entry.parse(data).check_key(),
        (draft(1, data={"a": [1, None, {"b": 0.5}]}).body(TIME), key_change(SIGNER.key, SIGNER.sign, NEXT).body(TIME)),
    ),
    "vkey": (
        lambda data: VerifierKey.parse(data.decode("utf-8", "replace")),
        (VKEY.encode(), str(SIGNER.key).encode()),
    ),
    "private key": (parse_private_key, (PRIVATE,)),
}
NASTY = (
    b"\x00",
    b"\xff",
    b"\n",
    b"\n\n",
    b"=",
    b"+",
    b"\xe2\x80\x94 ",
    b'"',
    b"[" * 50,
    b"9" * 30,
    b"-1",
    b"\xed\xa0\x80",
)


def mutated(data: bytes, chance: random.Random, others: tuple[bytes, ...]) -> bytes:
    """``data`` with a few changes: bytes flipped, cut, doubled, swapped, or mixed with others of its kind."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(changed))
        stop = min(len(changed), at + chance.randint(0, 40))
        match chance.randrange(6):
            case 0 if changed:
                changed[at % len(changed)] ^= 1 << chance.randrange(8)
            case 1:
                del changed[at:stop]
            case 2:
                changed[at:at] = changed[at:stop] * chance.choice((1, 3))
            case 3:
                changed[at:at] = chance.choice(NASTY)
            case 4:
                other = chance.choice(others)
                changed[at:stop] = other[at:stop]
            case _:
                del changed[at:]
    return bytes(changed)


def fuzz(name: str, rounds: int, seed: int) -> None:
    """Whatever comes out is a result or an error of ours that says what to do."""
    parse, good = PARSERS[name]
    chance = random.Random(seed)
    for number in range(rounds):
        data = mutated(chance.choice(good), chance, good)
        try:
            parse(data)
        except CoafiError as error:
            if not error.remedy or len(error.message) > 2_000:
                pytest.fail(f"round {number} of seed {seed}: {error} for {data!r}")
        except Exception as error:
            pytest.fail(f"round {number} of seed {seed}: {error!r} for {data!r}")


@pytest.mark.parametrize("name", PARSERS)
def test_mutations_are_refused_or_read(name: str) -> None:
    parse, good = PARSERS[name]
    if name != "hand-over":
        for data in good:
            parse(data)
    fuzz(name, 600, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", PARSERS)
def test_very_many_mutations_are_refused_or_read(name: str) -> None:
    fuzz(name, 100_000, seed=random.randrange(2**32))


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.binary(max_size=400))
def test_garbage_is_refused(name: str, data: bytes) -> None:
    with pytest.raises(CoafiError):
        PARSERS[name][0](data)


@pytest.mark.parametrize("name", PARSERS)
def test_huge_input_is_refused_quickly(name: str) -> None:
    parse, good = PARSERS[name]
    for data in (good[0] * 40_000, b"[" * 3_000_000, b"\n" * 3_000_000, good[0] + b"A" * 3_000_000):
        with pytest.raises(CoafiError):
            parse(data)


@pytest.mark.parametrize("name", PARSERS)
def test_every_truncation_is_refused(name: str) -> None:
    parse, good = PARSERS[name]
    end = len(good[0].rstrip(b"\n"))
    for stop in range(end):
        if name in ("note", "checkpoint") and good[0][:stop].endswith(b"\n"):
            continue  # fewer signatures, or lines after the third, are still a note
        with pytest.raises(CoafiError):
            parse(good[0][:stop])


def test_base64_has_one_spelling() -> None:
    line = sample(3).note().splitlines()[-1]
    encoded = line.rpartition(" ")[2]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    spare = encoded.rstrip("=")[-1]
    twin = encoded.replace(f"{spare}=", f"{alphabet[alphabet.index(spare) ^ 1]}=")
    for spelling in (twin, encoded.rstrip("="), encoded + "=", encoded.replace("+", "-").replace("/", "_") + "-"):
        with pytest.raises(ValidationError, match="base64"):
            open_checkpoint(sample(3).note().replace(encoded, spelling), SIGNER.key)


def test_a_signature_line_may_come_twice_and_a_wrong_one_spoils_it() -> None:
    note = sample(3).note()
    line = note.splitlines()[-1] + "\n"
    assert open_checkpoint(note + line, SIGNER.key).size == 3
    other = notes.sign_note("another\n", SIGNER).splitlines()[-1] + "\n"
    for lines in (line + other, other + line):
        with pytest.raises(ValidationError, match="is wrong"):
            open_checkpoint(note[: -len(line)] + lines, SIGNER.key)


def test_a_proof_of_another_size_or_another_log_is_refused() -> None:
    proof = sample(300).proof(7)
    for change in ({"size": 301}, {"checkpoint": sample(255).note()}, {"size": 255, "checkpoint": sample(255).note()}):
        with pytest.raises(IntegrityError):
            verify_inclusion(proof.model_copy(update=change), SIGNER.key)
    stranger = Signer("other.example/log", SIGNER.seed)
    with pytest.raises(ValidationError, match="not signed by"):
        verify_inclusion(proof, stranger.key)
