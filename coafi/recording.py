"""What the ledger and the table of deliveries say about an event, from its receipt to its end.

Every method is one transaction and may be repeated: entries are keyed by run and step, and the first write wins.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

from pydantic import BaseModel, Field, StringConstraints

from coafi.canonical import JsonObject, Sha256, digest_of
from coafi.deliveries import ClaimResult, claim, conclude, note_receipt, outcome_of
from coafi.events import Event, EventRef, Wire
from coafi.findings import Finding, Severity
from coafi.ledger.entry import Draft, Recorded
from coafi.ledger.port import Ledger, LedgerTransaction
from coafi.names import CONCLUDE, EntryType, EventType, Phase
from coafi.payloads import PAYLOADS, subject_of
from coafi.ranges import Range as Range
from coafi.ranges import merge_ranges as merge_ranges
from coafi.ranges import ranges_of as ranges_of
from coafi.registry.port import Schemas
from coafi.registry.validation import Schema
from coafi.utids import permanent_utids


class Received(Wire):
    """What came of receiving an event.

    Attributes:
        phase: ``VALIDATED``, ``REJECTED`` or ``DUPLICATE``.
        utids: the permanent UTidS, or the temporary one of a rejected event.
        entries: ledger indices of what was recorded.
        findings: why the event was rejected.
        duplicate_of: run id of the run that owns the delivery.
    """

    phase: Phase
    utids: str
    entries: tuple[Range, ...] = ()
    findings: tuple[Finding, ...] = ()
    duplicate_of: str | None = None


_Said = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00-\x09\x0b-\x1f\x7f]+$")]


class Decision(Wire):
    """What an operator decided about a parked run, and why: at most 500 characters each."""

    by: _Said
    reason: _Said


class Failure(Wire):
    """Why a run parks.

    Attributes:
        step: the first step that failed, such as ``git.fetch``.
        sequence: how often this run has parked, this time included.
        error: stable name of the error's type.
        message: what is wrong and what to do, for a person.
        failed_steps: how many steps failed at the same time.
    """

    step: str
    sequence: int
    error: str
    message: str
    failed_steps: int = 1


class Refusal(Wire):
    """Why a step refuses an event.

    Attributes:
        step: such as ``git.fetch``.
        error: stable name of the error's type.
        message: what is wrong and what to do, for a person.
    """

    step: str
    error: str
    message: str


class Conclusion(Wire):
    """How a run ends: what a receipt says of it.

    Attributes:
        phase: ``PROCESSED``, ``REJECTED`` or ``FAILED``.
        counts: how many of what, such as ``{"files": 10, "valid": 9}``.
        digests: what the run made, by name, such as ``{"manifest": "<sha256>"}``.
        entries: ledger indices of everything recorded on the way, up to this conclusion.
        findings: why it was rejected.
        refused: what rejected it, where it was a step that did.
        failure: why it failed. What is long in the messages, the findings included, is cut to fit into an entry.
        decisions: the operators' decisions on the way, the last ones where there are many.
    """

    phase: Phase
    counts: dict[str, int] = Field(default_factory=dict)
    digests: dict[str, Sha256] = Field(default_factory=dict)
    entries: tuple[Range, ...] = ()
    findings: tuple[Finding, ...] = ()
    refused: Refusal | None = None
    failure: Failure | None = None
    decisions: tuple[Decision, ...] = ()


class Concluded(Wire):
    """The conclusion as it was first recorded, and where."""

    conclusion: Conclusion
    entry: int


_LONGEST_MESSAGE = 4_096
_LONGEST_OF_FINDING = 2_048
_ROOM_FOR_FINDINGS = 20_480
_ROOM_FOR_DECISIONS = 24_576
"""Bytes of JSON in an entry, which has 65,535 and holds a refusal, a failure, findings and decisions."""

T = TypeVar("T", bound=BaseModel)

_ENTRY_OF_PHASE = {
    Phase.PROCESSED: EntryType.EVENT_PROCESSED,
    Phase.REJECTED: EntryType.EVENT_REJECTED,
    Phase.FAILED: EntryType.EVENT_DEAD_LETTERED,
}


@dataclass(frozen=True)
class EventRecorder:
    """Records the phases of events.

    Attributes:
        ledger: where entries go.
        registry: where the schemas of payloads come from.
        namespace: part of every entry's key (``Settings.ledger_namespace``).
        build: version of this worker, recorded with every conclusion.
    """

    ledger: Ledger
    registry: Schemas
    namespace: str
    build: str

    def receive(self, event: Event, run_id: str) -> Received:
        """Claim the delivery, validate the payload, record ``EVENT_RECEIVED`` (and ``EVENT_REJECTED``).

        A push that was found missing and is being handled, or was, is a duplicate when it is delivered after all, and
        one that was delivered is a duplicate when it was found missing (:func:`coafi.deliveries.twin_of`).

        Args:
            event: the event as it came from ingress.
            run_id: the run's original id, which a reset keeps.
        """
        schema, findings = self._validate(event)
        utids = event.utids if findings else permanent_utids(event.type, event.source, event.id, digest_of(event.data))

        def unit(transaction: LedgerTransaction) -> Received:
            result, owner = claim(transaction.connection, event, run_id=run_id, utids=utids, subject=subject_of(event))
            if result is ClaimResult.DUPLICATE:
                return Received(phase=Phase.DUPLICATE, utids=owner.utids, duplicate_of=owner.run_id)
            if result is ClaimResult.CONFLICT:
                return self._conflict(event, transaction)
            drafts = [self._received(event, run_id, utids, schema, valid=not findings)]
            if findings:
                conclude(transaction.connection, event, Phase.REJECTED)
                rejection = Conclusion(phase=Phase.REJECTED, findings=findings)
                drafts.append(self._conclusion(event.ref(utids), rejection))
            recorded = transaction.append(drafts)
            if event.type == EventType.GIT_COMMIT and not findings:
                note_receipt(transaction.connection, event, recorded[0].index)
            phase = Phase.REJECTED if findings else Phase.VALIDATED
            return Received(phase=phase, utids=utids, findings=findings, entries=ranges_of(recorded))

        return self.ledger.transact(unit)

    def park(self, event: EventRef, failure: Failure) -> Range:
        """Record ``EVENT_PROCESSING_FAILED``: the run waits for a person's decision."""
        draft = self.draft(
            event,
            EntryType.EVENT_PROCESSING_FAILED,
            step=f"park/{failure.sequence}/{failure.step}",
            inputs={},
            data=_fitting_failure(failure).model_dump(mode="json"),
        )
        return ranges_of(self.ledger.append([draft]))[0]

    def conclude(self, event: EventRef, conclusion: Conclusion) -> Concluded:
        """Record how the run ended, and conclude its delivery.

        The first conclusion of a kind stays, and nothing comes after ``PROCESSED``.
        """

        def unit(transaction: LedgerTransaction) -> Concluded:
            processed = outcome_of(transaction.connection, event) == Phase.PROCESSED
            # The entry that is there comes back, whatever a draft with its key and inputs says.
            draft = self._conclusion(event, Conclusion(phase=Phase.PROCESSED) if processed else conclusion)
            (recorded,) = transaction.append([draft])
            conclude(transaction.connection, event, Phase(str(recorded.entry.data["phase"])))
            stored = {
                name: recorded.entry.data[name] for name in Conclusion.model_fields if name in recorded.entry.data
            }
            return Concluded(conclusion=Conclusion.model_validate(stored), entry=recorded.index)

        return self.ledger.transact(unit)

    def draft(
        self, event: EventRef, entry_type: EntryType, *, step: str, inputs: JsonObject, data: JsonObject
    ) -> Draft:
        """A ledger entry about ``event``.

        Args:
            event: what it is about.
            entry_type: what kind of entry.
            step: what step of the run, part of the key.
            inputs: what the step worked on; the same key with other inputs is a conflict. Never results or times.
            data: what the entry says.
        """
        return Draft(
            namespace=self.namespace,
            workflow_id=event.workflow_id,
            step=step,
            type=entry_type,
            event_id=event.id,
            utids=event.utids,
            inputs={"source": event.source, "event": event.id, "body": event.bodydigest, **inputs},
            data=data,
        )

    def _conflict(self, event: Event, transaction: LedgerTransaction) -> Received:
        """Reject another body under a delivery's id. The delivery itself keeps its outcome."""
        findings = (_reused_delivery(event),)
        rejection = Conclusion(phase=Phase.REJECTED, findings=findings)
        step = f"conflict/{event.bodydigest}"
        recorded = transaction.append([self._conclusion(event.ref(event.utids), rejection, step=step)])
        return Received(phase=Phase.REJECTED, utids=event.utids, findings=findings, entries=ranges_of(recorded))

    def _validate(self, event: Event) -> tuple[Schema | None, tuple[Finding, ...]]:
        payload = PAYLOADS[EventType(event.type)]
        refusal = payload.refusal(event)
        if refusal is not None:
            return self.registry.find(payload.schema_id(event.data)), (refusal,)
        schema = self.registry.schema(payload.schema_id(event.data))
        return schema, tuple(
            Finding(
                severity=Severity.ERROR,
                rule=f"payload/{violation.keyword}",
                message=violation.message,
                remedy=f"send a payload that fits the schema {schema.schema_id} {schema.version}",
                pointer=violation.pointer,
            )
            for violation in schema.violations(payload.instance(event.data), quoting=False)
        )

    def _received(self, event: Event, run_id: str, utids: str, schema: Schema | None, *, valid: bool) -> Draft:
        data: JsonObject = {
            "source": event.source,
            "eventType": event.type,
            "principal": event.principal,
            "bodyDigest": event.bodydigest,
            "payloadDigest": digest_of(event.data),
            "subject": subject_of(event),
            "temporaryUtids": event.utids,
            "causationDepth": event.causationdepth,
            "runId": run_id,
            "build": self.build,
        }
        if schema is not None:
            data["schema"] = {"id": schema.schema_id, "version": schema.version, "digest": schema.digest}
        if valid:  # what breaks its schema has no limits, and an entry has
            data["parameters"] = PAYLOADS[EventType(event.type)].parameters(event.data)
        if event.causationid is not None:
            data["causationId"] = event.causationid
        return self.draft(event.ref(utids), EntryType.EVENT_RECEIVED, step="receive", inputs={}, data=data)

    def _conclusion(self, event: EventRef, conclusion: Conclusion, *, step: str = CONCLUDE) -> Draft:
        fitting = _fitting(conclusion)
        data: JsonObject = {**fitting.model_dump(mode="json", exclude_none=True), "build": self.build}
        return self.draft(event, _ENTRY_OF_PHASE[conclusion.phase], step=step, inputs={}, data=data)


def conclusion_of(entries: Sequence[Recorded]) -> Conclusion | None:
    """How a run ended, from its ledger entries in their order; ``None`` while it has not.

    That another body under the same delivery id was rejected is no end of the run.
    """
    for one in reversed(entries):
        if one.entry.type in _ENTRY_OF_PHASE.values() and one.entry.step == CONCLUDE:
            data = one.entry.data
            return Conclusion.model_validate({name: data[name] for name in Conclusion.model_fields if name in data})
    return None


def counts_in_order(counts: dict[str, int]) -> list[tuple[str, int]]:
    """The counts of a conclusion as people read them: all files, then the rest by name."""
    return sorted(counts.items(), key=lambda item: (item[0] != "files", item[0]))


def _fitting(conclusion: Conclusion) -> Conclusion:
    """``conclusion`` as an entry has room for it: what ends a run must not fail to be recorded."""
    refused, failure = conclusion.refused, conclusion.failure
    last = _first_within(reversed(conclusion.decisions), _ROOM_FOR_DECISIONS)
    return conclusion.model_copy(
        update={
            "findings": _first_within(map(_fitting_finding, conclusion.findings), _ROOM_FOR_FINDINGS),
            "decisions": tuple(reversed(last)),
            "refused": refused and refused.model_copy(update={"message": _short(refused.message, _LONGEST_MESSAGE)}),
            "failure": failure and _fitting_failure(failure),
        }
    )


def _fitting_failure(failure: Failure) -> Failure:
    return failure.model_copy(update={"message": _short(failure.message, _LONGEST_MESSAGE)})


def _fitting_finding(finding: Finding) -> Finding:
    pointer = finding.pointer
    return finding.model_copy(
        update={
            "message": _short(finding.message, _LONGEST_OF_FINDING),
            "remedy": _short(finding.remedy, _LONGEST_OF_FINDING),
            "pointer": pointer if pointer is None or _size(pointer) <= _LONGEST_OF_FINDING else None,
        }
    )


def _first_within(some: Iterable[T], room: int) -> tuple[T, ...]:
    """The first of some values whose JSON has together at most ``room`` bytes."""
    kept: list[T] = []
    for one in some:
        room -= len(one.model_dump_json().encode())
        if room < 0:
            break
        kept.append(one)
    return tuple(kept)


def _short(text: str, most: int) -> str:
    """``text``, cut in the middle if its JSON has more than ``most`` bytes."""
    short, kept = text, min(len(text), most)
    while _size(short) > most:
        kept = kept * 3 // 4
        short = f"{text[: kept // 2]}…{text[len(text) - kept // 2 :]}"
    return short


def _size(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def _reused_delivery(event: Event) -> Finding:
    return Finding(
        severity=Severity.ERROR,
        rule="delivery/reused",
        message=f"delivery {event.id} of {event.source} came before with another body",
        remedy="give every delivery an id of its own; a redelivery must repeat the body byte for byte",
    )
