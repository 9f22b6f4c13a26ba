"""What a tamper-evident entry costs, over bytes that are only kept or only hashed."""

import gc
import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count, cycle, islice
from pathlib import Path
from random import Random
from time import perf_counter

import pysqlite3.dbapi2

from coafi.canonical import JsonObject
from coafi.database import Database
from coafi.ledger.appending import GROUP_ENTRIES
from coafi.ledger.entry import Draft
from coafi.ledger.tiles import WIDTH
from coafi.ledger.verifier import verify_log
from tests.bench.measure import Bench
from tests.coafi.ledger.making import HANG, SIGNER, draft, opened

CALLERS = 64
BATCH = 100

_VERIFY = r"""
import re, sys, time
from pathlib import Path
from coafi.ledger.audit import audit
from tests.coafi.ledger.making import opened

with opened(Path(sys.argv[1])) as ledger:
    start = time.perf_counter()
    audit(ledger)
    seconds = time.perf_counter() - start
print(seconds, int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
"""
"""In a process of its own, whose memory is measured: by ``VmHWM``, since ``ru_maxrss`` begins with the parent's."""


async def measure(bench: Bench) -> None:
    """Append, prove, verify; against a bare SQLite table of the same durability."""
    batches, singles, size = bench.amount(30, 2), bench.amount(100, 5), bench.amount(10_000, 500)
    bursts = bench.amount(10, 1)
    source = new_drafts()
    plain, other = _plain(bench.directory / "plain.db"), _plain(bench.directory / "other.db")
    with closing(plain), closing(other), opened(bench.directory) as ledger, ThreadPoolExecutor(CALLERS) as callers:

        def append(rows: int, commits: int, drafts: Iterator[Draft] = source) -> None:
            for _ in range(commits):
                ledger.append(list(islice(drafts, rows)))

        def insert(rows: int, commits: int) -> None:
            for _ in range(commits):
                plain.execute("BEGIN IMMEDIATE")
                plain.executemany("INSERT INTO entry VALUES (?)", bodies[:rows])
                plain.execute("COMMIT")

        def insert_indexed(into: pysqlite3.dbapi2.Connection, source: Iterator[tuple[object, ...]]) -> None:
            for _ in range(batches):
                into.execute("BEGIN IMMEDIATE")
                into.executemany(_INSERT, islice(source, BATCH))
                into.execute("COMMIT")

        bodies = [(one.body,) for one in ledger.append(list(islice(source, BATCH)))]
        made = iter(list(islice(source, BATCH * batches * 6)))
        indexed = iter(_rows(bodies, BATCH * batches * 6))
        cheapest = iter(_rows(bodies, BATCH * batches * 6, bytearray))
        gc.collect()
        gc.freeze()  # nobody who appends has thousands of drafts lie about, for the collector to look through
        same = "SQLite inserts of the same columns with the same indexes"
        await bench.compare_all(
            f"append in batches of {BATCH}",
            lambda: append(BATCH, batches, made),
            {
                same: lambda: insert_indexed(plain, indexed),
                f"{same}, as bytearray": lambda: insert_indexed(other, cheapest),
                "SQLite inserts of the same bytes": lambda: insert(BATCH, batches),
            },
            (BATCH * batches, "entries"),
            aims={same: "0.5"},
        )
        gc.unfreeze()
        await bench.compare(
            "append one by one",
            lambda: append(1, singles),
            "SQLite commits of one row",
            lambda: insert(1, singles),
            (singles, "entries"),
        )
        alone = "by one caller, one by one"
        await bench.compare_all(
            f"append from {CALLERS} callers at once",
            lambda: list(callers.map(lambda one: ledger.append([one]), islice(source, CALLERS * bursts))),
            {alone: lambda: append(1, CALLERS * bursts)},
            (CALLERS * bursts, "entries"),
            aims={alone: "3"},
        )

        append(max(0, size - ledger.size()), 1)
        size, note, everything = ledger.size(), ledger.checkpoint(force=True).note, list(ledger.bodies())
        chosen = Random(0).sample(range(size), bench.amount(300, 20))
        await bench.compare(
            f"prove entries of {size:,}",
            lambda: [ledger.prove(index) for index in chosen],
            "SQLite reads of a row",
            lambda: [plain.execute("SELECT body FROM entry WHERE rowid = 9").fetchall() for _ in chosen],
            (len(chosen), "proofs"),
        )
        await bench.compare(
            "verify the whole ledger",
            lambda: verify_log(ledger.bodies(), note, SIGNER.key, stored_tiles=ledger.tiles()),
            "SHA-256 of the same bytes",
            lambda: [hashlib.sha256(body).digest() for body in everything],
            (size, "entries"),
        )
    _grow(bench)


def _grow(bench: Bench) -> None:
    """What proofs cost as a log grows to a million entries, and what it takes to verify it then."""
    sizes, source = [bench.amount(10**power, 10 * power) for power in (3, 4, 5, 6)], new_drafts()
    (bench.directory / "large").mkdir()
    with opened(bench.directory / "large", lock_timeout=HANG) as ledger:
        for size in sizes:
            bench.progress(f"{bench.area}: proofs of {size:,} entries")
            while missing := size - ledger.size():
                ledger.append(list(islice(source, min(missing, GROUP_ENTRIES))))
            for index in range(0, size, WIDTH):
                ledger.inclusion_proof(index, size)  # warm
            chosen = Random(0).choices(range(size), k=bench.amount(10_000, 20))
            for what, prove in (("inclusion", ledger.inclusion_proof), ("consistency", ledger.consistency_proof)):
                start = perf_counter()
                hashes = max(len(prove(index, size)) for index in chosen)
                aim = "≥ 10,000" if (what, size) == ("inclusion", 10**6) else ""
                bench.report(
                    f"{what} proofs, warm, of {size:,}", len(chosen) / (perf_counter() - start), "proofs/s", aim=aim
                )
                bench.report(f"{what} proofs of {size:,}: longest", hashes, "hashes")
    bench.progress(f"{bench.area}: verify {size:,} entries")
    answer = subprocess.run(
        [sys.executable, "-c", _VERIFY, str(bench.directory / "large")], check=True, capture_output=True, text=True
    )
    seconds, resident = map(float, answer.stdout.split()[-2:])
    bench.report(f"verify the whole ledger of {size:,}: time", seconds, "s", aim="< 60")
    bench.report(f"verify the whole ledger of {size:,}: resident", resident, "MiB", aim="< 300")


_INSERT = "INSERT INTO ledger_entry VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


def _plain(path: Path) -> pysqlite3.dbapi2.Connection:
    """A database of the same durability, with the ledger's tables and one that has no index."""
    database = Database(path)
    database.create_tables()
    database.close()
    plain = pysqlite3.dbapi2.connect(path, isolation_level=None)
    for statement in ("PRAGMA synchronous=FULL", "PRAGMA cache_size=-65536", "CREATE TABLE entry (body BLOB NOT NULL)"):
        plain.execute(statement)
    return plain


def _rows(bodies: list[tuple[bytes]], count: int, kind: Callable[[bytes], object] = bytes) -> list[tuple[object, ...]]:
    """Rows as the ledger writes them; they are made before the clock runs.

    Args:
        kind: what the driver is given: it takes a bytearray in half the time (see the ledger's store for SQLite).
    """
    rows: list[tuple[object, ...]] = []
    for index, (body,) in zip(range(count), cycle(bodies), strict=False):
        key = kind(hashlib.sha256(b"%d" % index).digest())
        rows.append((1, index, key, key, key, "e1", "FILE_PROCESSED", kind(body)))
    return rows


def new_drafts() -> Iterator[Draft]:
    """Different entries without end, as those of files are."""
    for number in count():
        path, blob = f"docs/COAFI-ENG-{number:06d}-SPEC-A.md", f"{number:040x}"
        found: JsonObject = {"kind": "markdown", "verdict": "valid", "errors": 0, "warnings": 0}
        data: JsonObject = {
            "path": path,
            "blob": blob,
            "change": "modified",
            "reportsDigest": f"{number:064x}",
            **found,
        }
        yield draft(path, inputs={"path": path, "blob": blob}, data=data)
