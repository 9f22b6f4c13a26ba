from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coafi.database import Database
from coafi.deliveries import ClaimResult, Delivery, DeliveryReader, claim, conclude
from coafi.events import Event, new_event
from coafi.names import EventType, Phase
from tests.postgresql import where


@pytest.fixture
def database(place: Path) -> Iterator[Database]:
    made = Database(where(place))
    made.create_tables()
    yield made
    made.close()


def event(delivery: str = "d1", body: str = "0") -> Event:
    return new_event(
        event_type=EventType.GIT_COMMIT,
        source="https://example.org/a",
        delivery_id=delivery,
        time=datetime(2026, 11, 23, tzinfo=UTC),
        body_digest=body * 64,
        principal="p",
        data={},
    )


def claimed(database: Database, run_id: str, what: Event | None = None) -> tuple[ClaimResult, Delivery]:
    with database.write() as connection:
        return claim(connection, what or event(), run_id=run_id, utids="UTIDS-P-1", subject="about")


def concluded(database: Database, phase: Phase) -> None:
    with database.write() as connection:
        conclude(connection, event(), phase)


def test_the_first_claim_is_ours_and_stays_so(database: Database) -> None:
    assert claimed(database, "run1")[0] is ClaimResult.OURS
    assert claimed(database, "run1")[0] is ClaimResult.OURS
    concluded(database, Phase.PROCESSED)
    assert claimed(database, "run1")[0] is ClaimResult.OURS, "a reset repeats its own claim"


def test_a_concluded_delivery_is_a_duplicate_for_others(database: Database) -> None:
    claimed(database, "run1")
    concluded(database, Phase.PROCESSED)
    result, owner = claimed(database, "run2")
    assert result is ClaimResult.DUPLICATE
    assert owner.run_id == "run1"


def test_an_unfinished_delivery_is_taken_over(database: Database) -> None:
    claimed(database, "run1")
    assert claimed(database, "run2")[0] is ClaimResult.OURS
    assert claimed(database, "run2")[1].run_id == "run2"


def test_another_body_under_the_same_id_is_a_conflict(database: Database) -> None:
    claimed(database, "run1")
    assert claimed(database, "run2", event(body="1"))[0] is ClaimResult.CONFLICT


def test_nothing_undoes_processed(database: Database) -> None:
    claimed(database, "run1")
    concluded(database, Phase.FAILED)
    concluded(database, Phase.PROCESSED)
    concluded(database, Phase.FAILED)
    (found,) = DeliveryReader(database).recent(10)
    assert found.outcome == "PROCESSED"
    assert found.concluded_at is not None


def test_deliveries_are_found_by_each_of_their_names(database: Database) -> None:
    _, known = claimed(database, "run1")
    reader = DeliveryReader(database)
    for name in ("d1", event().workflow_id, "UTIDS-P-1", event().utids):
        assert reader.find(name) == (known,)
    assert reader.by_utids("UTIDS-P-1") == reader.by_utids(event().utids) == known
    assert reader.by_utids("d1") is None
    assert reader.find("nothing") == ()
    assert reader.recent(10, outcome=Phase.FAILED) == ()
    assert replace(known, outcome="x") != known


def test_the_id_of_a_delivery_does_not_pass_for_a_workflow_or_a_utids(database: Database) -> None:
    """Its sender has chosen it."""
    target = event("theirs")
    names = (target.workflow_id, target.utids)
    for name in names:
        claimed(database, "run1", event(name))
    _, theirs = claimed(database, "run2", target)
    reader = DeliveryReader(database)
    for name in names:
        assert [one.delivery_id for one in reader.find(name)] == ["theirs"]
    assert reader.by_workflow_id(target.workflow_id) == theirs
    assert reader.by_workflow_id("theirs") is None


def test_a_name_that_no_delivery_can_have_finds_none(database: Database) -> None:
    claimed(database, "run1")
    assert DeliveryReader(database).find("a\0b") == ()
    assert DeliveryReader(database).find("\ud800") == ()
