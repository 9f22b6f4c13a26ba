"""Two complete instances tell each other what happens."""

import asyncio
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest
import pytest_asyncio

from coafi.compliance.findings import EntityFinding, FindingQuery, FindingReader
from coafi.federation.inbox import PeerObject
from coafi.federation.keys import FederationKey
from coafi.federation.signatures import verify_request
from coafi.ledger.keys import VerifierKey
from coafi.names import EntryType
from coafi.receipts.verify import verify_receipt
from tests.federation.pair import Pair, Side, confirmed, running_pair
from tests.harness import Repository, documents, until
from tests.starters.ledger_events import SECRETS, accepted, failure
from tests.workflows.registry import api, entry, updated


@pytest_asyncio.fixture(scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """Two instances."""
    async with running_pair(tmp_path_factory.mktemp("pair"), events_secrets=SECRETS) as running:
        yield running


async def test_what_is_sent_has_its_effect_and_a_receipt_that_proves_it(pair: Pair) -> None:
    queued = [pair.a.send(number) for number in range(5)]
    said = await confirmed(pair.a, *queued)
    assert {one["outcome"] for one in said} == {"accepted"}
    # Each once; they are started in order, and one that takes long holds up no other.
    assert sorted(one for one in pair.b.applied() if one in pair.a.ids(*queued)) == sorted(pair.a.ids(*queued))
    key = VerifierKey.parse(str(pair.b.stack.resources.ledger.key))
    for one, entry_ in zip(said, queued, strict=True):
        content = pair.a.stack.resources.objects.get(str(one["receipt"]))
        verified = verify_receipt(io.BytesIO(content), [key])
        assert verified.story.event_id == pair.a.ids(entry_)[0]
        assert verified.story.conclusion is not None
        assert verified.story.conclusion.index == one["peerEntry"]


async def test_a_change_of_an_entry_here_is_known_there_and_back(pair: Pair) -> None:
    for here, there in ((pair.a, pair.b), (pair.b, pair.a)):
        async with api(here.stack) as http:
            made, _ = await updated(http, entry())
        known = await _known(there, f"{made['registryId']}/{made['entryId']}")
        assert (known.version, known.digest, known.utids) == (made["version"], made["digest"], made["utids"])


async def _known(side: Side, name: str) -> PeerObject:
    await until(lambda: any(one.id == name for one in side.told()))
    return next(one for one in side.told() if one.id == name)


async def test_a_document_that_is_pushed_here_is_known_there(pair: Pair) -> None:
    repository = Repository.create(pair.a.stack.settings.home.parent / "repository")
    await (await pair.a.stack.accepted(repository.push(documents(3)))).result()
    await until(lambda: len([one for one in pair.b.told() if one.kind == "document"]) == 3)
    published = {one.entry.data["digest"] for one in pair.a.stack.entries(EntryType.ARTIFACT_GENERATED)}
    assert {one.digest for one in pair.b.told() if one.kind == "document"} <= published


async def test_nothing_comes_back_and_nothing_goes_round(pair: Pair) -> None:
    queued = [pair.a.send(100), pair.b.send(101)]
    await confirmed(pair.a, queued[0])
    await confirmed(pair.b, queued[1])
    sizes = [len(side.delivered()) for side in (pair.a, pair.b)]
    sent = {one["message"] for side in (pair.a, pair.b) for one in side.delivered()}
    assert len(sent) == sum(sizes)
    for side in (pair.a, pair.b):
        assert all(str(one["message"]).startswith(side.outbox.projection.prefix) for one in side.delivered())
        assert len(side.applied()) == len(set(side.applied()))
        assert side.stack.verify() > 0


async def test_a_failure_that_is_reported_here_is_a_finding_on_both_sides(pair: Pair) -> None:
    run = await accepted(pair.a.stack, failure(affectedEntities=["AERO/wing-77"]))
    await run.result()
    readers = [FindingReader(side.stack.resources.database) for side in (pair.a, pair.b)]

    def found(reader: FindingReader) -> list[EntityFinding]:
        return reader.find(FindingQuery(entity="AERO/wing-77"))

    await until(lambda: len(found(readers[1])) == 1)
    ((here,), (there,)) = map(found, readers)
    assert (there.rule, there.message) == (here.rule, here.message) == ("CHECK-7", "no safety assessment")
    assert there.source == "urn:coafi:peer:a.example"
    opened = pair.b.stack.resources.ledger.entry(there.opened_entry)
    assert opened.data["peers"] == "none"


async def test_a_key_that_follows_is_known_before_it_signs(pair: Pair) -> None:
    key = FederationKey(pair.a.stack.settings.federation_key_path, pair.a.id)
    before, after = key.current().public, key.prepare().public
    pair.b.store.put(pair.a.as_peer(keys=(before, after)), by="bob", reason="they change their key")
    key.promote()
    assert {one["outcome"] for one in await confirmed(pair.a, pair.a.send(200))} == {"accepted"}
    pair.b.store.put(pair.a.as_peer(keys=(after,)), by="bob", reason="the old one is gone")
    assert {one["outcome"] for one in await confirmed(pair.a, pair.a.send(201))} == {"accepted"}


@pytest.mark.parametrize("jump", [timedelta(hours=2), timedelta(hours=-2)], ids=["forward", "back"])
async def test_a_clock_that_jumps_delays_messages_and_loses_none(pair: Pair, jump: timedelta) -> None:
    number = 400 if jump > timedelta() else 500
    with patch("starters.federation.verify_request", lambda *some: verify_request(*some, now=datetime.now(UTC) + jump)):
        queued = [pair.a.send(number), pair.a.send(number + 1)]

        async def waits() -> bool:
            (backlog,) = await asyncio.to_thread(pair.a.outbox.backlog)
            return backlog.position.tries > 0

        await until(waits)
        (backlog,) = pair.a.outbox.backlog()
        assert "401" in backlog.position.problem
        assert "let a time server set the clock" in backlog.position.problem
        assert not set(pair.a.ids(*queued)) & set(pair.b.applied())
    assert [one["outcome"] for one in await confirmed(pair.a, *queued)] == ["accepted"] * 2
    applied = [one for one in pair.b.applied() if one in pair.a.ids(*queued)]
    assert sorted(applied) == sorted(pair.a.ids(*queued))


async def test_a_person_pauses_what_a_peer_is_sent_and_what_it_sends(pair: Pair) -> None:
    a, b = pair.a, pair.b
    who = ("--by", "ada", "--reason", "they migrate")
    paused = await a.coafi("peers", "pause", "b.example", "--outgoing", *who)
    assert paused == {"peer": "b.example", "run": "outbox:b.example", "paused": True}

    async def backlog() -> Any:
        (found,) = await a.coafi("peers", "backlog")
        return found

    async def is_paused() -> bool:
        return bool((await backlog())["paused"] == "ada: they migrate")

    await until(is_paused)
    queued = a.send(300)
    assert (await backlog())["messages"] == 1
    assert (await b.coafi("peers", "pause", "a.example", *who))["paused"]["reason"] == "they migrate"
    await a.coafi("peers", "resume", "b.example", "--outgoing")

    async def waits() -> bool:
        return bool((await b.coafi("peers", "standing", "a.example"))["waiting"] == 1)

    await until(waits)
    assert a.ids(queued)[0] not in b.applied()
    assert (await b.coafi("peers", "resume", "a.example"))["paused"] is None
    assert [one["outcome"] for one in await confirmed(a, queued)] == ["accepted"]
    after = await backlog()
    assert (after["paused"], after["messages"]) == ("", 0)
