"""What a run does for a request: each operation once, with its ledger entry and its answer in one transaction."""

from dataclasses import dataclass
from datetime import UTC, datetime

from coafi.api.answers import Answer
from coafi.api.bodies import StartedAnswer
from coafi.api.requests import ApiRequest, event_path
from coafi.api.routes import Operation
from coafi.api.stored import Operated, keep, kept
from coafi.commits import submitted_commit
from coafi.database import Database
from coafi.errors import ResourceNotFoundError
from coafi.events import Event, EventRef, Wire
from coafi.ledger.entry import Draft
from coafi.ledger.port import LedgerTransaction
from coafi.names import EntryType
from coafi.objects import ObjectStore
from coafi.recording import EventRecorder, ranges_of
from coafi.registry.changes import Origin
from coafi.registry.entry import EntryUpdate, StatusUpdate
from coafi.registry.port import PlannedChange, Registry


class OperateTask(Wire):
    """A request to do, and its event."""

    event: EventRef
    request: ApiRequest


@dataclass(frozen=True)
class ApiOperator:
    """Does what requests ask for.

    Attributes:
        recorder: of the ledger's entries.
        registry: whose entries change.
        database: where answers are kept.
        objects: where the bodies of events go that are started.
    """

    recorder: EventRecorder
    registry: Registry
    database: Database
    objects: ObjectStore

    def operate(self, task: OperateTask) -> Operated:
        """Change the registry; done again, this gives back what came of it.

        Where the registry is another instance's, this calls it, and may take as long as that takes.

        Raises:
            Refused: the request cannot be done; its findings say why.
            Unavailable: ledger, database or registry are out of reach.
            IntegrityError: what another instance answers is not what it was asked for.
        """
        request = task.request
        asked: EntryUpdate | StatusUpdate
        match request.route.operation:
            case Operation.UPDATE_ENTRY:
                asked = EntryUpdate.parse(request.body, request.if_match)
            case Operation.CHANGE_STATUS:
                asked = StatusUpdate.parse(request.body, request.if_match)
            case other:
                raise ResourceNotFoundError(f"this step does not do {other}", remedy="look at the run's workflow")
        if self.registry.is_remote and (before := self._kept(task)) is not None:
            return before  # the other instance may be out of reach by now
        origin = Origin(
            principal=request.principal.name,
            workflow_id=task.event.workflow_id,
            event_id=task.event.id,
            time=datetime.now(UTC),
        )
        return self._change(task, asked, origin)

    def work(self, task: OperateTask) -> Event:
        """The event that shall be started for a request; its body is in the object store then."""
        request = task.request
        asked = request.body.get("input")
        given = asked if isinstance(asked, dict) else {}
        before, branch = given.get("before"), given.get("branch", "main")
        event, body = submitted_commit(
            repository_url=str(given.get("repositoryUrl")),
            commit=str(given.get("commitSha")),
            before=before if isinstance(before, str) else None,
            branch=str(branch),
            author=request.principal.name,
            principal=request.principal.name,
            received=datetime.now(UTC),
        )
        self.objects.put(body)
        return event.model_copy(update={"causationid": task.event.workflow_id, "causationdepth": 1})

    def started(self, task: OperateTask, event: Event, run_id: str | None, *, existed: bool) -> Operated:
        """Remember what was started for a request, and how it is answered."""
        location = event_path(event.workflow_id)
        answer = StartedAnswer(
            workflow_id=event.workflow_id, run_id=run_id, event_id=event.id, existed=existed, location=location
        )
        operated = Operated(
            answer=Answer(
                status=200 if existed else 201, body=answer.model_dump(mode="json", by_alias=True), location=location
            ),
            counts={"started": 0 if existed else 1},
        )

        def unit(transaction: LedgerTransaction) -> Operated:
            before = kept(transaction.connection, task.event.workflow_id)
            if before is None:
                keep(transaction.connection, task.event.workflow_id, operated)
            return before or operated

        return self.recorder.ledger.transact(unit)

    def _kept(self, task: OperateTask) -> Operated | None:
        with self.database.read() as connection:
            return kept(connection, task.event.workflow_id)

    def _change(self, task: OperateTask, asked: EntryUpdate | StatusUpdate, origin: Origin) -> Operated:
        def unit(transaction: LedgerTransaction) -> Operated:
            before = kept(transaction.connection, task.event.workflow_id)
            if before is not None:
                return before
            planned = plan(transaction.connection)
            recorded = transaction.append([self._draft(task, planned)])
            entry = planned.apply(transaction.connection, recorded[0].index)
            operated = Operated(
                answer=Answer(
                    status=201 if entry.version == 1 else 200,
                    body=entry.model_dump(mode="json", by_alias=True),
                    etag=entry.etag,
                ),
                entries=ranges_of(recorded),
                counts={"changes": 1},
            )
            keep(transaction.connection, task.event.workflow_id, operated)
            return operated

        with self.registry.change(asked, origin) as plan:
            return self.recorder.ledger.transact(unit)

    def _draft(self, task: OperateTask, planned: PlannedChange) -> Draft:
        return self.recorder.draft(
            task.event,
            EntryType.REGISTRY_ENTRY_CHANGED,
            step=planned.step,
            inputs=planned.inputs,
            data=planned.data,
        )
