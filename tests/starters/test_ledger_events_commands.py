"""Commands about events of ledgers: what they would start, how far the listener is, and what does not comply."""

import asyncio
import json
from pathlib import Path

import yaml

from coafi.names import Phase
from tests.harness import Repository, Stack, documents, running_stack, until
from tests.starters.ledger_events import SECRETS, accepted, failure, subscriptions
from tests.starters.support import Home


def home_of(stack: Stack) -> Home:
    return Home(stack.settings.home.parent)


async def test_findings_are_listed_shown_and_closed_on_the_record(tmp_path: Path) -> None:
    async with running_stack(tmp_path, events_secrets=SECRETS) as stack:
        run = await accepted(stack, failure("e-1"))
        await run.result()
        home = home_of(stack)
        listed = await asyncio.to_thread(home.json, "findings", "list")
        assert {one["entity"] for one in listed} == {"AERO/wing-12", "COAFI-ENG-0001-SPEC-A"}
        (one,) = await asyncio.to_thread(home.json, "findings", "list", "--entity", "AERO/wing-12")
        assert (one["rule"], one["severity"], one["workflowId"]) == ("CHECK-7", "critical", run.id)
        assert await asyncio.to_thread(home.json, "findings", "show", one["id"][:10]) == one
        shown = await asyncio.to_thread(home.coafi, "findings", "show", one["id"])
        assert "no safety assessment" in shown.stdout
        close = ("findings", "close", one["id"][:10], "--by", "ada", "--reason", "assessed")
        closed = await asyncio.to_thread(home.json, *close)
        assert closed["closed"] is True
        assert (closed["finding"]["closedBy"], closed["finding"]["reason"]) == ("ada", "assessed")
        again = await asyncio.to_thread(home.json, *close)
        assert again == {"closed": False, "finding": closed["finding"]}
        assert [other["id"] for other in await asyncio.to_thread(home.json, "findings", "list")] != [one["id"]]
        assert len(await asyncio.to_thread(home.json, "findings", "list", "--closed")) == 2
        nothing = await asyncio.to_thread(home.coafi, "findings", "show", "f" * 32)
        assert (nothing.returncode, "no finding begins with" in nothing.stderr) == (1, True)
        refused = await asyncio.to_thread(home.coafi, "findings", "close", one["id"], "--reason", "")
        assert (refused.returncode, "--reason" in refused.stderr) == (1, True)
        shown_event = await asyncio.to_thread(home.json, "events", "show", "e-1")
        assert shown_event["counts"]["opened"] == 2
        receipt = tmp_path / "receipt.json"
        exported = await asyncio.to_thread(home.coafi, "receipt", run.id, "-o", str(receipt))
        assert exported.returncode == 0, exported.stderr
        key = str(stack.resources.ledger.key)
        verified = await asyncio.to_thread(home.json, "receipt", "verify", str(receipt), "--key", key)
        assert verified["verified"] is True
        stack.verify()


def test_match_says_what_would_be_done_and_does_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path)
    details = json.dumps({"affectedEntities": ["AERO/wing-12"]})
    found = home.json("events", "match", "GAIA:COMPLIANCE:FAILURE", "--details", details)
    assert found == {
        "eventType": "GAIA:COMPLIANCE:FAILURE",
        "subscriptions": ["compliance-failures", "compliance"],
        "starts": True,
        "entities": [{"kind": "registry", "id": "AERO/wing-12"}],
        "opensFindings": True,
        "closesFindings": False,
        "severity": "critical",
        "topics": ["compliance"],
        "notified": [],
        "tellsPeers": "subscribed",
    }
    said = home.coafi("events", "match", "GAIA:COMPLIANCE:FAILURE", "--details", details)
    assert "opens" in said.stdout.lower()
    nothing = home.coafi("events", "match", "GAIA:WEATHER:RAIN")
    assert (nothing.returncode, nothing.stdout.strip()) == (1, "No subscription matches GAIA:WEATHER:RAIN.")
    assert home.coafi("events", "match", "X", "--details", "[]").returncode == 1
    assert home.coafi("events", "match").returncode == 2
    file = subscriptions(tmp_path / "subscriptions.yaml", {"name": "x", "events": ["GAIA:W*"], "notify": ["t"]})
    wrong = home.coafi("events", "match", "X", COAFI_BITT_SUBSCRIPTIONS=str(file))
    assert wrong.returncode == 1
    assert "segment 2" in wrong.stderr.replace("\n", " ")


async def test_the_whole_service_follows_its_ledger_and_says_how_far(tmp_path: Path) -> None:
    home = Home(tmp_path)
    file = tmp_path / "subscriptions.yaml"
    file.write_text(
        yaml.safe_dump([{"name": "ends", "events": ["COAFI:LEDGER:EVENT_PROCESSED"], "notify": ["nobody"]}])
    )
    using = {"COAFI_BITT_SUBSCRIPTIONS": str(file)}
    async with home.up(**using) as up:
        repository = Repository.create(tmp_path / "repo")
        submitted = home.submit(repository.path.as_uri(), repository.commit(documents(1)), "--wait")
        assert submitted["phase"] == Phase.PROCESSED
        conclusion = submitted["conclusion"]
        name = f"bitt.event:bitt:coafi.local/bitt/default:{conclusion}"

        def handled() -> bool:
            return any(
                one["workflowId"] == name and one["phase"] == Phase.PROCESSED for one in home.json("events", "list")
            )

        await until(handled)
        matched = home.coafi("events", "match", "--entry", str(conclusion), "--json", **using)
        assert json.loads(matched.stdout)["starts"] is True
        shown = home.json("events", "show", name)
        own = shown["entries"][-1]["index"]  # it is about such an event, and would match; it starts nothing
        unmatched = home.coafi("events", "match", "--entry", str(own), "--json", **using)
        assert (unmatched.returncode, json.loads(unmatched.stdout)["starts"]) == (1, False)

        def at_the_end() -> bool:
            (status,) = home.json("listener", "--status")
            return (status["name"], status["behind"], status["held"]) == ("listener", 0, True)

        await until(at_the_end)
        assert "events-webhook" in up.log
    (status,) = home.json("listener", "--status")
    assert status["held"] is False
    assert "next entry" in home.coafi("listener", "--status").stdout


def test_a_listener_of_its_own_begins_where_it_is_told_and_nowhere_else(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.coafi("listener", "--status").returncode == 1  # there is no home yet
    wrong = home.coafi("listener", "--from", "7", COAFI_TEMPORAL_ADDRESS="127.0.0.1:1")
    assert wrong.returncode == 1
    assert "there is no position 7: the ledger has 0 entries" in wrong.stderr.replace("\n", " ")
    assert home.json("listener", "--status") == []
