"""What every reader of CloudEvents refuses alike: another media type, and JSON that others may read differently."""

import json

from pydantic import JsonValue

from coafi.canonical import JsonObject, canonical_json
from coafi.errors import ValidationError


class UnsupportedMediaType(ValidationError):
    """The body is of a type that is not taken."""


def json_object(body: bytes) -> JsonObject:
    """The JSON object in a body.

    Raises:
        ValidationError: there is none that everybody reads alike, or it has no canonical form: what has none cannot be
            recorded.
    """
    try:
        parsed = json.loads(body.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise ValidationError("the body is no JSON, or has a member twice", remedy="send a JSON object") from None
    if not isinstance(parsed, dict):
        raise ValidationError("the body is no JSON object", remedy="send one")
    canonical_json(parsed)
    return parsed


def _once(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is there twice")
    return found
