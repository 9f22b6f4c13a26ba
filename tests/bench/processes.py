"""What the processes of a service use: ours, the Temporal server, and git with its helpers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import psutil

_PAUSE = 0.1
MIB = 2**20


@dataclass
class Usage:
    """What was used while somebody looked, by ``ours``, ``Temporal`` and ``git``.

    Attributes:
        peak: the most resident memory that was seen, in MiB; of git, all that ran at the same time.
        cpu: seconds on a processor, user and system.
    """

    peak: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)


@asynccontextmanager
async def watched(pid: int) -> AsyncIterator[Usage]:
    """Watch the service with this process id for as long as the block runs."""
    service = psutil.Process(pid)
    server = next(child for child in service.children() if "temporal" in child.name())
    usage = Usage()

    def cpu() -> dict[str, float]:
        ours, temporal = service.cpu_times(), server.cpu_times()
        return {
            "ours": ours.user + ours.system,
            "Temporal": temporal.user + temporal.system,
            "git": ours.children_user + ours.children_system,  # of those that have ended, however short they were
        }

    def look() -> None:
        found = {"ours": service.memory_info().rss, "Temporal": server.memory_info().rss, "git": 0}
        for child in service.children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # most live for a few milliseconds
                found["git"] += child.memory_info().rss if child.pid != server.pid else 0
        for name, size in found.items():
            usage.peak[name] = max(usage.peak.get(name, 0.0), size / MIB)

    async def keep_looking() -> None:
        while True:
            look()
            await asyncio.sleep(_PAUSE)

    before = cpu()
    looking = asyncio.create_task(keep_looking())
    try:
        yield usage
    finally:
        looking.cancel()
        look()
        usage.cpu = {name: seconds - before[name] for name, seconds in cpu().items()}
