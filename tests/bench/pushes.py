"""Pushes by the hundred, and a service in processes of its own that handles them."""

import asyncio
import json
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from temporalio.client import Client, WorkflowHandle

from coafi.canonical import JsonObject
from coafi.names import Phase
from coafi.settings import Settings
from coafi.webhooks import github
from tests.harness import SECRET, Repository, documents, push_payload, settings_for
from tests.starters.support import Home
from workers.client import connect
from workflows.lifecycle import Receipt

HANG = 300
"""Seconds after which a run will not end any more."""

_versions = count()


@dataclass(frozen=True)
class Push:
    """A push that can be delivered: its payload, the bytes of it, and how many documents it brings."""

    payload: JsonObject
    body: bytes
    files: int


def pushes(repositories: Sequence[Repository], each: int, files: int) -> list[Push]:
    """So many pushes to each repository, in turn, each of so many files that nobody has seen before."""
    made = [
        commit_all(repository, [documents(files, text=f"Version {next(_versions)}.") for _ in range(each)])
        for repository in repositories
    ]
    return [push for turn in zip(*made, strict=True) for push in turn]


def commit_all(repository: Repository, commits: Sequence[Mapping[str, str | bytes | None]]) -> list[Push]:
    """Commit one after the other, ``None`` to delete, in one git process and without a work tree; a push of each."""
    before = _git(repository, "rev-parse", "main", stdin=b"").decode().strip()
    stream = b"".join(_fast_import(files, before if number == 0 else "") for number, files in enumerate(commits))
    shas = _git(repository, "fast-import", "--quiet", "--force", stdin=stream).decode().split()
    found = []
    for old, new, files in zip([before, *shas], shas, commits, strict=False):
        payload = push_payload(repository.path.as_uri(), new, before=old)
        found.append(
            Push(payload, json.dumps(payload).encode(), sum(content is not None for content in files.values()))
        )
    return found


def _fast_import(files: Mapping[str, str | bytes | None], parent: str) -> bytes:
    """A commit, in the format of git-fast-import(1)."""

    def parts() -> Iterator[bytes]:
        yield b"commit refs/heads/main\nmark :1\ncommitter Ada <ada@example.org> 1764000000 +0000\ndata 6\nChange\n"
        yield f"from {parent}\n".encode() if parent else b""
        for path, content in files.items():
            if content is None:
                yield f"D {path}\n".encode()
                continue
            data = content.encode() if isinstance(content, str) else content
            yield b"M 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(data), data)
        yield b"\nget-mark :1\n"

    return b"".join(parts())


def _git(repository: Repository, *arguments: str, stdin: bytes) -> bytes:
    return subprocess.run(
        ["git", "-C", repository.path, *arguments], input=stdin, check=True, capture_output=True
    ).stdout


@dataclass
class Service:
    """A running ``coafi up``, and its clients in this process.

    Attributes:
        accepted: seconds until each delivery was answered.
        redelivered: answers that asked to deliver again (503).
    """

    pid: int
    settings: Settings
    client: Client
    gateway: str
    http: httpx.AsyncClient
    accepted: list[float] = field(default_factory=list)
    redelivered: int = 0

    async def deliver(self, push: Push) -> WorkflowHandle[Any, Receipt]:
        """Deliver a push as GitHub does, again if the gateway asks for it, and wait until it is processed."""
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": str(uuid.uuid4()),
            "X-Hub-Signature-256": github.sign(push.body, SecretStr(SECRET)),
        }
        start = time.perf_counter()
        while True:
            response = await self.http.post(f"{self.gateway}/webhooks/github", content=push.body, headers=headers)
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            self.redelivered += 1
            await asyncio.sleep(1)
        self.accepted.append(time.perf_counter() - start)
        workflow_id = response.raise_for_status().json()["workflowId"]
        handle = self.client.get_workflow_handle(workflow_id, result_type=Receipt)
        async with asyncio.timeout(HANG):
            receipt = await handle.result()
        assert (receipt.phase, receipt.counts["valid"]) == (Phase.PROCESSED, push.files), receipt
        return handle

    async def deliver_all(self, some: Sequence[Push]) -> list[WorkflowHandle[Any, Receipt]]:
        """Deliver them all at once."""
        return await asyncio.gather(*map(self.deliver, some))

    async def artifacts(self) -> dict[str, float]:
        """How many artifacts were recorded so far, by whether the cache had them: ``true``, ``false``."""
        text = (await self.http.get(f"{self.gateway}/metrics")).raise_for_status().text
        families = {family.name: family for family in text_string_to_metric_families(text)}
        samples = families["coafi_artifacts_generated"].samples
        return {one.labels["cached"]: one.value for one in samples if one.name.endswith("_total")}


@asynccontextmanager
async def running_service(root: Path, **changes: str) -> AsyncIterator[Service]:
    """``coafi up`` in a home below ``root``, with the settings it has out of the box, but for ``changes``."""
    limits = httpx.Limits(max_connections=None)
    patience = str(Settings().git_patience)
    async with (
        Home(root).up(COAFI_LOG_LEVEL="warning", COAFI_GIT_PATIENCE=patience, **changes) as up,
        httpx.AsyncClient(timeout=HANG, limits=limits) as http,
    ):
        settings = settings_for(root)
        client = await connect(settings, up.address.temporal)
        yield Service(up.process.pid, settings, client, up.address.gateway, http)
