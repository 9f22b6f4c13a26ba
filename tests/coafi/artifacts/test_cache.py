import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select, update

from coafi.artifacts import cache
from coafi.artifacts.cache import ArtifactService, GenerationRequest, artifact_cache
from coafi.artifacts.model import GenerationResult, GeneratorConfig
from coafi.canonical import sha256
from coafi.database import Database
from coafi.documents.kinds import FileKind
from coafi.objects.local import LocalObjectStore
from tests.coafi.documents.samples import GOOD, check
from tests.coafi.objects.files import object_file
from tests.postgresql import where


@pytest.fixture
def database(place: Path) -> Iterator[Database]:
    made = Database(where(place))
    made.create_tables()
    yield made
    made.close()


@pytest.fixture
def service(database: Database, tmp_path: Path) -> ArtifactService:
    return ArtifactService(database, LocalObjectStore(tmp_path / "objects"), GeneratorConfig())


def request_for(path: str, text: str) -> GenerationRequest:
    content = text.encode()
    report = check(path, content)
    return GenerationRequest(sha256(content), report.kind, content, report)


def rows(database: Database) -> int:
    with database.read() as connection:
        return connection.execute(select(func.count()).select_from(artifact_cache)).scalar_one()


def one(service: ArtifactService, path: str = "a.md", text: str = GOOD) -> GenerationResult:
    request = request_for(path, text)
    return service.artifacts_for(request.blob, request.kind, request.content, request.report)


def test_artifacts_are_made_once_and_stored(service: ArtifactService) -> None:
    first, second = one(service), one(service, "elsewhere.md")
    assert (first.cached, second.cached) == (False, True)
    assert second.artifacts == first.artifacts
    for artifact in first.artifacts:
        content = service.objects.get(artifact.digest)
        assert len(content) == artifact.size
    assert [artifact.name for artifact in first.artifacts] == ["page.html", "metadata.json"]


def test_a_cached_result_generates_nothing(service: ArtifactService, monkeypatch: pytest.MonkeyPatch) -> None:
    one(service)

    def never(*_: object) -> None:
        raise AssertionError("generated again")

    monkeypatch.setattr(cache, "generate", never)
    assert one(service).cached


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_an_object_that_is_gone_or_damaged_is_made_again(service: ArtifactService, damage: str) -> None:
    first = one(service)
    path = object_file(service.objects, first.artifacts[0].digest)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b"something else")
    again = one(service)
    assert not again.cached
    assert again.artifacts == first.artifacts
    assert service.objects.get(first.artifacts[0].digest)
    assert one(service).cached


def test_a_row_that_cannot_be_read_is_written_anew(service: ArtifactService, database: Database) -> None:
    first = one(service)
    with database.write() as connection:
        connection.execute(update(artifact_cache).values(result="{"))
    assert one(service).artifacts == first.artifacts
    assert one(service).cached


def test_kind_version_and_configuration_have_their_own_entries(
    service: ArtifactService, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_json = one(service, "a.json", "[1]")
    as_yaml = one(service, "a.yaml", "[1]")
    assert not as_yaml.cached
    assert as_json.artifacts != as_yaml.artifacts
    german = ArtifactService(database, service.objects, GeneratorConfig(language="de"))
    assert not one(german, "a.json", "[1]").cached
    monkeypatch.setattr(cache, "GENERATOR_VERSION", "next")
    assert not one(service, "a.json", "[1]").cached
    assert rows(database) == 4


def test_what_gives_nothing_is_not_cached(service: ArtifactService, database: Database) -> None:
    assert one(service, "a.json", "[1,]") == GenerationResult()
    assert one(service, "a.txt", "x") == GenerationResult()
    assert rows(database) == 0


def test_a_verdict_counts_even_when_the_blob_was_valid_under_another_schema(service: ArtifactService) -> None:
    valid = request_for("a.md", GOOD)
    service.artifacts_for_batch([valid])
    invalid = GenerationRequest(valid.blob, valid.kind, valid.content, check("a.json", "[1,]"))
    assert service.artifacts_for_batch([invalid]) == (GenerationResult(),)


def test_reasons_for_what_was_skipped_are_cached_too(service: ArtifactService) -> None:
    first, second = (one(service, "a.json", "[12345678901234567890]") for _ in range(2))
    assert second.cached
    assert second.skipped == first.skipped
    assert first.skipped[0].kind == "canonical"


class Counting(Database):
    """Counts the transactions."""

    reads = writes = 0

    def read(self) -> AbstractContextManager[Connection]:
        """One more read."""
        self.reads += 1
        return super().read()

    def write(self, *, lock_timeout: float | None = None) -> AbstractContextManager[Connection]:
        """One more write."""
        self.writes += 1
        return super().write(lock_timeout=lock_timeout)


def test_every_document_that_took_work_is_a_sign_of_life(service: ArtifactService) -> None:
    signs: list[int] = []
    one, two = (
        GenerationRequest(name, FileKind.JSON, b"[1]", check("a.json", b"[1]")) for name in ("a" * 40, "b" * 40)
    )
    service.artifacts_for_batch([one, two, one], alive=lambda: signs.append(1))
    assert len(signs) == 2
    service.artifacts_for_batch([one, two], alive=lambda: signs.append(1))
    assert len(signs) == 2


def test_a_batch_is_one_look_up_and_one_write(tmp_path: Path) -> None:
    database = Counting(tmp_path / "coafi.db")
    database.create_tables()
    service = ArtifactService(database, LocalObjectStore(tmp_path / "objects"), GeneratorConfig())
    requests = [request_for("a.json", f"[{n % 250}]") for n in range(500)]
    requests.insert(3, request_for("b.json", "{"))
    database.reads = database.writes = 0
    first = service.artifacts_for_batch(requests)
    assert (database.reads, database.writes) == (1, 1)
    assert len(first) == 501
    assert first[3] == GenerationResult()
    assert first[0].artifacts == first[251].artifacts
    assert rows(database) == 250
    database.reads = database.writes = 0
    second = service.artifacts_for_batch(requests)
    assert (database.reads, database.writes) == (1, 0)
    assert [result.artifacts for result in second] == [result.artifacts for result in first]
    assert all(result.cached for number, result in enumerate(second) if number != 3)
    assert service.artifacts_for_batch([]) == ()
    database.close()


def test_objects_are_there_before_the_row_that_names_them(
    service: ArtifactService, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr(ArtifactService, "_remember", fails)
    with pytest.raises(RuntimeError):
        one(service)
    assert rows(database) == 0
    monkeypatch.undo()
    assert not one(service).cached
    assert one(service).cached


def test_several_threads_may_ask_for_the_same(service: ArtifactService, database: Database) -> None:
    results: list[GenerationResult] = []
    threads = [threading.Thread(target=lambda: results.append(one(service))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert len({result.artifacts for result in results}) == 1
    assert rows(database) == 1


def test_a_request_is_known_by_blob_and_kind() -> None:
    request = request_for("a.json", "[1]")
    assert request.key == (request.blob, FileKind.JSON.value)
