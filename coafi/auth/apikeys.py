"""API keys: what machines show instead of a token. *Ours*.

A key is the text ``coafi_<id, 12 hex digits>_<secret, 64 hex digits>``. It is shown once, when it is made. What is kept
is its SHA-256, with name, roles and times, in a JSON file that only its owner can read. The secret has 256 random bits,
so a hash without salt and stretching is enough: there is nothing to guess.

A change of the file counts at once, in every process, whoever made it.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import pydantic
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, StringConstraints
from pydantic.alias_generators import to_camel

from coafi.auth.principal import RoleName
from coafi.auth.watched import WatchedFile, check_private
from coafi.canonical import Sha256
from coafi.errors import AuthorizationError, ResourceNotFoundError, ValidationError
from coafi.ledger.published import StateFile

PREFIX: Final = "coafi_"
"""What every API key starts with; no JWT does."""

MAX_FILE: Final = 4 * 2**20
MAX_KEYS: Final = 10_000
"""Keys in a file, revoked ones included."""

_KEY = re.compile(r"coafi_([0-9a-f]{12})_[0-9a-f]{64}")
_LOCK_SECONDS = 10.0

KeyName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class ApiKey(BaseModel):
    """What is kept of an API key.

    Attributes:
        id: the second part of the key; no secret.
        name: who it is for; ``key:<name>`` is the principal. Two keys may share it while one replaces the other.
        sha256: of the whole key.
        expires: when it stops being valid; never if None.
        revoked: when it was revoked; it stays on the list, so that it can be told who had it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True)

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")]
    name: KeyName
    sha256: Sha256
    roles: tuple[RoleName, ...]
    created: AwareDatetime
    expires: AwareDatetime | None = None
    revoked: AwareDatetime | None = None

    def status(self, now: datetime) -> str:
        """``valid``, ``expired`` or ``revoked``."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "valid"


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: Annotated[tuple[ApiKey, ...], Field(max_length=MAX_KEYS)] = ()


class ApiKeyFile:
    """The file of API keys. Several processes may read and change it at the same time."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self._watched: WatchedFile[Mapping[str, ApiKey]] = WatchedFile(path, _parse, missing={}, limit=MAX_FILE)
        self._file = StateFile(path, MAX_FILE)

    def keys(self) -> Mapping[str, ApiKey]:
        """Every key that was ever made, by its id, in order. The same object until the file changes.

        Raises:
            ValidationError: the file is open to others, or is none of ours.
            Unavailable: it cannot be read.
        """
        return self._watched.current()

    def verify(self, text: str, now: datetime) -> ApiKey:
        """The key that ``text`` is.

        Raises:
            AuthorizationError: it is none that is valid now.
            ValidationError, Unavailable: as :meth:`keys`.
        """
        keys = self.keys()
        match = _KEY.fullmatch(text)
        if match is None:
            raise AuthorizationError(
                "this is no whole API key", remedy="copy it again: coafi_, 12 hex digits, an underscore, 64 hex digits"
            )
        key = keys.get(match[1])
        if key is None or not hmac.compare_digest(key.sha256, _hash(text)):
            raise AuthorizationError("this API key is not known here", remedy="ask for a new one")
        if key.revoked is not None:
            raise AuthorizationError(f"the API key {key.name} ({key.id}) was revoked", remedy="ask for a new one")
        if key.expires is not None and key.expires <= now:
            raise AuthorizationError(
                f"the API key {key.name} ({key.id}) expired at {key.expires:%Y-%m-%dT%H:%M:%SZ}",
                remedy="ask for a new one",
            )
        return key

    def add(
        self, name: str, roles: tuple[str, ...], *, expires: datetime | None, another: bool = False
    ) -> tuple[ApiKey, SecretStr]:
        """Make a key; what is kept of it, and the key itself, which cannot be had again.

        Args:
            another: let it share its name with a key that is valid, which it is to replace.

        Raises:
            ValidationError: the name is none, or a valid key has it; or the file is not right.
            Unavailable: the file cannot be written.
        """
        now = datetime.now(UTC).replace(microsecond=0)
        identity = secrets.token_hex(6)
        text = f"{PREFIX}{identity}_{secrets.token_hex(32)}"
        try:
            key = ApiKey(id=identity, name=name, sha256=_hash(text), roles=roles, created=now, expires=expires)
        except pydantic.ValidationError as error:
            fields = ", ".join(sorted({str(problem["loc"][0]) for problem in error.errors(include_input=False)}))
            raise ValidationError(
                f"there cannot be an API key with this {fields}",
                remedy="a name is up to 100 letters, digits, dots, dashes and underscores",
            ) from None
        with self._file.locked(_LOCK_SECONDS):
            keys = self._now()
            if not another and any(one.name == name and one.status(now) == "valid" for one in keys):
                raise ValidationError(
                    f"there is a valid API key of the name {name}",
                    remedy="revoke it, or say --another to replace it step by step",
                )
            if len(keys) >= MAX_KEYS:
                raise ValidationError(
                    f"{self.path} holds {len(keys)} API keys, and no more fit",
                    remedy="take revoked ones out of the file",
                )
            self._write((*keys, key))
        return key, SecretStr(text)

    def revoke(self, name_or_id: str) -> tuple[ApiKey, ...]:
        """Revoke every key of a name, or the one with an id; those that were not revoked before.

        Raises:
            ResourceNotFoundError: there is none.
            ValidationError, Unavailable: the file is not right, or cannot be written.
        """
        now = datetime.now(UTC).replace(microsecond=0)
        with self._file.locked(_LOCK_SECONDS):
            keys = self._now()
            meant = {one.id for one in keys if name_or_id in (one.name, one.id)}
            if not meant:
                raise ResourceNotFoundError(
                    f"there is no API key {name_or_id}", remedy="`coafi auth key list` shows their names and ids"
                )
            changed = tuple(
                one.model_copy(update={"revoked": now}) for one in keys if one.id in meant and one.revoked is None
            )
            by_id = {one.id: one for one in changed}
            self._write(tuple(by_id.get(one.id, one) for one in keys))
        return changed

    def _now(self) -> tuple[ApiKey, ...]:
        return tuple(self._watched.current().values())

    def _write(self, keys: tuple[ApiKey, ...]) -> None:
        self._file.replace(_File(keys=keys).model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n")


def _parse(content: bytes, mode: int) -> Mapping[str, ApiKey]:
    check_private(mode)
    try:
        parsed = _File.model_validate_json(content)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = "/".join(str(part) for part in first["loc"])
        raise ValidationError(
            f"is no file of API keys: {place or 'the whole'}: {first['msg']}",
            remedy="put back what `coafi auth key add` wrote",
        ) from None
    keys = {one.id: one for one in parsed.keys}
    if len(keys) != len(parsed.keys):
        raise ValidationError("two API keys have the same id", remedy="put back what `coafi auth key add` wrote")
    return keys


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
