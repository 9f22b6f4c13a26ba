"""``index.request``: whom it signals, what it does not ask for, and that it waits for Temporal."""

from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.index import IndexPolicy, IndexRequestActivities, IndexRequested, IndexRequestTask
from activities.notifications import AnnounceActivities, AnnounceTask, Audience, DeliveryPolicy
from coafi.database import Database
from coafi.events import EventRef
from coafi.git.urls import UrlPolicy
from coafi.index.model import IndexUpdate
from coafi.notify.gone import GoneSubscribers
from coafi.notify.subscribers import load_subscribers
from tests.coafi.notify.test_subscribers import GOOD, written

EVENT = EventRef(id="1", source="https://e.org/r", type="git.commit", bodydigest="0" * 64, utids="x")


async def nowhere() -> Client:
    return await Client.connect("127.0.0.1:1", lazy=True, data_converter=pydantic_data_converter)


async def requested(repository: str, branch: str) -> IndexRequested:
    policy = IndexPolicy(debounce=1, fetch=1, git=1, files=1)
    activities = IndexRequestActivities(await nowhere(), UrlPolicy(), policy)
    task = IndexRequestTask(event=EVENT, repository_url=repository, branch=branch, commit="a" * 40)
    result: IndexRequested = await ActivityEnvironment().run(activities.request, task)
    return result


@pytest.mark.parametrize(
    ("repository", "branch", "reason"),
    [
        ("https://e.org/r", "-x", "branch"),
        ("https://e.org/r", "a..b", "branch"),
        ("file:///etc", "main", "file roots"),
        ("https://e.org/" + "r" * 1_000, "main", "characters"),
        ("nonsense", "main", "repository URL"),
    ],
)
async def test_what_can_have_no_index_is_not_asked_for(repository: str, branch: str, reason: str) -> None:
    asked = await requested(repository, branch)
    assert asked.workflow_id is None
    assert reason in asked.reason


async def test_without_temporal_it_is_to_be_tried_again() -> None:
    with pytest.raises(ApplicationError) as raised:
        await requested("https://e.org/r", "main")
    assert (raised.value.type, raised.value.non_retryable) == ("Unavailable", False)


async def test_an_announcement_waits_for_temporal_and_skips_who_is_not_named(tmp_path: Path) -> None:
    subscribers = load_subscribers(written(tmp_path, [GOOD]))
    policy = DeliveryPolicy(timeout=1, patience=1)
    database = Database(tmp_path / "coafi.db")
    database.create_tables()
    gone = GoneSubscribers(database)
    activities = AnnounceActivities(await nowhere(), Audience(subscribers, gone, "https://docs.example.org", policy))
    update = IndexUpdate(outcome="moved", generation=1)
    task = AnnounceTask(
        repository="https://e.org/r", branch="main", update=update, subscribers=("removed",), commits=(), commit_count=0
    )
    assert (await ActivityEnvironment().run(activities.announce, task)).workflow_ids == ()
    with pytest.raises(ApplicationError) as raised:
        await ActivityEnvironment().run(activities.announce, task.model_copy(update={"subscribers": ("portal",)}))
    assert raised.value.type == "Unavailable"
    named = task.model_copy(update={"subscribers": ("portal",)})
    gone.add(subscribers.named("portal"))
    assert (await ActivityEnvironment().run(activities.announce, named)).workflow_ids == (), "who is gone is left out"
