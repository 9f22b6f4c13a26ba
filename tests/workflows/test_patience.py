"""How long a run waits: for a step, in tries; for a person, in time."""

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from coafi.commits import submitted_commit
from coafi.git.fetch import GitFetcher
from coafi.ledger.port import Ledger
from coafi.names import EntryType, Phase, SearchAttribute, TaskQueue
from coafi.recording import EventRecorder
from tests.harness import Repository, Stack, documents, history_of, running_stack, settings_for
from tests.workflows.support import (
    GIVES_UP,
    assert_receipt_names_every_entry,
    broken,
    entries_of,
    types_of,
)
from workers.resources import open_resources
from workers.wiring import build_workers
from workflows.git_commit import GitCommitWorkflow
from workflows.lifecycle import patient

FAILED = EntryType.EVENT_PROCESSING_FAILED
MONTH = timedelta(days=30)
TEST_SERVER = Path(sys.executable).with_name("temporal-test-server")


@pytest_asyncio.fixture(scope="module")
async def hurried(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A service whose runs park for half a second."""
    async with running_stack(tmp_path_factory.mktemp("hurried"), parked_patience=0.5) as running:
        yield running


@given(st.floats(min_value=0.001, max_value=2 * 86_400))
def test_the_pauses_between_all_tries_add_up_to_the_patience_and_to_no_pause_more(seconds: float) -> None:
    policy = patient(seconds)
    pauses = [min(1.5 ** min(number, 20), 30.0) for number in range(policy.maximum_attempts - 1)]
    assert sum(pauses) >= seconds > sum(pauses[:-1])
    assert (policy.initial_interval, policy.maximum_interval) == (timedelta(seconds=1), timedelta(seconds=30))
    assert policy.backoff_coefficient == 1.5


def test_no_limit_is_no_limit() -> None:
    assert patient(None).maximum_attempts == 0


async def test_a_parked_run_is_given_up_when_nobody_decides_in_time(hurried: Stack) -> None:
    repository = Repository.create(hurried.settings.home.parent / "repository-1")
    with broken(GitFetcher, "fetch", GIVES_UP):
        receipt = await (await hurried.accepted(repository.push(documents(1)))).result()
    assert receipt.phase is Phase.FAILED
    assert receipt.failure is not None
    assert (receipt.failure.step, receipt.failure.sequence) == ("git.fetch", 1)
    assert receipt.decisions == ()
    assert types_of(entries_of(hurried, receipt.workflow_id)) == {
        EntryType.EVENT_RECEIVED: 1,
        EntryType.EVENT_PROCESSING_FAILED: 1,
        EntryType.EVENT_DEAD_LETTERED: 1,
    }
    assert_receipt_names_every_entry(hurried, receipt)


async def test_a_park_after_a_run_was_given_up_has_the_next_number(hurried: Stack) -> None:
    repository = Repository.create(hurried.settings.home.parent / "repository-3")
    with broken(GitFetcher, "fetch", GIVES_UP), broken(EventRecorder, "conclude", GIVES_UP, times=2):
        receipt = await (await hurried.accepted(repository.push(documents(1)))).result()
    assert receipt.phase is Phase.FAILED
    parks = [one.entry.step for one in entries_of(hurried, receipt.workflow_id) if one.entry.type == FAILED]
    assert parks == ["park/1/git.fetch", "park/2/event.finish"]


async def test_a_run_that_was_given_up_unrecorded_parks_again(hurried: Stack) -> None:
    repository = Repository.create(hurried.settings.home.parent / "repository-4")
    with broken(GitFetcher, "fetch", GIVES_UP), broken(EventRecorder, "conclude", GIVES_UP, times=2):
        receipt = await (await hurried.accepted(repository.push(documents(1)))).result()
    assert receipt.phase is Phase.FAILED
    assert types_of(entries_of(hurried, receipt.workflow_id))[EntryType.EVENT_PROCESSING_FAILED] == 2
    assert_receipt_names_every_entry(hurried, receipt)


@asynccontextmanager
async def skipping(home: Path) -> AsyncIterator[tuple[WorkflowEnvironment, Ledger]]:
    """The service's own workers on a server whose clock is ours."""
    async with AsyncExitStack() as stack:
        environment = await stack.enter_async_context(
            await WorkflowEnvironment.start_time_skipping(
                test_server_existing_path=str(TEST_SERVER), data_converter=pydantic_data_converter
            )
        )
        await environment.client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(
                namespace=environment.client.namespace,
                search_attributes=dict.fromkeys(SearchAttribute, IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD),
            )
        )
        resources = stack.enter_context(open_resources(settings_for(home)))
        for worker in build_workers(environment.client, resources, stack):
            await stack.enter_async_context(worker)
        yield environment, resources.ledger


@pytest.mark.parametrize(
    ("owner", "method", "entries"),
    [
        (GitFetcher, "fetch", [EntryType.EVENT_RECEIVED, FAILED, EntryType.EVENT_DEAD_LETTERED]),
        (EventRecorder, "receive", [FAILED, EntryType.EVENT_DEAD_LETTERED]),
    ],
    ids=["git.fetch", "event.receive"],
)
async def test_nobody_decides_for_a_month(tmp_path: Path, owner: type, method: str, entries: list[EntryType]) -> None:
    repository = Repository.create(tmp_path / "repository")
    event, _ = submitted_commit(
        repository_url=repository.path.as_uri(),
        commit=repository.head,
        before=None,
        branch="main",
        author="Ada",
        principal="test",
        received=datetime(2026, 11, 23, tzinfo=UTC),
    )
    async with skipping(tmp_path) as (environment, ledger):
        with broken(owner, method, GIVES_UP):
            run = await environment.client.start_workflow(
                GitCommitWorkflow.run, event, id=event.workflow_id, task_queue=TaskQueue.EVENTS
            )
            receipt = await run.result()
        events = (await history_of(run)).events
        waited = events[-1].event_time.ToDatetime() - events[0].event_time.ToDatetime()
        recorded = [one.entry.type for one in ledger.entries(0, ledger.size())]
    assert receipt.phase is Phase.FAILED
    assert MONTH <= waited < MONTH + timedelta(hours=1)
    assert recorded == entries
