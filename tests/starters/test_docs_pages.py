"""The documentation over HTTP, from pushes on a whole service: what is served, to whom, what hostile requests get."""

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr
from sqlalchemy import delete
from starlette.applications import Starlette

from coafi.canonical import sha256
from coafi.index.pointers import IndexReader
from coafi.names import EntryType, docs_path, repository_slug
from coafi.objects.local import LocalObjectStore
from coafi.results import artifact_result
from starters.docs_pages import DocsAccess, DocumentationPages
from tests.harness import Repository, Stack, document, documents, running_stack, until

INVALID = document(9).replace("COAFI-ENG-0009-SPEC-A", "COAFI-ENG-0010-SPEC-A").replace("title", "<b>:\ntitle")
SCRIPT = "<script>alert(1)</script>"
STRANGE = "docs/so strange ?#%&<b>ü.md"

Indexed = tuple[Stack, Repository]


@pytest_asyncio.fixture(scope="module")
async def indexed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Indexed]:
    """A service whose repository has an index."""
    home = tmp_path_factory.mktemp("docs")
    async with running_stack(home, index_debounce=0.2) as stack:
        repository = Repository.create(home / "repository")
        files: dict[str, str | bytes | None] = {
            **documents(3),
            "docs/COAFI-ENG-0009-SPEC-A.md": INVALID,
            STRANGE: document(4).replace("Document 4", SCRIPT),
            "index.json": '{"title": "not the index"}',
            "registry/aero.yaml": "id: AERO\n",
            "broken.yaml": "a: [\n",
            "notes.txt": "text\n",
        }
        await push(stack, repository, files)
        yield stack, repository


async def push(stack: Stack, repository: Repository, files: dict[str, str | bytes | None]) -> None:
    """Push files, and wait until the index shows all of them with a verdict."""
    await (await stack.accepted(repository.push(files))).result()
    head = repository.head

    async def shown() -> bool:
        index = await get(stack, repository, "index.json")
        if index.status_code != 200 or index.json()["commit"] != head:
            return False
        return all(one["verdict"] != "unchecked" for one in index.json()["documents"] if one["path"] in files)

    await until(shown)


def base(repository: Repository) -> str:
    return docs_path(repository.path.as_uri(), "main")


async def get(stack: Stack, repository: Repository, below: str = "", **headers: str) -> httpx.Response:
    return await ask(stack, base(repository) + below, **headers)


async def ask(stack: Stack, path: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=30) as http:
        return await http.get(f"{stack.gateway}{path}", headers=headers)


async def raw(stack: Stack, target: str) -> bytes:
    """What a request gets whose target no client has tidied."""
    address = urlsplit(stack.gateway)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    return answer


async def test_a_push_is_served_and_the_next_one_updates_it(indexed: Indexed) -> None:
    stack, repository = indexed
    index = await get(stack, repository)
    assert index.status_code == 200
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    assert "Document 2" in index.text
    assert "not yet checked" in index.text, "the README was not in a push"
    name = "docs/COAFI-ENG-0002-SPEC-A.md"
    old = repository.head
    await push(stack, repository, {name: document(2, text="Another text.")})
    page = await get(stack, repository, name)
    assert page.status_code == 200
    assert "<h1>Document 2</h1>" in page.text
    assert "Where this page comes from" in page.text
    processed = [one.index for one in stack.entries(EntryType.EVENT_PROCESSED)]
    assert f'<td class="right">{processed[-1]}</td>' in page.text
    assert "coafi receipt UTIDS-P-" in page.text
    assert "Another text." in page.text
    before = await ask(stack, docs_path(repository.path.as_uri(), old, is_commit=True) + name)
    assert before.status_code == 200
    assert "Some text." in before.text


async def test_every_link_of_the_index_leads_to_its_document(indexed: Indexed) -> None:
    stack, repository = indexed
    index = (await get(stack, repository, "index.json")).json()
    for one in index["documents"]:
        page = await get(stack, repository, one["page"].removeprefix("./"))
        assert page.status_code == 200, one
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "not the index" in page.text or one["path"] != "index.json"
        assert SCRIPT not in page.text
    links = re.findall(r'href="(\./[^"]*)"', (await get(stack, repository)).text)
    assert {one["page"] for one in index["documents"]} <= {link.replace("&amp;", "&") for link in links}


async def test_the_index_says_what_is_known_of_each_document(indexed: Indexed) -> None:
    stack, repository = indexed
    index = (await get(stack, repository, "index.json")).json()
    found = {one["path"]: one for one in index["documents"]}
    assert "notes.txt" not in found
    one = found["docs/COAFI-ENG-0001-SPEC-A.md"]
    known = ("title", "documentId", "infoCode", "status", "version", "date", "area", "verdict", "kind")
    assert [one[name] for name in known] == [
        "Document 1",
        "COAFI-ENG-0001-SPEC-A",
        "INFO-SPEC",
        "ACTIVE",
        "v1.0-RELEASE",
        "2025-04-27",
        "ENG",
        "valid",
        "markdown",
    ]
    assert found["registry/aero.yaml"]["area"] == "AERO"
    assert found["README.md"]["verdict"] == "unchecked"
    assert found["broken.yaml"]["findings"]["error"] > 0
    assert found["broken.yaml"]["history"][0]["verdict"] == "invalid"
    assert index["counts"]["documents"] == len(found)


async def test_the_index_is_searched_on_the_server(indexed: Indexed) -> None:
    stack, repository = indexed

    async def paths(**query: str) -> set[str]:
        page = await ask(stack, str(httpx.URL(base(repository), params=query)))
        assert page.status_code == 200
        names = "COAFI-ENG-000[0-9]-SPEC-A.md|aero.yaml|broken.yaml|README.md"
        return set(re.findall(names, page.text))

    assert await paths(q="document 2") == {"COAFI-ENG-0002-SPEC-A.md"}
    assert await paths(area="AERO") == {"aero.yaml"}
    assert await paths(verdict="unchecked") == {"README.md"}
    assert await paths(verdict="invalid", q="broken") == {"broken.yaml"}
    assert await paths(infoCode="INFO-SPEC", status="ACTIVE", q="0001") == {"COAFI-ENG-0001-SPEC-A.md"}
    assert await paths(status="NONE", page="x") == set()
    assert await paths(area="–", q="readme") == {"README.md"}
    hostile = await ask(stack, str(httpx.URL(base(repository), params={"q": f'"{SCRIPT}', "area": SCRIPT})))
    assert hostile.status_code == 200
    assert SCRIPT not in hostile.text
    assert "&lt;script&gt;" in hostile.text


async def test_findings_are_shown_for_what_has_no_page_and_on_request(indexed: Indexed) -> None:
    stack, repository = indexed
    invalid = await get(stack, repository, "broken.yaml")
    assert invalid.status_code == 200
    assert "yaml/syntax" in invalid.text
    assert "Read the document" not in invalid.text
    valid = await get(stack, repository, "docs/COAFI-ENG-0001-SPEC-A.md?findings")
    assert "Verdicts of this path" in valid.text
    (link,) = re.findall(r'href="([^"]*)">Read the document', valid.text)
    assert httpx.URL(str(valid.url)).join(link).path == f"{base(repository)}docs/COAFI-ENG-0001-SPEC-A.md"
    unchecked = await get(stack, repository, "README.md?findings")
    assert "No run has looked at this content yet" in unchecked.text


async def test_a_page_of_what_is_wrong_by_now_is_not_shown_as_valid(tmp_path: Path) -> None:
    """The same content was right when the page was made, and is not under the rules that came since."""
    name, text = "docs/COAFI-ENG-0001-SPEC-A.md", document(1, text="[x](gone.md)")
    async with running_stack(tmp_path, index_debounce=0.2) as stack:
        repository = Repository.create(tmp_path / "repository")
        await push(stack, repository, {name: text})
        first = await get(stack, repository, name)
        assert "was checked and is valid" in first.text
        await push(stack, repository, {name: document(1), ".coafi.yaml": "rules:\n  link/missing-file: error\n"})
        await push(stack, repository, {name: text})
        wrong = await get(stack, repository, name)
        assert "link/missing-file" in wrong.text
        (link,) = re.findall(r'href="([^"]*)">Read the document', wrong.text)
        page = await ask(stack, str(httpx.URL(str(wrong.url)).join(link).raw_path, "ascii"))
        assert page.text == first.text, "with the entries and the receipt of the run that made it"


async def test_data_is_served_raw_and_harmless(indexed: Indexed) -> None:
    stack, repository = indexed
    metadata = await get(stack, repository, "docs/COAFI-ENG-0001-SPEC-A.md?artifact=metadata")
    assert metadata.json()["title"] == "Document 1"
    assert metadata.headers["content-type"] == "application/json"
    assert "sandbox" in metadata.headers["content-security-policy"]
    canonical = await get(stack, repository, "registry/aero.yaml?artifact=canonical")
    assert canonical.json() == {"id": "AERO"}
    missing = await get(stack, repository, "registry/aero.yaml?artifact=metadata")
    assert missing.status_code == 404
    assert "canonical, page" in missing.json()["detail"]


@pytest.mark.parametrize("below", ["", "index.json", "docs/COAFI-ENG-0001-SPEC-A.md", "broken.yaml", "?q=a"])
async def test_everything_is_guarded_and_revalidated(indexed: Indexed, below: str) -> None:
    stack, repository = indexed
    answer = await get(stack, repository, below)
    headers = answer.headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "script" not in headers["content-security-policy"]
    assert headers["cache-control"] == "private, no-cache"
    assert headers["etag"] == f'"{sha256(answer.content)}"'
    again = await get(stack, repository, below, **{"If-None-Match": f'"x", W/{headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "below",
    [
        "../../../../etc/passwd",
        "docs/../README.md",
        "docs%2f..%2fREADME.md",
        "%2e%2e/index.json",
        "%00",
        "README.md%00",
        "docs",
        "docs/",
        "nothing.md",
        "//README.md",
        "%ff%fe",
        ".git/config",
        "a" * 5000,
    ],
)
async def test_hostile_paths_find_nothing(indexed: Indexed, below: str) -> None:
    stack, repository = indexed
    answer = await raw(stack, base(repository) + below)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"root:" not in answer


@pytest.mark.parametrize(
    "path",
    [
        "/docs/x/",
        "/docs/x/main/",
        "/docs/=zz/main/",
        "/docs/../main/",
        "/docs/https%3A%2F%2Fgithub.com%2Facme/main/",
        f"/docs/github.com~acme/{'0' * 40}/",
        "/docs/%00/%00/",
    ],
)
async def test_addresses_that_name_nothing_are_not_found(indexed: Indexed, path: str) -> None:
    assert (await raw(indexed[0], path)).startswith(b"HTTP/1.1 404 ")


async def test_an_error_is_a_page_for_people_and_a_problem_for_programs(indexed: Indexed) -> None:
    stack, repository = indexed
    problem = await get(stack, repository, quote(f"{SCRIPT}.md"))
    assert problem.headers["content-type"] == "application/problem+json"
    assert (problem.status_code, problem.json()["status"]) == (404, 404)
    page = await get(stack, repository, quote(f"{SCRIPT}.md"), Accept="text/html,*/*")
    assert page.status_code == 404
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert SCRIPT not in page.text


async def test_the_list_leads_to_every_branch(indexed: Indexed) -> None:
    stack, repository = indexed
    listed = await ask(stack, "/docs/")
    assert f'href="{base(repository)}"' in listed.text
    redirected = await ask(stack, base(repository).rstrip("/"))
    assert redirected.status_code in (307, 308)
    assert redirected.headers["location"].endswith(base(repository))


def serving(stack: Stack, *tokens: str, host: str = "127.0.0.1") -> httpx.AsyncClient:
    """The routes alone, as a gateway at ``host`` serves them."""
    access = DocsAccess(tuple(SecretStr(token) for token in tokens), host)
    resources = stack.resources
    pages = DocumentationPages(resources.database, resources.objects, resources.ledger, "default", access)
    transport = httpx.ASGITransport(Starlette(routes=[*pages.routes()]))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def test_with_tokens_nobody_reads_without_one(indexed: Indexed) -> None:
    client = serving(indexed[0], "first-token", "second-tökén", host="0.0.0.0")  # noqa: S104
    for given in ("", "Bearer", "Bearer wrong", basic("first-token", ""), basic("a", "wrong"), "Basic !!!", "Digest x"):
        refused = await client.get("/docs/", headers={"Authorization": given} if given else {})
        assert refused.status_code == 401, given
        assert refused.headers["www-authenticate"].startswith("Basic ")
        assert refused.headers["cache-control"] == "no-store"
        assert "first-token" not in refused.text
    for given in ("Bearer first-token", basic("anybody", "first-token"), basic("", "second-tökén")):
        assert (await client.get("/docs/", headers={"Authorization": given})).status_code == 200
        away = await client.get(
            "/docs/", headers={"Authorization": given, "Host": "docs.example.org", "Via": "1.1 proxy"}
        )
        assert away.status_code == 200


async def test_without_tokens_only_this_machine_reads(indexed: Indexed) -> None:
    stack, _ = indexed
    for host in ("0.0.0.0", "192.0.2.1", "::", "2001:db8::1"):  # noqa: S104
        refused = await serving(stack, host=host).get("/docs/")
        assert refused.status_code == 403
        assert "COAFI_DOCS_TOKENS" in refused.text
        assert host in refused.text
    for host in ("127.0.0.1", "::1", "127.0.0.2"):
        client = serving(stack, host=host)
        for name in ("127.0.0.1:8080", "localhost", "[::1]:8080", "LOCALHOST:1"):
            assert (await client.get("/docs/", headers={"Host": name})).status_code == 200
        for headers in ({"Host": "rebound.example"}, {"X-Forwarded-For": "203.0.113.9"}, {"Forwarded": "for=x"}):
            assert (await client.get("/docs/", headers=headers)).status_code == 403


async def test_what_is_lost_is_said_and_what_is_damaged_is_not_shown(indexed: Indexed) -> None:
    stack, repository = indexed
    reader = IndexReader(stack.resources.database)
    pointer = reader.newest(repository.path.as_uri(), "main")
    assert pointer is not None
    objects = LocalObjectStore(stack.settings.objects_directory)
    index = json.loads(objects.get(pointer.index_digest))
    (broken,) = [one for one in index["documents"] if one["path"] == "broken.yaml"]
    lost = objects.path(broken["reports"])
    lost.rename(lost.with_suffix(".lost"))
    client = serving(stack)
    try:
        page = await client.get(f"{base(repository)}broken.yaml")
        assert page.status_code == 200
        assert "not in the object store any more" in page.text
    finally:
        lost.with_suffix(".lost").rename(lost)
    gone = objects.path(pointer.page_digest)
    gone.rename(gone.with_suffix(".lost"))
    try:
        answer = await client.get(base(repository), headers={"Accept": "text/html"})
        assert answer.status_code == 500
        assert str(stack.settings.home) not in answer.text
    finally:
        gone.with_suffix(".lost").rename(gone)


async def test_a_valid_document_whose_page_was_not_made_shows_its_findings(indexed: Indexed) -> None:
    stack, repository = indexed
    path = "docs/COAFI-ENG-0003-SPEC-A.md"
    with stack.resources.database.write() as connection:
        connection.execute(delete(artifact_result).where(artifact_result.c.path == path))
    page = await serving(stack).get(f"{base(repository)}{path}")
    assert page.status_code == 200
    assert "There is nothing to say about it" in page.text
    assert "Read the document" not in page.text


async def test_an_unreachable_database_is_to_be_asked_again(indexed: Indexed, monkeypatch: pytest.MonkeyPatch) -> None:
    from coafi.errors import Unavailable

    def refuse(_self: IndexReader) -> None:
        raise Unavailable("the database is out of reach", remedy="wait")

    monkeypatch.setattr(IndexReader, "all", refuse)
    answer = await serving(indexed[0]).get("/docs/")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]


async def test_a_repository_name_with_a_script_is_harmless(indexed: Indexed) -> None:
    answer = await ask(indexed[0], f"/docs/{repository_slug(f'https://e.org/{SCRIPT}')}/main/", Accept="text/html")
    assert answer.status_code == 404
    assert SCRIPT not in answer.text
