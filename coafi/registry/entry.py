"""An entry of a registry, what may be asked of it, and the steps that it takes from submission to integration."""

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, TypeVar

import pydantic
from pydantic import AfterValidator, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from coafi.canonical import JsonObject, Sha256, stable_json
from coafi.errors import ValidationError
from coafi.events import Wire
from coafi.findings import Finding, Severity
from coafi.registry.validation import CheckedSchema
from coafi.utids import entry_utids, naming_utids

MAX_DATA = 256 * 1024
"""Bytes of an entry's data at most, as canonical JSON."""

MAX_DEPTH = 64
"""Objects and arrays within each other in an entry's data, the outermost included."""

MAX_TAGS = 50
"""Tags of an entry."""

NAMES = "names"
"""The key of an entry of ``UTIDS`` under which stands what its id is made from."""


class RegistryId(StrEnum):
    """The registries that there are: those of the ecosystem, and the one that holds the schemas."""

    AERO = "AERO"
    SPACE = "SPACE"
    COM = "COM"
    GROUND = "GROUND"
    GREENTECH = "GREENTECH"
    UTIDS = "UTIDS"
    SCHEMAS = "schemas"


class EntryStatus(StrEnum):
    """How far the newest version of an entry has come."""

    SUBMISSION = "Submission"
    REVIEW = "Review"
    APPROVAL = "Approval"
    INTEGRATION = "Integration"


class EntryClass(StrEnum):
    """What kind of thing an entry is."""

    CORE = "Core"
    SERVICE = "Service"
    APPLICATION = "Application"
    EXPERIMENTAL = "Experimental"


TRANSITIONS: dict[EntryStatus, tuple[EntryStatus, ...]] = {
    EntryStatus.SUBMISSION: (EntryStatus.REVIEW,),
    EntryStatus.REVIEW: (EntryStatus.APPROVAL, EntryStatus.SUBMISSION),
    EntryStatus.APPROVAL: (EntryStatus.INTEGRATION, EntryStatus.SUBMISSION),
    EntryStatus.INTEGRATION: (),
}
"""Where an entry may go from where it stands. From ``Integration`` only an update leads on, to ``Submission``."""


def _sorted_once(tags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(tags)))


_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+$"
ENTRY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")
EntryId = Annotated[str, StringConstraints(pattern=f"^{ENTRY_ID.pattern}$")]
Owner = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_PRINTABLE)]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=_PRINTABLE)]
Tags = Annotated[tuple[Tag, ...], Field(max_length=MAX_TAGS), AfterValidator(_sorted_once)]
Reason = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00-\x09\x0b-\x1f\x7f]*$")]
MAX_VERSION = 2**31 - 1
Version = Annotated[int, Field(ge=0, le=MAX_VERSION)]


class RegistryWire(Wire):
    """Base of what registries take and give: camelCase outside, snake_case inside."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


_Asked = TypeVar("_Asked", bound=RegistryWire)


def etag_of(version: int) -> str:
    """The entity tag of a version, as HTTP writes it (RFC 9110)."""
    return f'"{version}"'


class EntrySummary(RegistryWire):
    """One version of an entry, without its data.

    Attributes:
        version: counts every change of the entry, from 1; 0 is a schema as the package ships it.
        utids: permanent, and the same for all versions.
        digest: SHA-256 of the data's canonical JSON.
        created: when the first version was made; ``changed``, when this one was. Empty for what the package ships.
        by: whose request made this version.
        reason: why, where somebody said so.
        workflow_id: of the run that made it; ``ledger_entry`` is the index of its ``REGISTRY_ENTRY_CHANGED``.
        integrated_version: the last version that was integrated; ``None`` if none ever was.
        checked_with: the schema that the data was held against, if there was one.
    """

    registry_id: RegistryId
    entry_id: EntryId
    version: Version
    status: EntryStatus
    entry_class: EntryClass = Field(alias="class")
    owner: str
    tags: tuple[str, ...]
    utids: str
    digest: Sha256
    created: str
    changed: str
    by: str
    reason: str = ""
    workflow_id: str | None
    ledger_entry: int | None
    integrated_version: int | None
    checked_with: CheckedSchema | None = None

    @property
    def etag(self) -> str:
        """The entity tag of this version."""
        return etag_of(self.version)


class Entry(EntrySummary):
    """One version of an entry, whole."""

    data: JsonObject

    def summary(self) -> EntrySummary:
        """This version without its data."""
        return EntrySummary.model_construct(**{name: getattr(self, name) for name in EntrySummary.model_fields})


class EntryUpdate(RegistryWire):
    """A wish to make an entry, or a new version of it. See :meth:`parse`.

    Attributes:
        entry_class, owner, tags: as they are, or as a new entry has them, where nothing is said.
        expected: the version that this shall replace; 0: there must be none; ``None``: whichever is the newest.
    """

    registry_id: RegistryId
    entry_id: EntryId
    data: JsonObject
    entry_class: EntryClass | None = Field(default=None, alias="class")
    owner: Owner | None = None
    tags: Tags | None = None
    reason: Reason = ""
    expected: Version | None = None

    @classmethod
    def parse(cls, document: JsonObject, expected: int | None = None) -> "EntryUpdate":
        """The update that a request asks for. In ``UTIDS`` the id may be missing: it follows from what is named.

        Raises:
            ValidationError: it breaks a format or a limit; every place is a finding.
        """
        data = document.get("data")
        require_depth(data)
        if document.get("registryId") == RegistryId.UTIDS and "entryId" not in document and isinstance(data, dict):
            document = {**document, "entryId": _named_id(data)}
        return parsed(cls, {**document, "expected": expected}, "an update of a registry")


class StatusUpdate(RegistryWire):
    """A wish to move an entry on, or back to its submission; ``expected`` as in :class:`EntryUpdate`."""

    registry_id: RegistryId
    entry_id: EntryId
    status: EntryStatus
    reason: Reason = ""
    expected: Version | None = None

    @classmethod
    def parse(cls, document: JsonObject, expected: int | None = None) -> "StatusUpdate":
        """The change that a request asks for.

        Raises:
            ValidationError: it breaks a format; every place is a finding.
        """
        return parsed(cls, {**document, "expected": expected}, "a change of status")


def utids_of(update: EntryUpdate) -> str:
    """The permanent UTidS of an entry: in ``UTIDS`` that of what it names, which must be its id.

    Raises:
        ValidationError: the id is not that of what is named.
    """
    if update.registry_id is not RegistryId.UTIDS:
        return entry_utids(update.registry_id, update.entry_id)
    named = _named_id(update.data)
    if update.entry_id != named:
        raise ValidationError(
            f"the id {update.entry_id} is not that of what the entry names, which is {named}",
            remedy="leave entryId out: it is derived from data.names, and names never change",
            findings=(finding("registry/names", f"what this names has the UTidS {named}", pointer="/entryId"),),
        )
    return named


def finding(rule: str, message: str, *, pointer: str, remedy: str = "mend this place") -> Finding:
    """A finding about a request to a registry: always an error."""
    return Finding(severity=Severity.ERROR, rule=rule, message=message, remedy=remedy, pointer=pointer)


def require_size(data: JsonObject) -> bytes:
    """The canonical JSON of an entry's data.

    Raises:
        ValidationError: it has none, or is longer than ``MAX_DATA``.
    """
    canonical = stable_json(data)
    if len(canonical) > MAX_DATA:
        raise ValidationError(
            f"the data has {len(canonical):,} bytes and may have {MAX_DATA:,}",
            remedy="keep what is large elsewhere, and name it here by its digest",
            findings=(finding("registry/too-large", f"{len(canonical):,} bytes", pointer="/data"),),
        )
    return canonical


def require_depth(data: object, limit: int = MAX_DEPTH) -> None:
    """Refuse data that is nested more deeply than anything here is made for; nothing recursive may see it before.

    Raises:
        ValidationError: it is.
    """
    level: list[object] = [data]
    depth = 0
    while level := [item for one in level for item in _inner(one)]:
        depth += 1
        if depth > limit:
            raise ValidationError(
                f"the data is nested more than {limit} levels deep",
                remedy="nest fewer objects and arrays",
                findings=(finding("registry/too-deep", f"more than {limit} levels", pointer="/data"),),
            )


def parsed(model: type[_Asked], document: JsonObject, what: str) -> _Asked:
    """What somebody asks for.

    Args:
        what: this must be, in a few words.

    Raises:
        ValidationError: it breaks a format; every place is a finding.
    """
    try:
        return model.model_validate(document)
    except pydantic.ValidationError as error:
        found = tuple(
            finding(f"registry/{one['type']}", one["msg"], pointer=_pointer(one["loc"]))
            for one in error.errors(include_url=False, include_input=False, include_context=False)[:50]
        )
        raise ValidationError(
            f"this is not {what}: {found[0].pointer or 'the whole'}: {found[0].message}",
            remedy="see docs/registry.md",
            findings=found,
        ) from None


def _inner(value: object) -> Iterable[object]:
    """What is directly within a value; an empty object has nothing, and is no level."""
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _named_id(data: JsonObject) -> str:
    names = data.get(NAMES)
    if not isinstance(names, str | dict) or not names:
        raise ValidationError(
            "an entry of UTIDS must say what it names",
            remedy='say it under data.names, as text or as an object, such as {"part": "wing", "serial": "12"}',
            findings=(finding("registry/names", "text or an object must stand here", pointer=f"/data/{NAMES}"),),
        )
    return naming_utids(names)


def _pointer(place: tuple[int | str, ...]) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in place)
