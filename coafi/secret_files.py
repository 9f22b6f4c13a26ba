"""Secrets in files that only their owner can read, made where they are missing."""

import os
import secrets
import stat
from pathlib import Path

from pydantic import SecretStr

from coafi.errors import ValidationError


def read_or_make_secret(path: Path) -> SecretStr:
    """The secret in ``path``; 32 random bytes in hex when there is none yet.

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
            file.write(secrets.token_hex(32) + "\n")
    return _read(path, "delete it, and a new one is made")


def read_secret(path: Path) -> SecretStr:
    """The secret in ``path``.

    Raises:
        ValidationError: others may read the file, or it is missing or empty.
    """
    if not path.is_file():
        raise ValidationError(f"there is no secret {path}", remedy="correct the path, or put the secret there")
    return _read(path, "put the secret into it")


def _read(path: Path, remedy: str) -> SecretStr:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ValidationError(f"secret {path} is readable by others", remedy=f"chmod 600 {path}")
    value = path.read_text().strip()
    if not value:
        raise ValidationError(f"secret {path} is empty", remedy=remedy)
    return SecretStr(value)
