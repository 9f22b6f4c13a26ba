"""A ledger behind a real gateway, and the ledger of another instance that uses it over HTTP."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from coafi.database import Database
from coafi.ledger.log import Ledger
from coafi.ledger.remote import RemoteLedger
from starters.service import running_gateway
from tests.coafi.ledger.making import HANG
from tests.harness import settings_for
from workers.client import connect
from workers.resources import Resources, open_resources

INSTANCE = "plant-b"
APPEND_TOKEN = "an-append-token-that-nobody-may-see"
READ_TOKEN = "a-read-token-that-nobody-may-see"


@dataclass(frozen=True)
class Served:
    """A gateway that serves the ledger of its home."""

    url: str
    resources: Resources

    @property
    def ledger(self) -> Ledger:
        """The ledger, without HTTP."""
        assert isinstance(self.resources.ledger, Ledger)
        return self.resources.ledger


@contextmanager
def served(home: Path, **changes: Any) -> Iterator[Served]:
    """The gateway of ``coafi gateway``, on a thread of its own; there is no Temporal behind it."""
    settings = settings_for(
        home,
        **{"bitt_append_tokens": {INSTANCE: APPEND_TOKEN}, "bitt_tokens": (SecretStr(READ_TOKEN),), **changes},
    )
    ready: Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve(resources: Resources) -> None:
        client = await connect(settings, "127.0.0.1:1", lazy=True)
        stop = asyncio.Event()
        async with running_gateway(client, resources, fall_back=settings.gateway_port == 0) as url:
            ready.set_result((url, asyncio.get_running_loop(), stop))
            await stop.wait()

    def run(resources: Resources) -> None:
        try:
            asyncio.run(serve(resources))
        except BaseException as error:
            ready.set_exception(error)
            raise

    with open_resources(settings) as resources:
        thread = threading.Thread(target=run, args=[resources], daemon=True)
        thread.start()
        url, loop, stop = ready.result(HANG)
        try:
            yield Served(url, resources)
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(HANG)


@contextmanager
def remote(served: Served, home: Path, *, url: str = "", **changes: Any) -> Iterator[RemoteLedger]:
    """The ledger of ``served`` as another instance, with its own home, has it."""
    home.mkdir(exist_ok=True)
    database = Database(home / "coafi.db")
    database.create_tables()
    options: dict[str, Any] = {
        "token": SecretStr(APPEND_TOKEN),
        "key": served.ledger.key,
        "database": database,
        "state_directory": home / "state",
        **changes,
    }
    with closing(RemoteLedger(url or served.url, **options)) as ledger:
        yield ledger
    database.close()
