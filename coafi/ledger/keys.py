"""Ed25519 keys as C2SP signed notes name them (https://c2sp.org/signed-note), rings and files of them.

A public key travels as a *vkey*: ``<name>+<key id, 8 hex digits>+<base64(01 ‖ public key)>``. The private key's file
holds one line in the form that Go's ``golang.org/x/mod/sumdb/note`` gave it, which other tools of the field read:
``PRIVATE+KEY+<name>+<key id>+<base64(01 ‖ seed)>``.
"""

import base64
import binascii
import hashlib
import os
import re
import secrets
import stat
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from coafi.errors import AuthorizationError, ResourceNotFoundError, Unavailable, ValidationError
from coafi.secret_files import permissions

ED25519 = b"\x01"
"""The signature type of Ed25519 in signed notes."""

COSIGNATURE_V1 = b"\x04"
"""That of timestamped Ed25519 cosignatures (https://c2sp.org/tlog-cosignature)."""

_KEY_SIZE = 32
_SIGN_BIT = 1 << 255
_WEAK = {
    0,
    1,
    2**255 - 20,
    2**255 - 19,
    2**255 - 18,
    0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
    0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
}
"""The y coordinates of the points of order 1, 2, 4 and 8, in every way to write them. Under such a key there are
signatures that anybody can make without a private key, so nothing that is signed with it binds its owner."""
_TYPES = {
    ED25519: "a log (type 01)",
    COSIGNATURE_V1: "a witness (type 04)",
    b"\x06": "a witness with ML-DSA-44 (type 06)",
}
_MAX_NAME = 255
_MAX_LINE = 1024
_PRIVATE = "PRIVATE+KEY+"


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 public key, the name it signs under, and the one type of signature that it makes.

    Raises:
        ValidationError: the name is empty or holds a space, a plus sign or a control character; or the key is not one,
            or one for which anybody can sign.
    """

    name: str
    public: bytes

    TYPE: ClassVar[bytes]

    def __post_init__(self) -> None:
        check_name(self.name)
        if len(self.public) != _KEY_SIZE:
            raise ValidationError(
                f"the public key of {self.name} has {len(self.public)} bytes", remedy="an Ed25519 key has 32"
            )
        if int.from_bytes(self.public, "little") & ~_SIGN_BIT in _WEAK:
            raise ValidationError(
                f"the public key of {self.name} is one for which anybody can sign",
                remedy="whoever gave it to you could deny every signature: ask for another one",
            )

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{_encode(self.TYPE + self.public)}"

    @cached_property
    def key_id(self) -> bytes:
        """The first 4 bytes of SHA-256 over ``name ‖ 0A ‖ type ‖ public key``."""
        return hashlib.sha256(self.name.encode() + b"\n" + self.TYPE + self.public).digest()[:4]

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether the 64 bytes of ``signature`` are this key's over ``message``."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except InvalidSignature:
            return False
        return True

    @classmethod
    def parse(cls, vkey: str) -> Self:
        """The inverse of ``str()``.

        Raises:
            ValidationError: the text is not an Ed25519 vkey for this type of signature, or its key id is another key's.
        """
        name, key_id, data = _parts(vkey.strip(), cls.TYPE, "verifier key")
        key = cls(name, data)
        if key.key_id != key_id:
            raise _wrong_id("verifier key")
        return key


@dataclass(frozen=True)
class VerifierKey(PublicKey):
    """The public key of a log, or of whoever else signs notes."""

    TYPE: ClassVar[bytes] = ED25519


@dataclass(frozen=True)
class CosignerKey(PublicKey):
    """The public key of a witness. Its signatures are those of :mod:`coafi.ledger.cosignature`, with a time in them."""

    TYPE: ClassVar[bytes] = COSIGNATURE_V1


@dataclass(frozen=True)
class PrivateKey:
    """A private key and the name it signs under."""

    name: str
    seed: bytes = field(repr=False)

    TYPE: ClassVar[type[PublicKey]]

    def __post_init__(self) -> None:
        check_name(self.name)

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes."""
        return self._private.sign(message)

    @cached_property
    def _public(self) -> bytes:
        return self._private.public_key().public_bytes_raw()

    @cached_property
    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)


@dataclass(frozen=True)
class Signer(PrivateKey):
    """The private key of a log."""

    TYPE: ClassVar[type[PublicKey]] = VerifierKey

    @cached_property
    def key(self) -> VerifierKey:
        """The public half."""
        return VerifierKey(self.name, self._public)


@dataclass(frozen=True)
class Cosigner(PrivateKey):
    """The private key of a witness."""

    TYPE: ClassVar[type[PublicKey]] = CosignerKey

    @cached_property
    def key(self) -> CosignerKey:
        """The public half."""
        return CosignerKey(self.name, self._public)


P = TypeVar("P", bound=PrivateKey)


@dataclass(frozen=True, slots=True)
class Term:
    """A key of a log, and the checkpoints that its signature counts for: those of ``since <= size <= until`` entries.

    Attributes:
        until: none while the key is in use. Its last checkpoint is signed by the key that follows, too.
    """

    key: VerifierKey
    since: int = 0
    until: int | None = None

    def covers(self, size: int) -> bool:
        """Whether the key may sign a checkpoint of ``size`` entries."""
        return self.since <= size and (self.until is None or size <= self.until)


@dataclass(frozen=True)
class Keyring:
    """The keys that one log has had, oldest first. A key alone is a ring of one.

    Raises:
        ValidationError: there is no key, or they are of several logs.
    """

    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        if len({term.key.name for term in self.terms}) != 1:
            raise ValidationError(
                "a keyring holds the keys of one log", remedy="give the keys of one name, at least one"
            )

    def __str__(self) -> str:
        return ", ".join(str(term.key) for term in self.terms)

    @property
    def name(self) -> str:
        """The log's name."""
        return self.terms[0].key.name

    @classmethod
    def of(cls, keys: "Trusted") -> "Keyring":
        """``keys`` as a ring."""
        return keys if isinstance(keys, Keyring) else cls((Term(keys),))


Trusted = VerifierKey | Keyring
"""What a verifier is given: the one key it trusts, or all keys of the log and when each counted."""


def check_name(name: str) -> None:
    """Check a key's name against the rules of signed notes.

    Raises:
        ValidationError: it breaks one.
    """
    if not name or len(name) > _MAX_NAME or "+" in name or any(c.isspace() or not c.isprintable() for c in name):
        raise ValidationError(
            f"{name[:_MAX_NAME]!r} cannot name a key",
            remedy="take a URL without scheme, such as example.com/log, without spaces and plus signs",
        )


def generate_key(path: Path, name: str) -> Signer:
    """Make a key, and its file, readable for its owner only. A file that exists is never replaced.

    Raises:
        ValidationError: there is a file, or the name cannot name a key.
        Unavailable: the file cannot be written.
    """
    return _generate(path, Signer(name, Ed25519PrivateKey.generate().private_bytes_raw()))


def generate_cosigner(path: Path, name: str) -> Cosigner:
    """Make the key of a witness, as :func:`generate_key` does; its file can be taken for no other key's."""
    return _generate(path, Cosigner(name, Ed25519PrivateKey.generate().private_bytes_raw()))


def _generate(path: Path, signer: P) -> P:
    type_ = signer.TYPE(signer.name, signer._public)
    line = f"{_PRIVATE}{signer.name}+{type_.key_id.hex()}+{_encode(type_.TYPE + signer.seed)}\n"
    # Linked into place when it is whole: a crash leaves no half of a key under its name.
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            os.link(unfinished, path)
        finally:
            unfinished.unlink()
        sync_directory(path.parent)
    except FileExistsError as error:
        raise ValidationError(
            f"there is a key file {path} already", remedy="load it, or choose another path; keys are never replaced"
        ) from error
    except OSError as error:
        raise Unavailable(f"the key file {path} cannot be written: {error}", remedy="check its directory") from error
    return signer


def sync_directory(path: Path) -> None:
    """Make what was done to the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_key(path: Path) -> Signer:
    """The key in a file that :func:`generate_key` made.

    Raises:
        ResourceNotFoundError: there is no such file.
        AuthorizationError: others than its owner may read or write it, or it is not a regular file of ours.
        ValidationError: it holds no key.
        Unavailable: it cannot be read.
    """
    return parse_private_key(_read(path))


def load_cosigner(path: Path) -> Cosigner:
    """The key in a file that :func:`generate_cosigner` made.

    Raises:
        ResourceNotFoundError, AuthorizationError, ValidationError, Unavailable: as :func:`load_key`.
    """
    return _parse_private(_read(path), Cosigner)


def _read(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or permissions(status) & 0o077:
                raise AuthorizationError(
                    f"the key file {path} is open to others (mode {stat.S_IMODE(status.st_mode):04o})",
                    remedy=f"run: chmod 600 {path}; and make a new key if somebody may have read it",
                )
            if status.st_uid not in (os.geteuid(), 0):
                raise AuthorizationError(
                    f"the key file {path} belongs to user {status.st_uid}, and this process is user {os.geteuid()}",
                    remedy="whoever owns a file can read it: give it to the user who runs the service",
                )
            return file.read(_MAX_LINE + 1)
    except FileNotFoundError as error:
        raise ResourceNotFoundError(f"there is no key file {path}", remedy="make a key, or correct the path") from error
    except OSError as error:
        raise Unavailable(f"the key file {path} cannot be read: {error}", remedy="check who owns it") from error


def parse_private_key(content: bytes) -> Signer:
    """The key in the content of a key file.

    Raises:
        ValidationError: there is none. The message never repeats the content.
    """
    return _parse_private(content, Signer)


def _parse_private(content: bytes, kind: type[P]) -> P:
    try:
        line = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        line = ""
    if not line.startswith(_PRIVATE):
        raise ValidationError("this is not a private key for signed notes", remedy=f"it would begin with {_PRIVATE}")
    name, key_id, seed = _parts(line.removeprefix(_PRIVATE), kind.TYPE.TYPE, "private key")
    signer = kind(name, seed)
    if kind.TYPE(name, signer._public).key_id != key_id:
        raise _wrong_id("private key")
    return signer


def decode_base64(text: str) -> bytes:
    """Standard base64 (RFC 4648 section 4) with padding, and only its one canonical spelling.

    Raises:
        ValueError: the text is not that.
    """
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("not base64") from error
    if _encode(data) != text:
        raise ValueError("not the canonical base64 of its bytes")
    return data


def _parts(text: str, type_: bytes, what: str) -> tuple[str, bytes, bytes]:
    parts = text.split("+", 2)
    problem = ""
    data = b""
    if len(text) > _MAX_LINE or len(parts) != 3 or re.fullmatch(r"[0-9a-f]{8}", parts[1]) is None:
        problem = "it is not <name>+<8 hex digits>+<base64>"
    else:
        try:
            data = decode_base64(parts[2])
        except ValueError as error:
            problem = f"its last part is {error}"
        else:
            if data[:1] != type_ or len(data) != 1 + _KEY_SIZE:
                problem = f"it is not an Ed25519 key (type {type_.hex()}, 32 bytes)"
                if data[:1] in _TYPES:
                    problem += f", but that of {_TYPES[data[:1]]}"
    if problem:
        raise ValidationError(f"this {what} cannot be read: {problem}", remedy="copy it again, whole")
    return parts[0], bytes.fromhex(parts[1]), data[1:]


def _wrong_id(what: str) -> ValidationError:
    return ValidationError(f"the id in this {what} is that of another key", remedy="copy it again, whole")


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
