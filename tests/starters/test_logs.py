"""What a worker logs, for machines."""

import asyncio
import json
from pathlib import Path

from coafi.names import ActivityName, Phase
from tests.harness import Repository, documents, running_stack, worker_process

RUN = ("event_id", "workflow_id", "run_id", "utids")


async def test_every_line_of_a_worker_is_json_and_every_step_names_its_run(tmp_path: Path) -> None:
    async with running_stack(tmp_path, workers=False) as stack:
        repository = Repository.create(tmp_path / "repository")
        with worker_process(stack):
            handle = await stack.accepted(repository.push(documents(2)))
            receipt = await asyncio.wait_for(handle.result(), 60)
            rejected = await (await stack.accepted({})).result()
        assert (receipt.phase, rejected.phase) == (Phase.PROCESSED, Phase.REJECTED)
        (file,) = stack.settings.home.glob("worker-*.log")
        lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert all(line["event"] and line["level"] and line["timestamp"] and line["logger"] for line in lines)
    steps = [line for line in lines if "step" in line]
    assert {line["step"] for line in steps} == {
        ActivityName.RECEIVE,
        ActivityName.FETCH,
        ActivityName.PROCESS,
        ActivityName.GENERATE,
        ActivityName.FINISH,
        ActivityName.INDEX_REQUEST,
    }
    assert all(line[name] for line in steps for name in RUN)
    ours = [line for line in steps if line["workflow_id"] == handle.id]
    assert {line["event_id"] for line in ours} == {receipt.event_id}
    assert receipt.utids in {line["utids"] for line in ours}
