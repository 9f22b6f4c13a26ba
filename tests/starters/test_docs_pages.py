"""The documentation over HTTP, from pushes on a whole service: what is served, to whom, and what hostile addresses get."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from coafi.index.pointers import IndexReader
from coafi.names import docs_path
from tests.harness import Repository, Stack, document, documents, running_stack, until


@pytest_asyncio.fixture(scope="module")
async def indexed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Stack, Repository]]:
    """A service whose repository has an index."""
    home = tmp_path_factory.mktemp("docs")
    async with running_stack(home, index_debounce=0.2) as stack:
        repository = Repository.create(home / "repository")
        await push(stack, repository, documents(3))
        yield stack, repository


async def push(stack: Stack, repository: Repository, files: dict[str, str | bytes | None]) -> None:
    """Push files, and wait until the index shows all of them with a verdict."""
    await (await stack.accepted(repository.push(files))).result()
    head = repository.head

    async def shown() -> bool:
        index = await get(stack, repository, "index.json")
        if index.status_code != 200 or index.json()["commit"] != head:
            return False
        found = {one["path"]: one["verdict"] for one in index.json()["documents"]}
        return all(found.get(path) != "unchecked" for path, content in files.items() if content is not None)

    await until(shown)


async def get(stack: Stack, repository: Repository, below: str = "", **headers: str) -> httpx.Response:
    path = docs_path(repository.path.as_uri(), "main")
    async with httpx.AsyncClient(timeout=30) as http:
        return await http.get(f"{stack.gateway}{path}{below}", headers=headers)


async def test_a_push_is_served_and_the_next_one_updates_it(indexed: tuple[Stack, Repository]) -> None:
    stack, repository = indexed
    index = await get(stack, repository)
    assert index.status_code == 200
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    assert "Document 2" in index.text
    assert "not yet checked" in index.text, "the README was not in a push"
    page = await get(stack, repository, "docs/COAFI-ENG-0002-SPEC-A.md")
    assert page.status_code == 200
    assert "<h1>Document 2</h1>" in page.text
    await push(stack, repository, {"docs/COAFI-ENG-0002-SPEC-A.md": document(2, text="Another text.")})
    page = await get(stack, repository, "docs/COAFI-ENG-0002-SPEC-A.md")
    assert "Another text." in page.text
