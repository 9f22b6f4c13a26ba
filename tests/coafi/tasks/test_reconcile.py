"""Branches of a real repository against the pushes that were delivered, whatever the branches are called."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from coafi.database import Database
from coafi.git.heads import RemoteHeads
from coafi.git.runner import GitRunner
from coafi.git.urls import UrlPolicy
from coafi.ledger.keys import generate_key
from coafi.ledger.log import Ledger
from coafi.names import Phase
from coafi.objects.local import LocalObjectStore
from coafi.recording import EventRecorder
from coafi.registry.store import PublishedSchemas, builtin_schemas
from coafi.tasks.pushes import KnownPushes
from coafi.tasks.reconcile import ReconcileParameters, Reconciler, reconciled_event
from coafi.webhooks.github import push_event
from tests.coafi.git.repositories import Repository
from tests.coafi.tasks.support import MOMENT
from tests.harness import push_payload

REFUSED_BY_CHECK_BRANCH = ["HEAD", "-x", "@", "--upload-pack=x"]
NO_EVENT_CAN_NAME = [b"refs/heads/caf\xe9", b"refs/heads/" + b"a" * 200 + b"/" + b"b" * 100]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = Repository.make(tmp_path / "repositories" / "docs")
    repository.commit({"a.md": "a"})
    return repository


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[EventRecorder]:
    database = Database(tmp_path / "coafi.db")
    database.create_tables()
    registry = PublishedSchemas(database)
    registry.publish(builtin_schemas())
    signer = generate_key(tmp_path / "key", "example.org/log")
    ledger = Ledger(database, origin="example.org/log", signer=signer, state_directory=tmp_path / "state")
    yield EventRecorder(ledger=ledger, registry=registry, namespace="default", build="1")
    ledger.close()
    database.close()


@pytest.fixture
def reconciler(tmp_path: Path, recorder: EventRecorder) -> Iterator[Reconciler]:
    database = Database(tmp_path / "coafi.db")
    policy = UrlPolicy(file_roots=(tmp_path / "repositories",))
    yield Reconciler(
        KnownPushes(database, recorder.ledger, "default"),
        RemoteHeads(tmp_path / "heads", GitRunner(), policy),
        LocalObjectStore(tmp_path / "objects"),
        lambda _event: False,
    )
    database.close()


def deliver(recorder: EventRecorder, repository: Repository, branch: str) -> None:
    """Deliver the push of the newest commit to a branch."""
    head = repository.git("rev-parse", "main")
    payload = push_payload(repository.url, head, branch=branch)
    event = push_event(payload, delivery=f"{branch} at {head}", body=b"x", received=MOMENT, traceparent=None)
    assert recorder.receive(event, "run").phase is Phase.VALIDATED


def looked(reconciler: Reconciler) -> dict[str, str]:
    """What is missing: the standing of each branch."""
    missed, unreachable = reconciler.look(ReconcileParameters())
    assert not unreachable
    return {one.branch: one.standing.value for one in missed}


@pytest.mark.parametrize("branch", REFUSED_BY_CHECK_BRANCH)
def test_a_branch_that_git_would_not_take_from_us_is_looked_at_as_any_other(
    recorder: EventRecorder, reconciler: Reconciler, repository: Repository, branch: str
) -> None:
    ref = f"refs/heads/{branch}"
    first = repository.git("rev-parse", "main")
    repository.git("update-ref", ref, "main")
    deliver(recorder, repository, "main")
    assert looked(reconciler) == {branch: "new"}
    deliver(recorder, repository, branch)
    assert looked(reconciler) == {}
    assert {one.branch for one in reconciler.since(first)} == set()
    moved = repository.commit({"b.md": "b"})
    deliver(recorder, repository, "main")
    repository.git("update-ref", ref, moved)
    assert looked(reconciler) == {branch: "missed"}
    repository.git("update-ref", "-d", ref)
    assert looked(reconciler) == {branch: "gone"}


@pytest.mark.parametrize("ref", NO_EVENT_CAN_NAME)
def test_where_a_branch_cannot_be_listed_none_is_called_gone(
    recorder: EventRecorder, reconciler: Reconciler, repository: Repository, ref: bytes
) -> None:
    repository.git("update-ref", os.fsdecode(ref), "main")
    first = repository.git("rev-parse", "main")
    for branch in ("main", "caf\ufffd"):  # the latter as a host may write it in JSON
        deliver(recorder, repository, branch)
    assert looked(reconciler) == {}
    assert reconciler.since(first, "caf\ufffd") == []
    repository.commit({"b.md": "b"})
    assert looked(reconciler) == {"main": "missed"}
    repository.git("update-ref", "-d", os.fsdecode(ref))
    assert looked(reconciler) == {"main": "missed", "caf\ufffd": "gone"}


def test_since_a_commit_means_the_last_push_from_it_or_another_one_if_that_was_left(
    recorder: EventRecorder, reconciler: Reconciler, repository: Repository
) -> None:
    """Whoever asks for what lies behind a commit must get it, and what was delivered must not be done twice."""
    first = repository.git("rev-parse", "main")
    second = repository.commit({"b.md": "b"})

    def move(before: str, after: str, delivery: str) -> None:
        payload = push_payload(repository.url, after, before=before)
        event = push_event(payload, delivery=delivery, body=delivery.encode(), received=MOMENT, traceparent=None)
        assert recorder.receive(event, delivery).phase is Phase.VALIDATED

    def asked() -> tuple[int, Phase]:
        (found,) = reconciler.since(first)
        return found.earlier, recorder.receive(reconciled_event(found, MOMENT)[0], "asked").phase

    move(first, second, "d1")
    assert asked() == (0, Phase.DUPLICATE)
    move(second, first, "d2")
    assert asked() == (1, Phase.VALIDATED), "it is back at the second commit, and nobody told"
    assert asked() == (1, Phase.VALIDATED), "the same run"
