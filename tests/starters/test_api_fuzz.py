"""Whatever is sent to the API, the answer is one that its OpenAPI document promises: Schemathesis makes it all up.

It sends every example, every border of every schema and what lies beyond it, random requests that fit and others that
do not, methods that are not there and no token at all, and follows what answers lead to. No answer may be a 5xx, or be
another than the document says in status, headers, media type and body.
"""

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from coafi.api.routes import ROUTES
from coafi.names import EntryType
from tests.harness import Stack, running_stack, until
from tests.starters.api_support import caller, key_for

CONFIG = Path(__file__).with_name("schemathesis.toml")
COMMAND = Path(sys.executable).with_name("schemathesis")
FEW, MANY = 1, 60
"""Random requests per operation and phase, in every run of the suite and in a soak."""


@pytest_asyncio.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A service that lets nothing out of this machine and asks nobody to wait."""
    home = tmp_path_factory.mktemp("fuzzed")
    async with running_stack(home, git_hosts=("git.example",), api_rate=10_000.0, api_burst=100_000) as running:
        yield running


async def schemathesis(stack: Stack, where: Path, *options: str, seconds: int) -> "subprocess.CompletedProcess[str]":
    """Run Schemathesis as a caller who may do everything."""
    command = [
        *(str(COMMAND), "--no-color", "--config-file", str(CONFIG), "run", *options),
        *("--header", f"Authorization: Bearer {key_for(stack, f'fuzzer-{uuid.uuid4()}')}"),
        *("--warnings", "off", "--continue-on-failure", "--output-truncate", "false"),
    ]
    # Whose code is covered is the service's, not the caller's.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS")}
    environment["COLUMNS"] = "120"
    return await asyncio.to_thread(
        lambda: subprocess.run(
            command, cwd=where, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
    )


async def fuzz(stack: Stack, where: Path, phases: str, examples: int, seed: int, *, seconds: int) -> None:
    """Nothing may be found in any operation, and whatever was accepted must come to its end."""
    chosen = ("--phases", phases, "--max-examples", str(examples), "--seed", str(seed))
    done = await schemathesis(stack, where, f"{stack.gateway}/openapi.json", *chosen, seconds=seconds)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
    assert f"Tested: {len(ROUTES)}" in done.stdout, done.stdout
    await until(lambda: not left_open(stack))
    stack.verify()


def left_open(stack: Stack) -> set[str]:
    """The runs of events that were received and have no end."""
    received, ended = set(), set()
    for one in stack.entries():
        if one.entry.type == EntryType.EVENT_RECEIVED:
            received.add(one.entry.workflow_id)
        elif one.entry.type in (EntryType.EVENT_PROCESSED, EntryType.EVENT_REJECTED, EntryType.EVENT_DEAD_LETTERED):
            ended.add(one.entry.workflow_id)
    return received - ended


async def test_no_request_gets_an_answer_that_was_not_promised(stack: Stack, tmp_path: Path) -> None:
    await fuzz(stack, tmp_path, "examples,coverage,fuzzing", FEW, 1, seconds=150)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        pytest.param(lambda answers: answers.pop("200"), "ST103", marks=pytest.mark.soak),
        (lambda answers: answers["200"]["content"]["application/json"].update(schema={"type": "array"}), "ST108"),
    ],
)
async def test_a_promise_that_is_not_kept_is_found(
    stack: Stack, tmp_path: Path, damage: Callable[[Any], object], code: str
) -> None:
    path = "/api/registry/entries"
    async with httpx.AsyncClient() as client:
        document = (await client.get(f"{stack.gateway}/openapi.json")).json()
    damage(document["paths"][path]["get"]["responses"])
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(document))
    chosen = ("--url", stack.gateway, "--include-path", path, "--phases", "examples", "--no-shrink")
    done = await schemathesis(stack, tmp_path, str(file), *chosen, seconds=60)
    assert done.returncode == 1, done.stdout
    assert code in done.stdout, done.stdout


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [2])
async def test_many_requests_get_no_answer_that_was_not_promised(stack: Stack, tmp_path: Path, seed: int) -> None:
    await fuzz(stack, tmp_path, "examples,coverage,fuzzing,stateful", MANY, seed, seconds=580)


async def test_a_number_that_would_come_back_as_another_is_refused(stack: Stack) -> None:
    async with caller(stack, "numbers") as client:
        for number, status in (("6.2e16", 422), ("6.2e21", 201), ("9007199254740991", 201), ("9007199254740993", 400)):
            body = f'{{"registryId": "COM", "entryId": "n{number}", "data": {{"number": {number}}}}}'
            answer = await client.post(
                "/api/registry/update", content=body, headers={"Content-Type": "application/json", "Prefer": "wait=20"}
            )
            assert answer.status_code == status, answer.text
