"""What every reader of CloudEvents refuses alike: another media type, and JSON that others may read differently."""

import json

from pydantic import JsonValue

from coafi.canonical import MAX_DEPTH, JsonObject, is_deeper, stable_json
from coafi.errors import ValidationError


class UnsupportedMediaType(ValidationError):
    """The body is of a type that is not taken."""


def json_object(body: bytes, what: str = "the body") -> JsonObject:
    """The JSON object in a body.

    Args:
        what: has the body, for whoever is told that it is wrong.

    Raises:
        ValidationError: there is none that everybody reads alike, it is nested too deeply, or it has no canonical form:
            what has none cannot be recorded.
    """
    try:
        parsed = json.loads(body.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise ValidationError(f"{what} is no JSON, or has a member twice", remedy="send a JSON object") from None
    if not isinstance(parsed, dict):
        raise ValidationError(f"{what} is no JSON object", remedy="send one")
    require_levels(parsed, what)
    stable_json(parsed)
    return parsed


def require_levels(parsed: JsonObject, what: str = "the body") -> None:
    """Refuse what is nested more deeply than everything after an entrance can carry.

    Raises:
        ValidationError: it is.
    """
    if is_deeper(parsed):
        raise ValidationError(
            f"{what} is nested more than {MAX_DEPTH} levels deep", remedy="nest fewer objects and arrays"
        )


def _once(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is there twice")
    return found
