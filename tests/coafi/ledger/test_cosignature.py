import base64
import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.errors import ValidationError
from coafi.ledger.checkpoint import Checkpoint, open_checkpoint, parse_note, sign_checkpoint
from coafi.ledger.cosignature import cosign, cosignatures, parse_cosignatures, with_cosignatures
from coafi.ledger.keys import (
    Cosigner,
    CosignerKey,
    Signer,
    VerifierKey,
    generate_cosigner,
    generate_key,
    load_cosigner,
    load_key,
)

# The vkey of a witness that the tests of github.com/transparency-dev/formats publish
VKEY = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"
# The example of https://c2sp.org/tlog-cosignature, of keys that are not published
EXAMPLE = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "\N{EM DASH} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nT"
    "o+zyWE+xeMcTOAYQ8=\n"
    "\N{EM DASH} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf"
    "5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)
SIGNER = Signer("example.com/log", bytes(32))
WITNESS = Cosigner("witness.example/w1", bytes([7]) * 32)
OTHER = Cosigner("witness.example/w2", bytes([8]) * 32)
NOTE = sign_checkpoint(Checkpoint("example.com/log", 12, bytes(range(32))), SIGNER).note
TEXT = parse_note(NOTE).text
LINE = cosign(TEXT, WITNESS, 1_679_315_147)


def test_the_published_key_of_a_witness_reads_and_is_no_log_s() -> None:
    key = CosignerKey.parse(VKEY)
    assert str(key) == VKEY
    assert key.key_id.hex() == "da77ade7"
    with pytest.raises(ValidationError, match=r"type 01, 32 bytes.*that of a witness"):
        VerifierKey.parse(VKEY)
    with pytest.raises(ValidationError, match="that of a log"):
        CosignerKey.parse(str(SIGNER.key))


def test_the_published_cosignature_has_the_layout_that_is_read() -> None:
    line = parse_note(EXAMPLE).signatures[1]
    assert line.name == "witness.example.com/w1"
    assert len(line.signature) == 72
    assert int.from_bytes(line.signature[:8], "big") == 1_679_315_147  # the time in the specification's example


def test_what_is_signed_is_what_the_specification_says() -> None:
    """Built here once more, from the text of the specification."""
    signature = base64.b64decode(LINE.split(" ")[2])
    message = b"cosignature/v1\ntime 1679315147\n" + TEXT.encode()
    assert signature[:4] == WITNESS.key.key_id
    assert signature[4:12] == bytes.fromhex("0000000064185 0cb".replace(" ", ""))
    assert WITNESS.key.verifies(signature[12:], message)
    assert not WITNESS.key.verifies(signature[12:], TEXT.encode())


@given(st.integers(1, 2**63 - 1), st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["C", "Z"])))
def test_cosignatures_read_back(time: int, extension: str) -> None:
    text = TEXT + (f"{extension}\n" if extension else "")
    note = text + "\n" + cosign(text, WITNESS, time)
    (found,) = cosignatures(note, [OTHER.key, WITNESS.key])
    assert (found.key, found.time, found.line) == (WITNESS.key, time, cosign(text, WITNESS, time))
    assert found.moment


@pytest.mark.parametrize("time", [0, -1, 2**63])
def test_a_time_that_a_cosignature_cannot_have(time: int) -> None:
    with pytest.raises(ValueError, match="no time of a cosignature"):
        cosign(TEXT, WITNESS, time)


def test_a_cosignature_does_not_make_a_checkpoint_and_does_not_hurt_one() -> None:
    note = with_cosignatures(NOTE, [LINE, LINE, cosign(TEXT, OTHER, 5)])
    assert open_checkpoint(note, SIGNER.key).size == 12
    assert [one.key for one in cosignatures(note, [OTHER.key, WITNESS.key])] == [WITNESS.key, OTHER.key]
    assert with_cosignatures(note, [LINE]) == note
    with pytest.raises(ValidationError, match="not signed by"):
        open_checkpoint(TEXT + "\n" + LINE, SIGNER.key)


def test_a_witness_that_signs_twice_counts_once() -> None:
    note = NOTE + LINE + cosign(TEXT, WITNESS, 1_700_000_000)
    assert [one.time for one in cosignatures(note, [WITNESS.key])] == [1_679_315_147]


def test_strangers_are_ignored() -> None:
    impostor = Cosigner(WITNESS.name, bytes([9]) * 32)
    note = NOTE + cosign(TEXT, impostor, 5) + LINE
    assert [one.key for one in cosignatures(note, [WITNESS.key])] == [WITNESS.key]
    assert cosignatures(note, []) == ()


def line_of(payload: bytes) -> str:
    return f"\N{EM DASH} {WITNESS.name} {base64.b64encode(WITNESS.key.key_id + payload).decode()}\n"


@pytest.mark.parametrize(
    "line",
    [
        line_of((0).to_bytes(8, "big") + bytes(64)),
        line_of((2**63).to_bytes(8, "big") + bytes(64)),
        line_of((5).to_bytes(8, "big") + bytes(64)),
        line_of((5).to_bytes(8, "big") + bytes(63)),
        line_of(bytes(1)),
        line_of(WITNESS.sign(TEXT.encode())),  # a plain signature with the witness's key
        cosign(TEXT.replace("\n12\n", "\n13\n"), WITNESS, 5),
        cosign(TEXT + "extension\n", WITNESS, 5),
    ],
)
def test_a_wrong_cosignature_of_a_known_witness_spoils_the_note(line: str) -> None:
    with pytest.raises(ValidationError, match="is wrong"):
        cosignatures(NOTE + line, [WITNESS.key])


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "\n",
        "ok\n",
        LINE.rstrip("\n"),
        f"{TEXT}\n{LINE}",
        f"{LINE}\n{LINE}",
        "\N{EM DASH} x\n",
        b"\xff",
        "x" * 70_000,
    ],
)
def test_an_answer_that_is_no_cosignature_is_refused(answer: str | bytes) -> None:
    with pytest.raises(ValidationError):
        parse_cosignatures(TEXT, answer, [WITNESS.key])


def test_an_answer_may_hold_cosignatures_of_strangers() -> None:
    answer = cosign(TEXT, OTHER, 5) + LINE
    assert [one.key for one in parse_cosignatures(TEXT, answer.encode(), [WITNESS.key])] == [WITNESS.key]
    assert parse_cosignatures(TEXT, cosign(TEXT, OTHER, 5), [WITNESS.key]) == ()


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300)))
def test_whatever_a_witness_answers_is_read_or_refused(answer: bytes | str) -> None:
    with contextlib.suppress(ValidationError):
        assert parse_cosignatures(TEXT, answer, [WITNESS.key]) == ()


@given(st.integers(0, len((NOTE + LINE).encode()) - 1), st.integers(0, 7))
def test_no_bit_of_a_cosigned_checkpoint_can_be_changed(at: int, bit: int) -> None:
    data = bytearray((NOTE + LINE).encode())
    data[at] ^= 1 << bit
    try:
        assert open_checkpoint(bytes(data), SIGNER.key).note != NOTE + LINE
        assert cosignatures(bytes(data), [WITNESS.key]) == ()  # it is a stranger's now
    except ValidationError:
        pass


def test_the_file_of_a_witness_s_key_is_none_of_a_log_s(tmp_path: Path) -> None:
    made = generate_cosigner(tmp_path / "witness", "witness.example/w1")
    assert load_cosigner(tmp_path / "witness") == made
    assert (tmp_path / "witness").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ValidationError, match="that of a witness"):
        load_key(tmp_path / "witness")
    generate_key(tmp_path / "log", "witness.example/w1")
    with pytest.raises(ValidationError, match="that of a log"):
        load_cosigner(tmp_path / "log")
