"""Secrets in files that only their owner can read, made where they are missing."""

import base64
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from pydantic import SecretStr

from coafi.errors import ValidationError


def permissions(status: os.stat_result) -> int:
    """The permission bits of a file, as far as they open it to others than us.

    A file of root's that a group of ours may read, and nobody else, is a mounted secret: so Kubernetes hands them to a
    process that is not root (``fsGroup``).
    """
    mode = stat.S_IMODE(status.st_mode)
    ours = status.st_gid in {os.getegid(), *os.getgroups()}
    is_mounted = status.st_uid == 0 != os.geteuid() and ours and mode & 0o037 == 0
    return mode & ~0o040 if is_mounted else mode


def read_or_make_secret(path: Path, make: Callable[[], str] = lambda: secrets.token_hex(32)) -> SecretStr:
    """The secret in ``path``; what ``make`` makes when there is none yet, by default 32 random bytes in hex.

    Raises:
        ValidationError: others may read the file, or it is empty.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(descriptor, "w") as file:
            file.write(make() + "\n")
    return _read(path, "delete it, and a new one is made")


def webhook_secret() -> str:
    """A new symmetric key of Standard Webhooks: ``whsec_`` and 32 random bytes in Base64."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def read_secret(path: Path) -> SecretStr:
    """The secret in ``path``.

    Raises:
        ValidationError: others may read the file, or it is missing or empty.
    """
    if not path.is_file():
        raise ValidationError(f"there is no secret {path}", remedy="correct the path, or put the secret there")
    return _read(path, "put the secret into it")


def _read(path: Path, remedy: str) -> SecretStr:
    if permissions(path.stat()) & 0o077:
        raise ValidationError(f"secret {path} is readable by others", remedy=f"chmod 600 {path}")
    value = path.read_text().strip()
    if not value:
        raise ValidationError(f"secret {path} is empty", remedy=remedy)
    return SecretStr(value)
