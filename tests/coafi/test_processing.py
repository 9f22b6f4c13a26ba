"""Batches of files, on a real ledger, object store and database."""

import hashlib
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from coafi.artifacts.cache import ArtifactService
from coafi.artifacts.model import GeneratorConfig
from coafi.database import Database
from coafi.documents.check import FileReport, Verdict, check_file
from coafi.errors import IntegrityError
from coafi.events import new_event
from coafi.git.archive import write_archive
from coafi.git.changes import Change, ChangedFile
from coafi.git.manifest import BatchRef, ManifestFile, manifest_file
from coafi.ledger.entry import Recorded
from coafi.ledger.keys import generate_key
from coafi.ledger.log import Ledger
from coafi.names import EntryType, EventType
from coafi.objects.local import LocalObjectStore
from coafi.paths import judge_path
from coafi.processing import CHUNK, BatchProcessor, BatchTask, Checked, Generated, GenerateTask, read_reports
from coafi.recording import EventRecorder, Range
from coafi.registry.store import PublishedSchemas, builtin_schemas
from coafi.trees.commit import CommitContexts
from tests.coafi.objects.files import object_file
from tests.harness import batch_task, document

EVENT = new_event(
    event_type=EventType.GIT_COMMIT,
    source="https://git.example/acme/docs",
    delivery_id="d1",
    time=datetime(2026, 11, 23, tzinfo=UTC),
    body_digest="0" * 64,
    principal="p",
    data={},
)
REF = EVENT.ref(EVENT.utids)


@pytest.fixture
def processor(tmp_path: Path) -> BatchProcessor:
    database = Database(tmp_path / "coafi.db")
    database.create_tables()
    registry = PublishedSchemas(database)
    registry.publish(builtin_schemas())
    ledger = Ledger(
        database,
        origin="example.org/log",
        signer=generate_key(tmp_path / "key", "example.org/log"),
        state_directory=tmp_path / "state",
    )
    objects = LocalObjectStore(tmp_path / "objects")
    return BatchProcessor(
        recorder=EventRecorder(ledger=ledger, registry=registry, namespace="default", build="1"),
        objects=objects,
        contexts=CommitContexts(objects, database),
        artifacts=ArtifactService(database, objects, GeneratorConfig()),
    )


def changed(position: int, path: str, content: bytes | None, **changes: object) -> ManifestFile:
    blob = None if content is None else hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # noqa: S324  git's names
    values: dict[str, object] = {
        "position": position,
        "path": path,
        "change": "added" if content is not None else "deleted",
        "mode": "100644" if content is not None else None,
        "blob": blob,
        "size": len(content or b""),
        "batch": 0,
        "omitted": None if content is not None else "deleted",
    }
    return ManifestFile.model_validate({**values, **changes})


def batch(processor: BatchProcessor, files: list[ManifestFile], contents: list[bytes]) -> BatchTask:
    archive = processor.objects.put(write_archive(files, contents))
    return batch_task(
        processor, REF, BatchRef(index=0, archive=archive, files=len(files), size=sum(map(len, contents)))
    )


def valid(processor: BatchProcessor, count: int) -> BatchTask:
    contents = [document(number).encode() for number in range(1, count + 1)]
    files = [
        changed(number, f"docs/COAFI-ENG-{number + 1:04d}-SPEC-A.md", content)
        for number, content in enumerate(contents)
    ]
    return batch(processor, files, contents)


def entries(processor: BatchProcessor, entry_type: EntryType | None = None) -> list[Recorded]:
    ledger = processor.recorder.ledger
    found = ledger.entries(0, ledger.size())
    return [one for one in found if entry_type is None or one.entry.type == entry_type]


class Stopped(Exception):
    """The process dies here."""


class Progress:
    """The news of what a batch reports; after so much of it the process dies."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.reports: list[Checked | Generated] = []
        self.stop_after = stop_after

    def __call__(self, progress: Checked | Generated) -> None:
        """Take a report."""
        if not progress.files or progress in self.reports:
            return
        self.reports.append(progress)
        if len(self.reports) == self.stop_after:
            raise Stopped


def check(processor: BatchProcessor, task: BatchTask, before: Checked | None = None) -> Checked:
    return processor.check(task, before or Checked(), Progress())


def generate(processor: BatchProcessor, task: BatchTask, checked: Checked) -> Generated:
    return processor.generate(GenerateTask(task=task, checked=checked), Generated(), Progress())


def test_every_file_gets_a_verdict_an_entry_and_a_report(processor: BatchProcessor) -> None:
    good = document(1).encode()
    files = [
        changed(0, "docs/COAFI-ENG-0001-SPEC-A.md", good),
        changed(1, "broken.json", b"{", change="renamed", old_path="old.json"),
        changed(2, "gone.md", None),
        changed(3, "link", None, change="added", omitted="symlink", mode="120000", blob="b" * 40),
    ]
    task = batch(processor, files, [good, b"{"])
    checked = check(processor, task)
    assert checked.files == 4
    assert checked.verdicts == {Verdict.VALID: 1, Verdict.INVALID: 1, Verdict.DELETED: 1, Verdict.SKIPPED: 1}
    assert checked.entries == (Range(first=0, last=3),)
    recorded = entries(processor, EntryType.FILE_PROCESSED)
    assert [one.data["path"] for one in recorded] == [file.path for file in files]
    assert [one.data["verdict"] for one in recorded] == ["valid", "invalid", "deleted", "skipped"]
    assert recorded[1].data["oldPath"] == "old.json"
    assert "blob" not in recorded[2].data
    assert "schema" in recorded[0].data
    (digest,) = checked.reports
    assert {one.data["reportsDigest"] for one in recorded} == {digest}
    reports = read_reports(processor.objects, digest)
    assert [one.path for one in reports] == [file.path for file in files]
    assert recorded[1].data["errors"] == len([one for one in reports[1].findings if one.severity == "error"]) >= 1


def test_a_batch_is_recorded_in_chunks_and_says_between_them_how_far_it_is(processor: BatchProcessor) -> None:
    task = valid(processor, 2 * CHUNK + 2)
    progress = Progress()
    checked = processor.check(task, Checked(), progress)
    assert CHUNK == 64
    assert [one.files for one in progress.reports] == [64, 128]
    assert (checked.files, checked.verdicts) == (130, {Verdict.VALID: 130})
    assert [len(read_reports(processor.objects, digest)) for digest in checked.reports] == [64, 64, 2]
    generating = Progress()
    generated = processor.generate(GenerateTask(task=task, checked=checked), Generated(), generating)
    assert [one.files for one in generating.reports] == [64, 128]
    assert (generated.files, generated.artifacts, generated.cached) == (130, 260, 0)


def test_a_batch_that_died_goes_on_after_its_last_chunk(
    processor: BatchProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = valid(processor, CHUNK + 6)
    died = Progress(stop_after=1)
    with pytest.raises(Stopped):
        processor.check(task, Checked(), died)
    (before,) = died.reports
    assert isinstance(before, Checked)
    looked_at: list[str] = []

    def noting(path: str, *arguments: Any, **keywords: Any) -> FileReport:
        looked_at.append(path)
        return check_file(path, *arguments, **keywords)

    monkeypatch.setattr("coafi.processing.check_file", noting)
    checked = check(processor, task, before)
    assert len(looked_at) == 6
    assert (checked.files, checked.verdicts) == (CHUNK + 6, {Verdict.VALID: CHUNK + 6})
    assert checked.entries == (Range(first=0, last=CHUNK + 5),)
    assert len(entries(processor)) == CHUNK + 6


def test_a_generation_that_died_goes_on_after_its_last_chunk(processor: BatchProcessor) -> None:
    task = valid(processor, CHUNK + 6)
    whole = GenerateTask(task=task, checked=check(processor, task))
    died = Progress(stop_after=1)
    with pytest.raises(Stopped):
        processor.generate(whole, Generated(), died)
    (before,) = died.reports
    assert isinstance(before, Generated)
    generated = processor.generate(whole, before, Progress())
    assert (generated.files, generated.artifacts) == (CHUNK + 6, 2 * (CHUNK + 6))
    assert len(entries(processor, EntryType.ARTIFACT_GENERATED)) == generated.artifacts


def test_doing_a_whole_batch_again_gives_the_same_and_records_nothing(processor: BatchProcessor) -> None:
    task = valid(processor, CHUNK + 6)
    checked = check(processor, task)
    generated = generate(processor, task, checked)
    size = processor.recorder.ledger.size()
    assert check(processor, task) == checked
    again = generate(processor, task, checked)
    assert again == generated.model_copy(update={"cached": generated.artifacts})
    assert processor.recorder.ledger.size() == size


def test_a_batch_that_is_done_does_not_need_its_archive(processor: BatchProcessor) -> None:
    task = valid(processor, 2)
    checked = check(processor, task)
    object_file(processor.objects, task.batch.archive).unlink()
    assert check(processor, task, checked) == checked


def test_what_was_recorded_first_counts_when_a_rule_has_changed_since(
    processor: BatchProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = valid(processor, 3)
    first = check(processor, task)
    content = processor.objects.get(first.reports[0])
    monkeypatch.setattr(
        "coafi.processing.check_file",
        lambda path, *_a, **_k: read_reports(processor.objects, first.reports[0])[0].model_copy(
            update={"path": path, "verdict": Verdict.INVALID}
        ),
    )
    second = check(processor, task)
    assert second == first
    assert processor.objects.get(first.reports[0]) == content


def test_only_valid_files_give_artifacts_each_on_the_record(processor: BatchProcessor) -> None:
    good = document(1).encode()
    files = [changed(0, "docs/COAFI-ENG-0001-SPEC-A.md", good), changed(1, "broken.json", b"{"), changed(2, "x", None)]
    task = batch(processor, files, [good, b"{"])
    generated = generate(processor, task, check(processor, task))
    assert (generated.files, generated.artifacts, generated.cached) == (3, 2, 0)
    recorded = entries(processor, EntryType.ARTIFACT_GENERATED)
    assert {one.data["path"] for one in recorded} == {"docs/COAFI-ENG-0001-SPEC-A.md"}
    assert Counter(one.data["artifact"] for one in recorded) == {"page": 1, "metadata": 1}
    for one in recorded:
        assert len(processor.objects.get(str(one.data["digest"]))) == one.data["size"]
        assert one.entry.step == f"artifact/{one.data['artifact']}/docs/COAFI-ENG-0001-SPEC-A.md"


def test_the_same_content_under_two_paths_is_generated_once_and_recorded_twice(processor: BatchProcessor) -> None:
    content = b'{"a": 1}'
    task = batch(processor, [changed(0, "a.json", content), changed(1, "b.json", content)], [content] * 2)
    generated = generate(processor, task, check(processor, task))
    recorded = entries(processor, EntryType.ARTIFACT_GENERATED)
    assert len(recorded) == generated.artifacts
    assert len({one.data["digest"] for one in recorded}) == generated.artifacts // 2


def test_two_paths_that_look_alike_have_two_entries(processor: BatchProcessor) -> None:
    files = [changed(0, "caf\\xe9.txt", b"x", raw_path="Y2Fm6S50eHQ="), changed(1, "caf\\xe9.txt", b"x")]
    checked = check(processor, batch(processor, files, [b"x", b"x"]))
    assert checked.entries == (Range(first=0, last=1),)
    assert len({one.entry.step for one in entries(processor)}) == 2


LONG = {
    "beyond what an entry may have": b"a" * 70_000,
    "beyond what is shown": b"a" * 33_000,
    "not UTF-8": b"/".join([b"\xff" * 255] * 16),
    "quotes": b'"' * 4_095,
}


@pytest.mark.parametrize("path", LONG.values(), ids=LONG)
def test_a_path_however_long_is_skipped_and_stops_no_other(processor: BatchProcessor, path: bytes) -> None:
    paths = [path, path[:-1] + b"\xfe"]
    found = [
        ChangedFile(one, b"x" + one[1:], Change.RENAMED, "100644", "100644", "a" * 40, "b" * 40, 1, judge_path(one))
        for one in paths
    ]
    files = [manifest_file(one, position=position, batch=0) for position, one in enumerate(found)]
    content = document(1).encode()
    files.append(changed(2, "docs/COAFI-ENG-0001-SPEC-A.md", content))
    contents = [*([b"x"] * [one.omitted for one in found].count(None)), content]
    checked = check(processor, batch(processor, files, contents))
    assert checked.files == 3
    assert checked.verdicts[Verdict.VALID] >= 1
    assert checked.verdicts.get(Verdict.SKIPPED, 0) >= 1
    assert len({one.entry.step for one in entries(processor)}) == 3


def test_the_entry_of_a_file_keeps_its_key(processor: BatchProcessor) -> None:
    """A push that is done again after an update must find the entries that it recorded before."""
    raw = b"caf\xe9.txt"
    odd = manifest_file(
        ChangedFile(raw, None, Change.ADDED, "100644", None, "a" * 40, None, 1, judge_path(raw)), position=0, batch=0
    )
    check(processor, batch(processor, [odd, changed(1, "plain.txt", b"x")], [b"x"]))
    assert [one.entry.step for one in entries(processor)] == [
        "file/caf\\xe9.txt (base64 Y2Fm6S50eHQ=)",
        "file/plain.txt",
    ]


@pytest.mark.parametrize("damage", ["missing", "changed", "other bytes under another name"])
def test_an_archive_that_is_not_as_it_was_stored_stops_the_batch(processor: BatchProcessor, damage: str) -> None:
    task = valid(processor, 2)
    file = object_file(processor.objects, task.batch.archive)
    if damage == "missing":
        file.unlink()
    elif damage == "changed":
        file.chmod(0o600)
        file.write_bytes(file.read_bytes().replace(b"Some text", b"Evil text"))
    else:
        forged = processor.objects.put(processor.objects.get(task.batch.archive).replace(b"Some text", b"Evil text"))
        task = task.model_copy(update={"batch": task.batch.model_copy(update={"archive": forged})})
    with pytest.raises(IntegrityError):
        check(processor, task)
    with pytest.raises(IntegrityError):
        generate(processor, task, Checked())
    assert entries(processor) == []


def test_reports_that_are_gone_stop_the_generation(processor: BatchProcessor) -> None:
    task = valid(processor, 2)
    checked = check(processor, task)
    object_file(processor.objects, checked.reports[0]).unlink()
    with pytest.raises(IntegrityError):
        generate(processor, task, checked)
    assert entries(processor, EntryType.ARTIFACT_GENERATED) == []
