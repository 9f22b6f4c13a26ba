"""What leads from one JSON value to another, as a JSON Patch (RFC 6902), in time that grows with their size.

Of lists the common beginning and end are left alone, and what lies between is replaced item by item: short for what
people do to a list, and never slow. A patch of the fewest operations would need time that grows with the square.
"""

from collections.abc import Iterator

from pydantic import JsonValue

from coafi.canonical import JsonObject


def difference(old: JsonValue, new: JsonValue) -> tuple[JsonObject, ...]:
    """The operations ``add``, ``remove`` and ``replace`` that make ``new`` of ``old``, in order."""
    return tuple(_changes("", old, new))


def _changes(place: str, old: JsonValue, new: JsonValue) -> Iterator[JsonObject]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old:
            inner = f"{place}/{key.replace('~', '~0').replace('/', '~1')}"
            if key in new:
                yield from _changes(inner, old[key], new[key])
            else:
                yield {"op": "remove", "path": inner}
        for key, value in new.items():
            if key not in old:
                yield {"op": "add", "path": f"{place}/{key.replace('~', '~0').replace('/', '~1')}", "value": value}
    elif isinstance(old, list) and isinstance(new, list):
        yield from _list_changes(place, old, new)
    elif not _same(old, new):
        yield {"op": "replace", "path": place, "value": new}


def _list_changes(place: str, old: list[JsonValue], new: list[JsonValue]) -> Iterator[JsonObject]:
    shorter = min(len(old), len(new))
    start = next((at for at in range(shorter) if not _same(old[at], new[at])), shorter)
    ended = next((at for at in range(shorter - start) if not _same(old[-1 - at], new[-1 - at])), shorter - start)
    old_stop, new_stop = len(old) - ended, len(new) - ended
    both = min(old_stop, new_stop)
    for at in range(start, both):
        yield from _changes(f"{place}/{at}", old[at], new[at])
    for at in range(old_stop - 1, both - 1, -1):
        yield {"op": "remove", "path": f"{place}/{at}"}
    for at in range(both, new_stop):
        yield {"op": "add", "path": f"{place}/{at}", "value": new[at]}


def _same(old: JsonValue, new: JsonValue) -> bool:
    """Equality of JSON: to Python ``True`` is 1."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(_same(value, new[key]) for key, value in old.items())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_same, old, new))
    return old == new and isinstance(old, bool) == isinstance(new, bool)
