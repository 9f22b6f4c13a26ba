"""Bytes that are the same wherever they are made: canonical JSON (RFC 8785) and SHA-256 digests of it."""

import hashlib
from typing import Annotated, Any

import rfc8785
from pydantic import BaseModel, JsonValue, StringConstraints

from coafi.errors import ValidationError

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 digest, as 64 lower-case hexadecimal digits."""

JsonObject = dict[str, JsonValue]


def sha256(data: bytes) -> str:
    """The SHA-256 of ``data`` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def canonical_json(value: JsonValue | JsonObject | BaseModel) -> bytes:
    """``value`` as canonical JSON after RFC 8785 (JCS), in UTF-8.

    A pydantic model is written under its wire names (aliases), without the fields that are ``None``.

    Raises:
        ValidationError: the value cannot be canonicalised (an integer beyond 2^53-1, NaN, a lone surrogate).
    """
    plain: Any = (
        value.model_dump(mode="json", by_alias=True, exclude_none=True) if isinstance(value, BaseModel) else value
    )
    try:
        return rfc8785.dumps(plain)
    except rfc8785.CanonicalizationError as error:
        raise ValidationError(
            f"this JSON has no canonical form: {error}",
            remedy="write integers beyond 2^53-1 as strings, and text without lone surrogates",
        ) from error


def digest_of(value: JsonValue | JsonObject | BaseModel) -> str:
    """The SHA-256 of the canonical JSON of ``value``."""
    return sha256(canonical_json(value))
