"""The registry of another instance: what is particular to HTTP, and that the other side is not believed."""

import gzip
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from coafi.canonical import digest_of
from coafi.errors import (
    CoafiError,
    IdempotencyConflict,
    IntegrityError,
    PolicyDenied,
    PreconditionFailed,
    Refused,
    ResourceNotFoundError,
    Unavailable,
    ValidationError,
)
from coafi.registry import calls
from coafi.registry.builtin import builtin_schemas
from coafi.registry.changes import Origin
from coafi.registry.entry import EntryStatus, EntryUpdate, RegistryId, StatusUpdate
from coafi.registry.reader import EntryQuery
from coafi.registry.remote import RemoteRegistry
from coafi.secret_files import read_secret
from coafi.settings import Settings
from tests.coafi.registry.pretending import TOKEN, Pretender, Said, entry, pretending, problem, said
from tests.coafi.registry.serving import remote_registry
from workers import resources

AERO = RegistryId.AERO
TIME = datetime(2026, 11, 27, 8, tzinfo=UTC)


@pytest.fixture(scope="module")
def server() -> Iterator[Pretender]:
    with pretending() as one:
        yield one


@pytest.fixture
def there(server: Pretender) -> Pretender:
    server.asked.clear()
    server.answer = lambda _asked: Said(404)
    return server


@pytest.fixture
def registry(there: Pretender) -> Iterator[RemoteRegistry]:
    with remote_registry(there.url, SecretStr(TOKEN)) as one:
        yield one


def update(**more: Any) -> EntryUpdate:
    expected = more.pop("expected", None)
    return EntryUpdate.parse({"registryId": "AERO", "entryId": "wing", "data": {"n": 1}, **more}, expected)


def origin(run: str = "run-1") -> Origin:
    return Origin(principal="key:ada", workflow_id=run, event_id="event-1", time=TIME)


def change(registry: RemoteRegistry, asked: EntryUpdate | StatusUpdate, run: str = "run-1") -> None:
    with registry.change(asked, origin(run)):
        pass


def of_read(registry: RemoteRegistry) -> None:
    registry.get(AERO, "wing")


def of_change(registry: RemoteRegistry) -> None:
    change(registry, update())


def failure(registry: RemoteRegistry, ask: Callable[[RemoteRegistry], object]) -> CoafiError:
    with pytest.raises(CoafiError) as failed:
        ask(registry)
    assert TOKEN not in str(failed.value)
    return failed.value


# ---------------------------------------------------------------------- refusals and outages

EVENT = {"Coafi_Event": "/api/event/there"}
WRONG = [{"pointer": "/data/n", "detail": "it is no number", "rule": "entry/type"}]


@pytest.mark.parametrize(
    ("ask", "answer", "kind"),
    [
        (of_read, problem(404, "ResourceNotFoundError"), ResourceNotFoundError),
        (of_read, problem(422, "ValidationError", errors=WRONG), ValidationError),
        (of_change, problem(403, "PolicyDenied", **EVENT), PolicyDenied),
        (of_change, problem(404, "ResourceNotFoundError", **EVENT), ResourceNotFoundError),
        (of_change, problem(409, "IdempotencyConflict", **EVENT), IdempotencyConflict),
        (of_change, problem(412, "PreconditionFailed", **EVENT), PreconditionFailed),
        (of_change, problem(422, "ValidationError", errors=WRONG, **EVENT), ValidationError),
        (of_change, problem(422, "IdempotencyConflict"), IdempotencyConflict),
        (of_change, problem(413, "ValidationError"), ValidationError),
    ],
)
def test_what_the_registry_refuses_is_refused(
    registry: RemoteRegistry, there: Pretender, ask: Callable[[RemoteRegistry], None], answer: Said, kind: type[Refused]
) -> None:
    there.answer = lambda _asked: answer
    refused = failure(registry, ask)
    assert type(refused) is kind
    assert isinstance(refused, Refused)
    assert refused.message == f"the registry at {there.url} refuses: so it is"
    if WRONG[0]["detail"].encode() in answer.body:
        (found,) = refused.findings
        assert (found.pointer, found.rule, found.message) == ("/data/n", "entry/type", "it is no number")


@pytest.mark.parametrize("ask", [of_read, of_change])
@pytest.mark.parametrize(
    ("answer", "remedy"),
    [
        (problem(401, "AuthorizationError"), "REGISTRY_API_TOKEN"),
        (problem(403, "PolicyDenied"), "REGISTRY_API_TOKEN"),
        (problem(403, "AuthorizationError", **EVENT), "REGISTRY_API_TOKEN"),
        (Said(404, b"Not Found"), "REGISTRY_API_URL"),
        (problem(404), "REGISTRY_API_URL"),
        (problem(405), "REGISTRY_API_URL"),
        (problem(400, "ValidationError"), "versions"),
        (problem(422), "versions"),
        (problem(409), "gateway"),
        (problem(412), "gateway"),
        (problem(421), "must name the instance that keeps the registry"),
        (problem(429), "COAFI_API_RATE"),
        (problem(500), "gateway"),
        (problem(503), "gateway"),
        (Said(301, headers={"Location": "http://127.0.0.1:1/"}), "must not redirect"),
        (Said(307, headers={"Location": "/elsewhere"}), "must not redirect"),
        (Said(304), "REGISTRY_API_URL"),
        (Said(204), "REGISTRY_API_URL"),
        (Said(200, b""), "versions"),
        (Said(200, b"<html>Welcome</html>"), "versions"),
        (Said(200, b"[" * 100_000), "versions"),
        (said({"registryId": "AERO"}), "versions"),
        (said(entry(version="one")), "versions"),
        (said(entry() | {"more": 1}), "versions"),
        (Said(200, gzip.compress(b" " * 50_000_000, mtime=0), {"Content-Encoding": "gzip"}), "versions"),
        (Said(200, (b"x" * 65_536 for _ in range(10**6))), "network"),
        (Said(500, b'{"type": ["urn:coafi:error:ValidationError"], "detail": 7}'), "gateway"),
        (Said(422, b'{"type": "urn:coafi:error:ValidationError", "errors": 7}'), "versions"),
    ],
)
def test_whatever_else_comes_is_a_matter_of_waiting(
    registry: RemoteRegistry, there: Pretender, ask: Callable[[RemoteRegistry], None], answer: Said, remedy: str
) -> None:
    there.answer = lambda _asked: answer
    waits = failure(registry, ask)
    assert isinstance(waits, Unavailable)
    assert there.url in waits.message
    assert remedy in waits.remedy
    assert len(there.asked) == 1, "nothing is followed, and nothing is asked twice"


def test_an_answer_that_dribbles_is_not_waited_for(
    registry: RemoteRegistry, there: Pretender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "LONGEST", 0.3)

    def dribble() -> Iterator[bytes]:
        for _ in range(200):
            yield b" "
            time.sleep(0.05)

    there.answer = lambda _asked: Said(200, dribble())
    began = time.monotonic()
    assert "too slowly" in failure(registry, of_read).message
    assert time.monotonic() - began < 5


def test_an_answer_that_breaks_off_or_never_comes_is_a_matter_of_waiting(there: Pretender) -> None:
    there.answer = lambda _asked: Said(200, [b'{"registryId"'], {"Content-Length": "5000"})
    client = httpx.Client(timeout=0.3, trust_env=False)

    def late(_asked: object) -> Said:
        time.sleep(1)
        return Said(200)

    with remote_registry(there.url, SecretStr(TOKEN), client=client) as registry:
        assert isinstance(failure(registry, of_change), Unavailable)
        there.answer = late
        assert "ReadTimeout" in str(failure(registry, of_read))
    assert "closed" in str(failure(registry, of_read))
    with remote_registry("http://127.0.0.1:1", SecretStr(TOKEN)) as nobody:
        assert "ConnectError" in str(failure(nobody, of_change))


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("7", 7, 7),
        (format_datetime(datetime.now(UTC) + timedelta(minutes=50), usegmt=True), 600, 3_000),
        ("999999999", 3_600, 3_600),
    ],
    ids=["seconds", "date", "too long"],
)
def test_a_wait_that_is_asked_for_is_passed_on(
    registry: RemoteRegistry, there: Pretender, header: str, least: float, most: float
) -> None:
    for status in (429, 503):
        there.answer = lambda _asked, status=status: problem(status, Retry_After=header)  # type: ignore[misc]
        waits = failure(registry, of_read)
        assert isinstance(waits, Unavailable)
        assert waits.retry_after is not None
        assert least <= waits.retry_after <= most
    there.answer = lambda _asked: problem(503, Retry_After="soon")
    waits = failure(registry, of_read)
    assert isinstance(waits, Unavailable)
    assert waits.retry_after is None


def test_a_change_that_is_still_under_way_names_its_run(registry: RemoteRegistry, there: Pretender) -> None:
    there.says({"status": "accepted", "workflowId": "api.request:x", "location": "/", "phase": "PARKED"}, 202)
    waits = failure(registry, of_change)
    assert isinstance(waits, Unavailable)
    assert "the run api.request:x" in waits.message
    assert "it is PARKED" in waits.message
    assert waits.retry_after == 2
    there.says({"status": "accepted"}, 202)
    assert isinstance(failure(registry, of_change), Unavailable)


# ---------------------------------------------------------------------- what is sent


def test_every_try_of_a_run_has_one_key_and_no_other_run_has_it(there: Pretender) -> None:
    there.says(entry(), 201)

    def key(run: str, namespace: str, token: str) -> str:
        with remote_registry(there.url, SecretStr(token), namespace=namespace) as registry:
            change(registry, update(), run)
        sent = there.asked[-1]
        assert sent.headers["authorization"] == f"Bearer {token}"
        assert sent.headers["coafi-registry-caller"] == namespace
        assert sent.headers["prefer"] == "wait=10"
        return sent.headers["idempotency-key"]

    keys = [key("run-1", "b/default", "one"), key("run-1", "b/default", "two")]
    assert keys[0] == keys[1]
    assert len({keys[0], key("run-2", "b/default", "one"), key("run-1", "c/default", "one")}) == 3


def test_what_is_asked_for_is_sent_and_what_is_not_said_is_left_out(registry: RemoteRegistry, there: Pretender) -> None:
    data = {"a": None, "b": [None, {"c": None}], "ü": "\U0001f600"}
    there.says(entry(data=data, version=4, tags=["x"], reason="why"))
    change(registry, update(data=data, tags=["x"], reason="why", expected=3))
    assert there.asked[-1].endpoint == "registry/update"
    assert there.asked[-1].headers["if-match"] == '"3"'
    sent = EntryUpdate.model_validate_json(there.asked[-1].body)
    assert (sent.data, sent.tags, sent.owner, sent.entry_class, sent.reason) == (data, ("x",), None, None, "why")
    assert set(json.loads(there.asked[-1].body)) == {"registryId", "entryId", "data", "tags", "reason"}
    there.says(entry(tags=[]))
    change(registry, update(tags=[], expected=0))
    assert b'"tags":[]' in there.asked[-1].body
    assert there.asked[-1].headers["if-none-match"] == "*"
    there.says(entry(status="Review", version=2))
    change(registry, StatusUpdate.parse({"registryId": "AERO", "entryId": "wing", "status": "Review"}))
    assert there.asked[-1].endpoint == "registry/status"
    assert not {"if-match", "if-none-match"} & set(there.asked[-1].headers)


def test_the_token_is_read_when_it_is_used(there: Pretender, tmp_path: Path) -> None:
    file = tmp_path / "token"
    settings = Settings(home=tmp_path, registry_api_url=there.url, registry_api_token_file=file)
    there.says(entry())
    with resources.remote_registry(settings) as registry:
        for content, mode, said_of in ((None, 0, "there is no secret"), ("one", 0o644, "readable by others")):
            if content is not None:
                file.write_text(content)
                file.chmod(mode)
            waits = failure(registry, of_change)
            assert isinstance(waits, Unavailable)
            assert said_of in waits.message
            assert "REGISTRY_API_TOKEN_FILE" in waits.remedy
        file.chmod(0o600)
        for content in ("two words", "ümlaut"):
            file.write_text(content)
            assert isinstance(failure(registry, of_read), Unavailable)
        assert there.asked == []
        for content in ("first", "second\n"):
            file.write_text(content)
            registry.get(AERO, "wing")
            assert there.asked[-1].headers["authorization"] == f"Bearer {content.strip()}"
    assert read_secret(file).get_secret_value() == "second"


def test_nothing_that_cannot_be_there_is_asked_for(registry: RemoteRegistry, there: Pretender) -> None:
    asks: tuple[Callable[[], object], ...] = (
        lambda: registry.get(AERO, "../status"),
        lambda: registry.get(AERO, "wing", -1),
        lambda: registry.history(AERO, "a b"),
        lambda: registry.diff(AERO, "wing", 1, 2**31),
    )
    for ask in asks:
        with pytest.raises(ResourceNotFoundError):
            ask()
    assert there.asked == []


# ---------------------------------------------------------------------- lies


@pytest.mark.parametrize(
    "shown",
    [
        {"entryId": "tail"},
        {"registryId": "SPACE"},
        {"version": 4},
        {"digest": "0" * 64},
        {"owner": "x" * 300},
        {"owner": ""},
        {"by": "x" * 5_000},
        {"workflowId": "x" * 5_000},
        {"utids": "x" * 100},
        {"tags": ["x" * 100]},
        {"reason": "x" * 1_000},
        {"data": {"n": 10**400}},
        {"data": {"n": 2}},
    ],
)
def test_an_entry_that_is_not_what_was_asked_for_is_found(
    registry: RemoteRegistry, there: Pretender, shown: dict[str, Any]
) -> None:
    there.says({**entry(version=3), **shown})
    assert isinstance(failure(registry, lambda one: one.get(AERO, "wing", 3)), IntegrityError)
    assert len(there.asked) == 1


def test_an_honest_entry_passes(registry: RemoteRegistry, there: Pretender) -> None:
    there.says(entry(version=3))
    assert registry.get(AERO, "wing", 3).version == 3


@pytest.mark.parametrize(
    "shown",
    [
        {"status": "Integration"},
        {"version": 7},
        {"version": 0},
        {"data": {"n": 2}},
        {"owner": "somebody"},
        {"tags": ["other"]},
        {"class": "Core"},
        {"reason": "another"},
        {"workflowId": None},
        {"ledgerEntry": None},
    ],
)
def test_an_answer_to_another_change_is_found(
    registry: RemoteRegistry, there: Pretender, shown: dict[str, Any]
) -> None:
    asked = {"owner": "ada", "tags": ["a"], "reason": "why", "class": "Service"}
    honest = entry(version=3, **asked)
    there.says(honest)
    change(registry, update(expected=2, **asked))
    lie = {**honest, **shown}
    there.says({**lie, "digest": digest_of(lie["data"])})
    error = failure(registry, lambda one: change(one, update(expected=2, **asked)))
    assert isinstance(error, IntegrityError)
    assert "cannot be trusted" in error.message


def test_other_pages_histories_and_differences_than_asked_for_are_found(
    registry: RemoteRegistry, there: Pretender
) -> None:
    def summary(**changes: Any) -> dict[str, Any]:
        return {name: value for name, value in entry(**changes).items() if name != "data"}

    queries: list[tuple[dict[str, Any], EntryQuery]] = [
        ({"status": "Review"}, EntryQuery(status=EntryStatus.SUBMISSION)),
        ({"registryId": "SPACE"}, EntryQuery(registry_id=AERO)),
        ({"owner": "bob"}, EntryQuery(owner="ada")),
        ({"tags": ["a"]}, EntryQuery(tags=("a", "b"))),
    ]
    for shown, query in queries:
        there.says({"entries": [summary(**shown)], "cursor": None})
        assert isinstance(failure(registry, lambda one, query=query: one.search(query)), IntegrityError)  # type: ignore[misc]
    there.says({"entries": [summary(), summary()], "cursor": None})
    assert isinstance(failure(registry, lambda one: one.search(EntryQuery(limit=1))), IntegrityError)

    for versions, limit, before in (
        ([summary(version=1), summary(version=2)], 200, None),
        ([summary(version=2), summary(version=2)], 200, None),
        ([summary(version=2), summary(version=1)], 1, None),
        ([summary(version=5)], 200, 5),
        ([summary(entryId="tail")], 200, None),
    ):
        there.says({"registryId": "AERO", "entryId": "wing", "versions": versions})
        with pytest.raises(IntegrityError):
            registry.history(AERO, "wing", limit=limit, before=before)

    there.says({"registryId": "AERO", "entryId": "wing", "old": 1, "new": 3, "patch": []})
    with pytest.raises(IntegrityError):
        registry.diff(AERO, "wing", 1, 2)


def test_what_this_software_reads_and_writes_is_held_against_its_own_schemas(
    registry: RemoteRegistry, there: Pretender
) -> None:
    own = {one.schema_id: one for one in builtin_schemas()}
    there.answer = lambda _asked: problem(503)
    for name in ("GitCommitEventPayload", "APIRequest.registry.update.POST"):
        assert registry.schema(name).digest == own[name].digest
    assert there.asked == []
    with pytest.raises(Unavailable):
        registry.find("frontmatter.general")
