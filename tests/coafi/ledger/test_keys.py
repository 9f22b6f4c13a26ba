import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from coafi.errors import AuthorizationError, ResourceNotFoundError, Unavailable, ValidationError
from coafi.ledger import keys
from coafi.ledger.keys import Signer, VerifierKey

# The example of https://c2sp.org/signed-note
VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"


def test_the_published_vkey_reads_back() -> None:
    key = VerifierKey.parse(VKEY)
    assert (key.name, key.key_id.hex()) == ("example.com/foo", "530d903a")
    assert str(key) == VKEY
    assert VerifierKey.parse(f" {VKEY}\n") == key


@pytest.mark.parametrize(
    "vkey",
    [
        *("", "a+b+c", "example.com/foo+530d903a", VKEY[:-1], VKEY + "=", VKEY.replace("foo", "bar")),
        *(VKEY.replace("530d903a", "530D903A"), VKEY.replace("530d903a", "530d903b"), VKEY.replace("Aeky", "Beky")),
        *("+" + VKEY.split("+", 1)[1], "a b+" + VKEY.split("+", 1)[1], VKEY.replace("+A", "+é"), "x" * 2000),
    ],
)
def test_what_is_no_vkey_is_refused(vkey: str) -> None:
    with pytest.raises(ValidationError):
        VerifierKey.parse(vkey)


@given(st.text(max_size=100))
def test_garbage_is_no_vkey(garbage: str) -> None:
    with pytest.raises(ValidationError):
        VerifierKey.parse(garbage)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u2003b", "a\nb", "a\x00b", "x" * 256])
def test_names_that_break_the_rules_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="cannot name a key"):
        Signer(name, bytes(32))


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValidationError, match="31 bytes"):
        VerifierKey("example.com/a", bytes(31))


P = 2**255 - 19
"""The field of Curve25519; the rest is the arithmetic of RFC 8032, section 5.1."""
D = -121665 * pow(121666, -1, P) % P
ORDER = 2**252 + 27742317777372353535851937790883648493


def x_of(y: int) -> int | None:
    """The x coordinate of a point, if there is one with this y."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    root = pow(square, (P + 3) // 8, P)
    for x in (root, root * pow(2, (P - 1) // 4, P) % P):
        if x * x % P == square:
            return x
    return None


def add(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    """The sum of two points."""
    (x1, y1), (x2, y2) = one, other
    k = D * x1 * x2 * y1 * y2 % P
    return (x1 * y2 + x2 * y1) * pow(1 + k, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P


def times(factor: int, point: tuple[int, int]) -> tuple[int, int]:
    """The multiple of a point."""
    result = (0, 1)
    while factor:
        if factor & 1:
            result = add(result, point)
        point, factor = add(point, point), factor >> 1
    return result


def weak_keys() -> set[bytes]:
    """Every way to write the points of order 1, 2, 4 and 8."""
    points = [times(ORDER, (x, y)) for y in range(2, 40) if (x := x_of(y))]
    ys = {times(factor, point)[1] for point in points for factor in range(8)}
    written = ys | {y + P for y in ys if y + P < 2**255}
    return {(y | sign << 255).to_bytes(32, "little") for y in written for sign in (0, 1)}


def test_a_key_for_which_anybody_can_sign_is_refused() -> None:
    """Each of them takes a signature that was made without a private key; whoever publishes one can deny them all."""
    weak = weak_keys()
    assert len(weak) == 14
    for public in sorted(weak):
        with pytest.raises(ValidationError, match="anybody can sign"):
            VerifierKey("example.com/a", public)
    nothing = (1).to_bytes(32, "little") + bytes(32)
    Ed25519PublicKey.from_public_bytes((1).to_bytes(32, "little")).verify(nothing, b"whatever")


def test_a_generated_key_loads_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.key"
    made = keys.generate_key(path, "example.com/log")
    assert path.stat().st_mode & 0o777 == 0o600
    loaded = keys.load_key(path)
    assert loaded == made
    assert VerifierKey.parse(str(made.key)).verifies(loaded.sign(b"text"), b"text")
    assert not made.key.verifies(loaded.sign(b"text"), b"other")
    assert not made.key.verifies(b"short", b"text")


def test_a_key_file_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "log.key"
    path.write_text("precious")
    with pytest.raises(ValidationError, match="already"):
        keys.generate_key(path, "example.com/log")
    assert path.read_text() == "precious"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_key_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "log.key"
    keys.generate_key(path, "example.com/log")
    path.chmod(mode)
    with pytest.raises(AuthorizationError, match=f"{mode:04o}.*chmod 600"):
        keys.load_key(path)


def test_what_is_no_key_file_is_refused_without_repeating_it(tmp_path: Path) -> None:
    path = tmp_path / "log.key"
    good = keys.generate_key(path, "example.com/log")
    line = path.read_text().strip()
    for content in ("secret", line[:-3], line.replace(good.key.key_id.hex(), "00000000"), "PRIVATE+KEY+a+b", "\udcff"):
        path.write_bytes(content.encode(errors="surrogateescape"))
        with pytest.raises(ValidationError) as caught:
            keys.load_key(path)
        assert "secret" not in str(caught.value)
        assert line[-20:] not in str(caught.value)
    assert good.seed.hex() not in repr(good)
    assert str(good.seed) not in repr(good)


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResourceNotFoundError, match=r"none\.key"):
        keys.load_key(tmp_path / "none.key")


def test_directories_and_pipes_are_no_key_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(AuthorizationError):
        keys.load_key(tmp_path / "pipe")
    with pytest.raises((AuthorizationError, Unavailable)):
        keys.load_key(tmp_path)
    with pytest.raises(Unavailable):
        keys.generate_key(tmp_path / "none" / "log.key", "example.com/log")
