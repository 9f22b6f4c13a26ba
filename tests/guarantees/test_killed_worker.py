"""``kill -9`` of the workers' process in the middle of a large commit."""

from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from temporalio.client import WorkflowHistory

from coafi.names import ActivityName, EntryType, Phase
from tests.guarantees.support import HANG, activities, finished
from tests.harness import Repository, Stack, documents, history_of, running_stack, until, worker_process
from workers.wiring import running_workers

FILES = 2_000


def processed_in_this_process() -> float:
    """How many files activities of this process gave a verdict."""
    return REGISTRY.get_sample_value("coafi_files_processed_total", {"verdict": "valid"}) or 0.0


def completed(history: WorkflowHistory, name: ActivityName) -> int:
    return sum(one.completed for one in activities(history, name))


def assert_each_file_recorded_once(stack: Stack, files: int) -> None:
    processed = stack.entries(EntryType.FILE_PROCESSED)
    assert len(processed) == len({one.entry.data["path"] for one in processed}) == files
    assert len(stack.entries(EntryType.ARTIFACT_GENERATED)) == 2 * files
    assert len(stack.entries(EntryType.EVENT_RECEIVED)) == len(stack.entries(EntryType.EVENT_PROCESSED)) == 1
    assert stack.verify() == 3 * files + 2


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_a_commit_of_2000_files_goes_on_after_kill_9_without_redoing_finished_batches(tmp_path: Path) -> None:
    async with running_stack(tmp_path, workers=False) as stack:
        payload = Repository.create(tmp_path / "repo").push(documents(FILES))
        with worker_process(stack) as process:
            handle = await stack.accepted(payload)
            await until(lambda: stack.resources.ledger.size() > FILES // 3, seconds=240)
            process.kill()
        killed = await history_of(handle)
        done = completed(killed, ActivityName.PROCESS)
        assert done >= 1
        assert completed(killed, ActivityName.GENERATE) == 0

        before = processed_in_this_process()
        async with running_workers(stack.client, stack.resources):
            receipt = await finished(handle)
        history = await history_of(handle)
        assert receipt.phase is Phase.PROCESSED
        assert receipt.counts == {
            "files": FILES, "valid": FILES, "invalid": 0, "skipped": 0, "deleted": 0, "artifacts": 2 * FILES,
        }  # fmt: skip
        assert_each_file_recorded_once(stack, FILES)

        batches = activities(history, ActivityName.PROCESS)
        largest = -(-FILES // len(batches))
        assert len(batches) == len(activities(history, ActivityName.GENERATE)) <= 64
        assert len(activities(history, ActivityName.FETCH)) == 1
        assert sum(one.attempt > 1 for one in batches) <= stack.settings.files_slots
        finished_files = done * largest - (len(batches) * largest - FILES)  # as if the shortest batch were among them
        assert processed_in_this_process() - before <= FILES - finished_files


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_killed_in_every_step_one_after_the_other(tmp_path: Path) -> None:
    async with running_stack(tmp_path, workers=False) as stack:
        payload = Repository.create(tmp_path / "repo").push(documents(FILES))
        handle = await stack.accepted(payload)

        def fetching() -> bool:
            return any((stack.settings.mirrors_directory).glob("*/objects/pack/*"))

        def entries(entry_type: EntryType, count: int) -> bool:
            return len(stack.entries(entry_type)) >= count

        for moment in (
            fetching,
            lambda: entries(EntryType.FILE_PROCESSED, FILES // 3),
            lambda: entries(EntryType.FILE_PROCESSED, 2 * FILES // 3),
            lambda: entries(EntryType.ARTIFACT_GENERATED, FILES // 2),
            lambda: entries(EntryType.ARTIFACT_GENERATED, FILES),
        ):
            with worker_process(stack) as process:
                await until(moment, seconds=HANG)
                process.kill()
        async with running_workers(stack.client, stack.resources):
            receipt = await finished(handle)
        assert receipt.phase is Phase.PROCESSED
        assert_each_file_recorded_once(stack, FILES)
        history = await history_of(handle)
        assert len(activities(history)) == 1 + 2 * len(activities(history, ActivityName.PROCESS))
