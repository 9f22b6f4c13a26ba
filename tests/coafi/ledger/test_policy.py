import contextlib
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.errors import IntegrityError, ValidationError
from coafi.ledger.cosignature import Cosignature
from coafi.ledger.keys import Cosigner, CosignerKey, Signer
from coafi.ledger.policy import MAX_LINES, MAX_POLICY, Policy, parse_policy, quorum_of

LOG = Signer("log.example", bytes(32)).key
W = [Cosigner(f"w{number}.example", bytes([number + 1]) * 32).key for number in range(6)]
X, Y = W[:3], W[3:]
ML_DSA = "far.example+0123abcd+BgAA"

# The example of https://c2sp.org/tlog-policy, with keys
EXAMPLE = f"""
# Two organisations
log {LOG} https://log.example

witness X1 {X[0]}
witness X2 {X[1]}\thttps://w1.example/witness
  witness X3 {X[2]}
group X-witnesses 2 X1 X2 X3

witness Y1 {Y[0]}
witness Y2 {Y[1]}
witness Y3 {Y[2]}
group Y-witnesses any Y1 Y2 Y3

group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""


def test_the_published_example() -> None:
    policy = parse_policy(EXAMPLE.encode())
    assert policy.keys == tuple(W)
    assert [(one.key, one.url) for one in policy.logs] == [(LOG, "https://log.example")]
    assert policy.witnesses[1].url == "https://w1.example/witness"
    for count in range(7):
        for some in combinations(W, count):
            wanted = sum(key in some for key in X) >= 2 and any(key in some for key in Y)
            assert policy.is_met(some) is wanted


def test_none_asks_for_nobody() -> None:
    policy = parse_policy(b"quorum none\n")
    assert policy.is_met([])
    policy.check([])
    assert policy.wanted() == "none has to"


def test_one_witness() -> None:
    policy = parse_policy(f"witness w {W[0]}\nquorum w".encode())
    assert policy.is_met([W[0]])
    assert not policy.is_met([W[1]])
    assert policy.wanted() == "w must"


def test_a_key_of_another_type_never_counts() -> None:
    policy = parse_policy(f"log {ML_DSA}\nwitness far {ML_DSA}\nwitness w {W[0]}\ngroup g 1 far w\nquorum g\n".encode())
    assert policy.keys == (W[0],)
    assert policy.unknown_logs == 1
    assert policy.logs == ()
    assert policy.is_met([W[0]])
    assert not policy.is_met([])
    with pytest.raises(IntegrityError, match="missing are far, w0"):
        policy.check([])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no line “quorum”"),
        ("quorum w", "line 1 .*'w' is not defined"),
        ("quorum none\nquorum none", "line 2 .*a quorum already"),
        ("quorum", "line 1"),
        ("quorum none none", "line 1"),
        ("witnesses w", "'witnesses' is none of"),
        (f"witness {W[0]}", "it is not “witness"),
        (f"witness w {W[0]} url more", "it is not “witness"),
        (f"witness none {W[0]}", "'none' is taken"),
        (f"witness w {W[0]}\nwitness w {W[1]}", "line 2 .*'w' is taken"),
        (f"witness w {W[0]}\nwitness v {W[0]}", "line 2 .*the same key"),
        (f"witness w {W[0]}\nwitness v {CosignerKey('other', W[0].public)}", "line 2 .*the same key"),
        (f"log {LOG}\nlog {LOG}", "the same key"),
        ("log", "it is not “log"),
        ("log x", "no vkey"),
        ("log x+00000000+?", "no vkey"),
        ("witness w x+00000000+BA==", "no vkey"),
        (f"witness w {str(W[0]).replace('+', '+0', 1)[:-1]}", "no vkey"),
        (f"witness w w0.example+00000000+{str(W[0]).split('+', 2)[2]}", "id in this verifier key"),
        (f"witness w {W[0]}\ngroup g all", "it is not “group"),
        (f"witness w {W[0]}\ngroup g 0 w", "'0' is neither"),
        (f"witness w {W[0]}\ngroup g 2 w", "nor 1 to 1"),
        (f"witness w {W[0]}\ngroup g 01 w", "is neither"),
        (f"witness w {W[0]}\ngroup g +1 w", "is neither"),
        (f"witness w {W[0]}\ngroup g any w w", "a member already"),
        (f"witness w {W[0]}\ngroup g any w\ngroup h any w", "a member already"),
        ("group g any g", "not defined on a line before"),
        ("group g any none", "not defined on a line before"),
        ("# a bell \a\nquorum none", "line 1 .*control character"),
        ("quorum none\r\n", "line 1 .*control character"),
        (f"witness {'n' * 201} {W[0]}", "cannot be a name"),
        ("#" * (MAX_POLICY + 1), "too long"),
    ],
)
def test_a_policy_that_is_none(text: str, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem) as caught:
        parse_policy(text.encode())
    assert caught.value.remedy


def test_more_than_is_read() -> None:
    lines = "\n".join(f"witness w{n} x+00000000+Bg{n:06d}" for n in range(MAX_LINES + 1))
    with pytest.raises(ValidationError, match=f"line {MAX_LINES + 1} .*more than {MAX_LINES}"):
        parse_policy(lines.encode())


def test_names_are_octets() -> None:
    """The letter K and the sign of Kelvin are two names, and what is no UTF-8 is one as well."""
    text = f"witness K {W[0]}\nwitness \N{KELVIN SIGN} {W[1]}\nwitness ".encode() + b"\xff\xfe " + str(W[2]).encode()
    policy = parse_policy(text + b"\ngroup g 3 K \xe2\x84\xaa \xff\xfe\nquorum g\n")
    assert policy.is_met(W[:3])
    assert not policy.is_met(W[:2])


def cosignature(key: CosignerKey) -> Cosignature:
    return Cosignature(key, 5, "")


@pytest.mark.parametrize(("threshold", "enough"), [(None, 3), (3, 3), (2, 2), (1, 1), (0, 0)])
def test_k_of_n(threshold: int | None, enough: int) -> None:
    policy = quorum_of(X, threshold)
    for count in range(4):
        for some in combinations(X, count):
            assert policy.is_met(some) is (count >= enough)
    policy.check([cosignature(key) for key in X[:enough]])
    if enough:
        with pytest.raises(IntegrityError, match=rf"{enough - 1} of 3 did.*missing are .*w2\.example") as caught:
            policy.check([cosignature(key) for key in X[: enough - 1]])
        assert "another history" in caught.value.remedy


@pytest.mark.parametrize("threshold", [-1, 4])
def test_a_quorum_that_cannot_be(threshold: int) -> None:
    with pytest.raises(ValidationError, match="cannot be"):
        quorum_of(X, threshold)


def test_a_witness_counts_once_under_however_many_names() -> None:
    with pytest.raises(ValidationError, match="given twice"):
        quorum_of([W[0], CosignerKey("other", W[0].public)], 2)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_policy_or_refused(data: bytes) -> None:
    with contextlib.suppress(ValidationError):
        assert isinstance(parse_policy(data), Policy)


_WORDS = st.sampled_from(
    ["log", "witness", "group", "quorum", "none", "all", "any", "1", "2", "a", "b", "g", str(LOG), str(W[0]), str(W[1])]
)


@given(st.lists(st.lists(_WORDS, max_size=5), max_size=8))
def test_any_words_are_a_policy_or_refused(lines: list[list[str]]) -> None:
    try:
        policy = parse_policy("\n".join(" ".join(words) for words in lines).encode())
    except ValidationError:
        return
    assert policy.is_met(W) or any(one.key is None for one in policy.witnesses)  # all of them are always enough
