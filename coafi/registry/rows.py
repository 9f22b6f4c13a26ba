"""Entries as rows, and back."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from coafi.registry.entry import Entry, EntryClass, EntryStatus, EntrySummary, RegistryId
from coafi.registry.tables import registry_version
from coafi.registry.validation import CheckedSchema

COLUMNS = tuple(column for column in registry_version.c if column.key != "data")
"""The columns of a version but its data, in the order in which :func:`summary_of` takes them."""

DATA = registry_version.c.data


_WIRE_NAMES = tuple(str(Entry.model_fields[column.key].alias) for column in (*COLUMNS, DATA))
_IN_JSON = ("tags", "checkedWith", "data")
_encode = msgspec.json.Encoder().encode


def summary_of(row: Sequence[Any]) -> EntrySummary:
    """A version without its data, from the values of ``COLUMNS``."""
    return EntrySummary.model_construct(**_fields(row))


def entry_of(row: Sequence[Any]) -> Entry:
    """A version, from the values of ``COLUMNS`` and of ``DATA``."""
    return Entry.model_construct(**_fields(row), data=json.loads(row[len(COLUMNS)]))


def wire_of(row: Sequence[Any]) -> bytes:
    """The JSON of :func:`entry_of`, as its model would write it: for whoever only passes it on."""
    fields = dict(zip(_WIRE_NAMES, row, strict=True))
    for name in _IN_JSON:
        fields[name] = msgspec.Raw(fields[name] or "null")
    return _encode(fields)


def entry_from(values: Mapping[str, Any]) -> Entry:
    """A version, from its values by the names of the columns."""
    return entry_of([*(values[column.key] for column in COLUMNS), values["data"]])


def _fields(row: Sequence[Any]) -> dict[str, Any]:
    # The rows are ours: nothing is validated again.
    fields: dict[str, Any] = {column.key: value for column, value in zip(COLUMNS, row, strict=False)}
    checked = fields["checked_with"]
    fields.update(
        registry_id=RegistryId(fields["registry_id"]),
        status=EntryStatus(fields["status"]),
        entry_class=EntryClass(fields["entry_class"]),
        tags=tuple(json.loads(fields["tags"])),
        checked_with=CheckedSchema.model_validate_json(checked) if checked else None,
    )
    return fields
