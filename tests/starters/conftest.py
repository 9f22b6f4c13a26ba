"""What the tests of this directory share: one service in this process, one as a process of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.harness import Repository, Stack, running_stack
from tests.starters.support import Home, Up

MAX_BODY = 200_000


@pytest_asyncio.fixture(scope="package")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A service in this process."""
    async with running_stack(tmp_path_factory.mktemp("stack"), max_body_bytes=MAX_BODY, git_patience=0.5) as running:
        yield running


@pytest.fixture(scope="package")
def repository(stack: Stack) -> Repository:
    """A repository that ``stack`` may fetch from."""
    return Repository.create(stack.settings.home.parent / "repository")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home of the test's own, in which nothing runs."""
    return Home(tmp_path)


@pytest_asyncio.fixture(scope="package")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Home, Up]]:
    """``coafi up`` as a process, and its home."""
    home = Home(tmp_path_factory.mktemp("service"))
    async with home.up() as up:
        yield home, up
