"""What an event costs each part of a cluster, and what a cluster for so many events a second needs (docs/capacity.md).

Gateway, worker, Temporal and PostgreSQL are processes of their own, as in a cluster; their processor time is read from
the operating system, and what PostgreSQL writes from itself.
"""

import asyncio
import json
import math
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from itertools import count, islice
from pathlib import Path

import httpx
import psutil
from pydantic import SecretStr
from temporalio.service import RPCError

from coafi.auth.apikeys import ApiKeyFile
from coafi.federation.peers import PeerStore
from coafi.ledger.port import Ledger
from tests.bench.api import Server, new_entry
from tests.bench.ledger import new_drafts
from tests.bench.measure import Bench
from tests.bench.pushes import HANG, Service, pushes
from tests.coafi.federation.making import peer_of, signer
from tests.harness import SECRET, Repository, Stack, running_stack, until, worker_process
from tests.postgresql import PostgresqlServer, running_server
from tests.starters import ledger_events
from tests.starters.federation_support import Partner, update

FILES = 10
"""Changed files of a push."""

PEER = "bench.example"

AT_ONCE = 8
"""Events under way at a time: enough that nobody waits, and that work is done together where it can be."""

BUSY = 0.6
"""Share of a core, or of a ledger, that is planned to be used: the rest is for peaks and for rolling updates."""

SHARD_TRANSITIONS = 20
"""State transitions a second that are planned for one of Temporal's history shards: each is one write of some 5 ms
under the lock of its shard, which is then held a tenth of the time."""

FEWEST_SHARDS = 512
"""What Temporal's charts begin with. The number cannot be changed later."""

DAY = 86_400


@dataclass(frozen=True)
class Cost:
    """What one event of a kind costs.

    Attributes:
        gateway, worker, git, temporal, postgresql: milliseconds on a processor.
        transitions, history: of all runs that it starts; state transitions and events.
        history_bytes: of these runs, as Temporal counts them.
        commits: transactions of PostgreSQL that write.
        entries: of the ledger.
        wal_bytes, database_bytes, object_bytes: written to PostgreSQL's log, grown by, put into the store.
    """

    gateway: float
    worker: float
    git: float
    temporal: float
    postgresql: float
    transitions: float
    history: float
    history_bytes: float
    commits: float
    entries: float
    wal_bytes: float
    database_bytes: float
    object_bytes: float

    def plus(self, other: "Cost", share: float) -> "Cost":
        """This and a share of another."""
        return Cost(*(getattr(self, one.name) + share * getattr(other, one.name) for one in fields(Cost)))


NOTHING = Cost(*(0.0 for _ in fields(Cost)))

MIX: Mapping[str, float] = {"git.commit": 0.1, "api.request": 0.6, "bitt.event": 0.2, "federated.message": 0.1}
"""Shares of the kinds in the traffic of an organisation: an assumption. Scheduled tasks come by the hour."""


@dataclass(frozen=True)
class Cluster:
    """What so many events a second need.

    Attributes:
        gateways, workers, git, temporal, postgresql: cores.
        ledgers: instances with a ledger each: one log is written by one writer at a time.
        shards: history shards of Temporal, of all its clusters.
        wal: megabytes a second.
        database, objects: gigabytes a day.
        histories: gigabytes of closed runs that Temporal keeps.
    """

    gateways: int
    workers: int
    git: int
    temporal: int
    postgresql: int
    ledgers: int
    shards: int
    wal: float
    database: int
    objects: int
    histories: int


def cluster(cost: Cost, rate: float, *, entries_per_second: float, retention_days: float = 3) -> Cluster:
    """The cluster for ``rate`` events a second of this cost.

    Args:
        entries_per_second: that one ledger takes from many callers (``make bench``, area ``postgresql``).
        retention_days: for which Temporal keeps closed runs.
    """

    def cores(milliseconds: float) -> int:
        return math.ceil(rate * milliseconds / 1000 / BUSY)

    shards = rate * cost.transitions / SHARD_TRANSITIONS
    return Cluster(
        gateways=cores(cost.gateway),
        workers=cores(cost.worker),
        git=cores(cost.git),
        temporal=cores(cost.temporal),
        postgresql=cores(cost.postgresql),
        ledgers=math.ceil(rate * cost.entries / (BUSY * entries_per_second)),
        shards=max(FEWEST_SHARDS, 2 ** math.ceil(math.log2(shards))),
        wal=round(rate * cost.wal_bytes / 1e6, 1),
        database=math.ceil(rate * cost.database_bytes * DAY / 1e9),
        objects=math.ceil(rate * cost.object_bytes * DAY / 1e9),
        histories=math.ceil(rate * cost.history_bytes * DAY * retention_days / 1e9),
    )


RECORD = Path(__file__).with_suffix(".json")
"""What ``python -m tests.bench --only capacity --json`` printed; docs/capacity.md shows it."""


@dataclass(frozen=True)
class Measured:
    """A run of this benchmark.

    Attributes:
        costs: of an event, by kind.
        entries_per_second: that one ledger took.
        machine: that it ran on.
    """

    costs: Mapping[str, Cost]
    entries_per_second: float
    machine: Mapping[str, str]


def recorded() -> Measured:
    """What was measured last, and put on record."""
    record = json.loads(RECORD.read_text())
    values = {figure["name"]: float(figure["value"]) for figure in record["figures"]}
    costs = {kind: Cost(**{one.name: values[f"{kind}: {one.name}"] for one in fields(Cost)}) for kind in MIX}
    return Measured(costs, values[LEDGER], record["machine"])


def mixed(costs: Mapping[str, Cost]) -> Cost:
    """The cost of an event of the usual mix."""
    total = NOTHING
    for kind, share in MIX.items():
        total = total.plus(costs[kind], share)
    return total


UNITS = {
    "transitions": "transitions",
    "history": "events",
    "history_bytes": "bytes",
    "commits": "transactions",
    "entries": "entries",
    "wal_bytes": "bytes",
    "database_bytes": "bytes",
    "object_bytes": "bytes",
}
"""What costs are given in that are not milliseconds on a processor."""

CLUSTER_UNITS = {
    "ledgers": "instances",
    "shards": "shards",
    "wal": "MB/s",
    "database": "GB/day",
    "objects": "GB/day",
    "histories": "GB",
}

COST_NAMES = {
    "gateway": "gateway, ms of a core",
    "worker": "worker, ms of a core",
    "git": "git, ms of a core",
    "temporal": "Temporal, ms of a core",
    "postgresql": "PostgreSQL, ms of a core",
    "transitions": "state transitions of Temporal",
    "history": "events in histories",
    "history_bytes": "bytes of histories",
    "commits": "transactions of PostgreSQL that write",
    "entries": "ledger entries",
    "wal_bytes": "bytes of PostgreSQL's log (WAL)",
    "database_bytes": "bytes that the database grows by",
    "object_bytes": "bytes of objects",
}
CLUSTER_NAMES = {
    "gateways": "cores of gateways",
    "workers": "cores of workers, without git",
    "git": "cores of git, on the workers of `coafi-git`",
    "temporal": "cores of Temporal's server",
    "postgresql": "cores of PostgreSQL",
    "ledgers": "ledgers, so instances",
    "shards": "history shards",
    "wal": "WAL, MB/s",
    "database": "database, GB a day",
    "objects": "objects, GB a day",
    "histories": "closed histories, GB in 3 days",
}
"""What the documentation calls them."""

RATES = (10, 1_000, 10_000)
"""Events a second that clusters are sized for."""

TOGETHER = 8
"""Entries that are appended together: a push of ten files appends 32 in four transactions."""

LEDGER = f"one ledger, {AT_ONCE} callers, {TOGETHER} entries each time"

Send = Callable[[], Awaitable[object]]
"""Sends an event, and waits until its run has ended."""


async def measure(bench: Bench) -> None:
    """What an event of each kind costs."""
    home = bench.directory
    repositories = [Repository.create(home / f"repository-{number}") for number in range(4)]
    with running_server() as postgresql:
        url = postgresql.create()
        async with running_stack(home, workers=False, database_url=SecretStr(url)) as stack:
            with _processes(stack, url) as parts:
                await until(lambda: _listens(stack.gateway))
                meter = Meter(stack, postgresql, url.rpartition("/")[2], parts)
                costs: dict[str, Cost] = {}
                async with httpx.AsyncClient(timeout=HANG) as http:
                    number = bench.amount(80, 4)
                    for kind, send in _kinds(stack, http, repositories, number + 8).items():
                        bench.progress(f"{bench.area}: {kind}")
                        await meter.cost(send, bench.amount(8, 1))  # what happens once only
                        costs[kind] = await meter.cost(send, number)
                        for name, value in asdict(costs[kind]).items():
                            bench.report(f"{kind}: {name}", value, UNITS.get(name, "ms"))
            bench.progress(f"{bench.area}: ledger")
            entries = _ledger_rate(stack.resources.ledger, bench.amount(300, 10))
            bench.report(LEDGER, entries, "entries/s")
    for what, cost in {"the mix": mixed(costs), "pushes": costs["git.commit"]}.items():
        for rate in RATES:
            needed = cluster(cost, rate, entries_per_second=entries)
            for name, value in asdict(needed).items():
                bench.report(f"{rate:,} events/s of {what}: {name}", value, CLUSTER_UNITS.get(name, "cores"))


def _ledger_rate(ledger: Ledger, appends: int) -> float:
    """Entries a second that one ledger takes from several callers."""
    source = new_drafts()
    drafts = [list(islice(source, TOGETHER)) for _ in range(appends)]
    with ThreadPoolExecutor(AT_ONCE) as callers:
        start = time.perf_counter()
        list(callers.map(ledger.append, drafts))
        return appends * TOGETHER / (time.perf_counter() - start)


@dataclass(frozen=True)
class Meter:
    """Reads what the parts of a service have used.

    Attributes:
        database: name of the service's database.
        parts: processes of ``gateway`` and ``worker``.
    """

    stack: Stack
    postgresql: PostgresqlServer
    database: str
    parts: Mapping[str, psutil.Process]

    async def cost(self, send: Send, number: int) -> Cost:
        """Send so many events, several at a time, and see what each cost."""
        before = (await asyncio.to_thread(self._read)).plus(await self._runs(), 1)
        limit = asyncio.Semaphore(AT_ONCE)

        async def one() -> None:
            async with limit:
                await send()

        async with asyncio.timeout(HANG):
            await asyncio.gather(*(one() for _ in range(number)))
        after = (await asyncio.to_thread(self._read)).plus(await self._runs(), 1)
        return NOTHING.plus(after.plus(before, -1), 1 / number)

    def _read(self) -> Cost:
        time.sleep(1)  # what runs leave to do is done, and they are listed
        worker = self.parts["worker"].cpu_times()
        gateway, temporal = (one.cpu_times() for one in (self.parts["gateway"], self._temporal()))
        with self.postgresql.connect() as connection:
            row = connection.execute(
                # The next transaction id is told at once; the statistics count seconds late.
                "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint,"
                " pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint, pg_database_size(%s)",
                (self.database,),
            ).fetchone()
        assert row is not None
        commits, written, size = (float(str(value)) for value in row)
        return replace(
            NOTHING,
            gateway=1000 * (gateway.user + gateway.system),
            worker=1000 * (worker.user + worker.system),
            git=1000 * (worker.children_user + worker.children_system),
            temporal=1000 * (temporal.user + temporal.system),
            postgresql=1000 * _processor_time(psutil.Process(self.postgresql.pid)),
            commits=commits,
            entries=self.stack.resources.ledger.size(),
            wal_bytes=written,
            database_bytes=size,
            object_bytes=sum(one.stat().st_size for one in self.stack.settings.objects_directory.rglob("*")),
        )

    def _temporal(self) -> psutil.Process:
        return psutil.Process(self.stack.server.process.pid)

    async def _runs(self) -> Cost:
        """Histories of all runs that there are, whoever started them."""
        total = NOTHING
        async for one in self.stack.client.list_workflows():
            run = await self.stack.client.get_workflow_handle(one.id, run_id=one.run_id).describe()
            info = run.raw_description.workflow_execution_info
            found = replace(
                NOTHING,
                transitions=info.state_transition_count,
                history=info.history_length,
                history_bytes=info.history_size_bytes,
            )
            total = total.plus(found, 1)
        return total


def _processor_time(process: psutil.Process) -> float:
    """Seconds of a process and of its children, also of those that have ended."""
    used = process.cpu_times()
    total = used.user + used.system + used.children_user + used.children_system
    for child in process.children():
        with suppress(psutil.NoSuchProcess):
            one = child.cpu_times()
            total += one.user + one.system
    return float(total)


def _kinds(
    stack: Stack, http: httpx.AsyncClient, repositories: Sequence[Repository], number: int
) -> Mapping[str, Send]:
    """How an event of each kind is sent, at most ``number`` times."""
    service = Service(0, stack.settings, stack.client, stack.gateway, http)
    waiting = pushes(repositories, math.ceil(number / len(repositories)), FILES)
    key = ApiKeyFile(stack.settings.api_keys_path).add("bench", ("admin",), expires=None)[1].get_secret_value()
    server, partner, numbers = Server(stack.gateway, key), Partner(signer(PEER), stack), count()
    PeerStore(stack.resources.database, stack.resources.ledger, stack.settings.ledger_namespace).put(
        peer_of(partner.key), by="bench"
    )

    async def external() -> None:
        run = await ledger_events.accepted(stack, ledger_events.failure())
        await run.result()

    async def message() -> None:
        name = f"m-{next(numbers)}"
        answer = await partner.send(update(name, peer=PEER))
        assert answer.status_code == httpx.codes.ACCEPTED, answer.text
        run = stack.handle(answer.json()["workflowId"])
        while True:
            with suppress(RPCError):  # the run of the peer starts it in a moment
                await run.result()
                return
            await asyncio.sleep(0.05)

    return {
        "git.commit": lambda: service.deliver(waiting.pop()),
        "api.request": lambda: server.ask(
            1, lambda client: client.post("/api/registry/update", new_entry()), connections=1
        ),
        "bitt.event": external,
        "federated.message": message,
    }


@contextmanager
def _processes(stack: Stack, url: str) -> Iterator[Mapping[str, psutil.Process]]:
    """A gateway and a worker in processes of their own; ``stack`` speaks to that gateway from now on."""
    command = str(Path(sys.executable).with_name("coafi"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "COAFI_DATABASE_URL": url,
        "COAFI_LOG_LEVEL": "warning",
        "COAFI_GATEWAY_PORT": str(port),
        "COAFI_GITHUB_WEBHOOK_SECRET": SECRET,
        "COAFI_EVENTS_SECRETS": json.dumps(dict.fromkeys(ledger_events.SECRETS, ledger_events.SECRET)),
        "COAFI_INDEX_DEBOUNCE": "3600",
    }
    with ExitStack() as started:
        parts = {
            name: psutil.Process(started.enter_context(worker_process(stack, command, name, **environment)).pid)
            for name in ("gateway", "worker")
        }
        stack.gateway = f"http://127.0.0.1:{port}"
        yield parts


async def _listens(url: str) -> bool:
    try:
        async with httpx.AsyncClient() as http:
            return (await http.get(f"{url}/health")).is_success
    except httpx.TransportError:
        return False
