"""The ``coafi`` command as people and scripts run it, against one running service."""

import asyncio
import json
import re
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from coafi.commits import submitted_commit
from coafi.errors import IntegrityError
from coafi.ledger.keys import VerifierKey
from coafi.ledger.proof import Proof
from coafi.ledger.verifier import verify_inclusion
from coafi.names import EntryType, Phase
from tests.harness import SECRET, Repository, documents
from tests.starters.support import TOKEN, UNREACHABLE, Home, Up

pytestmark = pytest.mark.also_in_soak  # there each command is a process

HOSTILE = "docs/[red]x[/blue] \x1b[31mé.json"
"""A file name that is markup to Rich and a colour to a terminal."""


@dataclass(frozen=True)
class Submitted:
    """A service, and a commit that went through it."""

    home: Home
    repository: Repository
    receipt: Any


@pytest_asyncio.fixture(scope="module")
async def done(service: tuple[Home, Up]) -> AsyncIterator[Submitted]:
    home, _ = service
    repository = Repository.create(home.root / "repository")
    repository.commit({**documents(2), "bad.yaml": "a: [1\n", HOSTILE: "{}"})
    receipt = await asyncio.to_thread(home.submit, repository.path.as_uri(), repository.head, "--wait")
    yield Submitted(home, repository, receipt)


def test_submit_waits_and_prints_a_receipt(done: Submitted) -> None:
    assert done.receipt["phase"] == Phase.PROCESSED
    assert done.receipt["counts"]["files"] == 4
    assert done.receipt["counts"]["invalid"] == 1
    assert done.receipt["conclusion"] == done.receipt["entries"][-1]["last"]


def test_submitting_the_same_again_finds_the_run_and_again_asks_for_another(done: Submitted) -> None:
    url, head = done.repository.path.as_uri(), done.repository.head
    same = done.home.submit(url, head)
    assert same["existed"] is True
    assert same["workflowId"] == done.receipt["workflow_id"]
    again = done.home.coafi_process("submit", "git-commit", "--repository", url, "--commit", head, "--again", "--wait")
    assert again.returncode == 0
    assert "PROCESSED" in again.stdout
    assert done.receipt["event_id"] not in again.stdout
    first = again.stdout.splitlines()
    assert re.fullmatch(r"http://\S+/timeline", first[-1])


@pytest.mark.parametrize(
    ("repository", "commit", "reason"),
    [
        ("ext::sh -c id", "a" * 40, "ext::sh"),
        ("--upload-pack=id", "a" * 40, "is refused"),
        ("file:///etc", "a" * 40, "file:///etc"),
        ("https://git.example/x", "main", "commitSha"),
        (f"https://ada:{TOKEN}@git.example/x", "abc", "commitSha"),
    ],
)
def test_a_commit_that_cannot_be_right_is_rejected_with_the_reason(
    done: Submitted, repository: str, commit: str, reason: str
) -> None:
    answer = done.home.coafi("submit", "git-commit", f"--repository={repository}", "--commit", commit, "--wait")
    assert answer.returncode == 1
    assert "REJECTED" in answer.stdout
    assert reason in answer.stdout
    assert "→" in answer.stdout


def test_a_commit_that_does_not_exist_is_rejected_with_the_reason(done: Submitted) -> None:
    url = done.repository.path.as_uri()
    answer = done.home.coafi("submit", "git-commit", "--repository", url, "--commit", "b" * 40, "--wait")
    assert answer.returncode == 1
    assert "REJECTED" in answer.stdout
    assert "does not have this commit" in answer.stdout


def test_waiting_for_a_run_that_parks_ends_with_the_reason(done: Submitted) -> None:
    answer = done.home.coafi(
        "submit", "git-commit", "--repository", UNREACHABLE, "--commit", "c" * 40, "--wait", "--json"
    )
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert "is parked at git.fetch: " in answer.stderr
    assert "coafi dead-letters retry" in answer.stderr


def test_events_list_shows_the_newest_first(done: Submitted) -> None:
    rows = done.home.json("events", "list")
    assert [row["receivedAt"] for row in rows] == sorted((row["receivedAt"] for row in rows), reverse=True)
    (ours,) = [row for row in rows if row["eventId"] == done.receipt["event_id"]]
    assert ours["phase"] == Phase.PROCESSED
    text = done.home.coafi("events", "list", "--limit", "1").stdout.splitlines()
    assert text[0].split() == ["Received", "Type", "Phase", "Event", "id", "UTidS", "About"]
    assert len(text) == 2


@pytest.mark.parametrize("name", ["event_id", "workflow_id", "utids"])
def test_events_show_knows_an_event_by_each_of_its_names(done: Submitted, name: str) -> None:
    shown = done.home.json("events", "show", done.receipt[name])
    assert shown["workflowId"] == done.receipt["workflow_id"]
    assert len(shown["files"]) == 4
    assert shown["counts"] == done.receipt["counts"]
    assert [entry["index"] for entry in shown["entries"]] == list(
        range(done.receipt["entries"][0]["first"], done.receipt["conclusion"] + 1)
    )


def test_events_show_prints_files_findings_and_entries_and_no_control_character(done: Submitted) -> None:
    text = done.home.coafi("events", "show", done.receipt["event_id"]).stdout
    assert "bad.yaml:2:1 error yaml/syntax" in text
    assert "EVENT_PROCESSED" in text
    assert r"docs/[red]x[/blue] \x1b[31mé.json" in text
    assert "\x1b" not in text


def test_events_show_says_why_an_event_was_rejected(done: Submitted) -> None:
    done.home.coafi("submit", "git-commit", "--repository", "ext::why", "--commit", "d" * 40, "--wait")
    event = next(row for row in done.home.json("events", "list") if row["phase"] == Phase.REJECTED)
    shown = done.home.json("events", "show", event["eventId"])
    assert shown["findings"][0]["message"]
    assert shown["findings"][0]["message"] in done.home.coafi("events", "show", event["eventId"]).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("events", "show", "nobody"), "no event is known as nobody"),
        (("ledger", "prove", "999999"), "the ledger has no entry 999999"),
        (("ledger", "show", "3", "999999"), "3 to 999999"),
        (("dead-letters", "retry"), "say which runs"),
        (("dead-letters", "retry", "--all", "x"), "say which runs"),
        (("dead-letters", "retry", "nobody"), "no event is known as nobody"),
    ],
)
def test_what_is_not_there_is_an_error_on_standard_error(
    done: Submitted, arguments: tuple[str, ...], said: str
) -> None:
    answer = done.home.coafi(*arguments)
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert answer.stderr.startswith("error: ")
    assert said in answer.stderr
    assert "→" in answer.stderr


def test_ledger_show_prints_entries(done: Submitted) -> None:
    last = done.receipt["conclusion"]
    entries = done.home.json("ledger", "show", "0", str(last))
    assert [entry["index"] for entry in entries] == list(range(last + 1))
    assert entries[-1]["type"] == EntryType.EVENT_PROCESSED
    text = done.home.coafi("ledger", "show", "0", str(last)).stdout
    assert len(text.splitlines()) == last + 2
    assert "\x1b" not in text
    one = done.home.coafi("ledger", "show", str(last)).stdout
    assert entries[-1]["key"] in one
    assert json.loads(one[one.index("{") :]) == entries[-1]["data"]


def test_a_printed_proof_verifies_with_nothing_but_the_key(done: Submitted) -> None:
    index = done.receipt["conclusion"]
    printed = done.home.json("ledger", "prove", str(index))
    checkpoint = done.home.json("ledger", "checkpoint")
    key = VerifierKey.parse(checkpoint["key"])
    verified = verify_inclusion(Proof.parse(json.dumps(printed)), key)
    assert verified.index == index
    assert verified.entry.utids == done.receipt["utids"]
    with pytest.raises(IntegrityError):
        verify_inclusion(Proof.parse(json.dumps({**printed, "entry": printed["entry"].replace("PRO", "pro")})), key)
    assert "the entry is in the signed tree" in done.home.coafi("ledger", "prove", str(index)).stdout


def test_ledger_verify_and_checkpoint_agree(done: Submitted) -> None:
    verified = done.home.json("ledger", "verify")
    assert verified["verified"] is True
    assert verified["size"] > done.receipt["conclusion"]
    note = done.home.coafi("ledger", "checkpoint").stdout
    assert note.splitlines()[1] >= str(verified["size"])
    assert "\n— coafi.local/bitt " in note
    assert "Verified" in done.home.coafi("ledger", "verify").stdout


async def test_dead_letters_are_listed_retried_and_discarded(done: Submitted) -> None:
    home, workflow = done.home, done.receipt["workflow_id"]
    parked = await home.parked()
    assert parked["step"] == "git.fetch"
    assert parked["message"]
    assert parked["workflowId"] in home.coafi("dead-letters", "list").stdout

    reports = home.json("dead-letters", "retry", parked["workflowId"], workflow, "--by", "ada", code=1)
    assert [(report["workflowId"], report["result"]) for report in reports] == [
        (parked["workflowId"], "retry"),
        (workflow, "refused"),
    ]
    assert reports[1]["message"]
    await home.until_parked(parked["workflowId"], times=2)
    (report,) = home.json("dead-letters", "discard", parked["workflowId"], "--by", "ada", "--reason", "it is gone")
    assert report == {"workflowId": parked["workflowId"], "result": "discard"}
    shown = home.json("events", "show", parked["workflowId"])
    assert shown["phase"] == Phase.FAILED
    assert shown["decisions"] == [{"by": "ada", "reason": "cause mended"}, {"by": "ada", "reason": "it is gone"}]
    assert [stop["sequence"] for stop in shown["parked"]] == [1, 2]
    assert home.coafi("dead-letters", "discard", "x").returncode == 2  # no reason given


def test_no_secret_was_printed_logged_or_stored(done: Submitted, service: tuple[Home, Up]) -> None:
    home, up = service
    assert up.log
    assert home.transcript.stat().st_size > 1_000
    secrets = [SECRET.encode(), TOKEN.encode()]
    own = home.path / "secrets"
    secrets += [file.read_bytes().strip() for file in own.iterdir()]
    assert len(secrets) >= 3
    files = [path for path in home.root.rglob("*") if path.is_file() and own not in path.parents]
    assert {"coafi.db", "temporal.log", "up.log", "transcript"} <= {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        assert not [secret for secret in secrets if secret in content], path
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in own.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("submit", "git-commit", "--repository", "x", "--commit", "y"), "no service runs in"),
        (("dead-letters", "list"), "no service runs in"),
        (("worker",), "no service runs in"),
        (("gateway",), "no service runs in"),
        (("events", "list"), "there is no database in"),
        (("ledger", "verify"), "there is no database in"),
    ],
)
def test_where_nothing_runs_the_error_says_what_to_do(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    home = Home(tmp_path)
    answer = home.coafi(*arguments)
    assert answer.returncode == 1
    assert f"error: {said} {home.path}" in answer.stderr
    assert "COAFI_HOME" in answer.stderr
    assert not home.path.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("COAFI_GIT_SLOTS", "0"),
        ("COAFI_GIT_TOKENS", "garbage-token"),
        ("COAFI_GIT_TOKENS", '{"git.example": ["garbage-token"]}'),
        ("COAFI_LOG_LEVEL", "loud"),
    ],
)
def test_a_bad_variable_is_named_without_its_value(home: Home, name: str, value: str) -> None:
    answer = home.coafi("events", "list", **{name: value})
    assert answer.returncode == 1
    assert name in answer.stderr
    assert "garbage-token" not in answer.stderr


def test_a_variable_that_no_setting_has_is_named(home: Home) -> None:
    answer = home.coafi("events", "list", COAFI_GTI_HOSTS="git.example")
    assert answer.returncode == 1
    assert "COAFI_GTI_HOSTS is no setting; did you mean COAFI_GIT_HOSTS?" in answer.stderr


def test_a_commit_submitted_by_somebody_else_is_the_same_event() -> None:
    ada, bob = (
        submitted_commit(
            repository_url="https://git.example/x",
            commit="a" * 40,
            before=None,
            branch="main",
            author=author,
            principal=f"submit:{author}",
            received=datetime.now(UTC),
        )
        for author in ("ada", "bob")
    )
    assert (ada[0].workflow_id, ada[0].bodydigest, ada[1]) == (bob[0].workflow_id, bob[0].bodydigest, bob[1])


def test_a_lost_key_of_the_ledger_is_not_replaced(done: Submitted, tmp_path: Path) -> None:
    copy = Home(tmp_path)
    copy.path.mkdir()
    (copy.path / "coafi.db").symlink_to(done.home.path / "coafi.db")
    answer = copy.coafi("ledger", "verify")
    assert answer.returncode == 1
    assert "there is no key file" in answer.stderr
    assert not (copy.path / "secrets").exists()


@pytest.mark.parametrize(("option", "value"), [("--reason", "x" * 501), ("--by", ""), ("--reason", "a\x1bb")])
def test_a_decision_that_cannot_be_recorded_is_refused(home: Home, option: str, value: str) -> None:
    answer = home.coafi(
        "dead-letters", "discard", "some-run", f"{option}={value}", *(() if option == "--reason" else ("--reason=why",))
    )
    assert answer.returncode == 1
    assert f"{option}: " in answer.stderr
    assert "1 to 500 characters" in answer.stderr


async def test_tampering_with_an_entry_is_found_and_the_entry_named(home: Home) -> None:
    async with home.up():
        repository = Repository.create(home.root / "repository")
        await asyncio.to_thread(home.submit, repository.path.as_uri(), repository.head, "--wait")
    assert home.json("ledger", "verify")["verified"] is True
    home.tamper(
        "UPDATE ledger_entry SET body = CAST(replace(CAST(body AS TEXT), 'submit:', 'permit:') AS BLOB) WHERE idx = 0"
    )
    answer = home.coafi("ledger", "verify")
    assert answer.returncode == 1
    assert "Verified" not in answer.stdout
    assert "entry 0" in answer.stderr
    assert home.coafi("ledger", "show", "0").returncode == 1


def test_warnings_never_stand_between_the_json(done: Submitted, tmp_path: Path) -> None:
    copy = Home(tmp_path)
    copy.path.mkdir()
    for name in ("coafi.db", "secrets"):
        (copy.path / name).symlink_to(done.home.path / name)
    answer = copy.coafi("ledger", "show", "0", "--json")  # without ledger/, where the last checkpoint is kept
    assert "ledger_state_missing" in answer.stderr
    assert json.loads(answer.stdout)[0]["index"] == 0


def test_help_is_quick_to_read_and_complete(home: Home) -> None:
    text = home.coafi("--help", COLUMNS="100").stdout
    for command in ("up", "demo", "worker", "gateway", "submit", "events", "docs", "ledger", "dead-letters"):
        assert re.search(rf"^[│ ]*{command} ", text, re.MULTILINE), command
