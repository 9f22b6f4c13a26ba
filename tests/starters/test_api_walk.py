"""The walk-through of docs/api.md: every command, in order, by bash and curl against ``coafi up``."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from starters.embedded import ServiceAddress
from tests.harness import until
from tests.test_docs import DOCS, section

PAGE = DOCS / "api.md"
GATEWAY = "http://127.0.0.1:8080"
BIN = Path(sys.executable).parent

pytestmark = pytest.mark.timeout(170)


def environment() -> dict[str, str]:
    """A stranger's: what a terminal has, and the commands on the path."""
    ports = {f"COAFI_{name}_PORT": "0" for name in ("GATEWAY", "TEMPORAL", "TEMPORAL_UI")}
    return {
        **ports,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "HOME": os.environ["HOME"],
        "LANG": "C.UTF-8",
        "COLUMNS": "110",
    }


def measured() -> dict[str, str]:
    """What has the service's code covered; that of the commands is by their own tests, at less cost."""
    names = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")
    return {name: os.environ[name] for name in names if name in os.environ}


@pytest_asyncio.fixture(scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Path, str]]:
    """A directory in which ``coafi up`` runs, as ``make up`` starts it, and the gateway's address."""
    directory = tmp_path_factory.mktemp("walk")
    with (directory / "up.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(BIN / "coafi"), "up", cwd=directory, env={**environment(), **measured()}, stdout=log, stderr=log
        )
    try:

        def ready() -> bool:
            assert process.returncode is None, (directory / "up.log").read_text()
            return ServiceAddress.read(directory / ".coafi") is not None

        await until(ready)
        address = ServiceAddress.read(directory / ".coafi")
        assert address is not None
        yield directory, address.gateway
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 60)
        assert process.returncode == 0, (directory / "up.log").read_text()[-10_000:]


def steps() -> list[tuple[str, str, str]]:
    """Heading, script and what the page shows of its output."""
    found = []
    for part in re.split(r"^### ", section(PAGE, "## A walk-through"), flags=re.MULTILINE)[1:]:
        heading, _, rest = part.partition("\n")
        scripts = re.findall(r"^```sh\n(.*?)^```", rest, re.MULTILINE | re.DOTALL)
        shown = re.findall(r"^```text\n(.*?)^```", rest, re.MULTILINE | re.DOTALL)
        assert len(scripts) == 1, heading
        assert len(shown) <= 1, heading
        found.append((heading, scripts[0], shown[0] if shown else ""))
    return found


def pattern(shown: str) -> re.Pattern[str]:
    """What output must be like: ``…`` stands for anything in a line, on a line of its own for any lines."""
    lines = [
        "(?:.*\n)*?" if line == "…" else ".*?".join(map(re.escape, line.split("…"))) + "\n"
        for line in shown.splitlines()
    ]
    return re.compile("".join(lines))


def play(script: str, directory: Path) -> list[str]:
    """Run the steps in one shell, as a person would; what each printed."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=directory,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr
    return done.stdout.replace("\r\n", "\n").split("=== next step\n")


async def test_every_command_of_the_walk_through_prints_what_the_page_shows(desk: tuple[Path, str]) -> None:
    directory, gateway = desk
    script = "\necho '=== next step'\n".join(script for _, script, _ in steps()).replace(GATEWAY, gateway)
    printed = await asyncio.to_thread(play, script, directory)
    assert len(printed) == len(steps())
    for (heading, _, shown), output in zip(steps(), printed, strict=True):
        assert pattern(shown).fullmatch(output), f"{heading} printed:\n{output}"


def test_output_that_is_not_what_the_page_shows_would_be_found() -> None:
    shown = 'HTTP/1.1 201 Created\n…\n{"version":1,…}\n'
    assert pattern(shown).fullmatch('HTTP/1.1 201 Created\nx: y\n\n{"version":1,"a":2}\n')
    for output in (
        'HTTP/1.1 200 OK\n\n{"version":1,"a":2}\n',
        'HTTP/1.1 201 Created\n\n{"version":2,"a":2}\n',
        'HTTP/1.1 201 Created\n\n{"version":1,"a":2}\nmore\n',
        "HTTP/1.1 201 Created\n",
    ):
        assert not pattern(shown).fullmatch(output)
