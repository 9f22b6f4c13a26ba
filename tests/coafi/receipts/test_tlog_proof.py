"""C2SP tlog-proof: to the letter, and nothing else."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.errors import ValidationError
from coafi.receipts.tlog_proof import MAX_EXTRA, TlogProof, format_tlog_proof, parse_tlog_proof

NOTE = "example.com/fancylog\n109482\nsFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=\n\n— example.com/fancylog AAAAAAA=\n"
HASHES = (b"\x01" * 32, b"\x02" * 32)
LINES = [base64.b64encode(one).decode() for one in HASHES]


def test_a_proof_is_written_as_the_specification_says() -> None:
    assert format_tlog_proof(73894, HASHES, NOTE) == (
        f"c2sp.org/tlog-proof@v1\nindex 73894\n{LINES[0]}\n{LINES[1]}\n\n{NOTE}"
    )
    assert format_tlog_proof(0, (), NOTE, extra=b"age") == f"c2sp.org/tlog-proof@v1\nextra YWdl\nindex 0\n\n{NOTE}"


def test_the_example_of_the_specification_is_read() -> None:
    text = (
        """c2sp.org/tlog-proof@v1
extra YWdlLXYxLjIuMS1kYXJ3aW4tYXJtNjQudGFyLmd6
index 73894
gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=
B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=
EKNzoDWG8LGC0Yp9o+sv3qllpMP9uHQ9B20KNL+Q1zs=
RoopEkOdqkYqMB4MJXrbt/hMjOxsVn0IrWjpz1ZMMes=
AHCioX9nLjsrse6YhjRRmk1WUEirVOLLRoOQ6vfO5vk=

"""
        + NOTE
    )
    proof = parse_tlog_proof(text)
    assert (proof.index, len(proof.hashes), proof.extra) == (73894, 5, b"age-v1.2.1-darwin-arm64.tar.gz")
    assert proof.checkpoint == NOTE


@given(
    st.integers(0, 2**63 - 1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=64).map(tuple),
    st.none() | st.binary(max_size=100),
)
def test_what_is_written_is_read(index: int, hashes: tuple[bytes, ...], extra: bytes | None) -> None:
    text = format_tlog_proof(index, hashes, NOTE, extra=extra)
    assert parse_tlog_proof(text) == TlogProof(index, hashes, NOTE, extra)


WHOLE = format_tlog_proof(5, HASHES, NOTE, extra=b"x")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no checkpoint"),
        (WHOLE.split("\n\n")[0], "no checkpoint"),
        (WHOLE.split("\n\n")[0] + "\n\n", "no checkpoint"),
        (WHOLE.replace("v1", "v2", 1), "first line"),
        (" " + WHOLE, "first line"),
        (WHOLE.replace("index 5", "index 05"), "index"),
        (WHOLE.replace("index 5", "index -1"), "index"),
        (WHOLE.replace("index 5", "index ٥"), "index"),
        (WHOLE.replace("index 5", "index 9223372036854775808"), "index"),
        (WHOLE.replace("index 5", "index 9" + "9" * 5000), "index"),
        (WHOLE.replace("index 5\n", ""), "index"),
        (WHOLE.replace("index 5", "index 5 "), "index"),
        (WHOLE.replace("extra eA==", "extra eB=="), "canonical"),
        (WHOLE.replace("extra eA==", "extra eA=="[:-1]), "base64"),
        (WHOLE.replace(LINES[0], LINES[0][:-4]), "hash"),
        (WHOLE.replace(LINES[0], LINES[0] + " "), "hash"),
        (WHOLE.replace("\n\n", f"\n{LINES[0]}" * 63 + "\n\n", 1), "more than 64"),
        (WHOLE.replace("\n", "\r\n"), "no checkpoint"),
        (WHOLE + "x" * (MAX_EXTRA + 100_000), "longer"),
    ],
)
def test_what_is_no_proof_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        parse_tlog_proof(text)


@given(st.integers(0, len(WHOLE) - 1), st.characters(codec="utf-8"))
def test_every_proof_has_one_spelling(at: int, other: str) -> None:
    text = WHOLE[:at] + other + WHOLE[at + 1 :]
    try:
        proof = parse_tlog_proof(text)
    except ValidationError:
        return
    assert format_tlog_proof(proof.index, proof.hashes, proof.checkpoint, extra=proof.extra) == text
