"""Changes of entries: what is checked before, what is decided in the transaction, and what is written there.

::

    check_update(update, schemas)                 slow and pure: before the transaction
    planned = plan_update(connection, update, …)  reads the newest version, and decides
    recorded = transaction.append([…])            REGISTRY_ENTRY_CHANGED, from planned.step, .inputs and .data
    entry = apply(connection, planned, index)     writes the rows, and publishes a schema

The three last ones belong into one unit of the ledger (:meth:`coafi.ledger.port.Ledger.transact`), which may run
several times: the same run gets the version that it has made. Around it belongs
:func:`coafi.registry.reserving.reserved`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from pydantic import AwareDatetime
from sqlalchemy import Connection, delete, insert, select, update

from coafi.canonical import JsonObject, canonical_json, sha256
from coafi.database.statements import insert_missing
from coafi.errors import IdempotencyConflict, PreconditionFailed, ResourceNotFoundError, Unavailable, ValidationError
from coafi.events import Wire
from coafi.ledger.entry import timestamp
from coafi.registry.acceptance import accept_schema, schema_of
from coafi.registry.entry import (
    TRANSITIONS,
    Entry,
    EntryClass,
    EntryStatus,
    EntryUpdate,
    RegistryId,
    StatusUpdate,
    finding,
    require_depth,
    require_size,
    utids_of,
)
from coafi.registry.rows import COLUMNS, DATA, entry_from, entry_of
from coafi.registry.search import words
from coafi.registry.shipped import shipped_entries
from coafi.registry.store import publish_one, refuse_outdated, refuse_unpublishable
from coafi.registry.tables import registry_entry, registry_tag, registry_version
from coafi.registry.validation import CheckedSchema, Schema, SchemaLookup
from coafi.registry.verdicts import INVALID, EntryVerdict, add_entry_verdicts, latest_entry_verdicts


class Origin(Wire):
    """Whose change it is.

    Attributes:
        principal: who asked for it.
        workflow_id: of the run that makes it; one run makes at most one version of an entry.
        event_id: of the event that the run handles.
        time: when the event was received.
    """

    principal: str
    workflow_id: str
    event_id: str
    time: AwareDatetime


@dataclass(frozen=True)
class CheckedUpdate:
    """An update that nothing speaks against but what the registry holds.

    Attributes:
        data: its canonical JSON; ``digest`` is the SHA-256 of that.
        words: what it is searched by, but for owner and tags.
        checked_with: the schema that the data was held against, if there is one.
        schema: the schema that it is, in the registry of schemas.
    """

    update: EntryUpdate
    data: str
    digest: str
    utids: str
    checked_with: CheckedSchema | None
    schema: Schema | None


@dataclass(frozen=True)
class Planned:
    """A change that was decided on.

    Attributes:
        values: of the new version's row, all but its ledger entry.
        before: the newest version, which this one replaces; ``None`` when there is no row yet.
        made: the version, when this run has made it before.
        publishes: the schema that becomes valid with it.
        invalid: whether its data breaks a schema that was published after it was accepted.
    """

    values: Mapping[str, Any]
    before: Entry | None
    words: str | None = None
    made: Entry | None = None
    publishes: Schema | None = None
    invalid: bool = False

    @property
    def step(self) -> str:
        """The step of the run that the ledger entry names."""
        return f"registry/{self.values['registry_id']}/{self.values['entry_id']}"

    @property
    def inputs(self) -> JsonObject:
        """What the ledger entry's request digest is made from."""
        return {name: self.values[key] for name, key in _INPUTS.items()}

    @property
    def data(self) -> JsonObject:
        """What the ledger entry says: the new version but for its data, whose digest stands for it."""
        said: JsonObject = {name: self.values[key] for name, key in _RECORDED.items() if self.values[key]}
        said["tags"] = json.loads(self.values["tags"])
        if self.before is not None:
            said["previous"] = {
                "version": self.before.version,
                "status": self.before.status.value,
                "digest": self.before.digest,
            }
        if self.values["checked_with"]:
            said["schema"] = json.loads(self.values["checked_with"])
        if self.publishes is not None:
            said["published"] = self.publishes.reference.model_dump(by_alias=True)
        if self.invalid:
            said["verdict"] = INVALID
        return said


_INPUTS = {
    "registryId": "registry_id",
    "entryId": "entry_id",
    "version": "version",
    "status": "status",
    "digest": "digest",
}
_RECORDED = {
    **_INPUTS,
    "class": "entry_class",
    "owner": "owner",
    "utids": "utids",
    "by": "by",
    "reason": "reason",
    "integratedVersion": "integrated_version",
}


def check_update(asked: EntryUpdate, schemas: SchemaLookup) -> CheckedUpdate:
    """Check all that can be checked without the registry's tables, however long it takes.

    Args:
        asked: what is to become the newest version.
        schemas: where the schema ``registry.<registry>`` is found, if one is published.

    Raises:
        ValidationError: the data is too large or too deep, breaks the schema of its registry, or is itself a schema
            that is not accepted. Every place is a finding.
    """
    require_depth(asked.data)
    data = require_size(asked.data)
    schema = accept_schema(asked.entry_id, asked.data) if asked.registry_id is RegistryId.SCHEMAS else None
    own = schemas.find(_schema_of(asked.registry_id))
    violations = own.violations(asked.data, quoting=False) if own is not None else ()
    if own is not None and violations:
        raise ValidationError(
            f"the data breaks the schema {own.schema_id} {own.version} in {len(violations)}"
            f" {'place' if len(violations) == 1 else 'places'}",
            remedy="mend the places that are named",
            findings=tuple(
                finding(f"entry/{one.keyword}", one.message, pointer=f"/data{one.pointer}") for one in violations
            ),
        )
    return CheckedUpdate(
        update=asked,
        data=data.decode(),
        digest=sha256(data),
        utids=utids_of(asked),
        checked_with=own.reference if own else None,
        schema=schema,
    )


def plan_update(connection: Connection, checked: CheckedUpdate, origin: Origin) -> Planned:
    """Decide on an update, from what the registry holds now. Writes nothing.

    Raises:
        PreconditionFailed: the newest version is not the one that the update expects.
        Unavailable: a schema of the registry was published after the check: check the update again.
        IdempotencyConflict: the same run has asked for something else before; or a schema is published under this
            version with other content.
        ValidationError: a schema with a higher version is published.
    """
    asked = checked.update
    head, is_row = _head(connection, asked.registry_id, asked.entry_id)
    made = _made(connection, asked.registry_id, asked.entry_id, origin)
    if made is not None:
        if made.digest != checked.digest or made.status is not EntryStatus.SUBMISSION:
            _refuse_second(made, origin)
        return _planned_before(made)
    _require_expected(asked, head)
    refuse_outdated(connection, _schema_of(asked.registry_id), checked.checked_with)
    if checked.schema is not None:
        refuse_unpublishable(connection, checked.schema)
    owner = asked.owner or (head.owner if head and is_row else origin.principal)
    tags = asked.tags if asked.tags is not None else head.tags if head and is_row else ()
    values = {
        "registry_id": asked.registry_id.value,
        "entry_id": asked.entry_id,
        "version": head.version + 1 if head else 1,
        "status": EntryStatus.SUBMISSION.value,
        "entry_class": (asked.entry_class or (head.entry_class if head else EntryClass.APPLICATION)).value,
        "owner": owner,
        "tags": json.dumps(tags, ensure_ascii=False),
        "data": checked.data,
        "digest": checked.digest,
        "utids": checked.utids,
        "created": head.created if head and is_row else timestamp(origin.time),
        "changed": timestamp(origin.time),
        "by": origin.principal,
        "reason": asked.reason,
        "workflow_id": origin.workflow_id,
        "integrated_version": head.integrated_version if head else None,
        "checked_with": checked.checked_with and checked.checked_with.model_dump_json(by_alias=True),
    }
    return Planned(values, head if is_row else None, words=words(asked.entry_id, owner, tags, asked.data))


def plan_status(connection: Connection, asked: StatusUpdate, origin: Origin) -> Planned:
    """Decide on a change of status, from what the registry holds now. Writes nothing.

    The data stays, so what is known of it holds for the new version too.

    Raises:
        ResourceNotFoundError: there is no such entry.
        PreconditionFailed, IdempotencyConflict: as for :func:`plan_update`.
        ValidationError: the entry cannot go there from where it stands; or it is a schema, and one with a higher
            version is published.
    """
    head, is_row = _head(connection, asked.registry_id, asked.entry_id)
    if head is None:
        raise no_entry(asked.registry_id, asked.entry_id)
    made = _made(connection, asked.registry_id, asked.entry_id, origin)
    if made is not None:
        if made.status is not asked.status:
            _refuse_second(made, origin)
        return _planned_before(made)
    _require_expected(asked, head)
    if asked.status not in TRANSITIONS[head.status]:
        possible = " or ".join(TRANSITIONS[head.status])
        raise ValidationError(
            f"{asked.registry_id}/{asked.entry_id} is at {head.status} and cannot go to {asked.status}",
            remedy=f"from {head.status} it goes to {possible}" if possible else "update it: that begins again",
            findings=(
                finding("registry/transition", f"{head.status} is not followed by {asked.status}", pointer="/status"),
            ),
        )
    schema = None
    if asked.registry_id is RegistryId.SCHEMAS and asked.status is EntryStatus.INTEGRATION:
        schema = schema_of(asked.entry_id, head.data)  # accepted when it was submitted
        refuse_unpublishable(connection, schema)
    version = head.version + 1
    values = {
        **_values(head),
        "version": version,
        "status": asked.status.value,
        "changed": timestamp(origin.time),
        "by": origin.principal,
        "reason": asked.reason,
        "workflow_id": origin.workflow_id,
        "integrated_version": version if asked.status is EntryStatus.INTEGRATION else head.integrated_version,
    }
    known = latest_entry_verdicts(connection, asked.registry_id, [asked.entry_id]).get((asked.entry_id, head.version))
    return Planned(
        values,
        head if is_row else None,
        publishes=schema,
        invalid=known is not None and known.verdict == INVALID,
    )


def apply(connection: Connection, planned: Planned, ledger_entry: int) -> Entry:
    """Write what was planned, in the transaction in which it was planned; the new version.

    Raises:
        Unavailable: another change came in between. It cannot where the ledger's entries are in the same transaction,
            whose lock orders all that is written with them.
    """
    if planned.made is not None:
        return planned.made
    values = {**planned.values, "ledger_entry": ledger_entry}
    insert_missing(connection, registry_version, [values])
    own = {key: values[key] for key in ("registry_id", "entry_id")}
    fields = ("version", "status", "entry_class", "owner", "integrated_version")
    changed: dict[str, Any] = {key: values[key] for key in fields}
    if planned.words is not None:
        changed["words"] = planned.words
    if planned.before is None:
        insert_missing(
            connection, registry_entry, [{**own, **changed, "utids": values["utids"], "created": values["created"]}]
        )
    else:
        connection.execute(
            update(registry_entry)
            .where(registry_entry.c.registry_id == own["registry_id"], registry_entry.c.entry_id == own["entry_id"])
            .where(registry_entry.c.version == planned.before.version)
            .values(changed)
        )
    entry = entry_from(values)
    stands, _ = _head(connection, entry.registry_id, entry.entry_id)
    if stands is None or (stands.version, stands.workflow_id) != (entry.version, entry.workflow_id):
        raise Unavailable(
            f"another change of {entry.registry_id}/{entry.entry_id} was quicker", remedy="it will be tried again"
        )
    if planned.before is None or planned.before.tags != entry.tags:
        _set_tags(connection, entry)
    if planned.publishes is not None:
        publish_one(connection, planned.publishes)
    if planned.invalid:
        add_entry_verdicts(connection, [_verdict_of(entry, ledger_entry)])
    return entry


def no_entry(registry_id: str, entry_id: str, version: int | None = None) -> ResourceNotFoundError:
    """The refusal of what is about an entry, or a version, that there is not."""
    what = "" if version is None else f" in version {version}"
    return ResourceNotFoundError(
        f"there is no entry {registry_id}/{entry_id}{what}", remedy="see what there is with: coafi registry list"
    )


def _schema_of(registry_id: RegistryId) -> str:
    """The id of the schema that the data of a registry is held against."""
    return f"registry.{registry_id}"


def _verdict_of(entry: Entry, ledger_entry: int) -> EntryVerdict:
    """That a version is invalid as the one before was, by the ledger entry that made it."""
    return EntryVerdict(
        entry=ledger_entry,
        registry_id=entry.registry_id.value,
        entry_id=entry.entry_id,
        version=entry.version,
        verdict=INVALID,
        workflow_id=str(entry.workflow_id),
    )


def _set_tags(connection: Connection, entry: Entry) -> None:
    own = (registry_tag.c.registry_id == entry.registry_id.value) & (registry_tag.c.entry_id == entry.entry_id)
    connection.execute(delete(registry_tag).where(own))
    if entry.tags:
        key = {"registry_id": entry.registry_id.value, "entry_id": entry.entry_id}
        connection.execute(insert(registry_tag), [{"tag": tag, **key} for tag in entry.tags])


def _head(connection: Connection, registry_id: RegistryId, entry_id: str) -> tuple[Entry | None, bool]:
    """The newest version, and whether it is in the tables; locked, where writers do not wait for each other anyway."""
    newest = (
        select(registry_entry.c.version)
        .where(registry_entry.c.registry_id == registry_id.value, registry_entry.c.entry_id == entry_id)
        .with_for_update()
    )
    version = connection.execute(newest).scalar_one_or_none()
    if version is not None:
        query = select(*COLUMNS, DATA).where(
            registry_version.c.registry_id == registry_id.value,
            registry_version.c.entry_id == entry_id,
            registry_version.c.version == version,
        )
        return entry_of(connection.execute(query).one()), True
    return (shipped_entries().get(entry_id) if registry_id is RegistryId.SCHEMAS else None), False


def _made(connection: Connection, registry_id: RegistryId, entry_id: str, origin: Origin) -> Entry | None:
    """The version of the entry that this run has made."""
    query = select(*COLUMNS, DATA).where(
        registry_version.c.workflow_id == origin.workflow_id,
        registry_version.c.registry_id == registry_id.value,
        registry_version.c.entry_id == entry_id,
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else entry_of(row)


def _planned_before(made: Entry) -> Planned:
    return Planned(_values(made), None, made=made)


def _values(entry: Entry) -> dict[str, Any]:
    """An entry as the values of its row, but for the ledger entry."""
    checked = entry.checked_with
    return {
        "registry_id": entry.registry_id.value,
        "entry_id": entry.entry_id,
        "version": entry.version,
        "status": entry.status.value,
        "entry_class": entry.entry_class.value,
        "owner": entry.owner,
        "tags": json.dumps(entry.tags, ensure_ascii=False),
        "data": canonical_json(entry.data).decode(),
        "digest": entry.digest,
        "utids": entry.utids,
        "created": entry.created,
        "changed": entry.changed,
        "by": entry.by,
        "reason": entry.reason,
        "workflow_id": entry.workflow_id,
        "integrated_version": entry.integrated_version,
        "checked_with": checked and checked.model_dump_json(by_alias=True),
    }


def _require_expected(asked: EntryUpdate | StatusUpdate, head: Entry | None) -> None:
    if asked.expected is None or asked.expected == (head.version if head else 0):
        return
    stands = f"is at version {head.version}" if head else "does not exist"
    raise PreconditionFailed(
        f"{asked.registry_id}/{asked.entry_id} {stands}, and the request expects"
        + (f" version {asked.expected}" if asked.expected else " that it does not exist"),
        remedy="read it again, and decide anew",
        findings=(finding("registry/version", f"the entry {stands}", pointer=""),),
    )


def _refuse_second(made: Entry, origin: Origin) -> NoReturn:
    raise IdempotencyConflict(
        f"the run {origin.workflow_id} has made version {made.version} of {made.registry_id}/{made.entry_id}, from"
        " another request",
        remedy="give every request an Idempotency-Key of its own",
    )
