"""The metadata that every table is declared on, and the column types that mean the same on both databases."""

from sqlalchemy import BigInteger, Integer, MetaData, String, Text
from sqlalchemy.dialects.postgresql import TEXT
from sqlalchemy.types import TypeEngine

metadata = MetaData()
"""Every table of the service, each declared in the module that owns it."""

ONLY_SQLITE = {"dialect": "sqlite"}
"""``info`` of an index that the other database does without."""

ONLY_POSTGRESQL = {"dialect": "postgresql"}
"""Likewise."""


def text(length: int | None = None) -> TypeEngine[str]:
    """Text that is compared byte by byte, as SQLite does; PostgreSQL sorts by the server's language otherwise.

    Args:
        length: what it is said to hold at most. Neither database enforces it: who makes a value does.
    """
    plain = Text() if length is None else String(length)
    return plain.with_variant(TEXT(collation="C"), "postgresql")


def storable(value: str) -> str:
    """``value`` without what one of the databases refuses in text, escaped: lone surrogates, and NUL."""
    return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def big_integer() -> TypeEngine[int]:
    """A number of up to 64 bits, which in SQLite every integer is."""
    return BigInteger().with_variant(Integer(), "sqlite")
