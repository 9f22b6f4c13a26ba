"""What a run leaves in Temporal, the ledger and the logs: neither contents nor secrets, and little of anything."""

import asyncio
import base64
import json
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowHandle

from coafi.names import ActivityName, EntryType, Phase
from coafi.recording import Decision
from tests.coafi.git.repositories import Repository as PlainRepository
from tests.coafi.git.server import serve
from tests.guarantees.support import finished, payloads
from tests.harness import (
    SECRET,
    Repository,
    Stack,
    documents,
    history_of,
    push_payload,
    running_stack,
    until,
    worker_process,
)
from tests.starters.support import command
from workflows.lifecycle import EventWorkflow, Receipt

KIB = 1024
LARGEST_PAYLOAD = 256 * KIB
TOKEN = "a-git-token-that-nobody-may-see"
CONTENT = "what-stands-in-the-files"

FILES: dict[str, str | bytes] = {
    "docs/COAFI-ENG-0001-SPEC-A.md": str(documents(1, text=f"{CONTENT}-body")["docs/COAFI-ENG-0001-SPEC-A.md"]),
    "docs/COAFI-ENG-0002-SPEC-A.md": f"---\ntitle: {CONTENT}-title\nstatus: {CONTENT}-status\n---\n\n# x\n",
    "docs/COAFI-ENG-0003-SPEC-A.md": f"---\n{CONTENT}-key: [\n---\n",
    "data/broken.json": f'{{"{CONTENT}-key": {CONTENT}}}',
    "data/fine.json": f'{{"{CONTENT}-key": "{CONTENT}-value"}}',
    "data/broken.yaml": f"a: {CONTENT}\n  {CONTENT}: b\n\t{CONTENT}",
    "data/twice.yaml": f"{CONTENT}: 1\n{CONTENT}: 2\n",
    "raw.bin": CONTENT.encode() + b"\x00\xff",
    f"plain/{'x' * 40}.txt": f"{CONTENT}\n" * 1000,
}


def basic(token: str) -> str:
    """The header that carries a token."""
    return "Basic " + base64.b64encode(f"x-access-token:{token}".encode()).decode()


async def everything_readable(stack: Stack, capfd: pytest.CaptureFixture[str]) -> dict[str, bytes]:
    """All that operators, auditors and collectors of logs get to see, by where it is."""
    places = {f"entry {one.index}": one.body for one in stack.entries()}
    async for run in stack.client.list_workflows():
        places[f"list, {run.id}"] = run.raw_info.SerializeToString()
        history = await stack.client.get_workflow_handle(run.id, run_id=run.run_id).fetch_history()
        places[f"history of {run.id}"] = b"".join(
            event.SerializeToString() + b"".join(one.data for one in payloads(event)) for event in history.events
        )
    for path in (*stack.settings.home.glob("*.log"), *stack.settings.home.glob("temporal.db*")):
        places[path.name] = path.read_bytes()
    output = capfd.readouterr()
    return {**places, "output": (output.out + output.err).encode()}


def assert_nowhere(words: Mapping[str, str], places: Mapping[str, bytes]) -> None:
    found = {name: [place for place, text in places.items() if word.encode() in text] for name, word in words.items()}
    assert not {name: where for name, where in found.items() if where}


async def is_parked(stack: Stack, handle: WorkflowHandle[Any, Receipt]) -> bool:
    return (await stack.state(handle)).phase is Phase.PARKED


async def submit(stack: Stack, url: str, commit: str) -> None:
    """Run ``coafi submit git-commit`` to the end of the run; what it prints is printed."""
    arguments = ("submit", "git-commit", "--repository", url, "--commit", commit, "--wait")
    environment = {"COAFI_HOME": str(stack.settings.home), "COAFI_TEMPORAL_ADDRESS": stack.server.address}
    done = await asyncio.to_thread(command, arguments, {**os.environ, **environment})
    assert done.returncode == 1
    sys.stdout.write(f"{done.stdout.decode()}{done.stderr.decode()}")


async def test_neither_contents_nor_secrets_leave_the_places_they_belong_to(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    environment = {
        "COAFI_GIT_TOKENS": json.dumps({"127.0.0.1": TOKEN}),
        "COAFI_GIT_ALLOW_HTTP": "true",
        "COAFI_GIT_ALLOW_PRIVATE": "true",
        "COAFI_GIT_PATIENCE": "0.5",
        "COAFI_GITHUB_WEBHOOK_SECRET": SECRET,
        "COAFI_LOG_LEVEL": "debug",
    }
    repository = PlainRepository.make(tmp_path / "docs")
    before = repository.commit({"README.md": "# Empty\n"})
    after = repository.commit(FILES)
    async with running_stack(tmp_path, workers=False) as stack:
        with serve(tmp_path) as host, worker_process(stack, **environment):
            host.authorization = basic(TOKEN)
            payload = push_payload(host.url("docs"), after, before=before)
            assert (await stack.push(payload, secret="wrong")).status_code == 401
            receipt = await finished(await stack.accepted(payload))
            assert receipt.phase is Phase.PROCESSED
            assert receipt.counts["files"] == len(FILES)
            assert receipt.counts["invalid"] >= 4
            assert host.authorizations[-1] == basic(TOKEN)

            host.authorization = basic("another")
            refused = await stack.accepted(push_payload(host.url("elsewhere"), after))
            await until(partial(is_parked, stack, refused))
            state = await stack.state(refused)
            assert state.failure is not None
            assert (state.failure.step, state.failure.error) == (ActivityName.FETCH, "AccessRefused")
            await refused.execute_update(EventWorkflow.discard, Decision(by="ada", reason="a test"))
            assert (await finished(refused)).phase is Phase.FAILED

        assert len(stack.entries(EntryType.FILE_PROCESSED)) == len(FILES)
        places = await everything_readable(stack, capfd)
        assert any(b"git.fetch" in text for place, text in places.items() if place.startswith("worker"))
        key = (stack.settings.secrets_directory / "ledger-key").read_text().strip()
        assert_nowhere(
            {
                "webhook secret": SECRET,
                "token": TOKEN,
                "header with the token": basic(TOKEN).removeprefix("Basic "),
                "ledger key": key.rpartition("+")[2],
                "content": CONTENT,
            },
            places,
        )


async def test_credentials_in_a_url_are_blanked_before_anything_is_stored(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    users = {
        "with a password": "ada:hunter1",
        "without a name": "hunter2",
        "with an @ in the password": "ada:p@hunter3",
    }
    async with running_stack(tmp_path) as stack:
        for user in users.values():
            url = f"https://{user}@git.example/docs"
            await submit(stack, url, "1" * 40)
            receipt = await finished(await stack.accepted(push_payload(url, "1" * 40)))
            assert receipt.phase is Phase.REJECTED
        assert len(stack.entries(EntryType.EVENT_REJECTED)) == 2 * len(users)
        words = {name: user.rpartition("@")[2].rpartition(":")[2] for name, user in users.items()}
        assert_nowhere(words, await everything_readable(stack, capfd))


@pytest.mark.parametrize(
    ("files", "most_events"),
    [
        (10, 45),
        (300, 120),
        pytest.param(20_000, 1_300, marks=(pytest.mark.soak, pytest.mark.timeout(1_800))),
    ],
)
async def test_history_stays_small(tmp_path: Path, files: int, most_events: int) -> None:
    async with running_stack(tmp_path) as stack:
        payload = Repository.create(tmp_path / "repo").push(documents(files))
        payload["head_commit"] = {"message": "long " * 100_000, "author": {"name": "Ada"}}
        payload["commits"] = [{"id": f"{number:040x}", "added": ["x" * 500]} for number in range(2_000)]
        handle = await stack.accepted(payload)
        receipt = await finished(handle, seconds=1_700)
        assert receipt.phase is Phase.PROCESSED
        assert receipt.counts["files"] == files
        events = (await history_of(handle)).events
        sizes = [one.ByteSize() for event in events for one in payloads(event)]
        print(f"{files} files: {len(events)} events, largest payload {max(sizes)}, in all {sum(sizes)} bytes")  # noqa: T201  # a figure
        assert len(events) <= most_events
        assert max(sizes) <= LARGEST_PAYLOAD
