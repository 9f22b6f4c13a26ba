"""What the ledger and the table of deliveries say about an event, on a real database."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.canonical import JsonObject
from coafi.commits import PAYLOAD_SCHEMA, reconciled_id, submitted_commit
from coafi.database import Database
from coafi.deliveries import DeliveryReader
from coafi.events import Event, new_event
from coafi.findings import Finding, Severity
from coafi.ledger.entry import Recorded
from coafi.ledger.keys import generate_key
from coafi.ledger.log import Ledger
from coafi.names import EntryType, EventType, Phase
from coafi.recording import Conclusion, Decision, EventRecorder, Failure, Range, Refusal, merge_ranges
from coafi.registry.store import PublishedSchemas, builtin_schemas
from tests.postgresql import where

URL = "https://git.example/acme/docs"
PAYLOAD: JsonObject = {
    "repositoryUrl": URL,
    "commitSha": "a" * 40,
    "branch": "main",
    "author": "ada",
}
FINDING = Finding(severity=Severity.ERROR, rule="x/y", message="wrong", remedy="mend it")
FAILURE = Failure(step="git.fetch", sequence=1, error="Unavailable", message="out of reach")
DISCARDED = Conclusion(
    phase=Phase.FAILED,
    failure=FAILURE,
    decisions=(Decision(by="ada", reason="gone"),),
    entries=(Range(first=0, last=0),),
)


@pytest.fixture
def recorder(place: Path) -> Iterator[EventRecorder]:
    database = Database(where(place))
    database.create_tables()
    registry = PublishedSchemas(database)
    registry.publish(builtin_schemas())
    ledger = Ledger(
        database,
        origin="example.org/log",
        signer=generate_key(place / "key", "example.org/log"),
        state_directory=place / "state",
    )
    yield EventRecorder(ledger=ledger, registry=registry, namespace="default", build="1.2.3")
    ledger.close()
    database.close()


@pytest.fixture
def deliveries(recorder: EventRecorder, place: Path) -> Iterator[DeliveryReader]:
    database = Database(where(place))
    yield DeliveryReader(database)
    database.close()


def event(data: JsonObject | None = None, *, delivery: str = "d1", body: str = "0") -> Event:
    return new_event(
        event_type=EventType.GIT_COMMIT,
        source="https://git.example/acme/docs",
        delivery_id=delivery,
        time=datetime(2026, 11, 23, tzinfo=UTC),
        body_digest=body * 64,
        principal="github-webhook",
        data=PAYLOAD if data is None else data,
    )


def entries(recorder: EventRecorder) -> list[Recorded]:
    return recorder.ledger.entries(0, recorder.ledger.size())


def outcome(deliveries: DeliveryReader) -> str | None:
    (known,) = deliveries.recent(10)
    return known.outcome


def test_a_valid_event_is_claimed_and_recorded_with_what_it_was_held_against(
    recorder: EventRecorder, deliveries: DeliveryReader
) -> None:
    received = recorder.receive(event(), "run1")
    assert received.phase is Phase.VALIDATED
    assert received.utids.startswith("UTIDS-P-")
    assert received.entries == (Range(first=0, last=0),)
    (recorded,) = entries(recorder)
    assert (recorded.entry.type, recorded.entry.step) == (EntryType.EVENT_RECEIVED, "receive")
    assert recorded.entry.utids == received.utids
    assert recorded.data["temporaryUtids"] == event().utids
    assert recorded.data["subject"] == "https://git.example/acme/docs main aaaaaaaaaaaa"
    schema = recorder.registry.schema(PAYLOAD_SCHEMA)
    assert recorded.data["schema"] == {"id": schema.schema_id, "version": schema.version, "digest": schema.digest}
    (known,) = deliveries.recent(10)
    assert (known.run_id, known.utids, known.outcome) == ("run1", received.utids, None)


def test_the_entry_says_what_caused_the_event(recorder: EventRecorder) -> None:
    recorder.receive(event().model_copy(update={"causationid": "x:y:z", "causationdepth": 2}), "run1")
    assert (entries(recorder)[0].data["causationId"], entries(recorder)[0].data["causationDepth"]) == ("x:y:z", 2)


def test_receiving_again_gives_the_same_and_records_nothing(recorder: EventRecorder) -> None:
    first = recorder.receive(event(), "run1")
    assert recorder.receive(event(), "run1") == first
    assert recorder.ledger.size() == 1


def test_an_invalid_event_is_recorded_rejected_and_concluded_at_once(
    recorder: EventRecorder, deliveries: DeliveryReader
) -> None:
    wrong = event({**PAYLOAD, "commitSha": "HEAD"})
    received = recorder.receive(wrong, "run1")
    assert received.phase is Phase.REJECTED
    assert received.utids == wrong.utids
    assert [(finding.rule, finding.pointer) for finding in received.findings] == [("payload/pattern", "/commitSha")]
    assert PAYLOAD_SCHEMA in received.findings[0].remedy
    assert received.entries == (Range(first=0, last=1),)
    assert [one.entry.type for one in entries(recorder)] == [EntryType.EVENT_RECEIVED, EntryType.EVENT_REJECTED]
    assert outcome(deliveries) == Phase.REJECTED
    assert recorder.receive(wrong, "run1") == received
    assert recorder.ledger.size() == 2


def test_a_delivery_that_another_run_concluded_is_a_duplicate_and_records_nothing(recorder: EventRecorder) -> None:
    first = recorder.receive(event(), "run1")
    recorder.conclude(event().ref(first.utids), Conclusion(phase=Phase.PROCESSED))
    size = recorder.ledger.size()
    second = recorder.receive(event(), "run2")
    assert second.model_dump(exclude_defaults=True) == {
        "phase": Phase.DUPLICATE,
        "utids": first.utids,
        "duplicate_of": "run1",
    }
    assert recorder.ledger.size() == size


def push(branch: str, before: str, after: str, *, url: str = URL) -> JsonObject:
    return {**PAYLOAD, "repositoryUrl": url, "branch": branch, "before": before * 40, "commitSha": after * 40}


def missing(branch: str, before: str, after: str, *, url: str = URL, earlier: int = 0) -> Event:
    """The event of a push that was found missing."""
    delivery = reconciled_id(url, branch, before * 40, after * 40, earlier=earlier)
    return event(push(branch, before, after, url=url), delivery=delivery)


def found(recorder: EventRecorder, received: Event, run_id: str) -> str:
    """The phase that an event got, or the run that it is a duplicate of."""
    got = recorder.receive(received, run_id)
    return str(got.duplicate_of or got.phase)


@pytest.mark.parametrize("url", [URL, f"{URL}.git"])
@pytest.mark.parametrize("outcome", [None, Phase.PROCESSED])
def test_a_push_that_was_found_missing_is_a_duplicate_when_it_comes(
    recorder: EventRecorder, url: str, outcome: Phase | None
) -> None:
    """Whatever comes of other branches meanwhile."""
    first = recorder.receive(missing("main", "a", "b"), "run1")
    if outcome is not None:
        recorder.conclude(missing("main", "a", "b").ref(first.utids), Conclusion(phase=outcome))
    recorder.receive(missing("feature/main", "a", "b"), "run2")
    recorder.receive(event(push("main-2", "b", "a"), delivery="d2"), "run3")
    size = recorder.ledger.size()
    late = recorder.receive(event(push("main", "a", "b", url=url), delivery="late"), "run4")
    assert (late.phase, late.duplicate_of) == (Phase.DUPLICATE, "run1")
    assert recorder.ledger.size() == size


@pytest.mark.parametrize(("url", "branch"), [(URL, "main"), (f"{URL}.git", "main"), (URL, "m%in_")])
def test_a_push_that_was_found_missing_is_handled_when_its_branch_moved_since(
    recorder: EventRecorder, url: str, branch: str
) -> None:
    recorder.receive(missing(branch, "a", "b"), "run1")
    recorder.receive(event(push(branch, "b", "a", url=url), delivery="back"), "run2")
    late = recorder.receive(event(push(branch, "a", "b"), delivery="late"), "run3")
    assert late.phase is Phase.VALIDATED


def test_whether_its_branch_moved_since_is_told_by_the_ledger_and_not_by_clocks(
    recorder: EventRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as ahead:
        ahead.setattr("coafi.deliveries._now", lambda: "2999-01-01T00:00:00.000Z")
        recorder.receive(missing("main", "a", "b"), "run1")
    recorder.receive(event(push("main", "b", "a"), delivery="back"), "run2")
    assert found(recorder, event(push("main", "a", "b"), delivery="again"), "run3") == Phase.VALIDATED


def test_a_push_that_was_found_missing_stands_for_one_delivery(recorder: EventRecorder) -> None:
    recorder.receive(missing("main", "a", "b"), "run1")
    assert found(recorder, event(push("main", "a", "b"), delivery="late"), "run2") == "run1"
    assert found(recorder, event(push("main", "a", "b"), delivery="again"), "run3") == Phase.VALIDATED


def test_a_late_push_stays_a_duplicate_whoever_asks_and_whatever_came_since(
    recorder: EventRecorder, deliveries: DeliveryReader
) -> None:
    recorder.receive(missing("main", "a", "b"), "run1")
    late = event(push("main", "a", "b"), delivery="late")
    assert found(recorder, late, "run2") == "run1"
    recorder.receive(event(push("main", "b", "c"), delivery="next"), "run3")
    for run_id in ("run2", "run4"):
        assert found(recorder, late, run_id) == "run1"
    known = deliveries.get(late.source, "late")
    assert known is not None
    assert (known.outcome, known.run_id, known.duplicate_of) == (
        Phase.DUPLICATE,
        "run2",
        missing("main", "a", "b").id,
    )
    assert recorder.receive(event(push("main", "c", "d"), delivery="late", body="1"), "run5").phase is Phase.REJECTED


@pytest.mark.parametrize("outcome", [None, Phase.PROCESSED])
def test_a_push_that_came_before_it_was_started_as_missing_is_handled_once(
    recorder: EventRecorder, outcome: Phase | None
) -> None:
    """It waited in the queue while the reconciler looked; and a step of it may be tried again."""
    first = recorder.receive(event(push("main", "a", "b"), delivery="d1"), "run1")
    if outcome is not None:
        recorder.conclude(event(delivery="d1").ref(first.utids), Conclusion(phase=outcome))
    size = recorder.ledger.size()
    assert found(recorder, missing("main", "a", "b"), "run2") == "run1"
    assert recorder.receive(event(push("main", "a", "b"), delivery="d1"), "run1") == first
    assert recorder.ledger.size() == size


def test_the_first_of_two_is_itself_when_its_receipt_is_tried_again(recorder: EventRecorder) -> None:
    first = recorder.receive(missing("main", "a", "b"), "run1")
    assert found(recorder, event(push("main", "a", "b"), delivery="late"), "run2") == "run1"
    assert recorder.receive(missing("main", "a", "b"), "run1") == first
    assert recorder.receive(missing("main", "a", "b"), "run3") == first, "its run was lost"


def test_a_push_that_was_made_again_and_is_missing_is_handled(recorder: EventRecorder) -> None:
    recorder.receive(event(push("main", "a", "b"), delivery="d1"), "run1")
    recorder.receive(event(push("main", "b", "a"), delivery="d2"), "run2")
    assert found(recorder, missing("main", "a", "b", earlier=1), "run3") == Phase.VALIDATED
    assert found(recorder, event(push("main", "a", "b"), delivery="d3"), "run4") == "run3"


def test_a_missing_push_whose_delivery_was_given_up_is_handled(recorder: EventRecorder) -> None:
    first = recorder.receive(event(push("main", "a", "b"), delivery="d1"), "run1")
    recorder.conclude(event(delivery="d1").ref(first.utids), DISCARDED)
    assert found(recorder, missing("main", "a", "b"), "run2") == Phase.VALIDATED


def test_what_somebody_asks_for_by_hand_is_done_also_if_it_was_found_missing(recorder: EventRecorder) -> None:
    recorder.receive(missing("main", "a", "b"), "run1")
    by_hand, _ = submitted_commit(
        repository_url=URL,
        commit="b" * 40,
        before="a" * 40,
        branch="main",
        author="ada",
        principal="submit:ada",
        received=datetime.now(UTC),
        again="fresh",
    )
    assert found(recorder, by_hand, "run2") == Phase.VALIDATED


def test_a_push_that_was_found_missing_and_given_up_is_handled_when_it_comes(recorder: EventRecorder) -> None:
    first = recorder.receive(missing("main", "a", "b"), "run1")
    recorder.conclude(missing("main", "a", "b").ref(first.utids), DISCARDED)
    assert recorder.receive(event(push("main", "a", "b"), delivery="late"), "run2").phase is Phase.VALIDATED


def test_a_claim_whose_run_is_gone_is_taken_over_with_its_entries(
    recorder: EventRecorder, deliveries: DeliveryReader
) -> None:
    first = recorder.receive(event(), "run1")
    assert recorder.receive(event(), "run2") == first
    assert recorder.ledger.size() == 1
    assert deliveries.recent(10)[0].run_id == "run2"


def test_another_body_under_a_known_id_is_a_conflict_on_the_record_that_leaves_the_delivery_alone(
    recorder: EventRecorder, deliveries: DeliveryReader
) -> None:
    first = recorder.receive(event(), "run1")
    other = event({**PAYLOAD, "branch": "next"}, body="1")
    conflict = recorder.receive(other, "run2")
    assert conflict.phase is Phase.REJECTED
    assert [finding.rule for finding in conflict.findings] == ["delivery/reused"]
    assert conflict.entries == (Range(first=1, last=1),)
    recorded = entries(recorder)[1]
    assert (recorded.entry.type, recorded.entry.step) == (EntryType.EVENT_REJECTED, f"conflict/{'1' * 64}")
    (known,) = deliveries.recent(10)
    assert (known.run_id, known.outcome, known.utids) == ("run1", None, first.utids)
    assert recorder.receive(other, "run2") == conflict
    assert recorder.receive(event(body="2"), "run3").entries == (Range(first=2, last=2),), "each body once"


def test_every_park_is_an_entry_of_its_own_and_the_first_write_wins(recorder: EventRecorder) -> None:
    ref = event().ref(event().utids)
    assert recorder.park(ref, FAILURE) == Range(first=0, last=0)
    assert recorder.park(ref, FAILURE.model_copy(update={"message": "later"})) == Range(first=0, last=0)
    assert recorder.park(ref, FAILURE.model_copy(update={"sequence": 2})) == Range(first=1, last=1)
    first, second = entries(recorder)
    assert first.data == FAILURE.model_dump(mode="json")
    assert (first.entry.step, second.entry.step) == ("park/1/git.fetch", "park/2/git.fetch")


def test_a_conclusion_is_recorded_with_the_build_and_concludes_the_delivery(
    recorder: EventRecorder, deliveries: DeliveryReader
) -> None:
    received = recorder.receive(event(), "run1")
    concluded = recorder.conclude(event().ref(received.utids), DISCARDED)
    assert concluded.conclusion == DISCARDED
    assert concluded.entry == 1
    recorded = entries(recorder)[1]
    assert recorded.entry.type == EntryType.EVENT_DEAD_LETTERED
    assert recorded.data["build"] == "1.2.3"
    assert outcome(deliveries) == Phase.FAILED


@pytest.mark.parametrize("long", ["x" * 70_000, "\u20ac" * 30_000, "\x01" * 20_000, '"' * 40_000])
def test_however_long_a_message_is_its_end_of_the_run_can_be_recorded(recorder: EventRecorder, long: str) -> None:
    ref = event().ref(event().utids)
    failure = FAILURE.model_copy(update={"message": f"begin {long} end"})
    recorder.park(ref, failure)
    finding = FINDING.model_copy(update={"message": long, "remedy": long, "pointer": "/" + long})
    refusal = Refusal(step="git.fetch", error="ValidationError", message=f"begin {long} end")
    decisions = (Decision(by="\u20ac" * 500, reason="\U0001f600" * 500),) * 16
    rejected = Conclusion(
        phase=Phase.REJECTED, refused=refusal, failure=failure, findings=(finding,) * 50, decisions=decisions
    )
    concluded = recorder.conclude(ref, rejected).conclusion
    parked, _ = entries(recorder)
    for message in (str(parked.data["message"]), concluded.refused.message if concluded.refused else ""):
        assert message.startswith("begin ")
        assert message.endswith(" end")
    assert concluded.findings
    assert 5 < len(concluded.decisions) < 16


def test_concluding_again_gives_what_was_recorded_first(recorder: EventRecorder) -> None:
    ref = event().ref(event().utids)
    first = recorder.conclude(ref, Conclusion(phase=Phase.PROCESSED, counts={"files": 1}))
    second = recorder.conclude(ref, Conclusion(phase=Phase.PROCESSED, counts={"files": 2}, findings=(FINDING,)))
    assert second == first
    assert second.conclusion.counts == {"files": 1}
    assert recorder.ledger.size() == 1


def test_a_processed_run_is_not_dead_lettered_afterwards(recorder: EventRecorder, deliveries: DeliveryReader) -> None:
    received = recorder.receive(event(), "run1")
    first = recorder.conclude(event().ref(received.utids), Conclusion(phase=Phase.PROCESSED))
    assert recorder.conclude(event().ref(received.utids), DISCARDED) == first
    assert outcome(deliveries) == Phase.PROCESSED
    assert recorder.ledger.size() == 2


def test_a_run_that_was_given_up_may_still_be_processed(recorder: EventRecorder, deliveries: DeliveryReader) -> None:
    received = recorder.receive(event(), "run1")
    recorder.conclude(event().ref(received.utids), DISCARDED)
    recorder.conclude(event().ref(received.utids), Conclusion(phase=Phase.PROCESSED))
    assert outcome(deliveries) == Phase.PROCESSED


def test_entries_of_two_deliveries_do_not_share_keys(recorder: EventRecorder) -> None:
    first, second = recorder.receive(event(), "run1"), recorder.receive(event(delivery="d2"), "run2")
    assert (first.entries, second.entries) == ((Range(first=0, last=0),), (Range(first=1, last=1),))
    assert first.utids != second.utids


ranges = st.builds(lambda first, more: Range(first=first, last=first + more), st.integers(0, 60), st.integers(0, 8))


@given(st.lists(ranges, max_size=20))
def test_merged_ranges_hold_the_same_indices_in_as_few_ascending_ranges_as_possible(given_ranges: list[Range]) -> None:
    merged = merge_ranges(given_ranges)
    indices = {index for one in given_ranges for index in range(one.first, one.last + 1)}
    assert [index for one in merged for index in range(one.first, one.last + 1)] == sorted(indices)
    assert all(after.first > before.last + 1 for before, after in pairwise(merged))
    assert merge_ranges(merged) == merged


def test_what_a_valid_event_asked_for_is_recorded_and_nothing_about_people(recorder: EventRecorder) -> None:
    recorder.receive(event({**PAYLOAD, "before": "b" * 40, "message": "of no concern"}), "run1")
    recorder.receive(event({**PAYLOAD, "commitSha": "none"}, delivery="d2"), "run2")
    valid, invalid, *_ = entries(recorder)
    assert valid.data["parameters"] == {
        "repositoryUrl": "https://git.example/acme/docs",
        "commitSha": "a" * 40,
        "before": "b" * 40,
        "branch": "main",
    }
    assert (valid.data["runId"], valid.data["build"]) == ("run1", "1.2.3")
    assert "parameters" not in invalid.data


def test_another_run_or_worker_finds_the_entry_that_is_there(recorder: EventRecorder) -> None:
    recorder.receive(event(), "run1")
    newer = replace(recorder, build="2.0.0")
    assert newer.receive(event(), "run2").entries == (Range(first=0, last=0),)
    (only,) = entries(recorder)
    assert (only.data["runId"], only.data["build"]) == ("run1", "1.2.3")
