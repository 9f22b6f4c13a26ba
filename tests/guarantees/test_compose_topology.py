"""The services of ``docker-compose.yml`` as processes: hundreds of events while one after the other is stopped.

Commands and environments are those of the file. PostgreSQL and S3 are real servers of this machine; Temporal's
development server stands in for the cluster, with the same dynamic settings. What a container is beyond a process with
an environment is not tried here.
"""

import asyncio
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import SecretStr
from temporalio.client import Client

from coafi.canonical import JsonObject
from coafi.names import EntryType
from coafi.settings import Settings
from coafi.webhooks import github
from starters import embedded
from tests.deploy.compose import Service, ours
from tests.harness import SECRET, Repository, documents, settings_for, temporal_server, until
from tests.postgresql import PostgresqlServer
from tests.s3 import S3Server
from tests.starters.support import COMMAND
from workers.client import connect
from workers.resources import open_resources

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1_500)]

EVENTS = 500
GATEWAYS = 2
WORKERS = 2
"""Processes of each worker of git and files; the others run once."""

EACH = {
    EntryType.EVENT_RECEIVED: 1,
    EntryType.FILE_PROCESSED: 1,
    EntryType.ARTIFACT_GENERATED: 2,
    EntryType.EVENT_PROCESSED: 1,
}
"""Entries of an event."""

GRACE = 60
"""Seconds that Compose leaves a service to end after SIGTERM."""


@dataclass
class Running:
    """A process of a service.

    Attributes:
        environment: of the container, with addresses of this machine.
        log: where it writes to.
    """

    service: Service
    environment: dict[str, str]
    log: Path
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                (COMMAND, *self.service.command), env=self.environment, stdout=log, stderr=log
            )

    async def is_loaded(self) -> bool:
        """Whether it runs, and listens to signals."""
        if self.service.name == "gateway":
            return await _is_ready(f"http://127.0.0.1:{self.environment['COAFI_GATEWAY_PORT']}")
        return await _answers(f"http://127.0.0.1:{self.environment['COAFI_METRICS_PORT']}/metrics")

    async def stop(self) -> None:
        """Stop it as Compose does; within the grace period it has drained and ended by itself."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(GRACE):
            while self.process.poll() is None:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert self.process.returncode == 0, self.log.read_text()[-3_000:]


@dataclass
class Topology:
    """Everything that the file starts.

    Attributes:
        settings: of a process like one of a service.
        gateways: their base URLs.
    """

    client: Client
    settings: Settings
    gateways: tuple[str, ...]
    processes: list[Running] = field(default_factory=list)

    async def deliver(self, payload: JsonObject) -> str:
        """Deliver a push, again and to the next gateway until one accepts it, as GitHub would; the id of its run."""
        body, delivery = json.dumps(payload).encode(), str(uuid.uuid4())
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": delivery,
            "X-Hub-Signature-256": github.sign(body, SecretStr(SECRET)),
        }
        async with httpx.AsyncClient(timeout=30) as http:
            for attempt in range(200):
                url = self.gateways[attempt % len(self.gateways)]
                try:
                    answer = await http.post(f"{url}/webhooks/github", content=body, headers=headers)
                except httpx.TransportError:
                    answer = None
                if answer is not None and answer.status_code == httpx.codes.ACCEPTED:
                    workflow_id: str = answer.json()["workflowId"]
                    return workflow_id
                assert answer is None or answer.status_code == httpx.codes.SERVICE_UNAVAILABLE, answer.text
                await asyncio.sleep(0.3)
        raise AssertionError("no gateway takes it")


def free_ports() -> Iterator[int]:
    """Ports that nobody listens on, each once, and none that the system gives to whoever asks for any."""
    for port in random.sample(embedded._FREE_PORTS, len(embedded._FREE_PORTS)):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        yield port


@asynccontextmanager
async def topology(root: Path, postgresql: PostgresqlServer, s3: S3Server) -> AsyncIterator[Topology]:
    """Start what the file says, in its order."""
    objects = s3.settings()
    secrets = {
        "COAFI_DATABASE_URL": postgresql.create(),
        "COAFI_GITHUB_WEBHOOK_SECRET": SECRET,
        "AUTH_SECRET": "an-auth-secret-of-more-than-32-bytes",
        "COAFI_S3_SECRET_ACCESS_KEY": objects.pop("s3_secret_access_key").get_secret_value(),
    }
    (root / "secrets").mkdir()
    for name, value in secrets.items():
        (root / "secrets" / name).write_text(value)
    server_settings = settings_for(root, temporal_namespace="coafi")
    async with temporal_server(server_settings, "--namespace=coafi") as server:
        here = {
            "COAFI_SECRETS_DIR": str(root / "secrets"),
            "COAFI_TEMPORAL_ADDRESS": server.address,
            "COAFI_HOME": str(root / "home"),
            "COAFI_GIT_FILE_ROOTS": str(root),
            "COAFI_GATEWAY_HOST": "127.0.0.1",
            "COAFI_LOG_FORMAT": "json",
        }
        services = ours({f"COAFI_{name.upper()}": str(value) for name, value in objects.items()})
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("COAFI_")}

        free = free_ports()

        def made(name: str, number: int) -> Running:
            ports = {
                name: str(next(free))
                for name in ("COAFI_METRICS_PORT", "COAFI_TEMPORAL_METRICS_PORT", "COAFI_GATEWAY_PORT")
            }
            service = services[name]
            environment = {**inherited, **service.environment, **here, **ports}
            return Running(service, environment, root / f"{name}-{number}.log")

        migration = made("migrate", 1)
        migration.start()
        assert migration.process is not None
        assert await asyncio.to_thread(migration.process.wait) == 0, migration.log.read_text()
        counts = {"gateway": GATEWAYS, "worker-git": WORKERS, "worker-files": WORKERS}
        processes = [
            made(name, number) for name in services if name != "migrate" for number in range(counts.get(name, 1))
        ]
        gateways = [one for one in processes if one.service.name == "gateway"]
        urls = tuple(f"http://127.0.0.1:{one.environment['COAFI_GATEWAY_PORT']}" for one in gateways)
        settings = server_settings.model_copy(
            update={
                **objects,
                "database_url": SecretStr(secrets["COAFI_DATABASE_URL"]),
                "s3_secret_access_key": SecretStr(secrets["COAFI_S3_SECRET_ACCESS_KEY"]),
                "home": root / "home",
            }
        )
        running = Topology(await connect(settings, server.address), settings, urls, processes)
        try:
            for one in processes:
                one.start()
            for url in urls:
                await until(lambda url=url: _is_ready(url), seconds=120)  # type: ignore[misc]
            yield running
        finally:
            for one in processes:
                if one.process is not None:
                    one.process.kill()
                    one.process.wait()


async def _is_ready(url: str) -> bool:
    assert urlsplit(url).hostname == "127.0.0.1"
    return await _answers(f"{url}/ready")


async def _answers(url: str) -> bool:
    try:
        async with httpx.AsyncClient() as http:
            return (await http.get(url)).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


async def test_hundreds_of_events_outlast_a_restart_of_every_service(
    tmp_path: Path, postgresql: PostgresqlServer, s3: S3Server
) -> None:
    async with topology(tmp_path, postgresql, s3) as running:
        repositories = [Repository.create(tmp_path / f"repository-{number}") for number in range(5)]

        def push(number: int) -> JsonObject:
            return repositories[number % 5].push(documents(1, text=f"Version {number}."))

        payloads = [push(number) for number in range(EVENTS)]
        workflows: list[str] = []
        numbers = itertools.count()
        restarts = 0

        async def deliver() -> None:
            """One after the other, until all are through and every service was restarted meanwhile."""
            while (number := next(numbers)) < EVENTS or restarts < len(running.processes):
                workflow_id = await running.deliver(payloads[number] if number < EVENTS else push(number))
                handle = running.client.get_workflow_handle(workflow_id, result_type=object)
                await asyncio.wait_for(handle.result(), 600)
                workflows.append(workflow_id)

        handling = asyncio.gather(*(deliver() for _ in range(16)))
        while not handling.done():
            process = running.processes[restarts % len(running.processes)]
            await process.stop()
            process.start()
            restarts += 1
            await asyncio.sleep(3)
        await handling
        assert restarts >= len(running.processes), "every service was stopped and started at least once"
        assert len(set(workflows)) == len(workflows) >= EVENTS
        for process in running.processes:  # what was started last listens to signals only once it has loaded everything
            await until(process.is_loaded, seconds=120)
            await process.stop()
        with open_resources(running.settings) as resources:
            entries = [one.entry for one in resources.ledger.entries(0, resources.ledger.size())]
            found = Counter((one.workflow_id, one.type) for one in entries if one.workflow_id in set(workflows))
            expected = {EntryType.EVENT_RECEIVED: 1, EntryType.FILE_PROCESSED: 1, EntryType.ARTIFACT_GENERATED: 2}
            expected[EntryType.EVENT_PROCESSED] = 1
            assert found == {
                (workflow, kind.value): count for workflow in workflows for kind, count in expected.items()
            }
            digests = [str(one.data["digest"]) for one in entries if one.type == EntryType.ARTIFACT_GENERATED]
            assert all(resources.objects.has(digest) for digest in digests[:50])
        logs = "".join(one.log.read_text() for one in running.processes)
        assert SECRET not in logs
        assert "Traceback" not in logs
