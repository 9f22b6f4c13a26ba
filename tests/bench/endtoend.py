"""What pushes cost from webhook to receipt, over runs that do nothing and over the same steps without Temporal.

The service is ``coafi up`` in processes of its own; this one delivers, and runs what it is compared with.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from statistics import median, quantiles
from time import perf_counter

from coafi.ledger.verifier import verify_log
from coafi.names import EntryType
from tests.bench.bare import BareLoop, counted_transactions
from tests.bench.floor import STEPS, floor_workers, run_floor
from tests.bench.measure import Bench
from tests.bench.processes import Usage, watched
from tests.bench.pushes import Push, Service, commit_all, pushes, running_service
from tests.harness import Repository, documents, settings_for
from workers.resources import open_resources

FILES = 10
"""Changed files of an ordinary push."""

ARTIFACTS = 2
"""What a document gives: its page and its metadata."""

EMPTY, STEPPED, BARE = "empty runs", f"runs of {STEPS} steps that do nothing", "the same steps without Temporal"


async def measure(bench: Bench) -> None:
    """A push alone, a flood, the load test, a large commit."""
    root = bench.directory
    repositories = [Repository.create(root / f"repository-{number}") for number in range(5)]
    async with running_service(root) as service, floor_workers(service.client):
        with open_resources(settings_for(root / "bare", git_file_roots=(root,))) as resources:
            bare = BareLoop.over(resources)
            await _alone(bench, service, bare, repositories[:1])
            await _flood(bench, service, bare, repositories)
            await _load(bench, service, repositories)
            await _large(bench, service, bare, repositories[0])


async def measure_memory(bench: Bench) -> None:
    """One commit, as large as they get, in a service that has done nothing before."""
    files = bench.amount(20_000, 50)
    repository = Repository.create(bench.directory / "repository")
    bench.progress(f"{bench.area}: a push of {files:,} files")
    async with running_service(bench.directory) as service:
        (push,) = pushes([repository], 1, files)
        async with watched(service.pid) as usage:
            start = perf_counter()
            await service.deliver(push)
        bench.report(f"a push of {files:,} files", files / (perf_counter() - start), "files/s")
        _report_usage(bench, usage, f"a push of {files:,} files", files, "file", aim="< 400")


async def _alone(bench: Bench, service: Service, bare: BareLoop, repositories: Sequence[Repository]) -> None:
    """One push after the other, and what is the same for every one of them."""
    what = f"a push of {FILES} files alone"
    times = bench.amount(15, 1)
    waiting = pushes(repositories, times + 5, FILES)
    run = await service.deliver(waiting.pop())
    bare.handle(waiting.pop())
    with counted_transactions() as transactions:
        bare.handle(waiting.pop())
    bench.report(f"{what}: history", (await run.describe()).history_length, "events")
    bench.report(f"{what}: ledger", transactions["ledger"], "transactions")
    bench.report(f"{what}: ledger and caches", transactions["all"], "transactions")
    service.accepted.clear()
    await bench.compare_all(
        what,
        lambda: service.deliver(waiting[-1]),
        {
            EMPTY: lambda: run_floor(service.client, 0),
            STEPPED: lambda: run_floor(service.client, STEPS),
            BARE: lambda: bare.handle(waiting[-1]),
        },
        rounds=times,
        prepare=waiting.pop,
    )
    bench.report(f"{what}: webhook answered, median", 1000 * median(service.accepted), "ms")


async def _flood(bench: Bench, service: Service, bare: BareLoop, repositories: Sequence[Repository]) -> None:
    waiting: list[Push] = []
    each = bench.amount(8, 1)
    number = each * len(repositories)

    def prepare() -> None:
        waiting[:] = pushes(repositories, each, FILES)

    await bench.compare_all(
        f"{number} pushes of {FILES} files at once",
        lambda: service.deliver_all(waiting),
        {
            EMPTY: lambda: asyncio.gather(*(run_floor(service.client, 0) for _ in waiting)),
            STEPPED: lambda: asyncio.gather(*(run_floor(service.client, STEPS) for _ in waiting)),
            BARE: lambda: [bare.handle(push) for push in waiting],
        },
        (number, "events"),
        rounds=3,
        prepare=prepare,
        aims={EMPTY: "≥ 0.25"},
    )


async def _load(bench: Bench, service: Service, repositories: Sequence[Repository]) -> None:
    """The load test: all at once, and afterwards the ledger must hold every step of every one of them, once."""
    waiting = pushes(repositories, bench.amount(500 // len(repositories), 2), FILES)
    what = f"{len(waiting)} pushes of {FILES} files at once"
    bench.progress(f"{bench.area}: load test, {what}")
    service.accepted.clear()
    service.redelivered = 0
    start = perf_counter()
    async with watched(service.pid) as usage:
        runs = await service.deliver_all(waiting)
    seconds = perf_counter() - start
    bench.report(f"load test, {what}", len(runs) / seconds, "events/s")
    bench.report(f"load test, {what}: wall time", 1000 * seconds / len(runs), "ms/event")
    for name, value in (("median", median(service.accepted)), ("99 %", quantiles(service.accepted, n=100)[-1])):
        bench.report(f"load test: webhook answered, {name}", 1000 * value, "ms")
    bench.report("load test: answers that asked to deliver again", service.redelivered, "answers")
    _report_usage(bench, usage, "load test", len(runs), "event")
    bench.report(
        "load test: ledger entries, none lost or doubled", _audited(service, {run.id for run in runs}), "entries"
    )


async def _large(bench: Bench, service: Service, bare: BareLoop, repository: Repository) -> None:
    files = bench.amount(5_000, 20)
    what = f"a push of {files:,} files"
    waiting: list[Push] = []

    def prepare() -> None:
        waiting[:] = pushes([repository], 1, files)

    async with watched(service.pid) as usage:
        await bench.compare_all(
            what,
            lambda: service.deliver(waiting[0]),
            {BARE: lambda: bare.handle(waiting[0])},
            (files, "files"),
            rounds=2,
            warm_up=False,
            prepare=prepare,
            aims={BARE: "≥ 0.7"},
        )
    _report_usage(bench, usage, what, bench.amount(2, 1) * files, "file")
    versions = documents(files, text="Seen before.")
    moved = {path.replace("docs/", "moved/"): content for path, content in versions.items()}
    first, second = commit_all(repository, [versions, {**dict.fromkeys(versions), **moved}])
    await service.deliver(first)
    before = await service.artifacts()
    await service.deliver(second)
    after = await service.artifacts()
    bench.report(f"{what}, moved: generated", after["false"] - before["false"], "artifacts", aim="0")
    cached = after["true"] - before.get("true", 0)
    bench.report(f"{what}, moved: from the cache", cached, "artifacts", aim=f"{files * ARTIFACTS:,}")


def _report_usage(bench: Bench, usage: Usage, what: str, number: int, unit: str, *, aim: str = "") -> None:
    for name, seconds in usage.cpu.items():
        bench.report(f"{what}: processor time of {name}", 1000 * seconds / number, f"ms/{unit}")
    for name, size in usage.peak.items():
        bench.report(f"{what}: most memory of {name}", size, "MiB", aim=aim if name == "ours" else "")


def _audited(service: Service, workflows: set[str]) -> int:
    """Verify the ledger, and that it holds what these runs must have recorded, each entry once; how many there are.

    Raises:
        AssertionError: something is missing, or there twice, or more than there should be.
    """
    with open_resources(service.settings) as resources:
        ledger = resources.ledger
        note = ledger.checkpoint(force=True).note
        verify_log(ledger.bodies(), note, ledger.key, stored_tiles=ledger.tiles())
        recorded = [one.entry for one in ledger.entries(0, ledger.size())]
    ours = [entry for entry in recorded if entry.workflow_id in workflows]
    assert len(ours) == len({entry.key for entry in ours}), "nothing is doubled"
    expected = {
        EntryType.EVENT_RECEIVED: 1,
        EntryType.FILE_PROCESSED: FILES,
        EntryType.ARTIFACT_GENERATED: FILES * ARTIFACTS,
        EntryType.EVENT_PROCESSED: 1,
    }
    found = Counter((entry.workflow_id, entry.type) for entry in ours)
    wanted = {(workflow, kind.value): number for workflow in workflows for kind, number in expected.items()}
    assert found == wanted, "nothing is lost"
    return len(ours)
