"""What peers send to a running service: taken once and in order, or refused without a trace."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY
from pydantic import JsonValue
from temporalio.client import WorkflowHandle, WorkflowUpdateFailedError
from temporalio.service import RPCError

from activities.peers import PeerMessage, PeerRun
from coafi.canonical import MAX_DEPTH, JsonObject
from coafi.compliance.findings import FindingQuery, FindingReader
from coafi.federation.inbox import PeerObjects
from coafi.federation.messages import MAX_MESSAGE, AffectedEntity, ComplianceFailure, Message, new_message
from coafi.federation.signatures import LIFETIME, SKEW, Reason, sign_request
from coafi.names import EntryType, Phase, WorkflowName, peer_source, peer_workflow_id, workflow_id
from coafi.receipts.verify import verify_receipt
from coafi.recording import Decision
from tests.coafi.federation.making import signer
from tests.harness import Stack, running_stack, until
from tests.starters.federation_support import Partner, entry, partner, problem_of, store, update
from workflows.peer import PeerStanding, PeerWorkflow

BY = Decision(by="ada", reason="they asked")


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with running_stack(tmp_path_factory.mktemp("federation"), federation_burst=500) as running:
        yield running


@pytest.fixture(scope="module")
def acme(stack: Stack) -> Partner:
    return partner(stack, "a.example", 1)


def run_of(stack: Stack, peer: str) -> WorkflowHandle[PeerWorkflow, PeerStanding]:
    return stack.client.get_workflow_handle_for(PeerWorkflow.run, peer_workflow_id(peer))


def refusals(word: str, status: int) -> float:
    labels = {"reason": word, "status": str(status)}
    return REGISTRY.get_sample_value("coafi_peer_requests_refused_total", labels) or 0.0


def entries_of(stack: Stack, message_id: str) -> list[EntryType]:
    return [EntryType(one.entry.type) for one in stack.resources.ledger.by_event(message_id)]


async def test_a_failure_opens_findings_here_and_tells_no_peer_in_turn(stack: Stack, acme: Partner) -> None:
    said = ComplianceFailure(
        failure_id="f-1",
        rule="front-matter/required",
        severity="critical",
        entities=(AffectedEntity(kind="registry", id="AERO/wing-9"), AffectedEntity(kind="document", id="GP-1")),
        detected=datetime(2026, 11, 26, tzinfo=UTC),
        message="no author",
    )
    assert (await acme.send(new_message("a.example", "failure-1", said))).status_code == 202
    receipt = await acme.concluded("failure-1")
    assert receipt.headers["coafi-phase"] == "PROCESSED"
    assert entries_of(stack, "failure-1") == [
        EntryType.EVENT_RECEIVED,
        EntryType.PEER_MESSAGE_APPLIED,
        EntryType.COMPLIANCE_FINDING_OPENED,
        EntryType.COMPLIANCE_FINDING_OPENED,
        EntryType.EVENT_PROCESSED,
    ]
    (_, _, opened, *_) = stack.resources.ledger.by_event("failure-1")
    assert (opened.data["peers"], opened.data["source"]) == ("none", "urn:coafi:peer:a.example")
    reader = FindingReader(stack.resources.database)
    (finding,) = reader.find(FindingQuery(entity="AERO/wing-9"))
    assert (finding.rule, finding.severity, finding.message) == ("front-matter/required", "critical", "no author")
    proved = verify_receipt(io.BytesIO(receipt.content), [stack.resources.ledger.keys])
    assert proved.story.phase == "PROCESSED"
    again = new_message("a.example", "failure-2", said.model_copy(update={"failure_id": "f-2"}))
    assert (await acme.send(again)).status_code == 202
    await acme.concluded("failure-2")
    assert len(reader.find(FindingQuery(entity="AERO/wing-9"))) == 1  # it is open already


async def test_a_message_is_taken_handled_and_acknowledged_with_proof(stack: Stack, acme: Partner) -> None:
    message = entry("whole-1", 1)
    answer = await acme.send(message)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == "/federation/messages/whole-1"
    assert answer.json()["workflowId"] == workflow_id("federated.message", peer_source("a.example"), "whole-1")
    receipt = await acme.concluded("whole-1")
    assert receipt.headers["coafi-phase"] == "PROCESSED"
    proved = verify_receipt(io.BytesIO(receipt.content), [stack.resources.ledger.keys])
    received = proved.story.received.data
    assert (proved.story.event_id, proved.story.phase) == ("whole-1", "PROCESSED")
    assert received.source == "urn:coafi:peer:a.example"
    assert received.principal == f"peer:a.example#{acme.key.public.keyid}"
    assert stack.resources.objects.get(received.body_digest) == message.body
    (told,) = [one for one in PeerObjects(stack.resources.database).of("a.example") if one.message == "whole-1"]
    assert (told.kind, told.id, told.version, told.digest) == ("registry", "AERO/wing-12", 1, message.data["digest"])
    assert entries_of(stack, "whole-1") == [
        EntryType.EVENT_RECEIVED,
        EntryType.PEER_MESSAGE_APPLIED,
        EntryType.EVENT_PROCESSED,
    ]


async def test_a_message_that_comes_again_is_handled_once(stack: Stack, acme: Partner) -> None:
    message = update("again-1")
    answers = await asyncio.gather(*(acme.send(message) for _ in range(10)))
    assert {one.status_code for one in answers} == {202}
    await acme.concluded("again-1")
    assert (await acme.send(message)).status_code == 202
    assert len(entries_of(stack, "again-1")) == 3
    other = await acme.send(update("again-1", severity="critical"))
    assert (other.status_code, problem_of(other)) == (409, "other-body")
    stack.verify()


async def test_another_body_under_an_id_that_is_being_handled_is_recorded_and_rejected(
    stack: Stack, acme: Partner
) -> None:
    run = run_of(stack, "a.example")
    await acme.send(update("warm-1"))
    await run.execute_update(PeerWorkflow.pause, BY)
    try:
        for severity in ("info", "critical"):
            assert (await acme.send(update("twice-1", severity=severity))).status_code == 202
    finally:
        await run.execute_update(PeerWorkflow.resume, BY)
    await acme.concluded("twice-1")
    await until(lambda: len(entries_of(stack, "twice-1")) == 4)
    found = entries_of(stack, "twice-1")
    assert found.count(EntryType.EVENT_REJECTED) == 1
    assert found.count(EntryType.PEER_MESSAGE_APPLIED) == 1


WRONG: dict[str, tuple[Callable[[Partner, Message], dict[str, str]], str, int]] = {}


def wrong(word: str, status: int) -> Callable[[Callable[[Partner, Message], dict[str, str]]], None]:
    return lambda make: WRONG.update({make.__name__: (make, word, status)})


def signed(who: Partner, message: Message, **changes: Any) -> dict[str, str]:
    url = changes.pop("url", f"{who.stack.gateway}/federation/inbox")
    key = changes.pop("key", who.key)
    return sign_request(key, "POST", url, message.headers(), message.body, **changes)


@wrong("unsigned", 401)
def unsigned(_who: Partner, message: Message) -> dict[str, str]:
    return message.headers()


@wrong("wrong-signature", 401)
def another_signature(who: Partner, message: Message) -> dict[str, str]:
    return {**signed(who, message), "ce-subject": "else"}


@wrong("wrong-signature", 401)
def unknown_key(who: Partner, message: Message) -> dict[str, str]:
    return signed(who, message, key=signer("a.example", 77))


@wrong("wrong-signature", 401)
def for_another_gateway(who: Partner, message: Message) -> dict[str, str]:
    return {**signed(who, message, url="https://c.example/federation/inbox"), "Host": "c.example"}


@wrong("wrong-digest", 400)
def another_digest(who: Partner, message: Message) -> dict[str, str]:
    url = f"{who.stack.gateway}/federation/inbox"
    return sign_request(who.key, "POST", url, message.headers(), message.body + b" ")


@wrong("expired", 401)
def expired(who: Partner, message: Message) -> dict[str, str]:
    return signed(who, message, now=datetime.now(UTC) - LIFETIME - SKEW - timedelta(seconds=2))


@wrong("not-yet-valid", 401)
def from_the_future(who: Partner, message: Message) -> dict[str, str]:
    return signed(who, message, now=datetime.now(UTC) + SKEW + timedelta(seconds=30))


@wrong("wrong-coverage", 400)
def uncovered(who: Partner, message: Message) -> dict[str, str]:
    return {**signed(who, message), "ce-added": "on the way"}


@wrong("malformed", 400)
def no_event(who: Partner, message: Message) -> dict[str, str]:
    headers = {name: value for name, value in message.headers().items() if name != "ce-id"}
    return sign_request(who.key, "POST", f"{who.stack.gateway}/federation/inbox", headers, message.body)


@wrong("media-type", 415)
def other_type(who: Partner, message: Message) -> dict[str, str]:
    headers = {**message.headers(), "Content-Type": "text/plain"}
    return sign_request(who.key, "POST", f"{who.stack.gateway}/federation/inbox", headers, message.body)


@pytest.mark.parametrize("what", WRONG)
async def test_what_is_refused_starts_nothing_leaves_no_entry_and_is_counted(
    stack: Stack, acme: Partner, what: str
) -> None:
    make, word, status = WRONG[what]
    message = update(f"wrong-{what.replace('_', '-')}")
    size, counted = stack.resources.ledger.size(), refusals(word, status)
    answer = await acme.raw(make(acme, message), message.body)
    assert (answer.status_code, problem_of(answer)) == (status, word), answer.text
    assert refusals(word, status) == counted + 1
    assert (status == 401) == ("accept-signature" in answer.headers)
    assert stack.resources.ledger.size() == size
    with pytest.raises(RPCError):
        await stack.handle(workflow_id("federated.message", peer_source("a.example"), message.id)).describe()


async def test_a_request_counts_once_and_one_that_was_refused_uses_no_nonce_up(stack: Stack, acme: Partner) -> None:
    message = update("replay-1")
    nonce = {"nonce": "replayed-nonce-000000001"}
    bad = {**signed(acme, message, **nonce), "ce-subject": "else"}
    assert problem_of(await acme.raw(bad, message.body)) == Reason.SIGNATURE
    headers = signed(acme, message, **nonce)
    assert (await acme.raw(headers, message.body)).status_code == 202
    again = await acme.raw(headers, message.body)
    assert (again.status_code, problem_of(again)) == (401, Reason.REPLAYED)
    assert (await acme.send(message)).status_code == 202


async def test_a_body_that_is_too_large_is_refused_unread(stack: Stack, acme: Partner) -> None:
    answer = await acme.raw({"Content-Type": "application/json"}, b"x" * (MAX_MESSAGE + 1))
    assert (answer.status_code, problem_of(answer)) == (413, "too-large")


@pytest.mark.parametrize(
    ("name", "inner", "status", "word"),
    [
        ("deep-1", b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, 400, "malformed"),
        ("deep-2", b"[" * 205 + b"]" * 205, 400, "malformed"),
        ("grown-1", b"1e20", 400, "malformed"),
        ("grown-2", b"[" + b",".join([b"1e15"] * 6_000) + b"]", 413, "too-large"),
    ],
)
async def test_what_its_run_could_not_use_is_refused_at_the_door(
    stack: Stack, acme: Partner, name: str, inner: bytes, status: int, word: str
) -> None:
    answer = await acme.post(update(name).headers(), b'{"x":' + inner + b"}")
    assert (answer.status_code, problem_of(answer)) == (status, word), answer.text
    assert (await acme.receipt(name)).status_code == 404


async def test_deep_messages_hold_up_nobody_when_the_run_goes_on_as_a_new_one(stack: Stack) -> None:
    jo = partner(stack, "jo.example", 13)
    run = await stack.client.start_workflow(
        WorkflowName.PEER,
        PeerRun(peer="jo.example", max_started=1, paused=BY),
        id=peer_workflow_id("jo.example"),
        task_queue="coafi-events",
    )
    assert (await jo.send(update("j-1", peer="jo.example"))).status_code == 202
    deepest = b'{"x":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}"
    assert (await jo.post(update("j-2", peer="jo.example").headers(), deepest)).status_code == 202
    past_the_gateway: JsonValue = 1
    for _ in range(190):
        past_the_gateway = [past_the_gateway]
    deeper = {**_plain("j-3", "jo.example"), "data": {"x": past_the_gateway}}
    await stack.client.get_workflow_handle(run.id).signal("message", {"message": deeper})
    assert (await jo.send(update("j-4", peer="jo.example"))).status_code == 202
    await run_of(stack, "jo.example").execute_update(PeerWorkflow.resume, BY)
    phases = [(await jo.concluded(name)).headers["coafi-phase"] for name in ("j-1", "j-2", "j-4")]
    assert phases == ["PROCESSED", "REJECTED", "PROCESSED"]
    state = await run_of(stack, "jo.example").query(PeerWorkflow.state)
    assert state.refused == 1
    assert "levels deep" in state.refusals[-1]


async def test_a_disabled_peer_is_refused_until_it_is_enabled(stack: Stack) -> None:
    bert = partner(stack, "bert.example", 3)
    assert (await bert.send(update("b-1", peer="bert.example"))).status_code == 202
    await bert.concluded("b-1")
    store(stack).disable("bert.example", by="ada", reason="contract ended")
    answer = await bert.send(update("b-2", peer="bert.example"))
    assert (answer.status_code, problem_of(answer)) == (403, Reason.DISABLED)
    assert (await bert.receipt("b-1")).status_code == 403
    store(stack).enable("bert.example", by="ada")
    assert (await bert.send(update("b-2", peer="bert.example"))).status_code == 202


async def test_keys_are_rotated_without_a_gap(stack: Stack) -> None:
    old = partner(stack, "carl.example", 4)
    new = Partner(signer("carl.example", 5), stack)
    assert (await new.send(update("c-0", peer="carl.example"))).status_code == 401
    store(stack).trust("carl.example", new.key.public, by="ada")
    for number, who in enumerate((old, new, old, new)):
        assert (await who.send(update(f"c-{number}", peer="carl.example"))).status_code == 202
    store(stack).distrust("carl.example", old.key.public.keyid, by="ada", reason="replaced")
    assert (await old.send(update("c-9", peer="carl.example"))).status_code == 401
    assert (await new.send(update("c-9", peer="carl.example"))).status_code == 202


@pytest.mark.parametrize(
    ("name", "make", "rule"),
    [
        ("scope", lambda: entry("r-scope", 1, peer="dora.example"), "event/AuthorizationError"),
        ("schema", lambda: update("r-schema", peer="dora.example").model_copy(update={"data": {"x": 1}}), "payload/"),
        ("source", lambda: update("r-source", peer="a.example"), "event/AuthorizationError"),
        (
            "type",
            lambda: update("r-type", peer="dora.example").model_copy(update={"type": "coafi.federation.Nonsense.v1"}),
            "event/ValidationError",
        ),
        (
            "loop",
            lambda: update("r-loop", peer="dora.example").model_copy(update={"causationdepth": 8}),
            "event/ValidationError",
        ),
    ],
)
async def test_what_is_authentic_but_wrong_is_rejected_and_recorded(
    stack: Stack, name: str, make: Callable[[], Message], rule: str
) -> None:
    dora = partner(stack, "dora.example", 6, accepts=("SystemUpdateNotification",))
    message = make()
    assert (await dora.send(message)).status_code == 202
    receipt = await dora.concluded(message.id)
    assert receipt.headers["coafi-phase"] == "REJECTED", name
    rejected = stack.resources.ledger.by_event(message.id)[-1].entry
    assert rejected.type == EntryType.EVENT_REJECTED
    assert str(rejected.data["findings"][0]["rule"]).startswith(rule)  # type: ignore[index,call-overload]  # JSON
    assert EntryType.PEER_MESSAGE_APPLIED not in entries_of(stack, message.id)


async def test_data_with_another_digest_are_rejected(stack: Stack, acme: Partner) -> None:
    message = entry("digest-1", 5)
    await acme.send(message.model_copy(update={"data": {**message.data, "data": {"span": 6}}}))
    assert (await acme.concluded("digest-1")).headers["coafi-phase"] == "REJECTED"


async def test_an_older_version_never_replaces_a_newer_one(stack: Stack) -> None:
    emma = partner(stack, "emma.example", 8)
    sent: list[tuple[str, int, JsonObject | None]] = [
        ("e-2", 2, None),
        ("e-1", 1, None),
        ("e-2b", 2, None),
        ("e-2c", 2, {"span": 99}),
        ("e-3", 3, None),
    ]
    for message_id, version, data in sent:
        await emma.send(entry(message_id, version, data, peer="emma.example"))
        await emma.concluded(message_id)
    kept = [stack.resources.ledger.by_event(message_id)[1].entry.data["kept"] for message_id, _, _ in sent]
    assert kept == ["new", "older", "same", "contradicts", "new"]
    (told,) = PeerObjects(stack.resources.database).of("emma.example")
    assert (told.version, told.message) == (3, "e-3")


async def test_a_peer_sees_its_own_receipts_only(stack: Stack, acme: Partner) -> None:
    await acme.send(update("mine-1"))
    await acme.concluded("mine-1")
    fritz = partner(stack, "fritz.example", 9)
    answer = await fritz.receipt("mine-1")
    assert (answer.status_code, problem_of(answer)) == (404, "unknown")


async def test_a_paused_peer_waits_in_order_and_goes_on(stack: Stack) -> None:
    gina = partner(stack, "gina.example", 10)
    await gina.send(update("g-0", peer="gina.example"))
    await gina.concluded("g-0")
    run = run_of(stack, "gina.example")
    standing = await run.execute_update(PeerWorkflow.pause, BY)
    assert standing.paused == BY
    with pytest.raises(WorkflowUpdateFailedError):
        await run.execute_update(PeerWorkflow.pause, BY)
    for number in range(1, 6):
        await gina.send(update(f"g-{number}", peer="gina.example"))
    await until(lambda: _waits(run, 5))
    answer = await gina.receipt("g-1")
    assert (answer.status_code, answer.json()["phase"]) == (202, "WAITING")
    assert answer.headers["retry-after"] == "2"
    assert entries_of(stack, "g-1") == []
    await run.execute_update(PeerWorkflow.resume, BY)
    with pytest.raises(WorkflowUpdateFailedError):
        await run.execute_update(PeerWorkflow.resume, BY)
    await gina.concluded("g-5")
    assert await started_in_order(run) == [f"g-{number}" for number in range(6)]


async def _waits(run: WorkflowHandle[PeerWorkflow, PeerStanding], count: int) -> bool:
    return (await run.query(PeerWorkflow.state)).waiting == count


async def started_in_order(run: WorkflowHandle[PeerWorkflow, PeerStanding]) -> list[str]:
    """The ids of the messages whose runs a run has started, in the order in which they began."""
    history = await run.fetch_history()
    started = [
        event.child_workflow_execution_started_event_attributes.workflow_execution.workflow_id
        for event in history.events
        if event.HasField("child_workflow_execution_started_event_attributes")
    ]
    return [one.rpartition(":")[2] for one in started]


async def test_a_signal_that_is_no_message_is_shown_and_harms_nobody(stack: Stack) -> None:
    hans = partner(stack, "hans.example", 11)
    await hans.send(update("h-0", peer="hans.example"))
    run = run_of(stack, "hans.example")
    no_messages: list[Any] = [{}, [], "text", None, 7, {"message": {"id": "x"}}]
    too_large = {**_plain("h-8"), "data": {"text": "x" * MAX_MESSAGE}}
    for garbage in (*no_messages, {"message": {**_plain("h-9"), "id": "a b"}}, {"message": too_large}):
        await run.signal("message", garbage)
    await run.signal("message", {"message": _plain("h-1", "hans.example")})
    await until(lambda: _refused(run, 8))
    await hans.concluded("h-1")
    assert len((await run.query(PeerWorkflow.state)).refusals) == 8


async def _refused(run: WorkflowHandle[PeerWorkflow, PeerStanding], count: int) -> bool:
    return (await run.query(PeerWorkflow.state)).refused == count


def _plain(message_id: str, peer: str = "a.example") -> dict[str, Any]:
    return update(message_id, peer=peer).model_dump(mode="json", exclude_none=True)


async def test_a_signal_past_the_gateway_is_checked_like_any_message(stack: Stack) -> None:
    partner(stack, "ida.example", 12, accepts=("SystemUpdateNotification",))
    run = await stack.client.start_workflow(
        WorkflowName.PEER,
        PeerRun(peer="somebody-else"),
        id=peer_workflow_id("ida.example"),
        task_queue="coafi-events",
    )
    for message in (
        update("i-good", peer="ida.example"),
        entry("i-scope", 1, peer="ida.example"),
        update("i-source", peer="a.example"),
        update("i-schema", peer="ida.example").model_copy(update={"data": {}}),
    ):
        await run.signal("message", PeerMessage(message=message))
    expected = {
        "i-good": Phase.PROCESSED,
        "i-scope": Phase.REJECTED,
        "i-source": Phase.REJECTED,
        "i-schema": Phase.REJECTED,
    }
    for message_id, phase in expected.items():
        handle = stack.handle(workflow_id("federated.message", peer_source("ida.example"), message_id))
        await until(lambda handle=handle: _exists(handle))  # type: ignore[misc]  # bound per turn
        assert (await handle.result()).phase is phase, message_id
    received = stack.resources.ledger.by_event("i-good")[0].entry
    assert received.data["principal"] == "peer:ida.example by temporal"
    assert stack.resources.objects.get(str(received.data["bodyDigest"])) == update("i-good", peer="ida.example").body


async def _exists(handle: WorkflowHandle[Any, Any]) -> bool:
    try:
        await handle.describe()
    except RPCError:
        return False
    return True


async def test_a_peer_that_floods_is_held_back_and_others_are_not(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("flood")
    async with running_stack(home, workers=False, federation_rate=2.0, federation_burst=10) as stack:
        flood, calm = partner(stack, "flood.example", 20), partner(stack, "calm.example", 21)
        answers = await asyncio.gather(*(flood.send(update(f"f-{n}", peer="flood.example")) for n in range(40)))
        held = [one for one in answers if one.status_code == 429]
        taken = [one for one in answers if one.status_code == 202]
        assert len(taken) + len(held) == 40
        assert 10 <= len(taken) <= 25
        assert all(int(one.headers["retry-after"]) >= 1 and problem_of(one) == "too-many-requests" for one in held)
        forged = sign_request(
            signer("x", 99), "POST", f"{stack.gateway}/federation/inbox", update("z").headers(), update("z").body
        )
        for _ in range(20):  # somebody who only knows its name cannot use its requests up
            await calm.raw(forged, update("z").body)
        calm_answers = [await calm.send(update(f"k-{n}", peer="calm.example")) for n in range(8)]
        assert {one.status_code for one in calm_answers} == {202}


async def test_while_temporal_is_away_nothing_is_accepted_and_no_nonce_used_up(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    home = tmp_path_factory.mktemp("away")
    async with running_stack(home, workers=False, temporal_start_timeout=1.0) as stack:
        acme = partner(stack)
        message = update("away-1")
        stack.server.process.kill()
        headers = signed(acme, message)
        for _ in range(2):  # the very same request: nothing came of the first
            answer = await acme.raw(headers, message.body)
            assert (answer.status_code, problem_of(answer)) == (503, "unavailable")
            assert int(answer.headers["retry-after"]) >= 1
