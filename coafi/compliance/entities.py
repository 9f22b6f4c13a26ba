"""What a finding is about: an entity, by kind and id."""

from enum import StrEnum
from typing import Annotated

from pydantic import JsonValue, StringConstraints

from coafi.events import Wire
from coafi.registry.entry import RegistryId
from coafi.utids import PATTERN

MAX_ID = 400
"""Characters of an id."""


class EntityKind(StrEnum):
    """What an id names."""

    REGISTRY = "registry"
    DOCUMENT = "document"
    UTIDS = "utids"


class Entity(Wire):
    """Something that findings can be about.

    Attributes:
        kind: an entry of a registry, ``<registry>/<entry>``; a UTidS; or a document, a requirement or anything else
            that has an id.
    """

    kind: EntityKind
    id: Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID)]

    def __str__(self) -> str:
        return self.id


def entity_of(value: JsonValue) -> Entity | None:
    """The entity that a text, or an object with ``id`` and perhaps ``kind``, names; ``None`` where it names none."""
    if isinstance(value, dict):
        name, kind = value.get("id"), value.get("kind")
        if isinstance(name, str) and 0 < len(name) <= MAX_ID and kind in set(EntityKind):
            return Entity(kind=EntityKind(str(kind)), id=name)
        return entity_of(name) if isinstance(name, str) else None
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID:
        return None
    return Entity(kind=_kind(value), id=value)


def _kind(name: str) -> EntityKind:
    if PATTERN.fullmatch(name):
        return EntityKind.UTIDS
    registry, slash, entry = name.partition("/")
    return EntityKind.REGISTRY if slash and entry and registry in set(RegistryId) else EntityKind.DOCUMENT
