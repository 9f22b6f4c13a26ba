"""``files.process`` and ``artifacts.generate``: heartbeats, where the next attempt goes on, and when to stop."""

import hashlib
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from activities.files import FileActivities
from activities.pulse import pulse
from coafi.artifacts.cache import ArtifactService
from coafi.artifacts.model import GeneratorConfig
from coafi.documents.check import FileReport, Verdict
from coafi.documents.kinds import FileKind
from coafi.git.archive import write_archive
from coafi.git.manifest import BatchRef, ManifestFile
from coafi.processing import CHUNK, BatchProcessor, BatchTask, Checked, Generated, GenerateTask
from coafi.recording import EventRecorder
from coafi.trees.commit import CommitContexts
from tests.activities.support import EVENT, environment, failure_of
from tests.coafi.objects.files import object_file
from tests.harness import batch_task, document, settings_for
from workers.resources import open_resources

FILES = CHUNK + 6


@pytest.fixture
def files(tmp_path: Path) -> Iterator[FileActivities]:
    with open_resources(settings_for(tmp_path)) as resources:
        recorder = EventRecorder(ledger=resources.ledger, registry=resources.registry, namespace="default", build="1")
        artifacts = ArtifactService(resources.database, resources.objects, GeneratorConfig())
        contexts = CommitContexts(resources.objects, resources.database)
        yield FileActivities(BatchProcessor(recorder, resources.objects, contexts, artifacts))


@pytest.fixture
def task(files: FileActivities) -> BatchTask:
    contents = [document(number).encode() for number in range(1, FILES + 1)]
    entries = [
        ManifestFile(
            position=at,
            path=f"docs/COAFI-ENG-{at + 1:04d}-SPEC-A.md",
            change="added",
            mode="100644",
            blob=hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest(),
            size=len(content),
            batch=0,
        )
        for at, content in enumerate(contents)
    ]
    archive = files.processor.objects.put(write_archive(entries, contents))
    batch = BatchRef(index=0, archive=archive, files=FILES, size=sum(map(len, contents)))
    return batch_task(files.processor, EVENT, batch)


def size(files: FileActivities) -> int:
    return files.processor.recorder.ledger.size()


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"{name}_total", labels) or 0


def test_a_batch_reports_between_two_chunks_and_the_next_attempt_goes_on_there(
    files: FileActivities, task: BatchTask
) -> None:
    beats: list[Checked] = []
    first = environment(step="files.process")
    first.on_heartbeat = lambda *details: beats.extend(details)
    whole = first.run(files.process, task)
    assert [beat.files for beat in beats] == [CHUNK]
    assert whole.verdicts == {Verdict.VALID: FILES}

    recorded = size(files)
    heartbeat = (beats[0].model_dump(mode="json"),)
    again = environment(step="files.process", attempt=2, heartbeat=heartbeat)
    later: list[Checked] = []
    again.on_heartbeat = lambda *details: later.extend(details)
    assert again.run(files.process, task) == whole
    assert later == []
    assert size(files) == recorded


def test_artifacts_are_reported_between_two_chunks_and_the_next_attempt_goes_on_there(
    files: FileActivities, task: BatchTask
) -> None:
    checked = environment().run(files.process, task)
    beats: list[Generated] = []
    first = environment(step="artifacts.generate")
    first.on_heartbeat = lambda *details: beats.extend(details)
    whole = first.run(files.generate, GenerateTask(task=task, checked=checked))
    assert [(beat.files, beat.artifacts) for beat in beats] == [(CHUNK, 2 * CHUNK)]
    heartbeat = (beats[0].model_dump(mode="json"),)
    again = environment(step="artifacts.generate", attempt=2, heartbeat=heartbeat)
    repeated = again.run(files.generate, GenerateTask(task=task, checked=checked))
    assert repeated.model_copy(update={"cached": 0}) == whole
    assert repeated.cached == whole.artifacts - beats[0].artifacts, "only the rest was asked for again"


def test_a_file_that_takes_long_is_heard_of_meanwhile(
    files: FileActivities, task: BatchTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats: list[Checked] = []
    heard = threading.Event()
    slow = environment(step="files.process")

    def listen(*details: Checked) -> None:
        beats.extend(details)
        if threading.current_thread().name == "pulse":
            heard.set()

    slow.on_heartbeat = listen
    monkeypatch.setattr("activities.files.pulse", partial(pulse, every=0.01))

    def check(*_args: object, **_named: object) -> FileReport:
        assert heard.wait(20)
        return FileReport(path="a.md", kind=FileKind.MARKDOWN, verdict=Verdict.INVALID)

    monkeypatch.setattr("coafi.processing.check_file", check)
    done = slow.run(files.process, task)
    assert done.verdicts == {Verdict.INVALID: FILES}
    assert beats[0] == Checked()


def test_what_is_stuck_is_not_kept_alive() -> None:
    beats: list[float] = []
    stuck = environment()
    stuck.on_heartbeat = lambda: beats.append(time.monotonic())

    def hang() -> float:
        with pulse(every=0.02, longest=0.2):
            time.sleep(1)
            return time.monotonic()

    ended = stuck.run(hang)
    assert beats
    assert ended - beats[-1] > 0.5


@pytest.mark.parametrize("step", ["files.process", "artifacts.generate"])
def test_a_batch_that_is_cancelled_stops_at_the_next_file_and_keeps_what_is_done(
    files: FileActivities, task: BatchTask, step: str
) -> None:
    made = environment(step=step)
    beats: list[Checked | Generated] = []

    def cancel(*details: Checked | Generated) -> None:
        beats.extend(details)
        made.cancel()

    made.on_heartbeat = cancel
    if step == "files.process":
        error = failure_of(made, files.process, task)
        assert size(files) == CHUNK
    else:
        checked = environment().run(files.process, task)
        error = failure_of(made, files.generate, GenerateTask(task=task, checked=checked))
        assert size(files) == FILES + 2 * CHUNK
    assert (error.type, error.non_retryable) == ("Unavailable", False)
    assert [beat.files for beat in beats] == [CHUNK]


def test_files_and_artifacts_are_counted(files: FileActivities, task: BatchTask) -> None:
    valid, made = (
        counted("coafi_files_processed", verdict="valid"),
        counted("coafi_artifacts_generated", cached="false"),
    )
    cached = counted("coafi_artifacts_generated", cached="true")
    checked = environment().run(files.process, task)
    environment().run(files.generate, GenerateTask(task=task, checked=checked))
    environment().run(files.generate, GenerateTask(task=task, checked=checked))
    assert counted("coafi_files_processed", verdict="valid") == valid + FILES
    assert counted("coafi_artifacts_generated", cached="false") == made + 2 * FILES
    assert counted("coafi_artifacts_generated", cached="true") == cached + 2 * FILES


def test_what_an_attempt_did_before_it_stopped_is_counted(files: FileActivities, task: BatchTask) -> None:
    before = counted("coafi_files_processed", verdict="valid")
    stopped = environment()
    beats: list[Checked] = []

    def cancel(*details: Checked) -> None:
        beats.extend(details)
        stopped.cancel()

    stopped.on_heartbeat = cancel
    failure_of(stopped, files.process, task)
    environment(attempt=2, heartbeat=(beats[0].model_dump(mode="json"),)).run(files.process, task)
    assert counted("coafi_files_processed", verdict="valid") == before + FILES


def test_an_archive_that_is_gone_is_no_fault_of_the_event(files: FileActivities, task: BatchTask) -> None:
    object_file(files.processor.objects, task.batch.archive).unlink()
    error = failure_of(environment(), files.process, task)
    assert (error.type, error.non_retryable) == ("IntegrityError", False)
    assert task.batch.archive in error.message
