"""What requests to the API cost: reads over a bare route of the same server, changes over runs that do nothing."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from statistics import median
from time import perf_counter
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from coafi.auth.apikeys import ApiKeyFile
from coafi.canonical import JsonObject
from starters.embedded import LOOPBACK, listening_socket
from tests.bench.floor import floor_workers, run_floor
from tests.bench.measure import Bench
from tests.bench.pushes import Service, running_service

CONNECTIONS = 16
"""Clients at the same time."""

EMPTY, BARE = "empty runs", "a bare route of Starlette"

_numbers = count()


async def measure(bench: Bench) -> None:
    """Reads and changes of the registry."""
    unlimited = {"COAFI_API_RATE": "1000000", "COAFI_API_BURST": "1000000"}
    async with running_service(bench.directory, **unlimited) as service, floor_workers(service.client):
        key = ApiKeyFile(service.settings.api_keys_path).add("bench", ("admin",), expires=None)[1].get_secret_value()
        ours = Server(service.gateway, key)
        async with ours.clients(1) as (client,):
            made = await client.post("/api/registry/update", new_entry())
        path = f"/api/registry/entry?registryId=AERO&entryId={made['entryId']}"
        with bare_server(json.dumps(made)) as url:
            await _reads(bench, ours, Server(url, key), path)
        await _changes(bench, service, ours)


async def _reads(bench: Bench, ours: "Server", bare: "Server", path: str) -> None:
    number = bench.amount(4_000, 20)
    await bench.compare_all(
        "GET registry/entry",
        lambda: ours.ask(number, lambda client: client.get(path)),
        {BARE: lambda: bare.ask(number, lambda client: client.get(path))},
        (number, "requests"),
        aims={BARE: "≥ 0.5"},
    )


async def _changes(bench: Bench, service: Service, ours: "Server") -> None:
    number = bench.amount(150, 3)
    taken: list[float] = []

    async def change(client: "Client") -> None:
        start = perf_counter()
        await client.post("/api/registry/update", new_entry())
        taken.append(perf_counter() - start)

    await bench.compare_all(
        "POST registry/update, without subscribers",
        lambda: ours.ask(number, change),
        {EMPTY: lambda: ours.ask(number, lambda _client: run_floor(service.client, 0))},
        (number, "requests"),
        aims={EMPTY: "≥ 0.4"},
    )
    taken.clear()
    await ours.ask(bench.amount(30, 1), change, connections=1)
    bench.report("POST registry/update alone: answered, median", 1000 * median(taken), "ms")


def new_entry() -> JsonObject:
    """An entry of a registry that nobody has seen before."""
    data: JsonObject = {"name": "wing", "material": "composite", "mass": {"value": 1200, "unit": "kg"}}
    return {"registryId": "AERO", "entryId": f"BENCH-{next(_numbers)}", "data": data, "tags": ["bench", "wing"]}


@dataclass(frozen=True)
class Server:
    """A server to ask, and the key that it wants."""

    url: str
    key: str

    async def ask(
        self, number: int, question: Callable[["Client"], Awaitable[object]], *, connections: int = CONNECTIONS
    ) -> None:
        """So many requests, by all clients, each of which sends its next one when it has the answer."""
        left = count()

        async def keep_asking(client: Client) -> None:
            while next(left) < number:
                await question(client)

        async with self.clients(connections) as clients:
            await asyncio.gather(*map(keep_asking, clients))

    @asynccontextmanager
    async def clients(self, number: int) -> AsyncIterator[list["Client"]]:
        """So many connections; the server closes them when they are idle for seconds."""
        place = urlsplit(self.url)
        streams = [await asyncio.open_connection(place.hostname, place.port) for _ in range(number)]
        try:
            yield [Client(reader, writer, place.netloc, self.key) for reader, writer in streams]
        finally:
            for _, writer in streams:
                writer.close()


class Client:
    """A connection that is kept, with as little around it as can be: what is measured is the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, key: str) -> None:
        self._reader = reader
        self._writer = writer
        self._headers = f"Host: {host}\r\nAuthorization: Bearer {key}\r\n"

    async def get(self, path: str) -> bytes:
        """Read something; its body."""
        return await self._ask(f"GET {path} HTTP/1.1\r\n{self._headers}\r\n".encode())

    async def post(self, path: str, body: JsonObject) -> JsonObject:
        """Change something; the answer."""
        content = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\n{self._headers}"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        answer: JsonObject = json.loads(await self._ask(head.encode() + content))
        return answer

    async def _ask(self, request: bytes) -> bytes:
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        status, *headers = head.decode("latin-1").split("\r\n")
        length = next(int(one[15:]) for one in headers if one.lower().startswith("content-length:"))
        body = await self._reader.readexactly(length)
        assert status.split()[1] in ("200", "201"), (status, body)
        return body


@contextmanager
def bare_server(body: str) -> Iterator[str]:
    """A process that answers every request with the same JSON; its URL."""
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.api", body], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def serve_bare(body: JsonObject) -> None:
    """Serve one route, as our gateway is served."""

    async def answer(_request: Request) -> Response:
        return JSONResponse(body)

    listener = listening_socket(LOOPBACK, 0)
    print(f"http://{LOOPBACK}:{listener.getsockname()[1]}", flush=True)  # noqa: T201
    app = Starlette(routes=[Route("/{path:path}", answer)])
    config = uvicorn.Config(app, log_config=None, lifespan="off", access_log=False, http="h11")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    serve_bare(json.loads(sys.argv[1]))
