import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.errors import ValidationError
from coafi.ledger import checkpoint as notes
from coafi.ledger.checkpoint import Checkpoint
from coafi.ledger.keys import Signer, VerifierKey

# The example of https://c2sp.org/signed-note
VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
NOTE = (
    "This is an example message.\n\n\N{EM DASH} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1"
    "ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
# The example of https://c2sp.org/tlog-checkpoint, of a key that is not published
CHECKPOINT = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "\N{EM DASH} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nT"
    "o+zyWE+xeMcTOAYQ8=\n"
)
SIGNER = Signer("example.com/log", bytes(32))
OTHER = Signer("example.com/log", bytes([1]) * 32)
STATE = Checkpoint("example.com/log", 12, bytes(range(32)))
SIGNED = notes.sign_checkpoint(STATE, SIGNER)


def resigned(text: str, signer: Signer = SIGNER) -> str:
    return notes.sign_note(text, signer)


def test_the_published_note_verifies() -> None:
    assert notes.verify_note(NOTE, VerifierKey.parse(VKEY)) == "This is an example message.\n"
    assert notes.verify_note(NOTE.encode(), VerifierKey.parse(VKEY)) == "This is an example message.\n"


def test_the_published_checkpoint_reads() -> None:
    text, signatures = notes.parse_note(CHECKPOINT)
    state = notes.parse_checkpoint(text)
    assert (state.origin, state.size) == ("example.com/behind-the-sofa", 20852163)
    assert state.text() == text
    assert [signature.name for signature in signatures] == ["example.com/behind-the-sofa"]


@given(st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32))
def test_checkpoints_read_back(size: int, root: bytes) -> None:
    state = Checkpoint("example.com/log", size, root)
    signed = notes.sign_checkpoint(state, SIGNER)
    assert notes.open_checkpoint(signed.note, SIGNER.key) == signed
    assert (signed.checkpoint, signed.size) == (state, size)


def test_signatures_of_strangers_are_ignored() -> None:
    line = resigned(STATE.text(), Signer("witness.example", bytes([2]) * 32)).rpartition("\n\n")[2]
    same_name = resigned(STATE.text(), OTHER).rpartition("\n\n")[2]
    assert notes.open_checkpoint(SIGNED.note + line + same_name, SIGNER.key).checkpoint == STATE


def test_another_key_did_not_sign_it() -> None:
    with pytest.raises(ValidationError, match="not signed by"):
        notes.open_checkpoint(SIGNED.note, OTHER.key)


def test_a_wrong_signature_of_a_known_key_spoils_the_note() -> None:
    wrong = resigned("another text\n").rpartition("\n\n")[2]
    for note in (SIGNED.note + wrong, SIGNED.note.replace("\n12\n", "\n13\n")):
        with pytest.raises(ValidationError, match="is wrong"):
            notes.open_checkpoint(note, SIGNER.key)


def test_a_checkpoint_of_another_log_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"'example\.com/other'"):
        notes.open_checkpoint(resigned(Checkpoint("example.com/other", 1, bytes(32)).text()), SIGNER.key)


@pytest.mark.parametrize(
    "text",
    [
        *("\n", "one\n", "example.com/log\n12\n", "example.com/log\n12\n\n", "\n12\n" + "A" * 43 + "=\n"),
        *(STATE.text().replace("12", size) for size in ("", "012", "-1", "1.0", "9" * 19, "9" * 40, "٣", "1 ")),
        *(STATE.text().replace("AAEC", root) for root in ("", "AAE", "AA==", "\u00e9AEC")),
        STATE.text()[:-3] + "9=\n",
        STATE.text() + "\nextension after an empty line\n",
    ],
)
def test_signed_text_that_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="not a signed checkpoint"):
        notes.open_checkpoint(resigned(text), SIGNER.key)


def test_extension_lines_are_allowed() -> None:
    assert notes.open_checkpoint(resigned(STATE.text() + "extension\n"), SIGNER.key).checkpoint == STATE


@pytest.mark.parametrize(
    "note",
    [
        *(
            "",
            "\n",
            "\n\n",
            STATE.text(),
            SIGNED.note[:-1],
            SIGNED.note + "\n",
            SIGNED.note.replace("\N{EM DASH}", "-"),
        ),
        *(
            SIGNED.note + "\N{EM DASH} a AAAA\n",
            SIGNED.note + "\N{EM DASH} a\n",
            SIGNED.note + "\N{EM DASH}  AAAAAAA=\n",
        ),
        *(SIGNED.note + "\N{EM DASH} a AAAAAAA=\n" * 100, SIGNED.note.replace("log", "l\tog"), "\ud800"),
        *(SIGNED.note.replace("=\n", "\n"), "x" * 70_000 + "\n\n" + SIGNED.note),
        SIGNED.note + "\N{EM DASH} a+b AAAAAAA=\n",
        SIGNED.note.encode() + b"\xff",
    ],
)
def test_malformed_notes_are_refused(note: str | bytes) -> None:
    with pytest.raises(ValidationError, match="not a signed checkpoint"):
        notes.open_checkpoint(note, SIGNER.key)


@given(st.binary(max_size=300))
def test_garbage_is_no_checkpoint(garbage: bytes) -> None:
    with pytest.raises(ValidationError):
        notes.open_checkpoint(garbage, SIGNER.key)


@given(st.text("\n -0123456789AB=+/\N{EM DASH}aé", max_size=120))
def test_what_looks_like_a_note_is_none(text: str) -> None:
    with pytest.raises(ValidationError):
        notes.open_checkpoint(text, SIGNER.key)


@given(st.integers(0, len(SIGNED.note.encode()) - 1), st.integers(1, 255))
def test_no_flipped_bit_goes_unnoticed(at: int, mask: int) -> None:
    note = bytearray(SIGNED.note.encode())
    note[at] ^= mask
    with pytest.raises(ValidationError):
        notes.open_checkpoint(bytes(note), SIGNER.key)


def test_a_note_keeps_empty_lines_in_its_text() -> None:
    text = "first\n\nsecond\n"
    assert notes.verify_note(resigned(text), SIGNER.key) == text
    assert base64.b64decode(resigned(text).split()[-1])[:4] == SIGNER.key.key_id
