"""``coafi peers`` as people run it, and Temporal's own command past the gateway."""

import asyncio
import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus

from coafi.names import EntryType, Phase, peer_source, workflow_id
from coafi.settings import Settings
from starters.embedded import temporal_executable
from tests.coafi.federation.making import signer
from tests.harness import Stack, running_stack, until
from tests.starters.federation_support import partner
from tests.starters.support import Home
from tests.starters.test_auth_commands import Done, coafi
from workers.resources import open_resources

KEY, NEXT = str(signer(seed=1).public), str(signer(seed=2).public)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def done(home: Home, *arguments: str) -> Any:
    """What a command prints as JSON."""
    ran = coafi(home, "peers", *arguments, "--json")
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def failed(home: Home, *arguments: str) -> str:
    """What a command complains of."""
    ran: Done = coafi(home, "peers", *arguments)
    assert ran.returncode == 1, ran.stdout
    return ran.stderr


def test_a_peer_is_added_shown_changed_and_disabled_on_the_record(home: Home) -> None:
    added = done(
        home, "add", "acme.example", "https://acme.example/", "--key", KEY, "--accept", "Registry*", "--by", "ada"
    )
    assert (added["url"], added["accepts"], added["restricted"]) == ("https://acme.example", ["Registry*"], ["*"])
    assert done(home, "list") == [{**added, "suspect": None}]
    assert done(home, "show", "acme.example") == added
    changed = done(home, "set", "acme.example", "--send", "DocumentPublished", "--digests-only", "", "--accept", "")
    assert (changed["subscription"], changed["restricted"], changed["accepts"]) == (["DocumentPublished"], [], [])
    assert done(home, "disable", "acme.example", "--reason", "contract ended")["status"] == "disabled"
    assert done(home, "enable", "acme.example")["status"] == "active"
    for arguments in (("list",), ("show", "acme.example")):
        shown = coafi(home, "peers", *arguments)
        assert "acme.example" in shown.stdout
    settings = Settings(home=home.path)
    with open_resources(settings) as resources:
        entries = resources.ledger.entries(0, resources.ledger.size())
        assert {one.entry.type for one in entries} == {EntryType.PEER_CHANGED}
        assert [one.entry.data["version"] for one in entries] == [1, 2, 3, 4]
        assert entries[0].entry.data["by"] == "ada"


def test_keys_follow_one_another_on_both_sides(home: Home) -> None:
    mine = done(home, "key")
    assert mine["id"] == "coafi.local-bitt"
    assert "nextKey" not in mine
    assert "no key to follow" in failed(home, "key", "--rotate")
    following = done(home, "key", "--next")
    assert (following["key"], following["nextKey"]) == (mine["key"], done(home, "key", "--next")["nextKey"])
    assert done(home, "key", "--rotate") == {**mine, "key": following["nextKey"], "keyid": following["nextKeyid"]}
    done(home, "add", "acme.example", "https://acme.example", "--key", KEY)
    both = done(home, "trust", "acme.example", NEXT, "--retire", "7d")["keys"]
    assert {one["key"]: bool(one["notAfter"]) for one in both} == {KEY: True, NEXT: False}
    old = next(one for one in both if one["key"] == KEY)
    assert [one["key"] for one in done(home, "trust", "acme.example", old["keyid"], "--revoke")["keys"]] == [NEXT]


def test_what_is_sent_by_hand_waits_for_a_service_and_is_sent_once(home: Home, tmp_path: Path) -> None:
    done(home, "add", "acme.example", "https://acme.example", "--key", KEY, "--by", "ada")
    (nothing,) = done(home, "backlog")
    file = tmp_path / "news.json"
    file.write_text(json.dumps({"component": "portal", "version": "2", "summary": "Two hours off."}))
    sent = done(home, "send", "acme.example", "SystemUpdateNotification", str(file), "--by", "ada")
    assert (sent["peer"], sent["known"], sent["run"]) == ("acme.example", False, None)
    again = done(home, "send", "acme.example", "SystemUpdateNotification", str(file))
    assert (again["message"], again["known"]) == (sent["message"], True)
    once_more = done(home, "send", "acme.example", "SystemUpdateNotification", str(file), "--again")
    assert once_more["message"] != sent["message"]
    (backlog,) = done(home, "backlog")
    assert (nothing["messages"], backlog["messages"], backlog["delivered"]) == (0, 2, 0)
    assert "acme.example" in coafi(home, "peers", "backlog").stdout
    with open_resources(Settings(home=home.path)) as resources:
        queued = resources.ledger.entry(sent["entry"])
    assert (queued.entry.type, queued.data["by"]) == (EntryType.MESSAGE_QUEUED, "ada")
    told = ("send", "acme.example", "SystemUpdateNotification")
    file.write_text("[]")
    assert "no JSON object" in failed(home, *told, str(file))
    file.write_text("{")
    assert "is no JSON" in failed(home, *told, str(file))
    file.write_text('{"component": "portal"}')
    assert "version" in failed(home, *told, str(file))
    assert "cannot be read" in failed(home, *told, str(tmp_path / "none"))
    assert "is no type of message" in failed(home, "send", "acme.example", "Gossip", str(file))
    assert "nobody.example" in failed(home, "send", "nobody.example", "SystemUpdateNotification", str(file))


def test_what_is_wrong_is_said(home: Home) -> None:
    done(home, "add", "acme.example", "https://acme.example", "--key", KEY)
    assert "there is a peer acme.example" in failed(home, "add", "acme.example", "https://acme.example")
    assert "that of the peer acme.example" in failed(home, "add", "b.example", "https://b.example", "--key", KEY)
    assert "no peer id" in failed(home, "add", "B", "https://b.example")
    assert "https://" in failed(home, "add", "b.example", "http://b.example")
    assert "no public key" in failed(home, "add", "b.example", "https://b.example", "--key", "ed25519:AAAA")
    assert "this instance itself" in failed(home, "add", "coafi.local-bitt", "https://b.example")
    assert "no peer nobody" in failed(home, "show", "nobody")
    assert "nothing is named" in failed(home, "set", "acme.example")


async def test_a_peer_in_the_cluster_signals_with_temporals_command(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack:
        partner(stack, "acme.example", 1, accepts=("SystemUpdateNotification",))
        page = (Path(__file__).parents[2] / "docs" / "federation.md").read_text()
        lines = [line for line in page.splitlines() if line.startswith("temporal workflow ") and "outbox:" not in line]
        start, signal = sorted(lines, key=lambda line: "signal" in line)
        await _temporal(stack, start)
        await _temporal(stack, signal)
        await _temporal(stack, signal)  # the same message
        await _temporal(stack, signal.replace('"u-1"', '"u-2"').replace("SystemUpdate", "NoSuch"))
        await _temporal(
            stack, signal.replace('"u-1"', '"u-3"').replace("urn:coafi:peer:acme.example", "urn:coafi:peer:else")
        )
        expected = {"u-1": Phase.PROCESSED, "u-2": Phase.REJECTED, "u-3": Phase.REJECTED}
        for message_id, phase in expected.items():
            handle = stack.handle(workflow_id("federated.message", peer_source("acme.example"), message_id))
            await until(lambda handle=handle: _has_ended(handle))  # type: ignore[misc]  # bound per turn
            assert (await handle.result()).phase is phase
        assert len(stack.resources.ledger.by_event("u-1")) == 3
        stack.verify()


async def _has_ended(handle: Any) -> bool:
    try:
        return (await handle.describe()).status is not WorkflowExecutionStatus.RUNNING
    except Exception:  # it has not begun
        return False


async def _temporal(stack: Stack, line: str) -> None:
    words = [*shlex.split(line)[1:], "--address", stack.server.address]
    ran = await asyncio.to_thread(
        subprocess.run, [temporal_executable(), *words], check=False, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
