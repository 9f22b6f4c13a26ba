"""``coafi receipt``: what it writes where, what it says, and what it refuses."""

import contextlib
import io
import json
import os
import subprocess
from pathlib import Path

import pytest

from coafi.artifacts.cache import ArtifactService
from coafi.artifacts.model import GeneratorConfig
from coafi.errors import ValidationError
from coafi.ledger.log import Ledger
from coafi.names import EntryType
from coafi.processing import BatchProcessor
from coafi.recording import EventRecorder
from coafi.settings import Settings
from coafi.trees.commit import CommitContexts
from starters import receipts
from tests.coafi.receipts.making import OTHER, Service, verified
from tests.starters.support import COMMAND, HANG, Home, command
from workers.resources import open_resources


class Desk:
    """A home with events in it, its ledger's key, and a place for receipts."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        with open_resources(Settings(home=self.home.path)) as resources:
            assert isinstance(resources.ledger, Ledger)
            recorder = EventRecorder(
                ledger=resources.ledger, registry=resources.registry, namespace="default", build="1.2.3"
            )
            artifacts = ArtifactService(resources.database, resources.objects, GeneratorConfig())
            contexts = CommitContexts(resources.objects, resources.database)
            processor = BatchProcessor(
                recorder=recorder, objects=resources.objects, contexts=contexts, artifacts=artifacts
            )
            service = Service(resources.ledger, resources.objects, recorder, processor)
            self.processed = service.processed("done")
            self.rejected = service.rejected("bad")
            self.parked = service.parked("stuck")
            self.dead = service.dead_lettered("dead")
            service.receive("done", body="1", run="run-2")
            made = [one for one in service.entries(self.processed) if one.entry.type == EntryType.ARTIFACT_GENERATED]
            self.page = root / "page.html"
            self.page.write_bytes(resources.objects.get(str(made[0].data["digest"])))
            self.vkey = str(resources.ledger.key)
            self.key = resources.ledger.key
        self.root = root

    def path(self, name: str) -> str:
        """A path at this desk."""
        return str(self.root / name)

    def run(self, *arguments: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        """Run a command."""
        return command(("receipt", *arguments), self.home.environment(COLUMNS="200"), stdin)

    def refused(self, *arguments: str, stdin: bytes = b"") -> str:
        """What a command says that fails."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 1, done
        assert done.stdout == b""
        return done.stderr.decode()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("desk"))


def test_an_event_has_one_receipt_under_each_of_its_names(desk: Desk) -> None:
    ref = desk.processed
    for number, name in enumerate((ref.workflow_id, ref.id, ref.utids)):
        done = desk.run(name, "-o", desk.path(f"{number}.json"))
        assert done.returncode == 0, done.stderr
        assert done.stdout == b""
        assert b" entries of event done, " in done.stderr
    written = {(desk.root / f"{number}.json").read_bytes() for number in range(3)}
    assert len(written) == 1
    assert verified(written.pop(), desk.key).story.phase == "PROCESSED"
    assert (desk.root / "0.json").stat().st_mode & 0o777 == 0o644
    assert not list(desk.root.glob(".*.json*"))


def test_a_receipt_goes_to_standard_output_and_comes_from_standard_input(desk: Desk) -> None:
    made = desk.run("export", desk.rejected.id, "--output", "-")
    assert made.returncode == 0, made.stderr
    done = desk.run("verify", "-", "--key", desk.vkey, stdin=made.stdout)
    assert done.returncode == 0, done.stderr
    shown = done.stdout.decode()
    assert shown.startswith("Proved\n")
    assert "REJECTED" in shown
    assert "payload/required" in shown


def test_a_file_is_never_overwritten_unless_that_is_asked_for(desk: Desk) -> None:
    target = desk.root / "kept.json"
    target.write_text("mine")
    assert "there is a file" in desk.refused(desk.processed.id, "-o", str(target))
    assert target.read_text() == "mine"
    assert desk.run(desk.processed.id, "-o", str(target), "--force").returncode == 0
    assert verified(target.read_bytes(), desk.key)  # type: ignore[truthy-bool]  # it raises if it is not


def test_who_was_quicker_keeps_the_file(desk: Desk, tmp_path: Path) -> None:
    target, mine = tmp_path / "r.json", tmp_path / "new"
    target.write_text("theirs")
    mine.write_text("mine")
    with mine.open("r+b") as file, pytest.raises(ValidationError, match="there is a file"):
        receipts._put(file, mine, target, force=False)
    assert target.read_text() == "theirs"


def test_an_event_that_has_not_ended_gets_a_receipt_that_says_so(desk: Desk) -> None:
    target = desk.path("open.json")
    made = desk.run(desk.parked.id, "-o", target)
    assert made.returncode == 0
    assert b"has not ended" in made.stderr
    shown = desk.run("verify", target, "--key", desk.vkey).stdout.decode()
    assert "open" in shown
    assert "git.fetch: the host is away" in shown
    assert "cannot be told from it" in shown
    said = json.loads(desk.run("verify", target, "--key", desk.vkey, "--json").stdout)
    assert (said["phase"], said["complete"], said["concludedAt"]) == ("open", False, None)


def test_a_dead_letter_names_failure_and_decision(desk: Desk) -> None:
    desk.run(desk.dead.id, "-o", desk.path("dead.json"))
    shown = desk.run("verify", desk.path("dead.json"), "--key", desk.vkey).stdout.decode()
    assert "FAILED" in shown
    assert "by ada: gone" in shown


def test_programs_get_json(desk: Desk) -> None:
    target = desk.path("json.json")
    assert desk.run(desk.processed.id, "-o", target).returncode == 0
    done = desk.run("verify", target, "--key", desk.vkey, "--artifact", str(desk.page), "--json")
    said = json.loads(done.stdout)
    assert said["verified"] is True
    assert said["verdicts"] == {"invalid": 1, "valid": 1}
    assert said["commit"] == "a" * 40
    assert said["statementKey"] == "+".join(desk.vkey.split("+")[:2])
    (file,) = said["files"]
    assert file["asGenerated"] is True
    assert file["subjects"][0]["path"] == "docs/a.md"
    shown = desk.run("verify", target, "--key", desk.vkey, "--artifact", str(desk.page)).stdout.decode()
    assert "byte for byte as it was generated" in shown
    assert "1 other bodies under the same delivery id" in shown


def test_what_cannot_be_exported_is_refused(desk: Desk) -> None:
    assert "no event is known as nobody" in desk.refused("nobody", "-o", desk.path("x.json"))
    assert not (desk.root / "x.json").exists()
    assert "cannot be written" in desk.refused(desk.processed.id, "-o", desk.path("no/such/directory.json"))
    usage = desk.run(desk.processed.id)
    assert usage.returncode == 2
    assert b"--output" in usage.stderr


@pytest.fixture(scope="module")
def receipt(desk: Desk) -> Path:
    target = desk.root / "receipt.json"
    assert desk.run(desk.processed.id, "-o", str(target)).returncode == 0
    return target


def test_what_is_not_proved_is_refused(desk: Desk, receipt: Path, tmp_path: Path) -> None:
    verify = ("verify", str(receipt), "--key", desk.vkey)
    wrong = tmp_path / "wrong.html"
    wrong.write_text("<p>x</p>")
    assert "wrong.html is not proved" in desk.refused(*verify, "--artifact", str(wrong))
    assert "cannot be read" in desk.refused(*verify, "--artifact", str(tmp_path / "none"))
    assert "not signed by" in desk.refused("verify", str(receipt), "--key", str(OTHER.key))
    assert "cannot be read" in desk.refused("verify", str(tmp_path / "none"), "--key", desk.vkey)
    assert "line 1 of the receipt" in desk.refused("verify", str(wrong), "--key", desk.vkey)
    changed = tmp_path / "changed.json"
    changed.write_bytes(receipt.read_bytes().replace(b"github-webhook", b"gitlab-webhook", 1))
    assert "entry number 1 of the receipt" in desk.refused("verify", str(changed), "--key", desk.vkey)
    assert "no key of a log is given" in desk.refused("verify", str(receipt))


def test_keys_come_as_text_or_in_files(desk: Desk, receipt: Path, tmp_path: Path) -> None:
    file = tmp_path / "key"
    listed = desk.home.coafi("ledger", "keys", "list", "--json").stdout
    for content in (
        desk.vkey,
        f"{OTHER.key}\n\n{desk.vkey}\n",
        json.dumps({"key": desk.vkey, "checkpoint": "x"}),
        listed,
    ):
        file.write_text(content)
        assert desk.run("verify", str(receipt), "--key", str(file)).returncode == 0, content
    assert desk.run("verify", str(receipt), "--key", str(OTHER.key), "--key", desk.vkey).returncode == 0
    for content, problem in (
        ("", "is empty"),
        ("nonsense", "cannot be read"),
        ("[" * 60_000, "cannot be read"),
        ("x" * (8 * 2**20 + 1), "longer than"),
        (json.dumps({"keys": [{"key": desk.vkey}]}), "no hand-overs"),
        (json.dumps({"keys": [{"key": desk.vkey}], "handOvers": [{}]}), "not a proof"),
        ("\n".join([desk.vkey] * 101), "101 keys are given"),
        (desk.vkey.replace("+", "+0", 1), "cannot be read"),
    ):
        file.write_text(content)
        assert problem in desk.refused("verify", str(receipt), "--key", str(file)), problem
    assert "cannot be read" in desk.refused("verify", str(receipt), "--key", str(tmp_path / "none"))
    assert "cannot be read" in desk.refused("verify", str(receipt), "--key", desk.vkey[:-4])


def test_verifying_needs_no_home_and_makes_none(desk: Desk, receipt: Path, tmp_path: Path) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("COAFI_")},
        "COAFI_HOME": str(tmp_path / "nowhere"),
        "COAFI_LOG_LEVEL": "no such level",
    }
    done = subprocess.run(
        (COMMAND, "receipt", "verify", str(receipt), "--key", desk.vkey),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        timeout=HANG,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


def test_what_others_wrote_cannot_steer_a_terminal(desk: Desk, receipt: Path) -> None:
    found = verified(receipt.read_bytes(), desk.key)
    found.story.event_id = "\x1b[2J[bold]x[/bold]"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        receipts._print_receipt(found, [])
    assert "\\x1b[2J[bold]x[/bold]" in printed.getvalue()
    assert "\x1b[2J" not in printed.getvalue()
