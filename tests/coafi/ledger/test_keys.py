import os
from pathlib import Path

import pytest
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
