"""The service on one machine: Temporal, workers and gateway, started in order and stopped in reverse."""

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import AsyncIterator, Collection, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import structlog
import uvicorn
from pydantic import SecretStr
from temporalio.client import Client

from activities.dispatch import Dispatcher
from activities.peers import PeerGate
from coafi.api.reading import ApiReader
from coafi.api.words import Limits
from coafi.auth.authenticator import Authenticator
from coafi.deliveries import DeliveryReader
from coafi.errors import Unavailable
from coafi.federation.cosigning import Cosigners, Cosigning, witness_client
from coafi.federation.peers import PeerStore
from coafi.federation.signatures import Nonces
from coafi.ledger.log import Ledger
from coafi.logs import configure_logging
from coafi.names import TaskQueue
from coafi.secret_files import read_or_make_secret, webhook_secret
from coafi.settings import Settings, load_settings
from coafi.webhooks.ledger_events import SourceKey
from starters.addresses import temporal_address
from starters.api import ApiGateway
from starters.api_pages import ApiPages
from starters.api_requests import LONGEST_WAIT
from starters.api_requests import MAX_HEADERS as API_HEADERS
from starters.bitt import BittAccess, BittApi
from starters.connection import connected
from starters.docs_pages import DocsAccess, DocumentationPages
from starters.embedded import ServiceAddress, TemporalServer, listening_socket, owned
from starters.events_door import EventsDoor
from starters.federation import FederationApi
from starters.gateway import Gateway
from starters.listener import place_listener, running_listener
from starters.output import err, facts
from starters.rates import Rates
from starters.report_pages import ReportPages
from starters.run_counts import RunCounts
from starters.schedules import apply_at_start
from starters.witness import WitnessApi
from workers.auth import build_authenticator
from workers.client import connect, measured_runtime
from workers.resources import Resources, event_source, open_resources
from workers.wiring import running_workers
from workers.witnessing import known_witnesses, open_witness

log = structlog.stdlib.get_logger()

REGISTRY_READS = 16
"""Reads of another instance's registry that a gateway has under way at a time."""

MAX_HEADERS = 64 * 1024
"""Bytes of headers that are kept while more may come; whoever sends more is answered 400."""

KEEP_ALIVE = 90
"""Seconds that an idle connection is kept: longer than a load balancer in front keeps it, which would otherwise send a
request while it is closed here, and answer 502."""


@dataclass(frozen=True)
class Service:
    """A running service."""

    address: ServiceAddress
    server: TemporalServer

    async def wait(self, stop: asyncio.Event) -> None:
        """Wait for ``stop``.

        Raises:
            Unavailable: the Temporal server ended by itself.
        """
        while not stop.is_set():
            if (code := self.server.process.poll()) is not None:
                raise Unavailable(
                    f"the Temporal server ended with exit code {code}", remedy=f"read {self.server.log_file}"
                )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await stop.wait()


@asynccontextmanager
async def embedded_service(settings: Settings) -> AsyncIterator[Service]:
    """Run everything in the home of ``settings`` for as long as the block runs; leave no process behind.

    Raises:
        ValidationError: another service owns that home.
        Unavailable: Temporal did not start.
    """
    # The sample repository of `coafi demo` is the one place where file:// is welcome.
    settings = settings.model_copy(update={"git_file_roots": (*settings.git_file_roots, settings.home / "demo")})
    with owned(settings.home):
        server = await _start_temporal(settings)
        try:
            client = await connected(settings, server.address)
            with open_resources(settings) as resources:
                async with (
                    running_gateway(client, resources) as gateway,
                    running_workers(client, resources, gateway=gateway),
                    running_listener(client, resources),
                ):
                    address = ServiceAddress(os.getpid(), server.address, server.ui, gateway)
                    if settings.schedules_apply:
                        log.info("schedules applied", changed=await apply_at_start(client, settings))
                    address.write(settings.home)
                    try:
                        yield Service(address, server)
                    finally:
                        ServiceAddress.forget(settings.home)
        finally:
            await asyncio.to_thread(server.stop)


async def _start_temporal(settings: Settings) -> TemporalServer:
    """A server that is ready. Its ports were free a moment ago; if somebody was quicker, others are taken."""
    for attempts_left in (2, 1, 0):
        server = TemporalServer.start(
            settings.home,
            port=settings.temporal_port,
            ui_port=settings.temporal_ui_port,
            namespace=settings.temporal_namespace,
        )
        try:
            await server.wait_ready()
        except BaseException as error:
            await asyncio.to_thread(server.stop)
            if not attempts_left or not isinstance(error, Unavailable):
                raise
        else:
            break
    return server


@asynccontextmanager
async def running_gateway(client: Client, resources: Resources, *, fall_back: bool = True) -> AsyncIterator[str]:
    """Run the gateway; the value is its base URL.

    Args:
        client: of Temporal.
        resources: what the gateway reads and writes.
        fall_back: whether a free port will do when the one in the settings is taken.

    Raises:
        ValidationError: there is nothing to listen on.
    """
    settings = resources.settings
    listener = listening_socket(settings.gateway_host, settings.gateway_port, fall_back=fall_back)
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    # Another instance that is slow must not keep the threads that everything else here needs.
    reads = ThreadPoolExecutor(REGISTRY_READS, "registry") if resources.registry.is_remote else None
    authenticator = build_authenticator(settings)
    stack = contextlib.ExitStack()
    gateway = Gateway(
        dispatcher=Dispatcher(client, settings.temporal_start_timeout),
        deliveries=DeliveryReader(resources.database),
        objects=resources.objects,
        ledger=resources.ledger,
        github_secrets=github_secrets(settings),
        max_body_bytes=settings.max_body_bytes,
        docs=DocumentationPages(
            resources.database,
            resources.objects,
            resources.ledger,
            settings.ledger_namespace,
            DocsAccess(settings.docs_tokens, host),
        ),
        bitt=_bitt(resources, host),
        api=_api(client, resources, authenticator, reads),
        api_pages=_api_pages(resources),
        events=_events(client, resources),
        federation=_federation(client, resources, settings.public_url or address),
        witness=_witness(resources, stack),
        reports=ReportPages(resources.database, resources.objects, DocsAccess(settings.docs_tokens, host)),
        runs=RunCounts(client),
    )
    config = uvicorn.Config(
        gateway.application(),
        log_config=None,
        lifespan="off",
        access_log=False,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=KEEP_ALIVE,
        http="h11",
        h11_max_incomplete_event_size=MAX_HEADERS,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # uvicorn has no event for it
        yield address
    finally:
        server.should_exit = True
        await serving
        await asyncio.to_thread(stack.close)
        await authenticator.close()
        if reads is not None:
            reads.shutdown(wait=False, cancel_futures=True)


def _bitt(resources: Resources, host: str) -> BittApi | None:
    """The API of the ledger that is kept here; another instance's has its own."""
    settings = resources.settings
    if not isinstance(resources.ledger, Ledger):
        return None
    return BittApi(resources.ledger, BittAccess(settings.bitt_tokens, settings.bitt_append_tokens, host))


def _witness(resources: Resources, stack: contextlib.ExitStack) -> WitnessApi:
    """The witness; and what has our own checkpoints cosigned, if our ledger is kept here."""
    api = WitnessApi(stack.enter_context(open_witness(resources)))
    stack.callback(api.close)
    if isinstance(resources.ledger, Ledger):
        client = stack.enter_context(witness_client())
        cosigning = Cosigning(
            Cosigners(resources.ledger, client),
            known_witnesses(resources.settings, resources.database),
            seconds=resources.settings.cosign_seconds,
        )
        cosigning.start()
        stack.callback(cosigning.close)
    return api


def _api(client: Client, resources: Resources, authenticator: Authenticator, reads: Executor | None) -> ApiGateway:
    settings = resources.settings
    return ApiGateway(
        dispatcher=Dispatcher(client, settings.temporal_start_timeout),
        reader=ApiReader(resources.database, resources.ledger, resources.registry, settings.ledger_namespace),
        objects=resources.objects,
        authenticator=authenticator,
        rates=Rates(settings.api_rate, settings.api_burst),
        max_body_bytes=settings.api_max_body_bytes,
        wait=settings.api_wait,
        threads=reads,
    )


def _events(client: Client, resources: Resources) -> EventsDoor:
    settings = resources.settings
    return EventsDoor(
        dispatcher=Dispatcher(client, settings.temporal_start_timeout),
        deliveries=DeliveryReader(resources.database),
        objects=resources.objects,
        keys=event_keys(settings),
        own_source=event_source(resources),
        rates=Rates(settings.events_rate, settings.events_burst),
        max_body_bytes=settings.events_max_body_bytes,
        max_depth=settings.causation_depth,
    )


def _federation(client: Client, resources: Resources, base: str) -> FederationApi:
    settings = resources.settings
    return FederationApi(
        base=base.rstrip("/"),
        peers=PeerStore(resources.database),
        nonces=Nonces(resources.database),
        gate=PeerGate(client, settings.temporal_start_timeout),
        deliveries=DeliveryReader(resources.database),
        objects=resources.objects,
        ledger=resources.ledger,
        namespace=settings.ledger_namespace,
        rates=Rates(settings.federation_rate, settings.federation_burst),
    )


def _api_pages(resources: Resources) -> ApiPages:
    settings = resources.settings
    limits = Limits(
        body=settings.api_max_body_bytes,
        headers=API_HEADERS,
        body_seconds=ApiGateway.body_timeout,
        wait=settings.api_wait,
        longest_wait=LONGEST_WAIT,
        rate=settings.api_rate,
        burst=settings.api_burst,
    )
    return ApiPages(resources.registry, limits)


def github_secrets(settings: Settings) -> tuple[SecretStr, ...]:
    """The configured secrets of GitHub's webhooks, or the one that this home made for itself."""
    return settings.github_webhook_secret or (read_or_make_secret(settings.secrets_directory / "github-webhook"),)


def event_keys(settings: Settings) -> tuple[SourceKey, ...]:
    """Who may send events of which ledgers: as configured, or whoever has the secret that this home made for itself."""
    if not settings.events_secrets:
        made = read_or_make_secret(settings.secrets_directory / "events-webhook", webhook_secret)
        return (SourceKey("*", (made,), "events-webhook"),)
    return tuple(
        SourceKey(sources, secrets, f"events-webhook:{sources}"[:512])
        for sources, secrets in settings.events_secrets.items()
    )


def stop_on_signals() -> asyncio.Event:
    """An event that Ctrl-C and SIGTERM set."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def collect_seldom() -> None:
    """Look for garbage in cycles less often: at Python's own pace it takes an eighth of our time in a flood of pushes.

    There is little of it. What is loaded by now stays for good, and is not looked at again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


class _Server(uvicorn.Server):
    """Signals are the service's business: it stops workers, gateway and Temporal in order."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def run_service() -> None:
    """``coafi up``."""
    settings = load_settings()
    configure_logging(settings)
    stop = stop_on_signals()
    collect_seldom()
    err.print(f"Starting in {settings.home} …", highlight=False)
    async with embedded_service(settings) as service:
        address = service.address
        lines = facts()
        lines.add_row("Gateway", address.gateway)
        lines.add_row("GitHub webhook", f"{address.gateway}/webhooks/github")
        secret = settings.secrets_directory / "github-webhook"
        lines.add_row("  its secret", "COAFI_GITHUB_WEBHOOK_SECRET" if settings.github_webhook_secret else str(secret))
        lines.add_row("Events of ledgers", f"{address.gateway}/events")
        own = str(settings.secrets_directory / "events-webhook")
        lines.add_row("  its secret", "COAFI_EVENTS_SECRETS" if settings.events_secrets else own)
        lines.add_row("API", f"{address.gateway}/api/")
        lines.add_row("Documentation", f"{address.gateway}/docs/")
        lines.add_row("Temporal", address.temporal)
        lines.add_row("Web UI", address.ui)
        lines.add_row("State", str(settings.home))
        err.print(lines)
        err.print("Ready. Ctrl-C stops it.", style="green")
        await service.wait(stop)
        err.print("Stopping …")
    err.print("Stopped.")


async def run_workers(queues: Collection[TaskQueue] = ()) -> None:
    """``coafi worker``.

    Args:
        queues: the task queues to serve; none for all.
    """
    settings = load_settings()
    configure_logging(settings)
    stop = stop_on_signals()
    collect_seldom()
    port = settings.temporal_metrics_port
    client = await connected(settings, runtime=None if port is None else measured_runtime(port))
    with open_resources(settings) as resources:
        if settings.metrics_port is not None:
            from prometheus_client import start_http_server

            start_http_server(settings.metrics_port)
        service = ServiceAddress.read(settings.home)
        chosen = tuple(queues) or tuple(TaskQueue)
        async with running_workers(client, resources, gateway=service.gateway if service else "", queues=chosen):
            log.info("workers run", temporal=temporal_address(settings), queues=[queue.value for queue in chosen])
            await stop.wait()


async def run_gateway() -> None:
    """``coafi gateway``."""
    settings = load_settings()
    configure_logging(settings)
    stop = stop_on_signals()
    collect_seldom()
    # Lazy: deliveries that come while Temporal is down get a 503, not a refused connection.
    client = await connect(settings, temporal_address(settings), lazy=True)
    with open_resources(settings) as resources:
        async with running_gateway(client, resources, fall_back=False) as url:
            log.info("gateway listens", url=url)
            await stop.wait()


async def run_listener(start: int | None) -> None:
    """``coafi listener``.

    Args:
        start: the entry to go on at, if not where it was.
    """
    settings = load_settings()
    configure_logging(settings)
    stop = stop_on_signals()
    collect_seldom()
    # Lazy: entries that come while Temporal is down wait in the ledger.
    client = await connect(settings, temporal_address(settings), lazy=True)
    with open_resources(settings) as resources:
        if start is not None:
            await asyncio.to_thread(place_listener, resources, start)
        if settings.metrics_port is not None:
            from prometheus_client import start_http_server

            start_http_server(settings.metrics_port)
        async with running_listener(client, resources):
            log.info("listener runs", temporal=temporal_address(settings))
            await stop.wait()
