"""What a tamper-evident entry costs on PostgreSQL, over rows of the same bytes in a table with the same indexes."""

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice

from coafi.processing import CHUNK
from tests.bench.ledger import CALLERS, new_drafts
from tests.bench.measure import Bench
from tests.coafi.ledger.making import opened
from tests.postgresql import running_server, use_postgresql

_PLAIN = "CREATE TABLE plain (LIKE ledger_entry INCLUDING INDEXES)"
_INSERT = "INSERT INTO plain VALUES (1, %s, %s, %s, %s, %s, %s, %s)"


async def measure(bench: Bench) -> None:
    """Append in batches, one by one and from many callers."""
    batches, singles = bench.amount(30, 2), bench.amount(100, 5)
    source, numbers = new_drafts(), count()
    with running_server() as server:
        url = server.create()
        use_postgresql(bench.directory, url)
        name = url.rpartition("/")[2]
        with (
            opened(bench.directory) as ledger,
            server.connect(name) as plain,
            ThreadPoolExecutor(CALLERS) as callers,
        ):
            plain.execute(_PLAIN)
            bodies = [one.body for one in ledger.append(list(islice(source, CHUNK)))]

            def append(rows: int, commits: int) -> None:
                for _ in range(commits):
                    ledger.append(list(islice(source, rows)))

            def insert(rows: int, commits: int) -> None:
                for _ in range(commits):
                    some = [
                        (next(numbers), os.urandom(32), bytes(32), bytes(32), "e1", "FILE_PROCESSED", body)
                        for body in bodies[:rows]
                    ]
                    with plain.transaction(), plain.cursor() as cursor:
                        cursor.executemany(_INSERT, some)

            await bench.compare(
                f"append in batches of {CHUNK}",
                lambda: append(CHUNK, batches),
                "inserts of the same bytes",
                lambda: insert(CHUNK, batches),
                (CHUNK * batches, "entries"),
            )
            await bench.compare(
                "append one by one",
                lambda: append(1, singles),
                "commits of one row",
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
