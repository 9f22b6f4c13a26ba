"""The ledger of another instance: what is particular to HTTP, and that the other side is not believed."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from coafi.database import Database
from coafi.errors import (
    IdempotencyConflict,
    IntegrityError,
    LedgerUnavailable,
    ResourceNotFoundError,
    Unavailable,
    ValidationError,
)
from coafi.git.changes import Change
from coafi.ledger.bundle import encode_bundle, parse_bundle
from coafi.ledger.checkpoint import open_checkpoint
from coafi.ledger.entry import Recorded
from coafi.ledger.keys import Signer, generate_key
from coafi.ledger.log import Ledger
from coafi.ledger.port import LedgerTransaction
from coafi.ledger.remote import RemoteLedger
from coafi.ledger.wire import MAX_DRAFTS
from tests.coafi.ledger.making import HANG, draft
from tests.coafi.ledger.serving import READ_TOKEN, Served, remote, served

Change_ = Callable[[httpx.Request, httpx.Response, bytes], httpx.Response]


class Meddler(httpx.BaseTransport):
    """A way to the gateway on which somebody listens, and changes answers."""

    def __init__(self, change: Change_ | None = None) -> None:
        self.change = change
        self.seen: list[str] = []
        self._way = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Pass a request on, and its answer back."""
        self.seen.append(f"{request.method} {request.url.path.removeprefix('/bitt/')}")
        response = self._way.handle_request(request)
        response.request = request
        body = response.read()
        headers = {name: value for name, value in response.headers.items() if name.startswith("retry")}
        passed = httpx.Response(response.status_code, content=body, headers=headers)
        return self.change(request, passed, body) if self.change else passed

    @property
    def client(self) -> httpx.Client:
        """A client whose requests go this way."""
        return httpx.Client(transport=self, timeout=HANG)


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("there")) as one:
        yield one


@pytest.fixture
def way() -> Meddler:
    return Meddler()


@pytest.fixture
def here(there: Served, tmp_path: Path, way: Meddler) -> Iterator[RemoteLedger]:
    with remote(there, tmp_path, client=way.client) as ledger:
        yield ledger


_numbers = iter(range(10**9))


def new(**changes: Any) -> Any:
    """A draft that no test has recorded yet."""
    return draft(f"remote-{next(_numbers)}", **changes)


def on(path: str, change: Callable[[Any], Any]) -> Change_:
    """Change the JSON of one route's answers."""

    def changed(request: httpx.Request, response: httpx.Response, body: bytes) -> httpx.Response:
        if not request.url.path.startswith(f"/bitt/{path}") or response.status_code != 200:
            return response
        return httpx.Response(200, content=json.dumps(change(json.loads(body))).encode())

    return changed


def fails(status: int, body: bytes = b"", **headers: str) -> Change_:
    return lambda _request, _response, _body: httpx.Response(status, content=body, headers=headers)


# ------------------------------------------------------------------------------------------- appending


def test_entries_cross_the_wire_as_they_are(here: RemoteLedger, there: Served) -> None:
    made = new(data={"text": '"quoted" \\ \x00 \U0001f600 ü', "change": Change.ADDED, "n": 1.5, "deep": [{"a": None}]})
    (recorded,) = here.append([made])
    assert recorded.fresh
    assert there.ledger.entry(recorded.index).body == recorded.body == made.body(recorded.entry.time)


def test_callers_that_wait_share_a_request_and_only_the_wrong_one_fails(
    here: RemoteLedger, there: Served, way: Meddler
) -> None:
    known = new()
    here.append([known])
    way.seen.clear()
    entered, release = threading.Event(), threading.Event()

    def hold(_request: httpx.Request, response: httpx.Response, _body: bytes) -> httpx.Response:
        entered.set()
        assert release.wait(HANG)
        return response

    way.change = hold
    with ThreadPoolExecutor(40) as pool:
        first = pool.submit(here.append, [new()])
        assert entered.wait(HANG)
        good = [pool.submit(here.append, [new(), new()]) for _ in range(30)]
        while len(here._waiting) < 30:
            threading.Event().wait(0.001)
        release.set()
        assert first.result(HANG)[0].fresh
        found = [one.result(HANG) for one in good]
    assert way.seen == ["POST entries"] * 2
    assert all(recorded.fresh for pair in found for recorded in pair)

    way.seen.clear()
    entered.clear()
    release.clear()
    other = draft(known.step.removeprefix("files.process/"), inputs={"other": 1})
    with ThreadPoolExecutor(40) as pool:
        first = pool.submit(here.append, [new()])
        assert entered.wait(HANG)
        good = [pool.submit(here.append, [new()]) for _ in range(5)]
        bad = pool.submit(here.append, [new(), other])
        while len(here._waiting) < 6:
            threading.Event().wait(0.001)
        release.set()
        with pytest.raises(IdempotencyConflict, match="made from other inputs"):
            bad.result(HANG)
        assert all(one.result(HANG)[0].fresh for one in good)
    assert way.seen == ["POST entries"] * (1 + 1 + 6)


def test_large_appends_are_each_sent_by_somebody(here: RemoteLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coafi.ledger.remote.GROUP_DRAFTS", 3)
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda _: here.append([new(), new()]), range(40)))
    assert len({recorded.index for pair in found for recorded in pair}) == 80


def test_what_is_too_much_is_refused_before_it_is_sent(here: RemoteLedger, way: Meddler) -> None:
    for drafts in ([draft(number) for number in range(MAX_DRAFTS + 1)], [new(data={"x": "a" * 65_000})] * 300):
        with pytest.raises(ValidationError, match="too much for one append"):
            here.append(drafts)
    with pytest.raises(ValidationError, match="65,535"):
        here.append([new(data={"x": "a" * 70_000})])
    with pytest.raises(ValidationError, match="canonical"):
        here.append([new(inputs={"x": 2**60})])
    assert way.seen == []


def test_a_closed_ledger_refuses(there: Served, tmp_path: Path) -> None:
    with remote(there, tmp_path) as ledger:
        ledger.close()
        for call in (lambda: ledger.append([new()]), lambda: ledger.append([]), ledger.size):
            with pytest.raises(LedgerUnavailable, match="closed"):
                call()
        with pytest.raises(LedgerUnavailable, match="closed"):
            ledger.transact(lambda _: None)


# --------------------------------------------------------------------------------------- rows and entries


def table(ledger: RemoteLedger) -> None:
    ledger.transact(lambda t: t.connection.execute(text("CREATE TABLE note (n INTEGER PRIMARY KEY)")))


def rows(ledger: RemoteLedger) -> list[int]:
    return ledger.transact(lambda t: [row[0] for row in t.connection.execute(text("SELECT n FROM note ORDER BY n"))])


@pytest.mark.parametrize("rows_first", [True, False])
def test_no_lock_is_held_while_the_other_side_is_waited_for(
    here: RemoteLedger, way: Meddler, tmp_path: Path, *, rows_first: bool
) -> None:
    table(here)
    other = Database(tmp_path / "coafi.db", write_lock_timeout=0.05)
    locked = []

    def write(_request: httpx.Request, response: httpx.Response, _body: bytes) -> httpx.Response:
        try:
            with other.write():
                locked.append(False)
        except Unavailable:
            locked.append(True)
        return response

    way.change = write
    made, runs = new(), []

    def unit(transaction: LedgerTransaction) -> Recorded:
        runs.append(1)
        if rows_first:
            transaction.connection.execute(text("INSERT INTO note VALUES (1)"))
        (recorded,) = transaction.append([made])
        if not rows_first:
            transaction.connection.execute(text("INSERT INTO note VALUES (1)"))
        return recorded

    assert here.transact(unit).fresh
    assert locked
    assert not any(locked)
    assert len(runs) == (2 if rows_first else 1)
    assert rows(here) == [1]
    other.close()


def test_a_crash_between_entries_and_rows_is_mended_by_the_next_try(here: RemoteLedger, there: Served) -> None:
    table(here)
    size = there.ledger.size()
    made = new()

    def unit(transaction: LedgerTransaction) -> bool:
        transaction.connection.execute(text("INSERT INTO note VALUES (1)"))
        (recorded,) = transaction.append([made])
        if crashes:
            raise KeyboardInterrupt
        return recorded.fresh

    crashes = True
    with pytest.raises(KeyboardInterrupt):
        here.transact(unit)
    assert (there.ledger.size(), rows(here)) == (size + 1, [])
    crashes = False
    assert here.transact(unit) is False
    assert (there.ledger.size(), rows(here)) == (size + 1, [1])


def test_a_database_that_is_away_is_told_as_such(here: RemoteLedger, there: Served, tmp_path: Path) -> None:
    table(here)
    here._database._write_lock_timeout = 0.05
    other = Database(tmp_path / "coafi.db")
    size = there.ledger.size()
    with other.write(), pytest.raises(LedgerUnavailable, match="locked"):
        here.transact(lambda t: t.connection.execute(text("INSERT INTO note VALUES (1)")))
    other.close()
    with pytest.raises(LedgerUnavailable, match="no such table"):
        here.transact(lambda t: t.connection.execute(text("INSERT INTO absent VALUES (1)")))
    assert there.ledger.size() == size


def test_a_unit_that_never_appends_the_same_ends(here: RemoteLedger) -> None:
    def unit(transaction: LedgerTransaction) -> None:
        _ = transaction.connection
        transaction.append([new()])

    with pytest.raises(RuntimeError, match="other entries whenever"):
        here.transact(unit)


def test_a_unit_gets_its_conflict_and_may_go_on(here: RemoteLedger) -> None:
    made = new()
    here.append([made])
    other = draft(made.step.removeprefix("files.process/"), inputs={"other": 1})

    def unit(transaction: LedgerTransaction) -> bool:
        with pytest.raises(IdempotencyConflict):
            transaction.append([other])
        return transaction.append([new()])[0].fresh

    assert here.transact(unit)


# ------------------------------------------------------------------------------------ refusals and outages


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (fails(500, b"<html>"), "answers POST entries with 500"),
        (fails(502), "502"),
        (fails(401), "BITT_API_TOKEN"),
        (fails(403), "COAFI_INSTANCE"),
        (fails(404, b'{"type": "about:blank", "detail": "no such page"}'), "no such page.*BITT_API_URL"),
        (fails(409, b"{}"), "409"),
        (fails(413), "413"),
        (fails(302, location="http://127.0.0.1:1/"), "302.*must not redirect"),
        (fails(200, b"<html>hello</html>"), "what is no EntriesAnswer"),
        (fails(200, b"x" * 4_000_000), "more than"),
    ],
)
def test_whatever_else_is_answered_is_a_matter_of_waiting(
    here: RemoteLedger, way: Meddler, change: Change_, message: str
) -> None:
    here.checkpoint()
    way.change = change
    with pytest.raises(LedgerUnavailable, match=message) as caught:
        here.append([new()])
    assert "token-that-nobody" not in str(caught.value)


def test_a_wait_that_the_other_side_asks_for_is_passed_on(here: RemoteLedger, way: Meddler) -> None:
    here.checkpoint()
    for said, meant in (("7", 7.0), ("100000", 60.0), ("soon", None)):
        way.change = fails(503, b"", **{"retry-after": said})
        with pytest.raises(LedgerUnavailable) as caught:
            here.append([new()])
        assert caught.value.retry_after == meant


def test_a_token_that_only_reads_or_none_is_a_matter_of_waiting(there: Served, tmp_path: Path) -> None:
    for number, token in enumerate((READ_TOKEN, "wrong")):
        with (
            remote(there, tmp_path / str(number), token=SecretStr(token)) as ledger,
            pytest.raises(LedgerUnavailable, match="BITT_API_TOKEN"),
        ):
            ledger.append([new()])


def test_nobody_there_is_a_matter_of_waiting_and_nothing_is_asked_before_it_must(there: Served, tmp_path: Path) -> None:
    with (
        remote(there, tmp_path, url="http://127.0.0.1:1") as ledger,
        pytest.raises(LedgerUnavailable, match="out of reach: ConnectError"),
    ):
        ledger.append([new()])


def test_an_outage_of_the_other_database_is_passed_on(here: RemoteLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    here.checkpoint()
    with monkeypatch.context() as patch:
        patch.setattr("starters.bitt.RETRY_AFTER", 3)

        def away(*_arguments: object) -> None:
            raise LedgerUnavailable("the disk is full")

        patch.setattr(Ledger, "append", away)
        made = new()
        with pytest.raises(LedgerUnavailable, match="the disk is full") as caught:
            here.append([made])
        assert caught.value.retry_after == 3
    assert here.append([made])[0].fresh


# ------------------------------------------------------------------------------------------------- lies


def forged(answer: Any, **changes: Any) -> Any:
    body = json.loads(answer["entries"][0]["body"]) | changes
    answer["entries"][0]["body"] = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return answer


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: forged(a, data={"verdict": "valid"}), "and has changed it"),
        (lambda a: forged(a, request="0" * 64), "another entry"),
        (lambda a: forged(a, key="0" * 64), "another's key"),
        (lambda a: {"entries": []}, "answers with 0"),
        (lambda a: {"entries": a["entries"] * 2}, "answers with 2"),
        (lambda a: {"entries": [{"index": 0, "body": "{}", "fresh": True}]}, "not a ledger entry"),
    ],
)
def test_an_answer_that_is_not_what_was_asked_is_found(
    here: RemoteLedger, way: Meddler, change: Callable[[Any], Any], message: str
) -> None:
    here.checkpoint()
    way.change = on("entries", change)
    with pytest.raises(IntegrityError, match=message):
        here.append([new()])


def test_reads_that_answer_something_else_are_found(here: RemoteLedger, way: Meddler) -> None:
    recorded = here.append([new(event="lies"), new(event="lies")])
    first = recorded[0]
    way.change = on("entries", lambda a: {"entries": [{**one, "index": one["index"] + 1} for one in a["entries"]]})
    with pytest.raises(IntegrityError, match="answers with entry"):
        here.entry(first.index)
    way.change = on("entries", lambda a: {"entries": a["entries"][::-1]})
    with pytest.raises(IntegrityError, match="in disorder"):
        here.by_event("lies")
    way.change = on("entries", lambda a: forged(a, event="other"))
    with pytest.raises(IntegrityError, match="the entries of an event"):
        here.by_event("lies")
    way.change = lambda request, response, _body: (
        httpx.Response(
            200,
            content=way._way.handle_request(
                httpx.Request("GET", request.url.copy_with(query=b"start=0&end=1"), headers=request.headers)
            ).read(),
        )
        if b"key=" in request.url.query
        else response
    )
    with pytest.raises(IntegrityError, match="answers with another"):
        here.index_of(first.entry.key)
    way.change = on("head", lambda a: {**a, "origin": "other.example/log"})
    with pytest.raises(IntegrityError, match="keeps the ledger"):
        here.size()
    way.change = on("tile/0", lambda a: a)
    way.change = lambda request, response, body: (
        httpx.Response(200, content=body[:-32]) if "/tile/0" in request.url.path else response
    )
    with pytest.raises(IntegrityError, match=r"tile/0/.* holds"):
        list(here.tiles())
    way.change = lambda request, response, body: (
        httpx.Response(200, content=encode_bundle(parse_bundle(body)[1:]))
        if "/entries/" in request.url.path
        else response
    )
    with pytest.raises(IntegrityError, match="entries"):
        list(here.bodies())


def test_a_proof_is_verified_before_it_is_handed_out(here: RemoteLedger, way: Meddler) -> None:
    one, two = here.append([new(), new()])
    assert here.prove(two.index).index == two.index
    way.change = on("proof/", lambda a: {**a, "hashes": ["0" * 64, *a["hashes"][1:]]} if "checkpoint" in a else a)
    with pytest.raises(IntegrityError):
        here.prove(one.index)
    way.change = on("proof/", lambda a: {**a, "checkpoint": a["checkpoint"].replace("\n\n", "\nmore\n\n")})
    with pytest.raises(IntegrityError, match="is none"):
        here.prove(one.index)
    way.change = lambda request, response, _body: (
        way._way.handle_request(
            httpx.Request("GET", request.url.copy_with(path=f"/bitt/proof/{two.index}"), headers=request.headers)
        )
        if request.url.path == f"/bitt/proof/{one.index}"
        else response
    )
    with pytest.raises(IntegrityError, match=f"asked to prove entry {one.index}"):
        here.prove(one.index)
    way.change = on("proof/inclusion", lambda a: {"hashes": a["hashes"][:-1]})
    with pytest.raises(IntegrityError):
        here.inclusion_proof(one.index)
    way.change = on("proof/consistency", lambda a: {"hashes": a["hashes"][:-1]})
    with pytest.raises(IntegrityError):
        here.consistency_proof(1)
    way.change = None
    with pytest.raises(ResourceNotFoundError):
        here.prove(-1)


# -------------------------------------------------------------------------------------- rollback and fork


@contextmanager
def home_of_a_ledger(home: Path, entries: int, *, mark: str = "") -> Iterator[Served]:
    """A served ledger with so many entries, on the files in ``home``, whose signing key is always the same one."""
    secrets = home / "home" / "secrets"
    if not secrets.exists():
        secrets.mkdir(parents=True, mode=0o700)
        key = home.parent / "key"
        if not key.exists():
            generate_key(key, "coafi.local/bitt")
        shutil.copy(key, secrets / "ledger-key")
    with served(home) as one:
        one.ledger.append([draft(f"{mark}{number}") for number in range(entries)])
        one.ledger.checkpoint(force=True)
        yield one


def test_a_ledger_that_was_put_back_is_refused_also_by_the_next_process(tmp_path: Path) -> None:
    with home_of_a_ledger(tmp_path / "a", 5) as one, remote(one, tmp_path / "here") as ledger:
        assert ledger.checkpoint().size == 5
    with home_of_a_ledger(tmp_path / "b", 3) as one, remote(one, tmp_path / "here") as ledger:
        for call in (lambda: ledger.append([new()]), ledger.checkpoint, lambda: ledger.prove(0)):
            with pytest.raises(IntegrityError, match="shows a checkpoint of 3 entries, and has shown one of 5"):
                call()
        assert one.ledger.size() == 3
    with home_of_a_ledger(tmp_path / "a", 5) as one, remote(one, tmp_path / "here") as ledger:
        assert ledger.append([new()])[0].index == 5


@pytest.mark.parametrize("entries", [5, 9])
def test_a_ledger_with_another_history_is_refused(tmp_path: Path, entries: int) -> None:
    with home_of_a_ledger(tmp_path / "a", 5) as one, remote(one, tmp_path / "here") as ledger:
        kept = ledger.checkpoint()
    with home_of_a_ledger(tmp_path / "b", entries, mark="fork") as one, remote(one, tmp_path / "here") as ledger:
        with pytest.raises(IntegrityError, match=r"rewritten \(a fork\)"):
            ledger.append([new()])
        assert one.ledger.size() == entries
    assert (tmp_path / "here" / "state" / "checkpoint").read_text() == kept.note


def test_a_ledger_that_loses_what_it_acknowledged_is_found(tmp_path: Path) -> None:
    with home_of_a_ledger(tmp_path / "a", 5) as one:
        way = Meddler()
        with remote(one, tmp_path / "here", client=way.client) as ledger:
            ledger.append([draft("acknowledged")])
            old = Meddler()

            def earlier(request: httpx.Request, response: httpx.Response, _body: bytes) -> httpx.Response:
                if request.url.path == "/bitt/checkpoint":
                    return httpx.Response(200, content=(tmp_path / "here" / "state" / "checkpoint").read_bytes())
                return response

            way.change = earlier
            assert old.change is None
            with pytest.raises(IntegrityError, match="it acknowledged entry 5, and now signs a log of 5"):
                ledger.checkpoint(force=True)


def test_another_key_is_not_trusted(there: Served, tmp_path: Path) -> None:
    stranger = Signer("coafi.local/bitt", bytes(32)).key
    with (
        remote(there, tmp_path, key=stranger) as ledger,
        pytest.raises(IntegrityError, match=r"its checkpoint is not one of coafi\.local/bitt\+"),
    ):
        ledger.append([new()])
    with remote(there, tmp_path / "good") as ledger:
        ledger.checkpoint()
    with (
        remote(there, tmp_path / "good", key=stranger) as ledger,
        pytest.raises(IntegrityError, match="a home keeps to one ledger"),
    ):
        ledger.append([new()])


def test_the_checkpoint_is_looked_at_once_in_a_while_and_two_processes_share_what_they_saw(
    there: Served, tmp_path: Path, way: Meddler
) -> None:
    with (
        remote(there, tmp_path, client=way.client) as one,
        remote(there, tmp_path, check_seconds=0) as two,
    ):
        for _ in range(5):
            one.append([new()])
        assert [path for path in way.seen if "checkpoint" in path] == ["GET checkpoint"]
        there.ledger.checkpoint(force=True)
        size = there.ledger.size()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda which: which.checkpoint(force=True), [one, two] * 8))
            list(pool.map(lambda which: which.append([new()]), [one, two] * 8))
        two.checkpoint(force=True)
        note = (tmp_path / "state" / "checkpoint").read_bytes()
        assert open_checkpoint(note, there.ledger.key).size == size + 16
