"""What every registry must do, wherever it is kept: the service does not know which one it has."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from coafi.api.stored import Operated
from coafi.canonical import JsonObject, digest_of
from coafi.database import Database
from coafi.errors import (
    IdempotencyConflict,
    PolicyDenied,
    PreconditionFailed,
    Refused,
    ResourceNotFoundError,
    ValidationError,
)
from coafi.ledger.keys import Signer
from coafi.ledger.log import Ledger
from coafi.registry.builtin import builtin_schemas
from coafi.registry.entry import MAX_DATA, EntryClass, EntryStatus, RegistryId
from coafi.registry.local import LocalRegistry
from coafi.registry.reader import EntryQuery
from coafi.registry.validation import Schema
from tests.coafi.ledger.making import HANG
from tests.coafi.registry.making import schema
from tests.coafi.registry.serving import (
    Desk,
    ServedRegistry,
    desk,
    entry_of,
    fresh_id,
    remote_registry,
    served_registry,
)
from tests.postgresql import use_postgresql, where

AERO, SCHEMAS, UTIDS = RegistryId.AERO, RegistryId.SCHEMAS, RegistryId.UTIDS


@contextmanager
def opened(home: Path) -> Iterator[tuple[Database, Ledger]]:
    database = Database(where(home))
    database.create_tables()
    signer = Signer("test", bytes(32))
    with closing(Ledger(database, origin="test", signer=signer, state_directory=home / "ledger")) as ledger:
        yield database, ledger
    database.close()


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedRegistry]:
    with served_registry(tmp_path_factory.mktemp("there")) as one:
        yield one


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "remote"])
def books(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    home = tmp_path_factory.mktemp(request.param)
    if request.param == "postgresql":
        use_postgresql(home, request.getfixturevalue("postgresql").create())
    with opened(home) as (database, ledger):
        if request.param == "remote":
            there: ServedRegistry = request.getfixturevalue("there")
            with remote_registry(there.url, there.key) as registry:
                yield desk(registry, ledger, database, home)
        else:
            local = LocalRegistry(database, ledger)
            local.publish(builtin_schemas())
            yield desk(local, ledger, database, home)


def published(books: Desk, schema_id: str, document: JsonObject) -> Schema:
    """Publish a schema; as it is found within about a second."""
    books.publish(schema_id, document)
    return seen(books, schema_id, document)


def seen(books: Desk, schema_id: str, document: JsonObject) -> Schema:
    deadline = time.monotonic() + HANG
    while (found := books.registry.find(schema_id)) is None or found.document != document:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_a_new_entry_is_answered_read_and_recorded(books: Desk) -> None:
    name = fresh_id()
    data: JsonObject = {"name": "wing", "span": None, "parts": [{"n": 1.5, "ü": "\U0001f600"}]}
    operated = books.put(name, data, tags=["b", "a"], owner="ada", reason="first", **{"class": "Core"})
    entry = entry_of(operated)
    assert (operated.answer.status, operated.answer.etag, operated.counts) == (201, '"1"', {"changes": 1})
    assert (entry.version, entry.status, entry.entry_class) == (1, EntryStatus.SUBMISSION, EntryClass.CORE)
    assert (entry.owner, entry.tags, entry.reason) == ("ada", ("a", "b"), "first")
    assert (entry.data, entry.digest, entry.integrated_version) == (data, digest_of(data), None)
    assert books.registry.get(AERO, name) == books.registry.get(AERO, name, 1) == entry
    (recorded,) = books.changes(name)
    said = recorded.entry.data
    assert (said["registryId"], said["version"], said["digest"]) == ("AERO", 1, entry.digest)
    assert (said["status"], said["tags"], said["owner"]) == ("Submission", ["a", "b"], "ada")
    (place,) = operated.entries
    assert place.first == place.last == recorded.index


def test_what_is_not_said_stays(books: Desk) -> None:
    name = fresh_id()
    books.put(name, {"n": 1}, tags=["x"], owner="ada", **{"class": "Service"})
    second = entry_of(books.put(name, {"n": 2}))
    assert (second.version, second.tags, second.owner, second.entry_class) == (2, ("x",), "ada", EntryClass.SERVICE)
    third = entry_of(books.put(name, {"n": 2}, tags=[]))
    assert (third.version, third.tags) == (3, ())


def test_a_run_that_is_done_again_gives_the_same_answer_and_changes_nothing(books: Desk) -> None:
    name = fresh_id()
    first = books.put(name, {"n": 1}, run=f"run-{name}")
    books.put(name, {"n": 2})
    assert books.put(name, {"n": 1}, run=f"run-{name}") == first
    assert books.registry.get(AERO, name).version == 2
    assert len(books.changes(name)) == 2


def test_an_entry_goes_to_its_integration_step_by_step(books: Desk) -> None:
    name = fresh_id()
    books.put(name, {})
    with pytest.raises(ValidationError) as refused:
        books.move(name, "Approval")
    assert [one.pointer for one in refused.value.findings] == ["/status"]
    for number, status in enumerate(("Review", "Approval", "Integration"), 2):
        moved = books.move(name, status, reason=f"to {status}")
        assert (moved.answer.status, moved.answer.etag) == (200, f'"{number}"')
        assert entry_of(moved).reason == f"to {status}"
    assert entry_of(books.put(name, {"n": 2})).integrated_version == 4
    versions = books.registry.history(AERO, name)
    assert [(one.version, one.status) for one in versions] == [
        (5, EntryStatus.SUBMISSION),
        (4, EntryStatus.INTEGRATION),
        (3, EntryStatus.APPROVAL),
        (2, EntryStatus.REVIEW),
        (1, EntryStatus.SUBMISSION),
    ]
    assert books.registry.history(AERO, name, before=4, limit=2) == versions[2:4]
    assert books.registry.history(AERO, name, before=1) == ()
    found = books.registry.diff(AERO, name, 4, 5)
    assert {(str(one["op"]), str(one["path"])) for one in found.patch} == {("add", "/data/n"), ("replace", "/status")}


@pytest.mark.parametrize("expected", [0, 2])
def test_a_version_that_is_not_the_newest_is_refused(books: Desk, expected: int) -> None:
    name = fresh_id()
    books.put(name, {})
    asks: tuple[Callable[[], Operated], ...] = (
        lambda: books.put(name, {"n": 2}, if_match=expected),
        lambda: books.move(name, "Review", if_match=expected),
    )
    for ask in asks:
        with pytest.raises(PreconditionFailed) as refused:
            ask()
        assert [one.pointer for one in refused.value.findings] == [""]
    assert books.registry.get(AERO, name).version == 1
    assert len(books.changes(name)) == 1
    assert entry_of(books.put(name, {"n": 2}, if_match=1)).version == 2
    assert entry_of(books.put(fresh_id(), {}, if_match=0)).version == 1


def test_of_writers_who_saw_the_same_version_one_is_taken(books: Desk) -> None:
    name = fresh_id()
    books.put(name, {"n": 0})

    def write(number: int) -> bool:
        try:
            books.put(name, {"n": number}, if_match=1)
        except PreconditionFailed:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(write, range(1, 7))) == 1
    assert books.registry.get(AERO, name).version == 2
    assert len(books.changes(name)) == 2


def test_what_there_is_not_is_not_found(books: Desk) -> None:
    name = fresh_id()
    asks: list[Any] = [
        lambda: books.registry.get(AERO, name),
        lambda: books.registry.get(AERO, "no id at all"),
        lambda: books.registry.get(AERO, "x" * 300),
        lambda: books.registry.history(AERO, name),
        lambda: books.registry.diff(AERO, name, 1, 2),
        lambda: books.move(name, "Review"),
        lambda: books.registry.schema(f"nobody.{name}"),
        lambda: books.registry.version("frontmatter.general", "77.0.0"),
        lambda: books.registry.version(f"nobody.{name}", "1.0.0"),
        lambda: books.registry.version("GitCommitEventPayload", "77.0.0"),
    ]
    for ask in asks:
        with pytest.raises(ResourceNotFoundError):
            ask()
    books.put(name, {})
    for version in (2, 2**31, -1):
        with pytest.raises(ResourceNotFoundError):
            books.registry.get(AERO, name, version)
        with pytest.raises(ResourceNotFoundError):
            books.registry.diff(AERO, name, 1, version)
    assert books.registry.find(f"nobody.{name}") is None


def test_data_that_is_too_much_is_refused(books: Desk) -> None:
    deep: JsonObject = {}
    for _ in range(70):
        deep = {"in": deep}
    wrong: tuple[JsonObject, ...] = ({"text": "x" * MAX_DATA}, {"text": "x" * 3 * MAX_DATA}, deep)
    for data in wrong:
        with pytest.raises(ValidationError):
            books.put(fresh_id(), data)


def test_an_entry_of_utids_is_known_by_what_it_names(books: Desk) -> None:
    names: JsonObject = {"part": fresh_id("wing")}
    entry = entry_of(books.put(None, {"names": names}, registry="UTIDS"))
    assert entry.entry_id == entry.utids
    assert books.registry.get(UTIDS, entry.utids).data == {"names": names}
    with pytest.raises(ValidationError) as refused:
        books.put(fresh_id(), {"names": names}, registry="UTIDS")
    assert [one.pointer for one in refused.value.findings] == ["/entryId"]


def test_a_search_selects_and_turns_pages(books: Desk) -> None:
    word = fresh_id("word").replace("-", "x")
    ids = sorted(fresh_id() for _ in range(5))
    for name in ids:
        books.put(name, {"text": word}, tags=["even", word] if name == ids[0] else [], owner="ada")
    books.move(ids[4], "Review")
    first = books.registry.search(EntryQuery(text=word, limit=2))
    second = books.registry.search(EntryQuery(text=word, limit=2, cursor=first.cursor))
    third = books.registry.search(EntryQuery(text=word, limit=2, cursor=second.cursor))
    assert [one.entry_id for page in (first, second, third) for one in page.entries] == ids
    assert third.cursor is None

    def found(**asked: Any) -> list[str]:
        return [one.entry_id for one in books.registry.search(EntryQuery(text=word, **asked)).entries]

    assert found(tags=("even", word)) == ids[:1]
    assert found(status=EntryStatus.REVIEW) == ids[4:]
    assert found(owner="ada", registry_id=AERO, entry_class=EntryClass.APPLICATION) == ids
    assert found(registry_id=RegistryId.SPACE) == []
    for wrong in (EntryQuery(cursor="nonsense"), EntryQuery(text=" ".join(f"w{n}" for n in range(50)))):
        with pytest.raises(ValidationError):
            books.registry.search(wrong)


def test_the_schemas_of_the_package_are_there(books: Desk) -> None:
    shipped = {one.schema_id: one for one in builtin_schemas()}
    for name in ("frontmatter.general", "GitCommitEventPayload"):
        assert books.registry.schema(name).digest == shipped[name].digest
        assert books.registry.version(name, shipped[name].version).document == shipped[name].document
        entry = books.registry.get(SCHEMAS, name)
        assert (entry.version, entry.digest, entry.integrated_version) == (0, shipped[name].digest, 0)
    published = books.registry.published()
    assert {one.schema_id for one in published} >= set(shipped)
    assert [one.schema_id for one in published] == sorted(one.schema_id for one in published)


def test_a_schema_holds_once_it_is_integrated_and_never_changes(books: Desk) -> None:
    name = fresh_id("frontmatter.X")
    assert books.registry.find(name) is None
    one, two = schema(name, "1.2.0", required=["a"]), schema(name, "1.10.0", required=["b"])
    first = published(books, name, one)
    assert [found.keyword for found in first.violations({})] == ["required"]
    books.put(name, two, registry="schemas")
    time.sleep(1.1)
    assert books.registry.schema(name).document == one, "it is only submitted"
    for status in ("Review", "Approval", "Integration"):
        books.move(name, status, registry="schemas")
    assert seen(books, name, two).version == "1.10.0"
    assert books.registry.version(name, "1.2.0").document == one
    assert books.registry.schema(name).reference in books.registry.published()
    with pytest.raises(IdempotencyConflict):
        books.put(name, {**two, "required": ["c"]}, registry="schemas")
    with pytest.raises(ValidationError):
        books.put(name, {**one, "$id": f"urn:coafi:schema:{name}:1.9.0"}, registry="schemas")


@pytest.mark.parametrize(
    ("name", "document", "kind"),
    [
        ("GitCommitEventPayload", {"$id": "urn:coafi:schema:GitCommitEventPayload:2.0.0"}, PolicyDenied),
        ("mine", {"$id": "urn:coafi:schema:yours:1.0.0"}, ValidationError),
        ("mine", {"$id": "urn:coafi:schema:mine:1.0.0", "$ref": "https://example.org/x"}, ValidationError),
        ("mine", {"$id": "urn:coafi:schema:mine:1.0.0", "pattern": "(a)\\1"}, ValidationError),
    ],
)
def test_a_schema_that_is_not_accepted_is_refused(
    books: Desk, name: str, document: JsonObject, kind: type[Refused]
) -> None:
    with pytest.raises(kind) as refused:
        books.put(name, document, registry="schemas")
    if kind is ValidationError:
        assert refused.value.findings
        assert all(str(one.pointer).startswith("/data") for one in refused.value.findings)


def test_the_schema_of_a_registry_holds_for_its_entries(books: Desk) -> None:
    own = published(books, "registry.GREENTECH", schema("registry.GREENTECH", properties={"kwh": {"type": "integer"}}))
    with pytest.raises(ValidationError) as refused:
        books.put(fresh_id(), {"kwh": "many"}, registry="GREENTECH")
    assert [one.pointer for one in refused.value.findings] == ["/data/kwh"]
    entry = entry_of(books.put(fresh_id(), {"kwh": 12}, registry="GREENTECH"))
    assert entry.checked_with == own.reference
