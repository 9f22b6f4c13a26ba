"""Requests that only read: answered from the database, with no run and no entry in the ledger."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, JsonValue

from coafi.api.answers import Answer, given_up, refusal
from coafi.api.bodies import (
    EventAnswer,
    HistoryAnswer,
    SchemaAnswer,
    SchemasAnswer,
    StoredAnswer,
    ValidationAnswer,
    ViolationAnswer,
)
from coafi.api.routes import Operation, Route
from coafi.api.stored import kept
from coafi.canonical import JsonObject, digest_of
from coafi.database import Database
from coafi.deliveries import Delivery, DeliveryReader
from coafi.errors import ResourceNotFoundError, Unavailable, ValidationError
from coafi.findings import Finding, Severity
from coafi.ledger.entry import Recorded
from coafi.ledger.port import Ledger
from coafi.names import EventType, Phase
from coafi.recording import conclusion_of
from coafi.registry.entry import RegistryId, parsed
from coafi.registry.port import Registry
from coafi.registry.reader import MAX_PAGE, EntryQuery, Glance
from coafi.registry.resolver import Resolver

OPEN = "OPEN"
"""The phase of an event whose run has not ended."""


@dataclass(frozen=True)
class ApiReader:
    """Answers requests that change nothing.

    Attributes:
        database: where deliveries, entries and answers are.
        ledger: for what was recorded about an event.
        registry: entries, and the schemas that requests and data are held against.
        namespace: of this instance's entries.
    """

    database: Database
    ledger: Ledger
    registry: Registry
    namespace: str

    def read(self, route: Route, asked: JsonObject) -> Answer:
        """Answer a request whose caller may send it.

        Args:
            route: what is asked for.
            asked: the query, or the body of a POST; it need not fit its schema yet.

        Raises:
            Refused: it does not fit, or names what is not there.
            Unavailable: the database is out of reach.
        """
        self.check(route, asked)
        operations: Mapping[Operation, Callable[[JsonObject], Answer]] = {
            Operation.READ_ENTRY: self._entry,
            Operation.SEARCH_ENTRIES: self._search,
            Operation.READ_HISTORY: self._history,
            Operation.COMPARE_VERSIONS: self._compare,
            Operation.LIST_SCHEMAS: self._schemas,
            Operation.READ_SCHEMA: self._schema,
            Operation.READ_EVENT: self._event,
            Operation.RESOLVE: self._resolve,
            Operation.VALIDATE: self._validate,
        }
        return operations[route.operation](asked)

    def glance(self, route: Route, asked: JsonObject) -> Glance | None:
        """Answer a request without waiting for anything, if that can be done; for an event loop.

        It is done for what is asked for most: an entry in its newest version, where the database is a file. To hand
        the question to a thread costs ten times the answer, as long as the event loop is busy.

        Raises:
            ValidationError: the request does not fit its schema.
        """
        if route.operation is not Operation.READ_ENTRY or "version" in asked:
            return None
        self.check(route, asked)
        try:
            return self.registry.glance(RegistryId(_text(asked, "registryId")), _text(asked, "entryId"))
        except Unavailable:
            return None

    def check(self, route: Route, asked: JsonObject) -> None:
        """Hold a request against its schema.

        Raises:
            ValidationError: it does not fit; every place is a finding.
        """
        schema = self.registry.schema(route.schema_id)
        violations = schema.violations(asked, quoting=False)
        if violations:
            where = "path" if route.takes_id else "query" if route.method == "GET" else "body"
            raise ValidationError(
                f"the {where} does not fit {schema.schema_id} {schema.version}",
                findings=tuple(
                    Finding(
                        severity=Severity.ERROR,
                        rule=f"payload/{one.keyword}",
                        message=one.message,
                        remedy=f"send a {where} that fits the schema {schema.schema_id} {schema.version}",
                        pointer=one.pointer,
                    )
                    for one in violations
                ),
            )

    def query_types(self, route: Route) -> Mapping[str, str]:
        """The JSON types of the parameters of a query, by name."""
        properties = self.registry.schema(route.schema_id).document.get("properties")
        found = properties if isinstance(properties, dict) else {}
        return {name: str(one["type"]) for name, one in found.items() if isinstance(one, dict) and "type" in one}

    def delivery_of(self, source: str, delivery_id: str) -> Delivery | None:
        """The delivery that a sender named, if it has been claimed."""
        return DeliveryReader(self.database).get(source, delivery_id)

    def delivery(self, name: str) -> Delivery | None:
        """The delivery of an event that goes by a workflow id, a UTidS, or an event id that one source has used."""
        found = DeliveryReader(self.database).find(name)
        return found[0] if len(found) == 1 else None

    def stored(self, delivery: Delivery) -> Answer | None:
        """The answer that a request has got, if its run has ended."""
        if delivery.outcome is None:
            return None
        with self.database.read() as connection:
            operated = kept(connection, delivery.workflow_id)
        if operated is not None:  # it was done, also where the run was given up afterwards
            return operated.answer
        conclusion = conclusion_of(self._entries(delivery))
        if conclusion is None:
            return None
        if conclusion.phase is Phase.REJECTED:
            return refusal(conclusion.findings, conclusion.refused)
        return given_up(conclusion.failure)

    # ---------------------------------------------------------------- registry

    def _entry(self, asked: JsonObject) -> Answer:
        version = asked.get("version")
        entry = self.registry.get(
            RegistryId(_text(asked, "registryId")), _text(asked, "entryId"), None if version is None else _int(version)
        )
        return Answer(status=200, body=entry.model_dump(mode="json", by_alias=True), etag=entry.etag)

    def _search(self, asked: JsonObject) -> Answer:
        return answer_with(self.registry.search(parsed(EntryQuery, asked, "a search of entries")))

    def _history(self, asked: JsonObject) -> Answer:
        registry, entry = RegistryId(_text(asked, "registryId")), _text(asked, "entryId")
        before, limit = asked.get("before"), asked.get("limit", MAX_PAGE)
        versions = self.registry.history(
            registry, entry, before=None if before is None else _int(before), limit=_int(limit)
        )
        return answer_with(HistoryAnswer(registry_id=registry, entry_id=entry, versions=versions))

    def _compare(self, asked: JsonObject) -> Answer:
        registry, entry = RegistryId(_text(asked, "registryId")), _text(asked, "entryId")
        old, new = _int(asked["old"]), _int(asked["new"])
        return answer_with(self.registry.diff(registry, entry, old, new))

    def _schemas(self, _asked: JsonObject) -> Answer:
        answer = answer_with(SchemasAnswer(schemas=self.registry.published()))
        return answer.model_copy(update={"etag": f'"{digest_of(answer.body)}"'})

    def _schema(self, asked: JsonObject) -> Answer:
        schema_id, version = _text(asked, "schemaId"), asked.get("version")
        if isinstance(version, str):
            return answer_with(SchemaAnswer.of(self.registry.version(schema_id, version)))
        return answer_with(SchemaAnswer.of(self.registry.schema(schema_id)))

    def _validate(self, asked: JsonObject) -> Answer:
        schema = self.registry.schema(_text(asked, "schemaId"))
        found = schema.violations(asked.get("data"))
        return answer_with(
            ValidationAnswer(
                schema_id=schema.schema_id,
                version=schema.version,
                digest=schema.digest,
                valid=not found,
                violations=tuple(
                    ViolationAnswer(pointer=one.pointer, keyword=one.keyword, message=one.message) for one in found
                ),
            )
        )

    # ------------------------------------------------------------------ events

    def event(self, name: str) -> EventAnswer | None:
        """What is on record of an event that goes by a workflow id, an event id or a UTidS."""
        delivery = self.delivery(name)
        if delivery is None:
            return None
        entries = self._entries(delivery)
        answer = self.stored(delivery) if delivery.event_type == EventType.API_REQUEST else None
        return EventAnswer(
            event_id=delivery.delivery_id,
            type=delivery.event_type,
            source=delivery.source,
            workflow_id=delivery.workflow_id,
            run_id=delivery.run_id,
            utids=delivery.utids,
            phase=delivery.outcome or OPEN,
            subject=delivery.subject,
            received=delivery.received_at,
            concluded=delivery.concluded_at,
            entries=tuple(one.index for one in entries),
            answer=None if answer is None else StoredAnswer(status=answer.status, body=answer.body),
        )

    def _event(self, asked: JsonObject) -> Answer:
        name = _text(asked, "id")
        found = self.event(name)
        if found is None:
            raise ResourceNotFoundError(
                f"no event goes by {name[:200]!r} alone", remedy="give its workflow id, its UTidS, or an id of its own"
            )
        return answer_with(found)

    def _resolve(self, asked: JsonObject) -> Answer:
        return answer_with(Resolver(self.database, self.ledger, self.namespace).resolve(_text(asked, "id")))

    def _entries(self, delivery: Delivery) -> list[Recorded]:
        run = (self.namespace, delivery.workflow_id)
        found = self.ledger.by_event(delivery.delivery_id)
        return [one for one in found if (one.entry.namespace, one.entry.workflow_id) == run]


def answer_with(body: BaseModel) -> Answer:
    """The answer that shows something."""
    return Answer(status=200, body=body.model_dump(mode="json", by_alias=True))


def _text(asked: JsonObject, name: str) -> str:
    value = asked[name]
    assert isinstance(value, str)  # noqa: S101  # the schema says so
    return value


def _int(value: JsonValue) -> int:
    assert isinstance(value, int)  # noqa: S101  # the schema says so
    return value
