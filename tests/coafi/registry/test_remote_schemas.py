"""The schemas of another instance: how often they are asked for, and what holds while it is out of reach."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import JsonValue, SecretStr

from coafi.canonical import JsonObject, digest_of
from coafi.errors import IntegrityError, ResourceNotFoundError, Unavailable
from coafi.registry.calls import RegistryClient
from coafi.registry.remote_schemas import RemoteSchemas
from tests.coafi.ledger.making import HANG
from tests.coafi.registry.making import schema
from tests.coafi.registry.pretending import TOKEN, Asked, Pretender, Said, pretending, problem, said

STALE = 60.0


@dataclass
class Shelf:
    """What the other side has published, in the order in which it was."""

    documents: list[tuple[str, str, JsonObject]] = field(default_factory=list)
    change: Callable[[Asked, Said], Said] = lambda _asked, answer: answer

    def publish(self, name: str, version: str = "1.0.0", **document: Any) -> JsonObject:
        """Publish a schema."""
        made = schema(name, version, **document)
        self.documents.append((name, version, made))
        return made

    def answer(self, asked: Asked) -> Said:
        """What the API says."""
        if asked.endpoint == "registry/schemas":
            newest = {name: (version, document) for name, version, document in self.documents}
            listed: JsonValue = [
                {"schemaId": name, "version": version, "digest": digest_of(document)}
                for name, (version, document) in newest.items()
            ]
            etag = f'"{digest_of(listed)}"'
            same = asked.headers.get("if-none-match") == etag
            return self.change(asked, Said(304, b"", {"ETag": etag}) if same else said({"schemas": listed}, ETag=etag))
        (name,), (version,) = asked.query["schemaId"], asked.query["version"]
        for known, number, document in self.documents:
            if (known, number) == (name, version):
                shown = {"schemaId": name, "version": version, "digest": digest_of(document), "document": document}
                return self.change(asked, said(shown))
        return self.change(asked, problem(404, "ResourceNotFoundError"))


@pytest.fixture(scope="module")
def server() -> Iterator[Pretender]:
    with pretending() as one:
        yield one


@pytest.fixture
def shelf(server: Pretender) -> Shelf:
    made = Shelf()
    server.asked.clear()
    server.answer = made.answer
    return made


class Clock:
    """Seconds that pass when a test says so."""

    now = 1_000.0

    def __call__(self) -> float:
        """Now."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def schemas(server: Pretender, clock: Clock) -> Iterator[RemoteSchemas]:
    client = RegistryClient(server.url, token=lambda: SecretStr(TOKEN), caller="b/default")
    yield RemoteSchemas(client, stale_seconds=STALE, clock=clock)
    client.close()


def away(_asked: Asked, _answer: Said) -> Said:
    return problem(503)


def test_what_is_published_is_asked_for_once_a_second_and_fetched_once(
    schemas: RemoteSchemas, shelf: Shelf, server: Pretender, clock: Clock
) -> None:
    one = shelf.publish("a")
    shelf.publish("b")
    for _ in range(50):
        found = schemas.find("a")
        assert found is not None
        assert found.document == one
        assert schemas.find("nobody") is None
    assert server.endpoints() == ["registry/schemas", "registry/schema"], "b is not used, and not fetched"
    clock.now += 1.1
    assert schemas.find("a") is found, "it stays compiled"
    assert server.endpoints()[2:] == ["registry/schemas"]
    assert server.asked[2].headers["if-none-match"]
    two = shelf.publish("a", "1.1.0")
    assert schemas.find("a") is found
    clock.now += 1.1
    newer = schemas.find("a")
    assert newer is not None
    assert (newer.document, newer.version) == (two, "1.1.0")
    assert [(one.schema_id, one.version) for one in schemas.published()] == [("a", "1.1.0"), ("b", "1.0.0")]
    assert schemas.version("a", "1.0.0").document == one
    with pytest.raises(ResourceNotFoundError):
        schemas.version("a", "9.0.0")


def test_while_the_other_side_is_away_what_is_known_holds_but_not_for_ever(
    schemas: RemoteSchemas, shelf: Shelf, server: Pretender, clock: Clock
) -> None:
    shelf.publish("a")
    shelf.publish("b")
    found = schemas.find("a")
    shelf.change = away
    clock.now += STALE - 1
    assert schemas.find("a") is found
    assert schemas.find("nobody") is None
    with pytest.raises(Unavailable, match="503"):
        schemas.find("b")  # it is known to be there, and was never fetched
    asked = len(server.asked)
    for _ in range(20):
        assert schemas.find("a") is found
    assert len(server.asked) == asked, "an outage does not make it ask more"
    clock.now += 2
    for _ in range(20):
        with pytest.raises(Unavailable, match="503"):
            schemas.find("a")
    assert len(server.asked) == asked + 1
    shelf.change = lambda _asked, answer: answer
    clock.now += 1.1
    assert schemas.find("a") is found
    assert schemas.find("b") is not None


def test_nothing_is_told_of_schemas_before_the_other_side_was_reached(
    schemas: RemoteSchemas, shelf: Shelf, clock: Clock
) -> None:
    shelf.publish("a")
    shelf.change = away
    for name in ("a", "nobody"):
        with pytest.raises(Unavailable):
            schemas.find(name)
    shelf.change = lambda _asked, answer: answer
    clock.now += 1.1
    assert schemas.find("a") is not None


def test_a_schema_that_is_known_to_be_replaced_is_not_used(schemas: RemoteSchemas, shelf: Shelf, clock: Clock) -> None:
    shelf.publish("a")
    schemas.find("a")
    shelf.publish("a", "2.0.0")
    shelf.change = lambda asked, answer: answer if asked.endpoint == "registry/schemas" else problem(503)
    clock.now += 1.1
    with pytest.raises(Unavailable):
        schemas.find("a")


def test_nobody_waits_for_a_look_while_what_is_known_holds(
    schemas: RemoteSchemas, shelf: Shelf, server: Pretender, clock: Clock
) -> None:
    shelf.publish("a")
    found = schemas.find("a")
    entered, release = threading.Event(), threading.Event()

    def slow(_asked: Asked, answer: Said) -> Said:
        entered.set()
        assert release.wait(HANG)
        return answer

    shelf.change = slow
    clock.now += 1.1
    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(schemas.find, "a")
        assert entered.wait(HANG)
        for _ in range(10):
            assert schemas.find("a") is found
        release.set()
        assert looking.result(HANG) is found
    assert server.endpoints().count("registry/schemas") == 2


def test_an_older_state_is_borne_for_a_while_and_never_believed(
    schemas: RemoteSchemas, shelf: Shelf, clock: Clock
) -> None:
    shelf.publish("a")
    shelf.publish("a", "1.1.0")
    found = schemas.find("a")
    kept = shelf.documents
    for older in (kept[:1], []):  # a gateway that has not looked yet, or a database that was put back
        shelf.documents = older
        clock.now += 5
        assert schemas.find("a") is found
    clock.now += STALE
    with pytest.raises(Unavailable, match=r"no more after 1\.1\.0"):
        schemas.find("a")
    shelf.documents = kept
    clock.now += 1.1
    assert schemas.find("a") is found


def test_a_published_schema_that_has_changed_is_found(schemas: RemoteSchemas, shelf: Shelf, clock: Clock) -> None:
    shelf.publish("a")
    schemas.find("a")
    shelf.documents = []
    shelf.publish("a", title="another")
    for _ in range(3):
        clock.now += 1.1
        with pytest.raises(IntegrityError, match=r"its schema a 1\.0\.0 has changed"):
            schemas.find("a")


def test_another_document_than_the_one_that_is_listed_is_found(schemas: RemoteSchemas, shelf: Shelf) -> None:
    honest = shelf.publish("a")
    lies: list[dict[str, Any]] = [
        {"document": {**honest, "title": "another"}},
        {"document": schema("a", "1.0.1")},
    ]
    for lie in lies:
        shown = {"schemaId": "a", "version": "1.0.0", "digest": digest_of(honest), "document": honest, **lie}
        shelf.change = lambda asked, answer, shown=shown: answer if "version" not in asked.query else said(shown)  # type: ignore[misc]
        for ask in (schemas.find, lambda name: schemas.version(name, "1.0.0")):
            with pytest.raises(IntegrityError, match="cannot be trusted"):
                ask("a")


@pytest.mark.parametrize(
    "document",
    [
        schema("b"),
        schema("a", pattern="(a)\\1"),
        schema("a", **{"$ref": "https://example.org/"}),
        schema("a", type="nonsense"),
        {},
    ],
)
def test_a_schema_that_would_not_be_accepted_here_is_not_used(
    schemas: RemoteSchemas, shelf: Shelf, document: JsonObject
) -> None:
    shelf.documents.append(("a", "1.0.0", document))
    with pytest.raises(Unavailable, match="not accepted here"):
        schemas.find("a")


@pytest.mark.parametrize(
    "listed",
    [
        [{"schemaId": "a", "version": "1.0.0", "digest": "0" * 64}] * 2,
        [{"schemaId": "a", "version": "1.0", "digest": "0" * 64}],
        [{"schemaId": "a", "version": "1.0.0", "digest": "0"}],
        [{"schemaId": "../a", "version": "1.0.0", "digest": "0" * 64}],
        [7],
        7,
    ],
)
def test_a_list_that_makes_no_sense_is_not_believed(schemas: RemoteSchemas, shelf: Shelf, listed: Any) -> None:
    shelf.change = lambda _asked, _answer: said({"schemas": listed})
    with pytest.raises((Unavailable, IntegrityError)):
        schemas.find("a")
