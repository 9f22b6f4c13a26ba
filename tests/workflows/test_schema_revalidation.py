"""What follows when a schema is published: on a whole service, with real pushes, indexes and ledger."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from activities.revalidation import RevalidationTask
from coafi.canonical import JsonObject
from coafi.documents.check import Verdict
from coafi.errors import IntegrityError
from coafi.index.build import decode
from coafi.index.model import DocumentationIndex, IndexTask
from coafi.index.pointers import IndexReader
from coafi.index.update import IndexUpdater
from coafi.names import EntryType, SchemaName, TaskQueue, WorkflowName, revalidation_workflow_id
from coafi.processing import read_reports
from coafi.registry import revalidation
from coafi.registry.entry import Entry, RegistryId
from coafi.registry.known import entries_after
from coafi.registry.revalidation import Ended, Part, Place, Revalidation, Revalidator, Tally, revalidation_of
from coafi.registry.verdicts import latest_entry_verdicts
from tests.harness import Repository, Stack, document, document_id, documents, push_payload, running_stack, until
from tests.workflows.registry import api, entry, moved, published, updated
from tests.workflows.support import GIVES_UP, broken
from workers.wiring import build_activities
from workflows.schema_revalidation import FAILED, RevalidationResult

SCHEMA = "frontmatter.INFO-SPEC"
"""Documents of the harness have this info code."""

REVIEWED = {"required": ["title", "reviewer"]}


@dataclass
class Documented:
    """A service with a repository whose documents are indexed."""

    stack: Stack
    http: httpx.AsyncClient
    repository: Repository

    @property
    def url(self) -> str:
        """Canonical URL of the repository."""
        return self.repository.path.as_uri()

    async def push(self, files: dict[str, str | bytes | None]) -> None:
        """Push, and wait until the index shows it."""
        before = self.generation()
        await (await self.stack.accepted(self.repository.push(files))).result()
        await until(lambda: self.generation() > before)

    def generation(self, branch: str = "main") -> int:
        """Of the newest index."""
        newest = IndexReader(self.stack.resources.database).newest(self.url, branch)
        return newest.generation if newest else 0

    def index(self, branch: str = "main") -> DocumentationIndex:
        """The newest index."""
        newest = IndexReader(self.stack.resources.database).newest(self.url, branch)
        assert newest is not None
        return decode(self.stack.resources.objects.get(newest.index_digest))

    def verdicts(self, branch: str = "main") -> dict[str, str]:
        """What the newest index shows, by file name."""
        return {one["path"].rpartition("/")[2]: one["verdict"] for one in self.index(branch)["documents"]}

    def handle(self, schema_id: str, version: str) -> WorkflowHandle[Any, RevalidationResult]:
        """The run that holds what is known against a schema."""
        workflow_id = revalidation_workflow_id(SchemaName(schema_id, version))
        return self.stack.client.get_workflow_handle(workflow_id, result_type=RevalidationResult)

    async def result(self, schema_id: str, version: str) -> RevalidationResult:
        """What that run found out."""
        run = self.handle(schema_id, version)

        async def is_started() -> bool:
            try:
                await run.describe()
            except RPCError:
                return False
            return True

        await until(is_started)
        return await asyncio.wait_for(run.result(), 60)

    def revalidator(self) -> Revalidator:
        """What the activities work with."""
        resources = self.stack.resources
        steps = build_activities(resources)
        return Revalidator(steps.events.recorder, resources.database, resources.objects, steps.files.processor.contexts)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A schema that is published starts no run: the test does its parts itself."""
    with monkeypatch.context() as nobody:
        nobody.setattr("activities.api.revalidation_of", lambda _entry: None)
        yield


async def to_do(service: Documented, schema_id: str = SCHEMA, version: str = "2.0.0", **document: Any) -> Revalidation:
    """Publish a schema; what there is to hold against it."""
    found = revalidation_of(await published(service.http, schema_id, version, **(document or REVIEWED)))
    assert found is not None
    return found


def reviewed(number: int) -> str:
    """A document that says who reviewed it."""
    return document(number).replace("author: Ada\n", "author: Ada\nreviewer: Grace\n")


@asynccontextmanager
async def documented(home: Path, **settings: Any) -> AsyncIterator[Documented]:
    """A service with three documents, of which one names a reviewer, and a file that is no document of the schema."""
    async with running_stack(home, index_debounce=0.1, tasks_rate=None, **settings) as stack, api(stack) as http:
        made = Documented(stack, http, Repository.create(home / "repository"))
        files = documents(3)
        await made.push({**files, max(files): reviewed(3), "other.json": "{}"})
        yield made


@pytest_asyncio.fixture
async def service(tmp_path: Path) -> AsyncIterator[Documented]:
    async with documented(tmp_path) as made:
        yield made


async def test_verdicts_follow_the_schema_and_the_index_follows_them(service: Documented) -> None:
    first, second, third = sorted(path.rpartition("/")[2] for path in documents(3))
    assert {service.verdicts()[name] for name in (first, second, third)} == {Verdict.VALID}
    before = {one["path"]: one.get("entry") for one in service.index()["documents"]}
    made = await published(service.http, SCHEMA, "2.0.0", **REVIEWED)

    result = await service.result(SCHEMA, "2.0.0")
    assert (result.ended, result.tally) == (Ended.DONE, Tally(looked=3, now_invalid=2, branches=1))
    entries = service.stack.entries(EntryType.FILE_REVALIDATED)
    assert len(entries) == 2
    for one in entries:
        data = one.data
        assert data["schema"] == {"schemaId": SCHEMA, "version": "2.0.0", "digest": made["digest"]}
        assert data["verdict"] == Verdict.INVALID
        assert data["previous"] == {"entry": before[str(data["path"])], "verdict": Verdict.VALID}
        reports = read_reports(service.stack.resources.objects, str(data["reportsDigest"]))
        (report,) = (report for report in reports if report.path == data["path"])
        assert report.schema_used is not None
        assert report.schema_used.digest == made["digest"]
        assert "reviewer" in " ".join(finding.message for finding in report.findings)
    summary = service.stack.resources.ledger.entry(result.entry).data
    assert (summary["ended"], summary["looked"], summary["nowInvalid"]) == ("done", 3, 2)
    assert (summary["request"], summary["published"]) == (made["workflowId"], made["ledgerEntry"])

    await until(lambda: service.generation() == 2)
    assert service.verdicts() | {"README.md": "", "other.json": ""} == {
        first: "invalid",
        second: "invalid",
        third: "valid",
        "README.md": "",
        "other.json": "",
    }
    shown = next(one for one in service.index()["documents"] if one["path"].endswith(first))
    assert [past["verdict"] for past in shown["history"]] == ["invalid", "valid"]
    link = f"{service.stack.gateway}/docs/" + service.url.replace("file:///", "file=3A~~~").replace("/", "~")
    page = await service.http.get(f"{link}/main/{shown['path']}?findings")
    assert page.status_code == 200
    assert "reviewer" in page.text

    await published(service.http, SCHEMA, "2.1.0")
    assert (await service.result(SCHEMA, "2.1.0")).tally == Tally(looked=3, now_valid=2, branches=1)
    await until(lambda: service.generation() == 3)
    assert {service.verdicts()[name] for name in (first, second, third)} == {Verdict.VALID}
    service.stack.verify()


@pytest.mark.parametrize("step", ["update", "_publish"])
async def test_a_push_that_was_on_its_way_is_held_against_the_schema_when_the_index_shows_it(
    service: Documented, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The push is checked before the schema is published, and the index moves after the re-validation has ended."""
    go_on, arrived, do = threading.Event(), threading.Event(), getattr(IndexUpdater, step)

    def held_up(*asked: Any) -> Any:
        arrived.set()
        assert go_on.wait(60)
        return do(*asked)

    monkeypatch.setattr(IndexUpdater, step, held_up)
    late, fine = f"{document_id(4)}.md", f"{document_id(5)}.md"
    push = service.repository.push({f"docs/{late}": document(4), f"docs/{fine}": reviewed(5)})
    await (await service.stack.accepted(push)).result()
    await asyncio.to_thread(arrived.wait, 30)
    made = await published(service.http, SCHEMA, "2.0.0", **REVIEWED)
    assert (await service.result(SCHEMA, "2.0.0")).tally == Tally(looked=3, now_invalid=2, branches=1)
    assert service.generation() == 1
    go_on.set()
    await until(lambda: service.generation() == 2)
    assert (service.verdicts()[late], service.verdicts()[fine]) == (Verdict.INVALID, Verdict.VALID)
    (again,) = (
        one for one in service.stack.entries(EntryType.FILE_REVALIDATED) if str(one.data["path"]).endswith(late)
    )
    assert again.entry.workflow_id == revalidation_workflow_id(SchemaName(SCHEMA, "2.0.0"))
    assert again.data["schema"] == {"schemaId": SCHEMA, "version": "2.0.0", "digest": made["digest"]}
    assert (again.data["verdict"], again.data["branch"]) == (Verdict.INVALID, "main")
    shown = next(one for one in service.index()["documents"] if one["path"].endswith(late))
    assert shown.get("entry") == again.index
    service.stack.verify()


async def test_an_old_verdict_that_comes_back_with_its_commit_is_held_against_the_schema(service: Documented) -> None:
    """A branch begins at a commit whose documents are on no branch when the schema is published."""
    late = f"{document_id(4)}.md"
    await service.push({f"docs/{late}": document(4)})
    old = IndexReader(service.stack.resources.database).newest(service.url, "main")
    assert old is not None
    await service.push({f"docs/{late}": reviewed(4)})
    await published(service.http, SCHEMA, "2.0.0", **REVIEWED)
    assert (await service.result(SCHEMA, "2.0.0")).tally == Tally(looked=4, now_invalid=2, branches=1)
    resources = service.stack.resources
    task = IndexTask(
        repository=service.url, branch="release", generation=0, commit=old.commit, tree=old.tree, commits=()
    )
    updater = IndexUpdater(resources.ledger, resources.database, resources.objects, "default", service.revalidator())
    assert (await asyncio.to_thread(updater.update, task)).outcome == "moved"
    assert service.verdicts("release")[late] == Verdict.INVALID
    again = service.stack.entries(EntryType.FILE_REVALIDATED)[2:]
    assert [(one.data["branch"], str(one.data["path"]).rpartition("/")[2]) for one in again] == [("release", late)]
    read: list[str] = []

    def watched(_self: object, digest: str) -> bytes:
        read.append(digest)
        return get(digest)

    get = resources.objects.get
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(resources.objects), "get", watched)
        unchanged = await asyncio.to_thread(updater.update, task.model_copy(update={"generation": 1}))
    assert unchanged.outcome == "unchanged"
    reports = {one.get("reports") for one in service.index("release")["documents"]}
    assert not reports & set(read), "of what the newest index shows no report is read again"


async def test_a_schema_that_changes_no_verdict_records_its_summary_and_moves_no_index(service: Documented) -> None:
    await published(service.http, SCHEMA, "2.0.0", required=["title"])
    assert (await service.result(SCHEMA, "2.0.0")).tally == Tally(looked=3)
    await published(service.http, "frontmatter.INFO-NONE", "1.0.0", required=["nothing"])
    assert (await service.result("frontmatter.INFO-NONE", "1.0.0")).tally == Tally()
    assert service.stack.entries(EntryType.FILE_REVALIDATED) == []
    assert len(service.stack.entries(EntryType.SCHEMA_REVALIDATED)) == 2
    assert service.generation() == 1


async def test_entries_of_a_registry_get_verdicts_too(service: Documented) -> None:
    wing, _ = await updated(service.http, entry(data={"name": "wing"}))
    tail, _ = await updated(service.http, entry(data={"called": "tail"}))
    await updated(service.http, entry("SPACE", data={}))
    made = await published(service.http, "registry.AERO", "1.0.0", required=["name"])
    assert (await service.result("registry.AERO", "1.0.0")).tally == Tally(looked=2, now_invalid=1)
    (one,) = service.stack.entries(EntryType.ENTRY_REVALIDATED)
    assert (one.data["entryId"], one.data["version"], one.data["verdict"]) == (tail["entryId"], 1, "invalid")
    assert one.data["schema"] == {"schemaId": "registry.AERO", "version": "1.0.0", "digest": made["digest"]}
    assert b"name" in service.stack.resources.objects.get(str(one.data["findingsDigest"]))

    await published(service.http, "registry.AERO", "1.0.1", required=["name"], title="Says the same")
    assert (await service.result("registry.AERO", "1.0.1")).tally == Tally(looked=2)
    await published(service.http, "registry.AERO", "1.1.0")
    assert (await service.result("registry.AERO", "1.1.0")).tally == Tally(looked=2, now_valid=1)
    _, again = service.stack.entries(EntryType.ENTRY_REVALIDATED)
    assert (again.data["entryId"], again.data["verdict"]) == (tail["entryId"], "valid")
    assert wing["entryId"] != tail["entryId"]


@pytest.mark.usefixtures("alone")
async def test_an_entry_that_moves_while_it_is_looked_at_gets_its_verdict_for_the_new_version(
    service: Documented, monkeypatch: pytest.MonkeyPatch
) -> None:
    tail, _ = await updated(service.http, entry(data={"called": "tail"}))
    wanted = await to_do(service, "registry.AERO", "1.0.0", required=["name"])
    read, listed, is_moved = entries_after, threading.Event(), threading.Event()

    def slowly(*asked: Any) -> list[Entry]:
        page = read(*asked)
        listed.set()
        assert is_moved.wait(30)
        return page

    monkeypatch.setattr(revalidation, "entries_after", slowly)
    part = asyncio.create_task(asyncio.to_thread(service.revalidator().part, Part(revalidation=wanted, place=Place())))
    await asyncio.to_thread(listed.wait, 30)
    await moved(service.http, tail, "Review")
    is_moved.set()
    assert (await part).tally.now_invalid == 2
    await moved(service.http, tail, "Approval")
    with service.stack.resources.database.read() as connection:
        found = latest_entry_verdicts(connection, RegistryId.AERO, [str(tail["entryId"])])
    assert {version: one.verdict for (_, version), one in found.items()} == {1: "invalid", 2: "invalid", 3: "invalid"}


async def test_a_schema_that_concerns_nothing_known_starts_no_run(service: Documented) -> None:
    made = await published(service.http, "partner.order", "1.0.0")
    await service.stack.handle(str(made["workflowId"])).result()
    names = [run.workflow_type async for run in service.stack.client.list_workflows("WorkflowType!='none'")]
    assert WorkflowName.API_REQUEST in names
    assert WorkflowName.SCHEMA_REVALIDATION not in names


@pytest.mark.usefixtures("alone")
async def test_it_goes_on_part_by_part_and_run_by_run(service: Documented, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two branches with the same documents, a document to a part, a part to a run."""
    service.repository.commit({"more.md": document(9)})
    push = push_payload(service.url, service.repository.branch("release"), branch="release")
    await (await service.stack.accepted(push)).result()
    await until(lambda: service.generation("release") == 1)
    wanted = await to_do(service)
    monkeypatch.setattr(revalidation, "MAX_DOCUMENTS", 1)
    run = await service.stack.client.start_workflow(
        WorkflowName.SCHEMA_REVALIDATION,
        RevalidationTask(revalidation=wanted, patience=5.0, max_parts=1),
        id=wanted.workflow_id,
        task_queue=TaskQueue.EVENTS,
        result_type=RevalidationResult,
    )
    result = await asyncio.wait_for(run.result(), 60)
    assert result.tally.looked == 3 + 4
    assert len(service.stack.entries(EntryType.FILE_REVALIDATED)) == 3, "the same document on two branches is one"
    assert result.tally.branches == 2
    await until(lambda: "invalid" in service.verdicts("release").values() and "invalid" in service.verdicts().values())
    history = await service.stack.client.get_workflow_handle(
        wanted.workflow_id, run_id=run.first_execution_run_id
    ).fetch_history()
    assert history.events[-1].HasField("workflow_execution_continued_as_new_event_attributes")
    service.stack.verify()


@pytest.mark.usefixtures("alone")
async def test_a_part_that_is_done_again_records_nothing_again_and_says_the_same(service: Documented) -> None:
    of_documents = await to_do(service)
    await updated(service.http, entry(data={"called": "tail"}))
    of_entries = await to_do(service, "registry.AERO", required=["name"])
    for wanted, kind in ((of_documents, EntryType.FILE_REVALIDATED), (of_entries, EntryType.ENTRY_REVALIDATED)):
        part = Part(revalidation=wanted, place=Place())
        first = await asyncio.to_thread(service.revalidator().part, part)
        assert first.tally.now_invalid > 0
        recorded = len(service.stack.entries(kind))
        again = await asyncio.to_thread(service.revalidator().part, part)
        assert again == first
        assert len(service.stack.entries(kind)) == recorded


@pytest.mark.usefixtures("alone")
async def test_a_newer_version_supersedes_the_run_of_an_older_one(service: Documented) -> None:
    part = Part(revalidation=await to_do(service), place=Place())
    await published(service.http, SCHEMA, "2.1.0")
    assert (await asyncio.to_thread(service.revalidator().part, part)).superseded
    assert service.stack.entries(EntryType.FILE_REVALIDATED) == []


async def test_a_run_that_gives_up_says_so_in_the_ledger_too_and_can_be_done_again(service: Documented) -> None:
    with broken(Revalidator, "_documents", GIVES_UP):
        await published(service.http, SCHEMA, "2.0.0", **REVIEWED)
        with pytest.raises(WorkflowFailureError) as failed:
            await service.result(SCHEMA, "2.0.0")
    assert isinstance(failed.value.cause, ApplicationError)
    assert failed.value.cause.type == FAILED
    (one,) = service.stack.entries(EntryType.SCHEMA_REVALIDATED)
    assert one.data["ended"] == "failed"
    assert one.data["reason"]
    again = await service.stack.reset(service.handle(SCHEMA, "2.0.0").id)
    run = service.stack.client.get_workflow_handle(again.id, run_id=again.run_id, result_type=RevalidationResult)
    assert (await run.result()).tally == Tally(looked=3, now_invalid=2, branches=1)
    _, two = service.stack.entries(EntryType.SCHEMA_REVALIDATED)
    assert two.data["ended"] == "done"


@pytest.mark.usefixtures("alone")
async def test_what_is_lost_is_counted_and_left_alone(service: Documented, monkeypatch: pytest.MonkeyPatch) -> None:
    part = Part(revalidation=await to_do(service), place=Place())
    reports = {one.get("reports") for one in service.index()["documents"]}
    revalidator = service.revalidator()
    get = revalidator.objects.get

    def lost(digest: str) -> bytes:
        if digest in reports:
            raise IntegrityError(f"object {digest} is missing", remedy="restore it")
        return get(digest)

    monkeypatch.setattr(type(revalidator.objects), "get", lambda _self, digest: lost(digest))
    done: Tally = (await asyncio.to_thread(revalidator.part, part)).tally
    assert (done.looked, done.now_invalid) == (0, 0)
    assert done.unreadable >= 3
    assert service.stack.entries(EntryType.FILE_REVALIDATED) == []


def test_only_an_integrated_schema_for_something_known_is_held_against_it() -> None:
    data: JsonObject = {"$id": f"urn:coafi:schema:{SCHEMA}:1.0.0"}
    made: JsonObject = {
        "registryId": "schemas",
        "entryId": SCHEMA,
        "status": "Integration",
        "workflowId": "w",
        "ledgerEntry": 7,
        "data": data,
    }
    found = revalidation_of(made)
    assert found is not None
    assert (found.published_schema.version, found.published) == ("1.0.0", 7)
    assert found.workflow_id == f"revalidate:{SCHEMA}:1.0.0"
    assert revalidation_of({**made, "status": "Approval"}) is None
    assert revalidation_of({**made, "registryId": "AERO"}) is None
    assert revalidation_of({**made, "entryId": "partner.order"}) is None
