"""What a tamper-evident entry costs, over bytes that are only kept or only hashed."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count, islice
from random import Random
from time import perf_counter

import pysqlite3.dbapi2

from coafi.canonical import JsonObject
from coafi.ledger.entry import Draft
from coafi.ledger.log import GROUP_ENTRIES
from coafi.ledger.tiles import WIDTH
from coafi.ledger.verifier import verify_log
from coafi.processing import CHUNK
from tests.bench.measure import Bench
from tests.coafi.ledger.making import HANG, SIGNER, draft, opened

CALLERS = 64

_VERIFY = """
import resource, sys, time
from pathlib import Path
from coafi.ledger.audit import audit
from tests.coafi.ledger.making import opened

with opened(Path(sys.argv[1])) as ledger:
    start = time.perf_counter()
    audit(ledger)
    print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
"""In a process of its own, whose memory is measured."""


async def measure(bench: Bench) -> None:
    """Append, prove, verify; against a bare SQLite table of the same durability."""
    batches, singles, size = bench.amount(30, 2), bench.amount(100, 5), bench.amount(10_000, 500)
    source = _drafts()
    plain = pysqlite3.dbapi2.connect(bench.directory / "plain.db", isolation_level=None)
    for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "CREATE TABLE entry (body BLOB NOT NULL)"):
        plain.execute(statement)
    with closing(plain), opened(bench.directory) as ledger, ThreadPoolExecutor(CALLERS) as callers:

        def append(rows: int, commits: int) -> None:
            for _ in range(commits):
                ledger.append(list(islice(source, rows)))

        def insert(rows: int, commits: int) -> None:
            for _ in range(commits):
                plain.execute("BEGIN IMMEDIATE")
                plain.executemany("INSERT INTO entry VALUES (?)", bodies[:rows])
                plain.execute("COMMIT")

        bodies = [(one.body,) for one in ledger.append(list(islice(source, CHUNK)))]
        await bench.compare(
            f"append in batches of {CHUNK}",
            lambda: append(CHUNK, batches),
            "SQLite inserts of the same bytes",
            lambda: insert(CHUNK, batches),
            (CHUNK * batches, "entries"),
        )
        await bench.compare(
            "append one by one",
            lambda: append(1, singles),
            "SQLite commits of one row",
            lambda: insert(1, singles),
            (singles, "entries"),
        )
        await bench.compare(
            f"append from {CALLERS} callers at once",
            lambda: list(callers.map(lambda one: ledger.append([one]), islice(source, CALLERS))),
            "by one caller, one by one",
            lambda: append(1, CALLERS),
            (CALLERS, "entries"),
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
    sizes, source = [bench.amount(10**power, 10 * power) for power in (3, 4, 5, 6)], _drafts()
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


def _drafts() -> Iterator[Draft]:
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
