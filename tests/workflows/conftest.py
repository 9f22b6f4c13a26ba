"""What the tests of this directory share: one service, whose steps give up at the second try."""

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.harness import Repository, Stack, running_stack


@pytest_asyncio.fixture(scope="package")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A service in this process."""
    async with running_stack(tmp_path_factory.mktemp("stack"), git_patience=0.5, files_patience=0.5) as running:
        yield running


@pytest.fixture
def repository(stack: Stack) -> Repository:
    """A repository of the test's own that ``stack`` may fetch from."""
    return Repository.create(stack.settings.home.parent / f"repository-{uuid.uuid4()}")


@pytest.fixture
def batches_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit of five files takes three batches."""
    monkeypatch.setattr("coafi.git.archive.FILES_PER_BATCH", 2)
