"""``coafi ledger``: what is read, proved and verified, how keys change, and how it fails."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pysqlite3.dbapi2
import pytest

from coafi.errors import Unavailable
from coafi.ledger.entry import Recorded
from coafi.ledger.keys import generate_key
from coafi.ledger.log import Ledger
from coafi.ledger.search import Query, find
from coafi.ledger.store import EntryRow
from coafi.names import workflow_id
from coafi.settings import Settings
from starters.ledger import tail_entries
from tests.coafi.ledger.making import HANG, draft, opened
from tests.starters.support import COMMAND, Home
from workers.resources import open_resources

pytestmark = pytest.mark.also_in_soak  # there each command is a process

START = datetime(2026, 11, 1, tzinfo=UTC)


@contextmanager
def ledger_of(home: Home) -> Iterator[Ledger]:
    """The ledger of a home, as a worker has it."""
    with open_resources(Settings(home=home.path)) as resources:
        assert isinstance(resources.ledger, Ledger)
        yield resources.ledger


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with 20 entries, one a minute."""
    made = Home(tmp_path)
    with ledger_of(made) as ledger:
        for number in range(20):
            ledger._appender._clock = lambda number=number: START + timedelta(minutes=number)  # type: ignore[misc]
            ledger.append([draft(number, event=f"e{number % 4}")])
    return made


def refused(home: Home, *arguments: str, said: str, **environment: str) -> None:
    answer = home.coafi("ledger", *arguments, **environment)
    assert answer.returncode == 1, answer.stdout
    assert answer.stdout == ""
    assert answer.stderr.startswith("error: ")
    assert said in answer.stderr
    assert "→" in answer.stderr


def indices(found: Any) -> list[int]:
    return [one["index"] for one in found]


# ------------------------------------------------------------------------ read


def test_show_gives_the_newest(home: Home) -> None:
    assert indices(home.json("ledger", "show")) == list(range(10, 20))
    assert indices(home.json("ledger", "show", "--limit", "3")) == [17, 18, 19]
    assert indices(home.json("ledger", "show", "4", "6")) == [4, 5, 6]


def test_find_combines_what_is_said(home: Home) -> None:
    assert indices(home.json("ledger", "find", "--event", "e1")) == [1, 5, 9, 13, 17]
    assert indices(home.json("ledger", "find", "--type", "FILE_PROCESSED")) == list(range(20))
    assert home.json("ledger", "find", "--type", "EVENT_PROCESSED") == []
    found = home.json("ledger", "find", "--since", "2026-11-01T00:05", "--until", "2026-11-01T02:08:00+02:00")
    assert indices(found) == [5, 6, 7]
    assert indices(home.json("ledger", "find", "--event", "e1", "--since", "2026-11-01T00:06:00Z")) == [9, 13, 17]
    text = home.coafi("ledger", "find", "--until", "2026-11-01T00:02")
    assert [line.split()[0] for line in text.stdout.splitlines()] == ["0", "1"]
    assert "No entry" in home.coafi("ledger", "find", "--utids", "none").stderr
    refused(home, "find", "--since", "yesterday", said="'yesterday' is no time")


def test_find_goes_by_repository_and_utids(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        for number, repository in enumerate(["https://example.com/ä b", "https://example.com/r", "none"]):
            made = draft(number)
            workflow = workflow_id("git.commit", repository, "1") if repository != "none" else "ledger"
            ledger.append([type(made)(**{**vars(made), "workflow_id": workflow, "utids": f"utids:{number}"})])

        def found(**query: str) -> list[int]:
            return [one.index for one in find(ledger, Query(**query))]  # type: ignore[arg-type]

        assert found(repository="https://example.com/ä b") == [0]
        assert found(repository="https://example.com/r") == [1]
        assert found(repository="https://example.com/") == []
        assert found(repository="ledger") == []
        assert found(utids="utids:2") == [2]
        assert found(utids="utids:") == []


def test_a_clock_that_was_set_back_hides_no_entry(tmp_path: Path) -> None:
    minutes = [0, 1, 2, 3, 1, 2, 3, 4, 5]
    with opened(tmp_path) as ledger:
        for number, minute in enumerate(minutes):
            ledger._appender._clock = lambda minute=minute: START + timedelta(minutes=minute)  # type: ignore[misc]
            ledger.append([draft(number)])
        for since in range(7):
            for until in range(since, 7):
                query = Query(since=START + timedelta(minutes=since), until=START + timedelta(minutes=until))
                expected = [at for at, minute in enumerate(minutes) if since <= minute < until]
                assert [one.index for one in find(ledger, query)] == expected


def test_a_time_range_is_found_by_bisection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path) as ledger:
        for hour in range(40):
            ledger._appender._clock = lambda hour=hour: START + timedelta(hours=hour)  # type: ignore[misc]
            ledger.append([draft(f"{hour}/{i}") for i in range(5)])
        asked: list[tuple[int, int | None]] = []
        rows = ledger.rows

        def noted(start: int, stop: int | None) -> Iterator[EntryRow]:
            asked.append((start, stop))
            return rows(start, stop)

        monkeypatch.setattr(ledger, "rows", noted)
        query = Query(since=START + timedelta(hours=20), until=START + timedelta(hours=21))
        assert [one.index for one in find(ledger, query)] == list(range(100, 105))
        assert asked == [(100, 110)], "and what a clock may have been set back by"


def test_tail_prints_a_line_for_each(home: Home) -> None:
    lines = home.coafi_process("ledger", "tail", "--limit", "2").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["18", "19"]
    printed = home.coafi_process("ledger", "tail", "--json", "--limit", "3").stdout
    assert indices(json.loads(line) for line in printed.splitlines()) == [17, 18, 19]


def test_tail_follows_through_locks_until_ctrl_c(home: Home) -> None:
    process = subprocess.Popen(
        [COMMAND, "ledger", "tail", "--follow", "--limit", "1", "--json"],
        env=home.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert json.loads(process.stdout.readline())["index"] == 19
        with ledger_of(home) as ledger:
            ledger.append([draft(20), draft(21)])
            assert [json.loads(process.stdout.readline())["index"] for _ in range(2)] == [20, 21]
        with closing(pysqlite3.dbapi2.connect(str(home.path / "coafi.db"), isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            time.sleep(1.5)
            assert process.poll() is None
            connection.execute("COMMIT")
        with ledger_of(home) as ledger:
            ledger.append([draft(22)])
        assert json.loads(process.stdout.readline())["index"] == 22
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=HANG)
        assert (process.returncode, out, errors) == (0, "", "")
    finally:
        process.kill()
        process.communicate()


def test_tail_waits_out_an_outage_and_says_so_once(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An outage of reads is hard to make with SQLite: readers never wait for writers."""
    entries, calls = Ledger.entries, iter(range(100))

    def sometimes(ledger: Ledger, start: int, stop: int) -> list[Recorded]:
        number = next(calls)
        if number in (2, 3):
            raise Unavailable("the database is away", remedy="wait")
        if number > 6:
            signal.raise_signal(signal.SIGINT)
        return entries(ledger, start, stop)

    monkeypatch.setattr(Ledger, "entries", sometimes)
    monkeypatch.setattr("starters.ledger.FOLLOW_SECONDS", 0)
    monkeypatch.setenv("COAFI_HOME", str(home.path))
    tail_entries(2, follow=True, as_json=True)
    printed = capsys.readouterr()
    assert indices(json.loads(line) for line in printed.out.splitlines() if line.startswith("{")) == [18, 19]
    assert printed.err.count("the database is away") == 1
    calls = iter([2])
    with pytest.raises(Unavailable):
        tail_entries(2, follow=False, as_json=True)


# ------------------------------------------------------------ prove and verify


def test_a_proof_in_a_file_is_verified_without_a_home(home: Home, tmp_path: Path) -> None:
    proof, key = tmp_path / "proof.json", tmp_path / "key.txt"
    assert "proof.json" in home.coafi("ledger", "prove", "7", "-o", str(proof)).stdout
    vkey = home.json("ledger", "checkpoint")["key"]
    key.write_text(vkey + "\n")
    elsewhere = Home(tmp_path / "elsewhere")
    elsewhere.root.mkdir()
    for given in (vkey, str(key)):
        found = elsewhere.json("ledger", "verify", "--proof", str(proof), "--key", given)
        assert (found["verified"], found["index"], found["entry"]["step"]) == (True, 7, "files.process/7")
    assert "entry 7 is in" in elsewhere.coafi("ledger", "verify", "--proof", str(proof), "--key", vkey).stdout
    assert not elsewhere.path.exists()
    stranger = str(generate_key(tmp_path / "stranger", "coafi.local/bitt").key)
    refused(elsewhere, "verify", "--proof", str(proof), "--key", stranger, said="not signed by")
    proof.write_text(proof.read_text().replace("files.process/7", "files.process/8"))
    refused(elsewhere, "verify", "--proof", str(proof), "--key", vkey, said="entry 7 is not in the tree")
    proof.write_bytes(os.urandom(2_000))
    refused(elsewhere, "verify", "--proof", str(proof), "--key", vkey, said="not a proof")
    refused(elsewhere, "verify", "--proof", "/nowhere", "--key", vkey, said="cannot be read")
    refused(elsewhere, "verify", "--proof", str(proof), said="do not go together")
    refused(elsewhere, "verify", "--proof", str(proof), "--key", vkey, "--hand-overs", str(key), said="no hand-overs")
    refused(home, "prove", "7", "-o", "/nowhere/proof.json", said="cannot be written")


def test_verify_says_what_it_checked(home: Home) -> None:
    found = home.json("ledger", "verify")
    assert (found["verified"], found["size"], found["keys"], found["timesBack"]) == (True, 20, 1, 0)
    assert found["checkpoints"] >= 2
    answer = home.coafi("ledger", "verify")
    for word in ("Verified", "Tiles", "Checkpoints", "Keys", "in order"):
        assert word in answer.stdout
    assert answer.stderr == "", "no progress where there is no terminal"


def test_a_checkpoint_that_was_kept_shows_a_fork_or_none(home: Home, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text(home.coafi("ledger", "checkpoint").stdout)
    with ledger_of(home) as ledger:
        ledger.append([draft(20)])
    assert home.json("ledger", "verify", "--against", str(kept))["to"] == 21
    assert "begin with the 20" in home.coafi("ledger", "verify", "--against", str(kept)).stdout
    as_json = tmp_path / "kept.json"
    as_json.write_text(json.dumps({"checkpoint": kept.read_text(), "key": "whatever"}))
    assert home.json("ledger", "verify", "--against", str(as_json))["from"] == 20
    for garbage in ('{"checkpoint": 7}', "[[", "[" * 100_000, '{"checkpoint": "x"}'):
        as_json.write_text(garbage)
        refused(home, "verify", "--against", str(as_json), said="this is not a signed checkpoint")
    forged = Home(tmp_path / "forged")
    forged.path.mkdir(parents=True)
    os.link(home.path / "secrets" / "ledger-key", tmp_path / "key")
    environment = {"COAFI_LEDGER_KEY_FILE": str(tmp_path / "key")}
    with open_resources(Settings(home=forged.path, ledger_key_file=tmp_path / "key")) as resources:
        resources.ledger.append([draft(number) for number in range(30)])
    refused(forged, "verify", "--against", str(kept), said="not a continuation", **environment)
    kept.write_text(home.coafi("ledger", "checkpoint").stdout.replace("\n21\n", "\n20\n"))
    refused(home, "verify", "--against", str(kept), said="signature of coafi.local/bitt under the note is wrong")


# ------------------------------------------------------------------------ keys


def test_a_rotated_key_is_listed_and_old_proofs_lead_to_it(home: Home, tmp_path: Path) -> None:
    old_proof, new_proof, keys = (tmp_path / name for name in ("old.json", "new.json", "keys.json"))
    home.coafi("ledger", "prove", "3", "-o", str(old_proof))
    (old,) = home.json("ledger", "keys", "list")["keys"]
    done = home.json("ledger", "keys", "rotate")
    assert (done["old"], done["size"]) == (old["key"], 21)
    keys.write_text(home.coafi("ledger", "keys", "list", "--json").stdout)
    listed = json.loads(keys.read_text())
    assert [(one["since"], one["until"], one["active"]) for one in listed["keys"]] == [(0, 21, False), (21, None, True)]
    text = home.coafi("ledger", "keys", "list").stdout
    assert "active" in text
    assert "retired" in text
    with ledger_of(home) as ledger:
        ledger.append([draft("later")])
    home.coafi("ledger", "prove", "3", "-o", str(new_proof))
    trust_old = ("--key", old["key"])
    assert home.json("ledger", "verify", "--proof", str(old_proof), *trust_old)["verified"] is True
    refused(home, "verify", "--proof", str(new_proof), *trust_old, said="not signed by")
    found = home.json("ledger", "verify", "--proof", str(new_proof), *trust_old, "--hand-overs", str(keys))
    assert found["size"] == 22
    assert home.json("ledger", "verify")["keys"] == 2
    assert "New key" in home.coafi("ledger", "keys", "rotate").stdout
    assert len(home.json("ledger", "keys", "list")["keys"]) == 3
    assert "PRIVATE" not in home.transcript.read_text()


def test_a_key_from_the_environment_hands_over_to_one_in_a_file(tmp_path: Path) -> None:
    home, first, second = Home(tmp_path), tmp_path / "first.key", tmp_path / "second.key"
    made = home.json("ledger", "keys", "generate", str(first))
    assert made["key"] in home.coafi("ledger", "keys", "generate", str(second)).stdout or second.exists()
    refused(home, "keys", "generate", str(second), said="already")
    held = {"COAFI_LEDGER_KEY": first.read_text()}
    with open_resources(Settings(home=home.path, ledger_key=first.read_text())) as resources:
        assert str(resources.ledger.key) == made["key"]
    assert not (home.path / "secrets" / "ledger-key").exists()
    refused(home, "keys", "rotate", said="no command can replace it", **held)
    done = home.coafi("ledger", "keys", "rotate", "--to", str(second), **held)
    assert "restart them" in done.stdout
    assert "retired" in home.coafi("ledger", "keys", "list", COAFI_LEDGER_KEY_FILE=str(second)).stdout
    assert "Verified" in home.coafi("ledger", "verify", COAFI_LEDGER_KEY_FILE=str(second)).stdout
    refused(home, "verify", said="both set", COAFI_LEDGER_KEY_FILE=str(second), **held)
    refused(home, "verify", said="no key file", COAFI_LEDGER_KEY_FILE=str(tmp_path / "none"))
    refused(home, "verify", said="not a private key", COAFI_LEDGER_KEY="secret")
    second.chmod(0o640)
    refused(home, "verify", said="chmod 600", COAFI_LEDGER_KEY_FILE=str(second))
    assert "PRIVATE+KEY+coafi" not in home.transcript.read_text()


def test_a_key_file_that_is_named_is_never_made(tmp_path: Path) -> None:
    program = (
        "from workers.resources import open_resources; from coafi.settings import load_settings\n"
        "with open_resources(load_settings()): pass"
    )
    environment = Home(tmp_path).environment(COAFI_LEDGER_KEY_FILE=str(tmp_path / "none"))
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert "there is no key file" in done.stderr
    assert not (tmp_path / "none").exists()
