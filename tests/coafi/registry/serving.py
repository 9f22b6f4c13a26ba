"""A registry behind a real gateway with its workers, and what another instance makes of it over HTTP."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from coafi.api.operations import ApiOperator, OperateTask
from coafi.api.requests import ApiRequest
from coafi.api.stored import Operated
from coafi.auth.apikeys import ApiKeyFile
from coafi.auth.principal import Principal
from coafi.canonical import JsonObject, sha256
from coafi.database import Database
from coafi.events import EventRef
from coafi.ledger.entry import Recorded
from coafi.ledger.port import Ledger
from coafi.names import EntryType, EventType
from coafi.objects.local import LocalObjectStore
from coafi.recording import EventRecorder
from coafi.registry.calls import RegistryClient
from coafi.registry.entry import Entry
from coafi.registry.port import Registry
from coafi.registry.remote import RemoteRegistry
from coafi.settings import Settings
from coafi.utids import temporary_utids
from tests.coafi.ledger.making import HANG
from tests.harness import Stack, running_stack

ADMIN = Principal(name="key:ada", roles=("admin",), permissions=("api:*:*",))
_numbers = iter(range(10**9))


@dataclass(frozen=True)
class ServedRegistry:
    """An instance that keeps a registry, and a key that may do everything there."""

    stack: Stack
    key: SecretStr

    @property
    def url(self) -> str:
        """Base URL of its gateway."""
        return self.stack.gateway


def api_key(settings: Settings, name: str = "plant-b", role: str = "admin") -> SecretStr:
    """A new key of an instance."""
    settings.api_keys_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return ApiKeyFile(settings.api_keys_path).add(name, (role,), expires=None)[1]


@contextmanager
def served_registry(home: Path, **changes: Any) -> Iterator[ServedRegistry]:
    """A whole instance, on a thread of its own."""
    ready: Future[tuple[Stack, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        stop = asyncio.Event()
        async with running_stack(home, **{"api_rate": 10_000.0, "api_burst": 10_000, **changes}) as stack:
            ready.set_result((stack, asyncio.get_running_loop(), stop))
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if not ready.done():
                ready.set_exception(error)
            raise

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    stack, loop, stop = ready.result(HANG)
    try:
        yield ServedRegistry(stack, api_key(stack.settings))
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(HANG)


@contextmanager
def remote_registry(
    url: str,
    key: SecretStr,
    *,
    namespace: str = "plant-b/default",
    client: httpx.Client | None = None,
    stale: float = 600,
) -> Iterator[RemoteRegistry]:
    """The registry at ``url``, as another instance has it."""
    calls = RegistryClient(url, token=lambda: key, caller=namespace, client=client)
    registry = RemoteRegistry(calls, namespace=namespace, stale_seconds=stale)
    yield registry
    registry.close()


@dataclass(frozen=True)
class Desk:
    """An instance's registry, changed as the runs of requests change it: each request is one of its own."""

    registry: Registry
    ledger: Ledger
    operator: ApiOperator

    def put(self, entry_id: str | None, data: JsonObject, *, registry: str = "AERO", **more: Any) -> Operated:
        """``POST registry/update``."""
        body: JsonObject = {"registryId": registry, "data": data}
        if entry_id is not None:
            body["entryId"] = entry_id
        return self.operate("registry/update", body, **more)

    def move(self, entry_id: str, status: str, *, registry: str = "AERO", **more: Any) -> Operated:
        """``POST registry/status``."""
        body: JsonObject = {"registryId": registry, "entryId": entry_id, "status": status}
        return self.operate("registry/status", body, **more)

    def publish(self, schema_id: str, document: JsonObject) -> None:
        """Submit a schema, and lead it to its integration."""
        self.put(schema_id, document, registry="schemas")
        for status in ("Review", "Approval", "Integration"):
            self.move(schema_id, status, registry="schemas")

    def operate(
        self, endpoint: str, body: JsonObject, *, if_match: int | None = None, run: str = "", **more: Any
    ) -> Operated:
        """Do a request, as ``api.operate`` does."""
        return self.operator.operate(task(endpoint, {**body, **more}, if_match=if_match, run=run))

    def changes(self, entry_id: str) -> list[Recorded]:
        """What this instance's ledger says of an entry."""
        found = self.ledger.entries(0, self.ledger.size())
        return [
            one
            for one in found
            if one.entry.type == EntryType.REGISTRY_ENTRY_CHANGED and one.entry.data["entryId"] == entry_id
        ]


def task(endpoint: str, body: JsonObject, *, if_match: int | None = None, run: str = "") -> OperateTask:
    """A request that was received."""
    name = run or f"request-{next(_numbers)}"
    request = ApiRequest(
        endpoint=endpoint, method="POST", request_id=name, principal=ADMIN, if_match=if_match, body=body
    )
    digest = sha256(request.document())
    event = EventRef(
        id=name,
        source=request.source,
        type=EventType.API_REQUEST,
        bodydigest=digest,
        utids=temporary_utids(EventType.API_REQUEST, request.source, name, digest),
    )
    return OperateTask(event=event, request=request)


def desk(registry: Registry, ledger: Ledger, database: Database, home: Path) -> Desk:
    """A desk in ``home``."""
    recorder = EventRecorder(ledger=ledger, registry=registry, namespace="plant-b/default", build="1.2.3")
    return Desk(registry, ledger, ApiOperator(recorder, registry, database, LocalObjectStore(home / "objects")))


def entry_of(operated: Operated) -> Entry:
    """The entry that an answer shows."""
    return Entry.model_validate(operated.answer.body)


def fresh_id(prefix: str = "E") -> str:
    """An entry's id that no test has used."""
    return f"{prefix}-{next(_numbers)}"
