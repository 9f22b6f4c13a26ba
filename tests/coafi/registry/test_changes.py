"""Changes of entries, on both databases and a real ledger."""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from coafi.canonical import JsonObject, digest_of
from coafi.errors import (
    IdempotencyConflict,
    PreconditionFailed,
    Refused,
    ResourceNotFoundError,
    Unavailable,
    ValidationError,
)
from coafi.ledger.port import LedgerTransaction
from coafi.names import EntryType
from coafi.registry.changes import apply, check_update, plan_update
from coafi.registry.entry import MAX_DATA, TRANSITIONS, Entry, EntryClass, EntryStatus, EntryUpdate, RegistryId
from coafi.registry.local import LocalRegistry
from coafi.registry.store import PublishedSchemas, publish_one
from coafi.registry.tables import registry_tag, registry_version
from coafi.registry.validation import Schema
from coafi.registry.verdicts import EntryVerdict, add_entry_verdicts, latest_entry_verdicts
from tests.coafi.registry.making import ONWARD, Registers, draft, registers, schema
from tests.strength import examples


def rows(books: Registers) -> int:
    with books.database.read() as connection:
        return connection.execute(select(func.count()).select_from(registry_version)).scalar_one()


def test_a_new_entry_is_a_submission_of_whoever_asked(books: Registers) -> None:
    made = books.put("wing", {"span": 12.5})
    assert made == books.get("wing")
    assert (made.version, made.status, made.entry_class) == (1, EntryStatus.SUBMISSION, EntryClass.APPLICATION)
    assert (made.owner, made.by, made.tags, made.integrated_version) == ("key:ci", "key:ci", (), None)
    assert (made.created, made.changed) == ("2026-11-27T08:00:00.250Z",) * 2
    assert (made.etag, made.digest) == ('"1"', digest_of({"span": 12.5}))


def test_a_change_and_its_ledger_entry_name_each_other(books: Registers) -> None:
    books.put("wing", {"n": 1}, tags=["a"])
    made = books.move("wing", "Review", reason="looks good")
    assert made.ledger_entry == 1
    recorded = books.ledger.entry(1)
    assert recorded.entry.type == EntryType.REGISTRY_ENTRY_CHANGED
    assert (recorded.entry.workflow_id, recorded.entry.utids) == (made.workflow_id, made.utids)
    assert recorded.data == {
        "registryId": "AERO",
        "entryId": "wing",
        "version": 2,
        "status": "Review",
        "class": "Application",
        "owner": "key:ci",
        "tags": ["a"],
        "digest": made.digest,
        "utids": made.utids,
        "by": "key:ci",
        "reason": "looks good",
        "previous": {"version": 1, "status": "Submission", "digest": made.digest},
    }


def test_what_an_update_says_nothing_of_stays(books: Registers) -> None:
    books.put("wing", {"n": 1}, owner="team-a", tags=["x", "y"], **{"class": "Core"})
    kept = books.put("wing", {"n": 2})
    assert (kept.version, kept.owner, kept.tags, kept.entry_class) == (2, "team-a", ("x", "y"), EntryClass.CORE)
    changed = books.put("wing", {"n": 2}, owner="team-b", tags=[], **{"class": "Service"})
    assert (changed.owner, changed.tags, changed.entry_class) == ("team-b", (), EntryClass.SERVICE)
    with books.database.read() as connection:
        assert connection.execute(select(registry_tag)).all() == []


def test_an_entry_goes_from_submission_to_integration_and_an_update_begins_again(books: Registers) -> None:
    integrated = books.integrate("wing", {"n": 1})
    assert (integrated.version, integrated.status, integrated.integrated_version) == (4, EntryStatus.INTEGRATION, 4)
    updated = books.put("wing", {"n": 2})
    assert (updated.version, updated.status, updated.integrated_version) == (5, EntryStatus.SUBMISSION, 4)
    assert books.get("wing", version=4) == integrated
    assert updated.created == integrated.created


@pytest.mark.parametrize("status", EntryStatus)
def test_only_the_next_step_and_the_first_one_are_open(books: Registers, status: EntryStatus) -> None:
    books.put("wing", {})
    for onward in ONWARD[: list(EntryStatus).index(status)]:
        books.move("wing", onward)
    for wanted in EntryStatus:
        if wanted not in TRANSITIONS[status]:
            with pytest.raises(ValidationError, match=f"is at {status} and cannot go to {wanted}") as caught:
                books.move("wing", wanted)
            assert [one.pointer for one in caught.value.findings] == ["/status"]
    size = books.ledger.size()
    for back in TRANSITIONS[status][1:]:
        assert books.move("wing", back).status is EntryStatus.SUBMISSION
        size += 1
    assert books.ledger.size() == size


def test_a_version_that_is_no_longer_the_newest_is_refused_and_nothing_is_recorded(books: Registers) -> None:
    books.put("wing", {"n": 1}, expected=0)
    books.put("wing", {"n": 2}, expected=1)
    size = books.ledger.size()
    attempts: list[Callable[[], Entry]] = [
        partial(books.put, "wing", {"n": 3}, expected=1),
        partial(books.put, "wing", {"n": 3}, expected=0),
        partial(books.put, "new", {"n": 3}, expected=7),
        partial(books.move, "wing", "Review", expected=1),
    ]
    for attempt in attempts:
        with pytest.raises(PreconditionFailed, match=r"expects") as caught:
            attempt()
        assert caught.value.findings
    assert (books.ledger.size(), books.get("wing").data) == (size, {"n": 2})


def test_the_status_of_what_there_is_not_is_not_changed(books: Registers) -> None:
    with pytest.raises(ResourceNotFoundError, match="AERO/none"):
        books.move("none", "Review")


def test_a_run_that_asks_again_gets_the_version_it_has_made(books: Registers) -> None:
    first = books.put("wing", {"n": 1}, run="run-a")
    later = books.put("wing", {"n": 2}, run="run-b")
    assert books.put("wing", {"n": 1}, run="run-a", expected=0) == first
    moved = books.move("wing", "Review", run="run-c")
    assert books.move("wing", "Review", run="run-c", expected=later.version) == moved
    assert (rows(books), books.ledger.size()) == (3, 3)


def test_a_run_that_asks_for_something_else_is_a_conflict(books: Registers) -> None:
    books.put("wing", {"n": 1}, run="run-a")
    with pytest.raises(IdempotencyConflict, match="run-a"):
        books.put("wing", {"n": 2}, run="run-a")
    with pytest.raises(IdempotencyConflict, match="run-a"):
        books.move("wing", "Review", run="run-a")


def test_a_unit_may_run_twice_before_it_is_committed(books: Registers) -> None:
    checked = check_update(
        EntryUpdate.parse({"registryId": "AERO", "entryId": "wing", "data": {"n": 1}}), books.schemas
    )
    origin = books.origin()

    def unit(transaction: LedgerTransaction) -> Entry:
        for _ in range(2):
            planned = plan_update(transaction.connection, checked, origin)
            (recorded,) = transaction.append([draft(planned, origin)])
            entry = apply(transaction.connection, planned, recorded.index)
        return entry

    assert books.ledger.transact(unit).version == 1
    assert (rows(books), books.ledger.size()) == (1, 1)


def test_a_unit_that_fails_leaves_neither_version_nor_entry(books: Registers) -> None:
    checked = check_update(
        EntryUpdate.parse({"registryId": "AERO", "entryId": "wing", "data": {}, "tags": ["a"]}), books.schemas
    )
    origin = books.origin()

    def unit(transaction: LedgerTransaction) -> None:
        planned = plan_update(transaction.connection, checked, origin)
        (recorded,) = transaction.append([draft(planned, origin)])
        apply(transaction.connection, planned, recorded.index)
        raise KeyError("after all that")

    with pytest.raises(KeyError):
        books.ledger.transact(unit)
    assert (rows(books), books.ledger.size()) == (0, 0)


def test_data_that_is_too_large_or_has_no_canonical_form_is_refused(books: Registers) -> None:
    books.put("large", {"text": "x" * (MAX_DATA - 11)})
    with pytest.raises(ValidationError, match="262,145 bytes") as caught:
        books.put("larger", {"text": "x" * (MAX_DATA - 10)})
    assert [one.pointer for one in caught.value.findings] == ["/data"]
    for value in ("\ud800", float("nan"), 2**53):
        with pytest.raises(ValidationError, match="canonical"):
            books.put("odd", {"value": value})


def test_every_character_that_json_can_hold_comes_back(books: Registers) -> None:
    data: JsonObject = {"nul\0key": "a\0b", "x": "\u2028\U0001f600'\"%\\", "": [None, True, 1.5, -0.0]}
    assert books.put("odd", data).data == books.get("odd").data == data


def test_entries_are_held_against_the_schema_of_their_registry(books: Registers) -> None:
    books.put("old", {"span": "wide"})
    books.publish("registry.AERO", "1.0.0", properties={"span": {"type": "number"}}, required=["span"])
    with pytest.raises(ValidationError, match=r"registry\.AERO 1\.0\.0 in 1 place") as caught:
        books.put("wing", {"span": "wide"})
    assert [(one.rule, one.pointer) for one in caught.value.findings] == [("entry/type", "/data/span")]
    with pytest.raises(ValidationError) as caught:
        books.put("wing", {})
    assert [(one.rule, one.pointer) for one in caught.value.findings] == [("entry/required", "/data")]
    made = books.put("wing", {"span": 3})
    schema_used = books.schemas.schema("registry.AERO")
    assert made.checked_with == schema_used.reference
    assert made.ledger_entry is not None
    assert books.ledger.entry(made.ledger_entry).data["schema"] == schema_used.reference.model_dump(by_alias=True)
    assert books.put("wing", {"span": "wide"}, registry="SPACE").checked_with is None
    assert books.get("wing").checked_with == made.checked_with


def test_an_update_that_was_checked_before_a_schema_was_published_is_checked_again(books: Registers) -> None:
    asked = EntryUpdate.parse({"registryId": "AERO", "entryId": "wing", "data": {"span": "wide"}})
    elsewhere = LocalRegistry(books.database, books.ledger)
    assert elsewhere.find("registry.AERO") is None
    books.publish("registry.AERO", "1.0.0", required=["mass"])
    size, origin = books.ledger.size(), books.origin()

    def change() -> None:
        with elsewhere.change(asked, origin) as plan:
            books.ledger.transact(lambda transaction: plan(transaction.connection))

    with pytest.raises(Unavailable, match=r"registry\.AERO 1\.0\.0 was published"):
        change()
    assert (rows(books), books.ledger.size()) == (4, size)
    with pytest.raises(ValidationError, match=r"breaks the schema registry\.AERO 1\.0\.0"):
        change()  # the next try knows the schema


def test_a_version_that_a_run_has_made_is_its_own_whatever_was_published_since(books: Registers) -> None:
    made = books.put("wing", {"span": "wide"}, run="run-a")
    elsewhere = PublishedSchemas(books.database)
    assert elsewhere.find("registry.AERO") is None
    books.publish("registry.AERO", "1.0.0", required=["mass"])
    books.schemas = elsewhere
    assert books.put("wing", {"span": "wide"}, run="run-a") == made


def verdicts(books: Registers) -> dict[tuple[str, int], str]:
    with books.database.read() as connection:
        found = latest_entry_verdicts(connection, RegistryId.AERO, ["wing"])
    return {key: one.verdict for key, one in found.items()}


def test_an_entry_that_is_known_to_be_invalid_stays_so_wherever_it_moves(books: Registers) -> None:
    made = books.put("wing", {"span": "wide"})
    assert made.ledger_entry is not None
    with books.database.write() as connection:
        add_entry_verdicts(connection, [EntryVerdict(made.ledger_entry, "AERO", "wing", 1, "invalid", "revalidate")])
    moved = books.move("wing", "Review", run="run-a")
    assert books.move("wing", "Review", run="run-a") == moved
    assert moved.ledger_entry is not None
    assert books.ledger.entry(moved.ledger_entry).data["verdict"] == "invalid"
    assert verdicts(books) == {("wing", 1): "invalid", ("wing", 2): "invalid"}
    mended = books.put("wing", {"span": 3})
    assert mended.ledger_entry is not None
    assert "verdict" not in books.ledger.entry(mended.ledger_entry).data
    books.move("wing", "Review")
    assert ("wing", 4) not in verdicts(books)


def test_the_id_of_what_is_named_never_changes(books: Registers) -> None:
    made = books.change(EntryUpdate.parse({"registryId": "UTIDS", "data": {"names": "wing 12", "note": "a"}}))
    assert made.utids == made.entry_id
    again = books.change(EntryUpdate.parse({"registryId": "UTIDS", "data": {"names": "wing 12", "note": "b"}}))
    assert (again.entry_id, again.version) == (made.entry_id, 2)


def raced(attempts: Sequence[Callable[[], Entry]]) -> tuple[list[Entry], list[Refused]]:
    """All at the same time: what came of those that went well, and why the others did not."""
    start, made, refused = threading.Barrier(len(attempts)), [], []

    def run(attempt: Callable[[], Entry]) -> None:
        start.wait()
        try:
            made.append(attempt())
        except Refused as error:
            refused.append(error)

    threads = [threading.Thread(target=run, args=(attempt,)) for attempt in attempts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return made, refused


def test_of_writers_that_expect_the_same_version_exactly_one_wins(books: Registers, place: Path) -> None:
    with registers(place) as others:
        for expected in range(5):
            attempts = [
                partial((books, others)[n % 2].put, "wing", {"n": n}, expected=expected, run=f"{expected}/{n}")
                for n in range(8)
            ]
            made, refused = raced(attempts)
            assert len(made) == 1
            assert [type(one) for one in refused] == [PreconditionFailed] * 7
            assert books.get("wing") == made[0]
    assert books.get("wing").version == 5
    assert (rows(books), books.ledger.size()) == (5, 5)


def test_of_writers_that_expect_nothing_each_makes_a_version(books: Registers, place: Path) -> None:
    with registers(place) as others:
        made, refused = raced([partial((books, others)[n % 2].put, "wing", {"n": n}, run=str(n)) for n in range(12)])
    assert refused == []
    assert sorted(one.version for one in made) == list(range(1, 13))
    assert {one.version: one.data for one in made} == {
        version: books.get("wing", version=version).data for version in range(1, 13)
    }


# ------------------------------------------------------------------------- schemas as entries


def test_a_schema_is_published_when_it_is_integrated_and_not_before(books: Registers) -> None:
    books.put("part", schema("part", type="object"), registry="schemas")
    for status in ONWARD[:2]:
        books.move("part", status, registry="schemas")
        assert books.schemas.find("part") is None
    made = books.move("part", "Integration", registry="schemas")
    assert books.schemas.schema("part").digest == made.digest
    assert made.ledger_entry is not None
    assert books.ledger.entry(made.ledger_entry).data["published"] == {
        "schemaId": "part",
        "version": "1.0.0",
        "digest": made.digest,
    }


def test_a_published_version_never_changes_and_the_next_is_higher(books: Registers) -> None:
    books.publish("part", "1.10.0", title="a")
    with pytest.raises(IdempotencyConflict, match=r"part 1\.10\.0 is published with other content"):
        books.put("part", schema("part", "1.10.0", title="b"), registry="schemas")
    with pytest.raises(ValidationError, match=r"part 1\.9\.0 comes after 1\.10\.0"):
        books.put("part", schema("part", "1.9.0"), registry="schemas")
    assert books.publish("part", "1.11.0", title="b").version == 8
    assert books.schemas.schema("part").version == "1.11.0"


def test_of_two_submissions_with_one_version_only_the_first_is_published(books: Registers) -> None:
    books.put("part", schema("part", "2.0.0", title="a"), registry="schemas")
    for status in ONWARD[:2]:
        books.move("part", status, registry="schemas")
    with books.database.write() as connection:
        publish_one(connection, Schema("part", "2.0.0", schema("part", "2.0.0", title="b")))
    size = books.ledger.size()
    with pytest.raises(IdempotencyConflict, match="part"):
        books.move("part", "Integration", registry="schemas")
    assert books.ledger.size() == size
    assert books.get("part", "schemas").status is EntryStatus.APPROVAL


def test_other_tags_of_a_published_schema_need_no_new_version(books: Registers) -> None:
    published = books.publish("part", "1.0.0")
    books.put("part", published.data, registry="schemas", tags=["x"])
    for status in ONWARD:
        books.move("part", status, registry="schemas")
    assert books.schemas.schema("part").digest == published.digest


def test_a_schema_of_the_package_gets_a_version_of_its_own(books: Registers) -> None:
    shipped = books.get("frontmatter.INFO-SPEC", "schemas")
    assert (shipped.version, shipped.etag, shipped.status) == (0, '"0"', EntryStatus.INTEGRATION)
    document = {**shipped.data, "$id": "urn:coafi:schema:frontmatter.INFO-SPEC:9.0.0"}
    submitted = books.put("frontmatter.INFO-SPEC", document, registry="schemas", expected=0)
    assert (submitted.version, submitted.integrated_version, submitted.entry_class) == (1, 0, EntryClass.CORE)
    assert submitted.utids == shipped.utids
    assert books.schemas.schema("frontmatter.INFO-SPEC").digest == shipped.digest
    for status in ONWARD:
        books.move("frontmatter.INFO-SPEC", status, registry="schemas")
    assert books.schemas.schema("frontmatter.INFO-SPEC").version == "9.0.0"
    assert books.get("frontmatter.INFO-SPEC", "schemas", 0) == shipped


def test_a_shipped_schema_is_integrated_already(books: Registers) -> None:
    with pytest.raises(ValidationError, match="is at Integration"):
        books.move("frontmatter.general", "Review", registry="schemas")


# ------------------------------------------------------------------- a life, by chance

steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from([{"n": 1}, {"n": 2}, {"m": [1, 2]}])),
        st.tuples(st.just("move"), st.sampled_from(EntryStatus)),
        st.tuples(st.just("stale"), st.sampled_from([{"n": 3}])),
    ),
    max_size=12,
)


@given(steps)
@settings(max_examples=examples(15), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_asked_every_version_is_kept_and_the_rules_hold(
    books: Registers, done: list[tuple[str, object]]
) -> None:
    name, before = f"wing-{len(books.runs)}", books.ledger.size()
    expected: list[tuple[EntryStatus, object, int | None]] = []
    for kind, value in done:
        status, data, integrated = expected[-1] if expected else (None, None, None)
        if kind == "put":
            made = books.put(name, value, expected=len(expected))  # type: ignore[arg-type]  # of this kind
            expected.append((EntryStatus.SUBMISSION, value, integrated))
            assert made.version == len(expected)
        elif kind == "stale":
            with pytest.raises(PreconditionFailed):
                books.put(name, value, expected=len(expected) + 1)  # type: ignore[arg-type]  # of this kind
        elif status is not None and value in TRANSITIONS[status]:
            books.move(name, str(value))
            now = len(expected) + 1 if value is EntryStatus.INTEGRATION else integrated
            expected.append((EntryStatus(str(value)), data, now))
        else:
            with pytest.raises((ValidationError, ResourceNotFoundError)):
                books.move(name, str(value))
    assert books.ledger.size() == before + len(expected)
    if not expected:
        return
    history = books.reader.history(RegistryId.AERO, name)
    assert [one.version for one in history] == list(range(len(expected), 0, -1))
    assert [one.ledger_entry for one in reversed(history)] == list(range(before, books.ledger.size()))
    for version, (status, data, integrated) in enumerate(expected, 1):
        one = books.get(name, version=version)
        assert (one.status, one.data, one.integrated_version) == (status, data, integrated)
