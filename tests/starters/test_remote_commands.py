"""The commands of an instance that uses another one's ledger, and of that one, while the ledger's key is changed."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from coafi.events import EventRef
from coafi.recording import EventRecorder
from coafi.settings import Settings
from tests.coafi.ledger.serving import APPEND_TOKEN, INSTANCE, Served, served
from tests.coafi.receipts.making import an_event
from tests.starters.support import Home
from workers.resources import open_resources

WRONG: dict[str, Any] = {"data": {"repositoryUrl": 7}}


@dataclass(frozen=True)
class Pair:
    """Two instances: ``a`` keeps the ledger, ``b`` has recorded an event in it."""

    a: Home
    b: Home
    served: Served
    event: EventRef

    @property
    def environment(self) -> dict[str, str]:
        """What tells the commands of ``b`` where its ledger is."""
        return {
            "BITT_API_URL": self.served.url,
            "BITT_API_KEY": str(self.served.ledger.keys.terms[0].key),
            "BITT_API_TOKEN": APPEND_TOKEN,
            "COAFI_INSTANCE": INSTANCE,
        }

    def at_b(self, *arguments: str, fails: bool = False) -> str:
        """What a command at ``b`` prints; its error, if it fails."""
        done = self.b.coafi(*arguments, **self.environment)
        assert done.returncode == int(fails), (done.stdout, done.stderr)
        return done.stderr if fails else done.stdout

    def at_a(self, *arguments: str, fails: bool = False) -> str:
        """The same at ``a``."""
        done = self.a.coafi(*arguments)
        assert done.returncode == int(fails), (done.stdout, done.stderr)
        return done.stderr if fails else done.stdout


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    root = tmp_path_factory.mktemp("pair")
    a, b = Home(root / "a"), Home(root / "b")
    for one in (a, b):
        one.root.mkdir()
    with served(a.root) as there:
        settings = Settings(
            home=b.path,
            instance=INSTANCE,
            bitt_api_url=there.url,
            bitt_api_key=str(there.ledger.key),
            bitt_api_token=APPEND_TOKEN,
        )
        with open_resources(settings) as resources:
            recorder = EventRecorder(
                ledger=resources.ledger,
                registry=resources.registry,
                namespace=settings.ledger_namespace,
                build="1.2.3",
            )
            event = an_event("at-b", **WRONG)
            yield Pair(a, b, there, event.ref(recorder.receive(event, "run-1").utids))


def test_a_receipt_is_made_where_the_key_is(pair: Pair, tmp_path: Path) -> None:
    said = pair.at_b("receipt", pair.event.id, "-o", str(tmp_path / "r.json"), fails=True)
    assert "signed with the ledger's key, and this ledger is another instance's (BITT_API_URL)" in said
    assert "run the same command where the ledger is kept" in said
    assert not list(tmp_path.iterdir())
    run = f"{INSTANCE}/default/{pair.event.workflow_id}"
    written = set()
    for name in (pair.event.id, pair.event.workflow_id, pair.event.utids, run):
        pair.at_a("receipt", name, "-o", str(tmp_path / "r.json"), "--force")
        written.add((tmp_path / "r.json").read_bytes())
    assert len(written) == 1
    shown = pair.at_a("receipt", "verify", str(tmp_path / "r.json"), "--key", str(pair.served.ledger.key))
    assert shown.startswith("Proved\n")
    for name in ("nobody", "git.commit:https://nobody.example:7", "UTIDS-P-" + "0" * 26, "ledger.keys"):
        assert f"no event is known as {name}" in pair.at_a("receipt", name, "-o", "-", fails=True)


def test_of_two_instances_that_received_the_same_each_has_its_receipt(pair: Pair, tmp_path: Path) -> None:
    ref = None
    for instance in ("plant-c", "plant-d"):
        recorder = EventRecorder(
            ledger=pair.served.ledger,
            registry=pair.served.resources.registry,
            namespace=f"{instance}/default",
            build="1.2.3",
        )
        with pair.served.resources.database.write() as connection:
            connection.exec_driver_sql("DELETE FROM delivery")
        event = an_event("shared", **WRONG)
        ref = event.ref(recorder.receive(event, "run-1").utids)
    with pair.served.resources.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM delivery")
    assert ref is not None
    said = pair.at_a("receipt", "shared", "-o", "-", fails=True)
    assert "2 events are known as shared" in said
    name = f"plant-d/default/{ref.workflow_id}"
    assert name in said
    receipt = json.loads(pair.at_a("receipt", name, "-o", "-"))
    assert {json.loads(one["entry"])["namespace"] for one in receipt["entries"]} == {"plant-d/default"}


@pytest.mark.soak
def test_after_a_change_of_the_key_both_instances_and_their_auditors_go_on(pair: Pair, tmp_path: Path) -> None:
    kept, before, after, keys = (str(tmp_path / name) for name in ("kept", "before.json", "after.json", "keys.json"))
    Path(kept).write_text(pair.at_b("ledger", "checkpoint"))
    pair.at_a("receipt", pair.event.id, "-o", before)
    done = json.loads(pair.at_a("ledger", "keys", "rotate", "--json"))
    pair.served.ledger.checkpoint(force=True)
    Path(keys).write_text(pair.at_b("ledger", "keys", "list", "--json"))
    assert json.loads(Path(keys).read_text()) == json.loads(pair.at_a("ledger", "keys", "list", "--json"))
    text = pair.at_b("ledger", "keys", "list")
    assert "retired" in text
    assert done["new"][-20:] in text.replace("\n", "")
    assert json.loads(pair.at_b("ledger", "checkpoint", "--json"))["key"] == done["new"]
    assert "Verified" in pair.at_b("ledger", "verify", "--against", kept)
    assert "Verified" in pair.at_b("ledger", "verify")
    assert "keys rotate" not in pair.at_b("ledger", "keys", "rotate", fails=True)

    from tests.coafi.ledger.making import draft

    pair.served.ledger.append([draft("beyond the hand-over")])
    pair.at_a("receipt", pair.event.id, "-o", after)
    verify = ("receipt", "verify")
    assert "not signed by" in pair.at_a(*verify, after, "--key", done["old"], fails=True)
    assert "not signed by" in pair.at_a(*verify, before, "--key", done["new"], fails=True)
    for key in (done["old"], done["new"]):
        for file in (before, after):
            assert pair.at_a(*verify, file, "--key", key, "--hand-overs", keys).startswith("Proved\n")
    assert pair.at_a(*verify, after, "--key", keys).startswith("Proved\n")
    assert "no hand-overs" in pair.at_a(*verify, after, "--key", done["old"], "--hand-overs", kept, fails=True)
