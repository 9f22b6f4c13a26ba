"""From an event to its run."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from activities.dispatch import Dispatcher, _summary
from coafi.canonical import MAX_CARRIED_DEPTH, JsonObject
from coafi.commits import MAX_SOURCE, source_of, submitted_commit
from coafi.errors import Unavailable, ValidationError
from coafi.events import Event
from coafi.names import PRIORITY_APPLICATION, EventType, Phase, SearchAttribute, fairness_key, parse_workflow_id
from tests.harness import Stack, running_stack
from workers.client import connect


@pytest_asyncio.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A service in this process."""
    async with running_stack(tmp_path_factory.mktemp("dispatch"), git_patience=0.5) as running:
        yield running


def event(repository: str = "https://github.com/acme/docs", *, branch: str = "main", again: str = "") -> Event:
    made, _ = submitted_commit(
        repository_url=repository,
        commit="a" * 40,
        before=None,
        branch=branch,
        author="ada",
        principal="submit:ada",
        received=datetime.now(UTC),
        again=again,
    )
    return made


async def test_a_type_without_a_workflow_is_refused(stack: Stack) -> None:
    unknown = event().model_copy(update={"type": "coffee.brewed"})
    with pytest.raises(ValidationError, match="no workflow handles coffee"):
        await Dispatcher(stack.client, 5).start(unknown)


async def test_what_no_run_could_read_starts_none(stack: Stack) -> None:
    deep: JsonObject = {}
    for _ in range(MAX_CARRIED_DEPTH):
        deep = {"x": deep}
    with pytest.raises(ValidationError, match="levels deep"):
        await Dispatcher(stack.client, 5).start(event().model_copy(update={"data": deep}))


async def test_a_run_carries_search_attributes_priority_fairness_and_a_summary(stack: Stack) -> None:
    sent = event("https://127.0.0.1:1/acme/docs", again=uuid.uuid4().hex)
    started = await Dispatcher(stack.client, 5).start(sent)
    assert started.existed is False
    assert parse_workflow_id(started.workflow_id) == (EventType.GIT_COMMIT, sent.source, sent.id)
    description = await stack.handle(started.workflow_id, started.run_id).describe()
    attributes = {pair.key.name: pair.value for pair in description.typed_search_attributes}
    assert attributes[SearchAttribute.EVENT_ID] == sent.id
    assert attributes[SearchAttribute.SOURCE] == sent.source
    assert attributes[SearchAttribute.PHASE] in set(Phase)
    assert await description.static_summary() == _summary(sent)
    history = await stack.handle(started.workflow_id).fetch_history()
    first = history.events[0].workflow_execution_started_event_attributes
    assert first.priority.priority_key == PRIORITY_APPLICATION
    assert first.priority.fairness_key == fairness_key(sent.source)
    again = await Dispatcher(stack.client, 5).start(sent)
    assert (again.existed, again.run_id) == (True, started.run_id)


async def test_without_temporal_it_is_unavailable_and_says_when_to_try_again() -> None:
    client = await Client.connect("127.0.0.1:1", lazy=True, data_converter=pydantic_data_converter)
    with pytest.raises(Unavailable) as raised:
        await Dispatcher(client, 0.5).start(event())
    assert raised.value.retry_after
    assert "deliver it again" in raised.value.remedy


async def test_a_lazy_client_connects_when_it_is_needed(stack: Stack) -> None:
    client = await connect(stack.settings, stack.server.address, lazy=True)
    started = await Dispatcher(client, 5).start(event("https://127.0.0.1:1/x", again=uuid.uuid4().hex))
    assert started.run_id


def test_the_summary_tells_repository_branch_and_commit() -> None:
    assert _summary(event()) == "github.com/acme/docs · main @ aaaaaaaaaa"


@given(st.text(max_size=500), st.text(max_size=500))
def test_summary_and_fairness_key_are_bounded_whatever_the_event_says(repository: str, branch: str) -> None:
    made = event(repository, branch=branch)
    assert len(_summary(made)) <= 200
    assert len(fairness_key(made.source).encode()) <= 64
    assert fairness_key(made.source)


def test_the_fairness_key_keeps_the_end_that_tells_repositories_apart() -> None:
    one, two = (event(f"https://git.example.org/{'group/' * 20}{name}") for name in ("one", "two"))
    assert fairness_key(one.source) != fairness_key(two.source)


def test_no_workflow_id_is_longer_than_temporal_allows() -> None:
    source = source_of("https://x/" + "%" * 4_000)
    assert len(source) == MAX_SOURCE
    longest = event().model_copy(update={"source": source, "id": "d" * 128})
    assert len(longest.workflow_id) <= 1_000


@pytest.mark.parametrize("wait", [0, 1])
async def test_a_request_is_refused_in_time_while_temporal_was_never_reached(wait: float) -> None:
    away = await Client.connect("127.0.0.1:1", lazy=True, data_converter=pydantic_data_converter)
    asked = event().model_copy(update={"type": EventType.API_REQUEST.value})
    with pytest.raises(Unavailable, match="did not confirm the start"):
        await asyncio.wait_for(Dispatcher(away, 2).ask(asked, wait=wait), 30)
