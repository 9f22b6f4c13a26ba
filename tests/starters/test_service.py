"""``coafi up`` as an operator runs it: start, stop, kill, start again."""

import asyncio
import json
import os
import signal
import socket
import stat
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from coafi.errors import ValidationError
from coafi.names import Phase
from tests.coafi.ledger.serving import served
from tests.harness import Repository, documents, until
from tests.processes import start
from tests.starters.support import COMMAND, HANG, Home
from workers.client import measured_runtime


async def _get(url: str) -> httpx.Response:
    async with httpx.AsyncClient() as http:
        return await http.get(url)


def _gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=HANG)
    return not alive


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.soak), signal.SIGTERM])
async def test_it_becomes_ready_and_stops_on_a_signal_without_leaving_a_process(
    home: Home, number: signal.Signals
) -> None:
    async with home.up() as up:
        file = home.path / "service.json"
        assert json.loads(file.read_text())["gateway"] == up.address.gateway
        assert (await _get(f"{up.address.gateway}/ready")).status_code == 200
        assert (await _get(up.address.ui)).status_code == 200
        children = up.children()
        assert [child.name() for child in children] == ["temporal"]
        assert home.processes() == children
        # Ctrl-C goes to the whole process group; Temporal must not be in it, or it would die before its workers.
        assert all(os.getpgid(child.pid) != os.getpgid(up.process.pid) for child in children)
        assert await up.stop(number) == 0
        assert not file.exists()
        assert _gone(children)
        assert home.processes() == []
        assert "Stopped." in up.log
        assert "Traceback" not in up.log
        assert stat.S_IMODE(home.path.stat().st_mode) == 0o700


async def test_a_second_one_in_the_same_home_is_refused(service: tuple[Home, object]) -> None:
    home, _ = service
    second = await asyncio.to_thread(home.coafi, "up")
    assert second.returncode == 1
    assert f"error: a service already runs in {home.path}" in second.stderr
    assert "COAFI_HOME" in second.stderr
    assert (await _get(f"{_gateway(home)}/ready")).status_code == 200


def _gateway(home: Home) -> str:
    gateway: str = json.loads((home.path / "service.json").read_text())["gateway"]
    return gateway


async def test_kill_9_leaves_no_process_and_the_next_one_serves_what_was_there(home: Home) -> None:
    repository = Repository.create(home.root / "repository")
    async with home.up() as up:
        done = home.submit(repository.path.as_uri(), repository.head, "--wait")
        assert done["phase"] == Phase.PROCESSED
        parked = await home.parked()
        before = home.json("ledger", "show", "0", str(done["conclusion"]))
        children = up.children()
        up.process.kill()
        await up.end()
        assert _gone(children)
        assert home.processes() == []
        assert (home.path / "service.json").exists()
        refused = await asyncio.to_thread(home.coafi, "dead-letters", "list")
        assert "no service runs" in refused.stderr

    async with home.up() as up:
        assert home.json("ledger", "show", "0", str(done["conclusion"])) == before
        again = home.submit(repository.path.as_uri(), repository.head)
        assert (again["existed"], again["workflowId"]) == (True, done["workflow_id"])
        assert [row["workflowId"] for row in home.json("dead-letters", "list")] == [parked["workflowId"]]
        reports = home.json("dead-letters", "discard", "--all", "--reason", "test")
        assert [report["result"] for report in reports] == ["discard"]

        def concluded() -> bool:
            return bool(home.json("events", "show", parked["workflowId"])["phase"] == Phase.FAILED)

        await until(concluded)
        assert home.json("ledger", "verify")["verified"] is True
        assert await up.stop() == 0


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_a_run_in_flight_survives_kill_9(home: Home) -> None:
    repository = Repository.create(home.root / "repository")
    commit = repository.commit(documents(1_500))
    async with home.up(COAFI_FILES_RATE="1") as up:  # 24 batches: for seconds some are done and some are not
        submitted = home.submit(repository.path.as_uri(), commit)

        def at_work() -> bool:
            entries = home.json("ledger", "show", "--limit", "10000")
            return any(entry["type"] == "FILE_PROCESSED" for entry in entries)

        await until(at_work)
        up.process.kill()
        await up.end()
        assert home.json("events", "show", submitted["workflowId"])["phase"] is None

    async with home.up():
        again = home.submit(repository.path.as_uri(), commit)
        assert (again["existed"], again["workflowId"]) == (True, submitted["workflowId"])

        def shown() -> Any:
            return home.json("events", "show", submitted["workflowId"])

        await until(lambda: bool(shown()["phase"] == Phase.PROCESSED), seconds=300)
        assert shown()["counts"]["valid"] == 1_500
        assert home.json("ledger", "verify")["verified"] is True


async def test_it_ends_with_an_error_when_its_temporal_server_dies(home: Home) -> None:
    async with home.up() as up:
        (temporal,) = up.children()
        temporal.kill()
        assert await up.end() == 1
        assert "error: the Temporal server ended with exit code -9" in up.log
        assert "temporal.log" in up.log
        assert not (home.path / "service.json").exists()
        assert home.processes() == []


async def test_taken_ports_are_left_alone_and_others_used(home: Home) -> None:
    taken = []
    for _ in range(3):
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken.append(listener)
    ports = [str(listener.getsockname()[1]) for listener in taken]
    names = ("COAFI_TEMPORAL_PORT", "COAFI_TEMPORAL_UI_PORT", "COAFI_GATEWAY_PORT")
    async with home.up(**dict(zip(names, ports, strict=True))) as up:
        used = {up.address.temporal.rpartition(":")[2], str(urlsplit(up.address.ui).port)}
        used.add(str(urlsplit(up.address.gateway).port))
        assert len(used) == 3
        assert not used & set(ports)
        assert (await _get(f"{up.address.gateway}/ready")).status_code == 200
    for listener in taken:
        listener.close()


async def test_another_namespace_than_the_default_works(home: Home) -> None:
    async with home.up(COAFI_TEMPORAL_NAMESPACE="acme") as up:
        repository = Repository.create(home.root / "repository")
        arguments = ("submit", "git-commit", "--repository", repository.path.as_uri(), "--commit", repository.head)
        done = home.coafi(*arguments, "--wait", COAFI_TEMPORAL_NAMESPACE="acme")
        assert done.returncode == 0, done.stderr
        assert f"{up.address.ui}/namespaces/acme/workflows/" in done.stdout


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"COAFI_GATEWAY_HOST": "192.0.2.1"}, "COAFI_GATEWAY_HOST"),
        pytest.param({"COAFI_HOME": "/dev/null"}, "COAFI_HOME", marks=pytest.mark.soak),
        ({"COAFI_HOME": "/proc/nothing/here"}, "COAFI_HOME"),
    ],
)
async def test_what_it_cannot_work_with_is_named(home: Home, environment: dict[str, str], said: str) -> None:
    done = await asyncio.to_thread(home.coafi, "up", **environment)
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert said in done.stderr
    assert home.processes() == []


async def test_a_gateway_of_its_own_takes_no_other_port_than_it_was_told(service: tuple[Home, object]) -> None:
    home, _ = service
    port = str(urlsplit(_gateway(home)).port)
    done = await asyncio.to_thread(home.coafi, "gateway", COAFI_GATEWAY_PORT=port)
    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert "COAFI_GATEWAY_PORT" in done.stderr


@pytest.mark.parametrize("command", ["worker", "dead-letters"])
def test_an_address_where_no_temporal_is_is_an_error_that_names_it(home: Home, command: str) -> None:
    arguments = (command, "list") if command == "dead-letters" else (command,)
    done = home.coafi(*arguments, COAFI_TEMPORAL_ADDRESS="127.0.0.1:1")
    assert done.returncode == 1
    assert "error: Temporal at 127.0.0.1:1 is out of reach" in done.stderr
    assert "COAFI_TEMPORAL_ADDRESS" in done.stderr


async def test_it_can_be_stopped_before_it_is_ready(home: Home) -> None:
    log = home.root / "up.log"
    process = start((COMMAND, "up"), home.environment(), log)
    try:
        await until(lambda: bool(home.processes()))
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, HANG) == 0, log.read_text()
        assert home.processes() == []
    finally:
        process.kill()


def test_a_port_of_metrics_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))  # noqa: S104
        taken.listen()
        with pytest.raises(ValidationError, match="COAFI_TEMPORAL_METRICS_PORT"):
            measured_runtime(taken.getsockname()[1])


def test_idle_connections_are_kept_as_long_as_is_said(tmp_path: Path) -> None:
    with patch("starters.service.KEEP_ALIVE", 1), served(tmp_path) as gateway:
        address = urlsplit(gateway.url)
        with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=HANG) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: gateway\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            answered = time.monotonic()
            while connection.recv(65536):
                pass
            assert 0.5 < time.monotonic() - answered < 4  # uvicorn would keep it for five seconds
