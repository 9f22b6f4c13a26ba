"""How much work a JSON Schema can ask for, found out before anything is held against it.

Nothing interrupts the engine, and a few lines can ask it for a billion checks: thirty definitions that each refer
twice to the next one, or one that refers to itself twice below the same key, which doubles the work at each level of
the data. What is bounded here is the number of subschemas that are applied to one and the same value of the data,
whatever the data is. It is counted level by level::

    applied(schema, 0)  =  1 + applied(…, 0) of all that it applies to the same value (allOf, $ref, …)
    applied(schema, d)  =  for the one child of a value where it is most: the sum of applied(…, d - 1) of all that the
                           schema, and all that it applies to the same value, apply to this child

The count is from above: every branch of ``anyOf`` is taken to run, and every pattern to match. Beside an
``unevaluated…`` keyword all that is applied to the same value counts twice: the engine goes through it a second time,
to see what it covers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

from pydantic import JsonValue

from coafi.canonical import JsonObject
from coafi.findings import Finding
from coafi.registry.entry import MAX_DEPTH, finding

MAX_APPLIED = 2_000
"""Subschemas that may be applied to one value."""

_MAX_STEPS = 2_000_000
"""Of the count itself, which takes about a second then."""

_ONE_SAME = ("not", "if", "then", "else")
_LIST_SAME = ("allOf", "anyOf", "oneOf")
_MAP_SAME = ("dependentSchemas",)
_REFERENCES = ("$ref", "$dynamicRef")
_CONTAINERS = ("$defs", "definitions")
_ANY_MEMBER = ("unevaluatedProperties", "propertyNames")
_ANY_ITEM = ("contains", "unevaluatedItems")
_NOT_APPLIED = ("contentSchema",)


@dataclass(eq=False)
class Subschema:
    """One schema within a schema, or the whole.

    Attributes:
        pointer: JSON Pointer to it.
        document: what it says; empty for ``true`` and ``false``.
        same: what it applies to the same value; after :func:`resolve`, what it refers to as well.
        members: what it applies to the member of an object with a name; ``any_member``: to every member; ``rest``:
            to those that are not named.
        places: what it applies to an item of an array by its index; ``any_item`` and ``rest_items`` likewise.
    """

    pointer: str
    document: JsonObject
    same: list["Subschema"] = field(default_factory=list)
    members: dict[str, "Subschema"] = field(default_factory=dict)
    any_member: list["Subschema"] = field(default_factory=list)
    rest: list["Subschema"] = field(default_factory=list)
    places: list["Subschema"] = field(default_factory=list)
    any_item: list["Subschema"] = field(default_factory=list)
    rest_items: list["Subschema"] = field(default_factory=list)

    @property
    def times(self) -> int:
        """How often the engine applies what this applies to the same value."""
        return 2 if "unevaluatedProperties" in self.document or "unevaluatedItems" in self.document else 1

    @property
    def applied(self) -> Iterator["Subschema"]:
        """All that it applies to anything."""
        for some in (self.same, self.members.values(), self.any_member, self.rest):
            yield from some
        for some in (self.places, self.any_item, self.rest_items):
            yield from some


def subschemas_of(document: JsonObject) -> list[Subschema]:
    """The schemas within a schema that fits the meta-schema of 2020-12, itself first."""
    root = Subschema("", document)
    found, waiting = [], [root]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting.extend(reversed(list(_within(one))))
    return found


def resolve(found: list[Subschema]) -> list[Finding]:
    """Add what every schema refers to, to what it applies; the references that lead nowhere, or out of the document."""
    by_pointer = {one.pointer: one for one in found}
    findings: list[Finding] = []
    for one in found:
        for keyword in ("$anchor", "$dynamicAnchor"):
            name = one.document.get(keyword)
            if isinstance(name, str) and by_pointer.setdefault(f" {name}", one) is not one:
                findings.append(_wrong("schema/anchor", f"{name!r} stands elsewhere too", one, keyword))
    for one in found:
        for keyword in _REFERENCES:
            target = one.document.get(keyword)
            if not isinstance(target, str):
                continue
            if not target.startswith("#"):
                message = "only what is in the same document is referred to, such as #/$defs/part: nothing is fetched"
                findings.append(_wrong("schema/remote", message, one, keyword))
                continue
            place = unquote(target[1:])
            to = by_pointer.get(place if place == "" or place.startswith("/") else f" {place}")
            if to is None:
                findings.append(_wrong("schema/reference", f"there is no schema at {target}", one, keyword))
            else:
                one.same.append(to)
    return findings


def effort_findings(found: list[Subschema]) -> list[Finding]:
    """What is wrong with the work that a schema can ask for. Its references must be resolved."""
    ordered = _in_order(found[0])
    if isinstance(ordered, Subschema):
        message = "this refers to itself without going into the value, so it says nothing"
        return [finding("schema/endless", message, pointer=f"/data{ordered.pointer}")]
    weights: dict[Subschema, int] = {}
    for one in ordered:
        weights[one] = 1 + one.times * sum(weights[inner] for inner in one.same)
        if weights[one] > MAX_APPLIED:
            return [_too_much(one)]
    applied = weights
    steps = 0
    for _ in range(MAX_DEPTH):
        below: dict[Subschema, int] = {}
        counts: dict[Subschema, tuple[int, dict[str, int], int, dict[int, int]]] = {}
        for one in ordered:
            member, names, item, places = _own(one, applied)
            for inner in one.same:
                more_member, more_names, more_item, more_places = counts[inner]
                member += one.times * more_member
                item += one.times * more_item
                for name, count in more_names.items():
                    names[name] = names.get(name, 0) + one.times * count
                for place, count in more_places.items():
                    places[place] = places.get(place, 0) + one.times * count
                steps += 1 + len(more_names) + len(more_places)
            steps += 1 + len(names) + len(places)
            counts[one] = member, names, item, places
            below[one] = max(
                member + max(names.values(), default=0), item + max(places.values(), default=0), member, item
            )
            if below[one] > MAX_APPLIED or steps > _MAX_STEPS:
                return [_too_much(one)]
        if below == applied:
            break
        applied = below
    return []


def _own(one: Subschema, applied: dict[Subschema, int]) -> tuple[int, dict[str, int], int, dict[int, int]]:
    """What a schema itself applies to a member that it does not name, and what more to those it names; so of items."""
    every = sum(applied[inner] for inner in one.any_member)
    rest = sum(applied[inner] for inner in one.rest)
    names = {name: applied[inner] - rest for name, inner in one.members.items()}
    every_item = one.times * sum(applied[inner] for inner in one.any_item)
    rest_items = sum(applied[inner] for inner in one.rest_items)
    places = {place: applied[inner] - rest_items for place, inner in enumerate(one.places)}
    return every + rest, names, every_item + rest_items, places


def _in_order(root: Subschema) -> list[Subschema] | Subschema:
    """All that can be applied, each behind what it applies to the same value; or one that so comes to itself."""
    ordered: list[Subschema] = []
    seen: set[Subschema] = set()
    begun: list[Subschema] = [root]
    while begun:
        start = begun.pop()
        if start in seen:
            continue
        seen.add(start)
        path = [(start, iter(start.same))]
        on_path = {start}
        while path:
            one, rest = path[-1]
            inner = next(rest, None)
            if inner is None:
                path.pop()
                on_path.discard(one)
                ordered.append(one)
                begun.extend(one.applied)
            elif inner in on_path:
                return inner
            elif inner not in seen:
                seen.add(inner)
                on_path.add(inner)
                path.append((inner, iter(inner.same)))
    return ordered


def _within(one: Subschema) -> Iterator[Subschema]:
    """The schemas directly within a schema, noted as what they are to it."""
    document = one.document
    for keyword in _ONE_SAME:
        yield from _noted(one, one.same, keyword, document.get(keyword))
    for keyword in _LIST_SAME:
        yield from _each(one, one.same, keyword)
    for keyword in (*_MAP_SAME, "dependencies"):
        yield from _named(one, one.same, keyword)
    for keyword in _ANY_MEMBER:
        yield from _noted(one, one.any_member, keyword, document.get(keyword))
    yield from _named(one, one.any_member, "patternProperties")
    yield from _noted(one, one.rest, "additionalProperties", document.get("additionalProperties"))
    members: list[Subschema] = []
    yield from _named(one, members, "properties")
    properties = document.get("properties")
    one.members.update(zip(properties if isinstance(properties, dict) else (), members, strict=False))
    yield from _each(one, one.places, "prefixItems")
    yield from _noted(one, one.rest_items, "items", document.get("items"))
    for keyword in _ANY_ITEM:
        yield from _noted(one, one.any_item, keyword, document.get(keyword))
    unused: list[Subschema] = []
    for keyword in _CONTAINERS:
        yield from _named(one, unused, keyword)
    for keyword in _NOT_APPLIED:
        yield from _noted(one, unused, keyword, document.get(keyword))


def _each(one: Subschema, to: list[Subschema], keyword: str) -> Iterator[Subschema]:
    value = one.document.get(keyword)
    for number, inner in enumerate(value if isinstance(value, list) else ()):
        yield from _noted(one, to, f"{keyword}/{number}", inner)


def _named(one: Subschema, to: list[Subschema], keyword: str) -> Iterator[Subschema]:
    value = one.document.get(keyword)
    for name, inner in (value if isinstance(value, dict) else {}).items():
        yield from _noted(one, to, f"{keyword}/{name.replace('~', '~0').replace('/', '~1')}", inner)


def _noted(one: Subschema, to: list[Subschema], place: str, value: JsonValue) -> Iterator[Subschema]:
    if isinstance(value, dict | bool):
        inner = Subschema(f"{one.pointer}/{place}", value if isinstance(value, dict) else {})
        to.append(inner)
        yield inner


def _too_much(one: Subschema) -> Finding:
    message = (
        f"this applies more than {MAX_APPLIED:,} schemas to one value, or to one that is some levels below: each"
        " reference to the same place multiplies"
    )
    return finding("schema/effort", message, pointer=f"/data{one.pointer}", remedy="refer once where you refer often")


def _wrong(rule: str, message: str, one: Subschema, keyword: str) -> Finding:
    return finding(rule, message, pointer=f"/data{one.pointer}/{keyword}")
