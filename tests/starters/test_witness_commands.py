"""``coafi witness``, and what receipts say of witnesses: as an operator and an auditor see it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess as Done

import pytest

from coafi.federation.cosigning import Cosigners, Outcome, WitnessAddress, witness_client
from coafi.federation.witnessed import WitnessRecord, keep_split_view
from coafi.ledger.fork import Fork
from coafi.ledger.keys import Cosigner, CosignerKey
from coafi.ledger.log import Ledger
from coafi.settings import Settings
from tests.coafi.ledger.making import draft
from tests.coafi.ledger.serving import served
from tests.starters.support import command
from tests.starters.test_receipts import Desk
from workers.resources import open_resources

STRANGER = Cosigner("stranger.example/w", bytes([5]) * 32).key


class Parties:
    """An organisation that hands out receipts, and two that witness its ledger."""

    def __init__(self, root: Path, desk: Desk, witnesses: list[WitnessAddress]) -> None:
        self.root, self.desk, self.witnesses = root, desk, witnesses
        self.policy = root / "policy"
        lines = [f"witness {one.name} {one.key} {one.url}\n" for one in witnesses]
        self.policy.write_text("".join(lines) + "group both all b c\nquorum both\n")

    def run(self, *arguments: str, **environment: str) -> "Done[str]":
        """Run a command of the organisation."""
        done = command(arguments, self.desk.home.environment(COLUMNS="200", **environment))
        return Done(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    def json(self, *arguments: str, **environment: str) -> "object":
        """What a command prints for programs."""
        done = self.run(*arguments, "--json", **environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def refused(self, *arguments: str, **environment: str) -> str:
        """What a command says that fails."""
        done = self.run(*arguments, **environment)
        assert done.returncode == 1, done
        assert done.stdout == ""
        return done.stderr


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parties]:
    root = tmp_path_factory.mktemp("parties")
    desk = Desk(root)
    known = root / "known"
    known.write_text(f"log {desk.vkey}\nquorum none\n")
    witnesses = []
    with served(root / "b", witness_policy=known) as b, served(root / "c", witness_policy=known) as c:
        for name, one in (("b", b), ("c", c)):
            theirs = desk.home.environment(COAFI_HOME=str(one.resources.settings.home))
            done = command(("witness", "key", "--json"), theirs)
            key = CosignerKey.parse(json.loads(done.stdout)["key"])
            witnesses.append(WitnessAddress(name, key, f"{one.url}/witness"))
        yield Parties(root, desk, witnesses)


@pytest.fixture(scope="module")
def receipt(parties: Parties) -> str:
    """A receipt that both have cosigned."""
    path = str(parties.root / "cosigned.json")
    done = parties.run("receipt", parties.desk.processed.id, "-o", path, COAFI_WITNESS_POLICY=str(parties.policy))
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return path


def test_a_receipt_is_cosigned_and_verified_offline(parties: Parties, receipt: str) -> None:
    b, c = (str(one.key) for one in parties.witnesses)
    key = ("--key", parties.desk.vkey)
    for options in (
        ("--witness", b, "--witness", c),
        ("--witness", b, "--witness", c, "--witness", str(STRANGER), "--quorum", "2"),
        ("--policy", str(parties.policy)),
    ):
        done = parties.run("receipt", "verify", receipt, *key, *options)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("Cosigned by") == 2
        assert "Not verified" not in done.stdout
    found = parties.json("receipt", "verify", receipt, *key, "--witness", b)
    assert isinstance(found, dict)
    assert [one["witness"] for one in found["cosignatures"]] == [b]
    assert len(found["cosignaturesNotVerified"]) == 1
    plain = parties.run("receipt", "verify", receipt, *key)
    assert "Not verified: cosignatures of" in plain.stdout
    assert plain.returncode == 0


def test_a_policy_may_name_the_log_and_files_the_keys(parties: Parties, receipt: str) -> None:
    whole = parties.root / "whole"
    whole.write_text(f"log {parties.desk.vkey}\n" + parties.policy.read_text())
    assert parties.run("receipt", "verify", receipt, "--policy", str(whole)).returncode == 0
    keys = parties.root / "witnesses"
    keys.write_text("".join(f"{one.key}\n" for one in parties.witnesses))
    done = parties.run("receipt", "verify", receipt, "--key", parties.desk.vkey, "--witness", str(keys))
    assert done.stdout.count("Cosigned by") == 2
    as_json = parties.root / "witness.json"
    as_json.write_text(json.dumps({"key": str(parties.witnesses[0].key)}))
    assert (
        parties.run("receipt", "verify", receipt, "--key", parties.desk.vkey, "--witness", str(as_json)).returncode == 0
    )


def test_a_quorum_that_is_not_met_is_refused(parties: Parties, receipt: str) -> None:
    key = ("--key", parties.desk.vkey)
    b = str(parties.witnesses[0].key)
    said = parties.refused("receipt", "verify", receipt, *key, "--witness", b, "--witness", str(STRANGER))
    assert "1 of 2 did" in said
    assert "missing are stranger.example/w" in said
    lonely = str(parties.root / "lonely.json")
    done = parties.run("receipt", parties.desk.processed.id, "-o", lonely)
    assert done.returncode == 0, done.stderr
    # What was cosigned before is kept: of the same checkpoint, nobody has to be asked again.
    policy = str(parties.policy)
    assert parties.run("receipt", "verify", lonely, *key, "--policy", policy).returncode == 0


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--quorum", "1"), "quorum of no witnesses"),
        (("--witness", str(STRANGER), "--quorum", "2"), "quorum of 2 of 1 witnesses cannot be"),
        (("--witness", str(STRANGER), "--witness", str(STRANGER)), "given twice"),
        (("--witness", "stranger.example/w+00000000+AAAA"), "cannot be read"),
        (("--witness", "no-such-file"), "cannot be read"),
        (("--policy", "no-such-file"), "cannot be read"),
        (("--policy", "no-such-file", "--witness", str(STRANGER)), "says itself which witnesses"),
    ],
)
def test_options_that_cannot_be(parties: Parties, receipt: str, options: tuple[str, ...], problem: str) -> None:
    said = parties.refused("receipt", "verify", receipt, "--key", parties.desk.vkey, *options)
    assert problem in " ".join(said.split())


def test_no_log_is_given(parties: Parties, receipt: str) -> None:
    assert "no key of a log is given" in parties.refused("receipt", "verify", receipt)
    assert "no key of a log" in parties.refused("receipt", "verify", receipt, "--policy", str(parties.policy))


def test_a_receipt_that_too_few_have_cosigned_is_made_with_a_warning(parties: Parties) -> None:
    policy = parties.root / "away"
    policy.write_text(f"witness away {STRANGER} http://127.0.0.1:1/witness\nquorum away\n")
    path = str(parties.root / "warned.json")
    done = parties.run(
        "receipt", parties.desk.processed.id, "-o", path, COAFI_WITNESS_POLICY=str(policy), COAFI_WITNESS_WAIT="2"
    )
    assert done.returncode == 0
    assert "too few witnesses" in " ".join(done.stderr.split())
    assert "away: the witness away is out of reach" in " ".join(done.stderr.split())
    assert parties.run("receipt", "verify", path, "--key", parties.desk.vkey).returncode == 0


def test_witnesses_are_asked_by_hand(parties: Parties) -> None:
    done = parties.run("witness", "ask", COAFI_WITNESS_POLICY=str(parties.policy))
    assert done.returncode == 0, done.stderr
    assert "2 of 2 have cosigned" in done.stdout
    said = parties.json("witness", "ask", COAFI_WITNESS_POLICY=str(parties.policy))
    assert isinstance(said, dict)
    assert said["met"] is True
    assert {name: one["outcome"] for name, one in said["answers"].items()} == {"b": "cosigned", "c": "cosigned"}
    assert "there is nobody to ask" in parties.refused("witness", "ask")
    verified = parties.json("ledger", "verify")
    assert isinstance(verified, dict)
    assert len(verified["cosignatures"]) == 2
    assert "Cosigned" in parties.run("ledger", "verify").stdout


def test_a_home_without_a_key_makes_one_and_keeps_its_name(parties: Parties) -> None:
    made = parties.run("witness", "key").stdout.strip()
    assert CosignerKey.parse(made).name.endswith("/witness")
    assert parties.run("witness", "key").stdout.strip() == made
    said = parties.refused("witness", "key", COAFI_WITNESS_NAME="other.example/w")
    assert "COAFI_WITNESS_NAME is other.example/w" in " ".join(said.split())
    assert "no key file" in parties.refused("witness", "key", COAFI_WITNESS_KEY_FILE=str(parties.root / "none"))
    assert "policy" in parties.refused("witness", "ask", COAFI_WITNESS_POLICY=str(parties.root / "none"))


def test_a_split_view_is_listed_and_its_proof_convinces_anybody(tmp_path: Path, parties: Parties) -> None:
    assert "no ledger has shown two histories" in parties.refused("witness", "evidence")
    known = tmp_path / "known"
    known.write_text(f"log {parties.desk.vkey}\nquorum none\n")
    with served(tmp_path / "d", witness_policy=known) as d, witness_client() as client:
        home = {"COAFI_HOME": str(d.resources.settings.home), "COAFI_WITNESS_POLICY": str(known)}
        key = CosignerKey.parse(parties.run("witness", "key", **home).stdout.strip())
        address = WitnessAddress("d", key, f"{d.url}/witness")
        with open_resources(Settings(home=parties.desk.home.path)) as resources:
            assert isinstance(resources.ledger, Ledger)
            signed = resources.ledger.checkpoint(force=True)
            assert Cosigners(resources.ledger, client).ask(address, signed).outcome is Outcome.COSIGNED
        fork = tmp_path / "fork"
        secrets = fork / "secrets"
        secrets.mkdir(parents=True, mode=0o700)
        (secrets / "ledger-key").write_bytes((parties.desk.home.path / "secrets" / "ledger-key").read_bytes())
        (secrets / "ledger-key").chmod(0o600)
        with open_resources(Settings(home=fork)) as resources:
            assert isinstance(resources.ledger, Ledger)
            resources.ledger.append([draft(number) for number in range(signed.size)])
            refused = Cosigners(resources.ledger, client).ask(address, resources.ledger.checkpoint(force=True))
            assert refused.outcome is Outcome.REFUSED
        assert "two histories" in parties.run("witness", "list", **home).stdout
        listed = parties.json("witness", "list", **home)
        assert isinstance(listed, list)
        assert listed[0]["splitViews"][0]["grade"] == "proved"
        shown = parties.run("witness", "evidence", **home).stdout
        assert "has shown two histories" in shown
        assert shown.count(str(signed.size)) >= 2
        proof = tmp_path / "proof.json"
        assert parties.run("witness", "evidence", signed.checkpoint.origin, "-o", str(proof), **home).returncode == 0
        printed = json.dumps(parties.json("witness", "evidence", **home))
        assert Fork.parse(printed) == Fork.parse(proof.read_text())
        assert "the key that this log has" in " ".join(
            parties.refused("witness", "forget", signed.checkpoint.origin, **home).split()
        )
        database = d.resources.database
        (first,) = WitnessRecord(database).split_views()
        second = replace(first, key=f"{first.origin}+00000000+another", entry=99)
        with database.write() as connection:
            assert keep_split_view(connection, second)
        assert "two histories, by 2 keys" in parties.run("witness", "list", **home).stdout
        listed = parties.json("witness", "list", **home)
        assert isinstance(listed, list)
        assert {one["key"] for one in listed[0]["splitViews"]} == {first.key, second.key}
        shown = parties.run("witness", "evidence", **home).stdout
        for one in (first, second):
            assert one.key in shown
            assert f"--entry {one.entry}" in shown
            chosen = json.dumps(parties.json("witness", "evidence", "--entry", str(one.entry), **home))
            assert Fork.parse(chosen) == one.fork
        for arguments in (("--json",), ("-o", str(tmp_path / "none"))):
            complaint = " ".join(parties.refused("witness", "evidence", *arguments, **home).split())
            assert "2 keys of" in complaint
            assert "name one with --entry" in complaint
        assert "entry 7 of our ledger" in parties.refused("witness", "evidence", "--entry", "7", **home)
    proved = parties.json("witness", "verify", str(proof), "--key", parties.desk.vkey)
    assert isinstance(proved, dict)
    assert proved["smaller"]["root"] != proved["larger"]["root"]
    proof.write_text(proof.read_text().replace('"larger"', '"smaller"'))
    assert "no proof of a split view" in parties.refused("witness", "verify", str(proof), "--key", parties.desk.vkey)
