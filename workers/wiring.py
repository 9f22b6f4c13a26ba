"""The one place where settings become activities and workers."""

from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version

from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.api import ApiActivities
from activities.bitt import BittActivities
from activities.dispatch import Dispatcher
from activities.events import EventActivities, Patience
from activities.files import FileActivities
from activities.git import GitActivities
from activities.index import REQUEST_TIMEOUT, IndexActivities, IndexPolicy, IndexRequestActivities
from activities.notifications import AnnounceActivities, Audience, DeliveryActivities, DeliveryPolicy
from activities.outbox import OutboxActivities, OutboxPolicy
from activities.peers import PeerActivities
from activities.revalidation import RevalidationActivities
from activities.tasks import AlarmActivities, TaskActivities
from activities.witness import WitnessActivities
from coafi.api.operations import ApiOperator
from coafi.artifacts.cache import ArtifactService
from coafi.artifacts.model import GeneratorConfig
from coafi.bitt.reaction import Reactor
from coafi.compliance.findings import Findings
from coafi.documents.limits import DocumentLimits
from coafi.federation.delivery import PeerDeliverer, peer_client
from coafi.federation.failures import opening
from coafi.federation.inbox import PeerInbox
from coafi.federation.keys import FederationKey
from coafi.federation.messages import MessageType
from coafi.federation.outbox import Outbox
from coafi.federation.peers import PeerStore
from coafi.federation.positions import Positions
from coafi.federation.projection import Projection
from coafi.git.fetch import GitFetcher
from coafi.git.limits import GitLimits
from coafi.git.runner import SshAccess
from coafi.index.pointers import IndexReader
from coafi.index.update import IndexUpdater
from coafi.names import TaskQueue
from coafi.notify.deliver import Deliverer, webhook_client
from coafi.notify.gone import GoneSubscribers
from coafi.notify.subscribers import Subscribers, load_subscribers
from coafi.processing import BatchProcessor
from coafi.recording import EventRecorder
from coafi.registry.revalidation import Revalidator
from coafi.settings import Settings
from coafi.trees.commit import CommitContexts
from coafi.trees.recorder import TreeRecorder
from workers.resources import Resources, event_source, load_subscriptions, url_policy
from workers.tasks import build_runner
from workers.witnessing import open_witness
from workflows.api_request import APIRequestWorkflow
from workflows.bitt_event import BITTEventWorkflow
from workflows.event_notification import EventNotificationWorkflow
from workflows.federated_message import FederatedMessageWorkflow
from workflows.git_commit import GitCommitWorkflow
from workflows.git_commit_processing import GitCommitProcessingWorkflow
from workflows.notification import NotificationWorkflow
from workflows.peer import PeerWorkflow
from workflows.peer_outbox import PeerOutboxWorkflow
from workflows.registry_update_notification import RegistryUpdateNotificationWorkflow
from workflows.scheduled_task import ScheduledTaskWorkflow
from workflows.schema_revalidation import SchemaRevalidationWorkflow

WORKFLOWS = (
    GitCommitWorkflow,
    GitCommitProcessingWorkflow,
    NotificationWorkflow,
    APIRequestWorkflow,
    RegistryUpdateNotificationWorkflow,
    SchemaRevalidationWorkflow,
    BITTEventWorkflow,
    EventNotificationWorkflow,
    PeerWorkflow,
    FederatedMessageWorkflow,
    PeerOutboxWorkflow,
    ScheduledTaskWorkflow,
)
"""Every workflow type of the service."""

RUNNER = UnsandboxedWorkflowRunner()
"""What runs workflows: the sandbox would take a quarter of this process's time. Tests replay every history in it."""


@asynccontextmanager
async def running_workers(
    client: Client, resources: Resources, *, gateway: str = "", queues: Collection[TaskQueue] = tuple(TaskQueue)
) -> AsyncIterator[None]:
    """Run a worker per task queue; running activities get ``drain_timeout`` to end.

    Args:
        client: of Temporal.
        resources: what the workers work with.
        gateway: base URL of the gateway, for links, where the settings do not say.
        queues: the task queues; others are left to other processes.

    Raises:
        ValidationError: the file of subscribers, or that of subscriptions, is not right.
    """
    async with AsyncExitStack() as stack:
        for worker in build_workers(client, resources, stack, gateway=gateway, queues=queues):
            await stack.enter_async_context(worker)
        yield


def build_recorder(resources: Resources) -> EventRecorder:
    """What writes ledger entries about events."""
    return EventRecorder(
        ledger=resources.ledger,
        registry=resources.registry,
        namespace=resources.settings.ledger_namespace,
        build=version("coafi-event-handlers"),
    )


@dataclass(frozen=True)
class Activities:
    """The steps of every workflow."""

    events: EventActivities
    git: GitActivities
    files: FileActivities


def build_activities(resources: Resources) -> Activities:
    """The steps, each with what it works with."""
    settings = resources.settings
    recorder = build_recorder(resources)
    fetcher = build_fetcher(resources)
    patience = Patience(
        fetch=fetcher.limits.longest_fetch,
        git=settings.git_patience,
        files=settings.files_patience,
        parked=settings.parked_patience,
        asks_for_index=True,
        api=settings.api_patience if resources.registry.is_remote else None,
    )
    processor = BatchProcessor(
        recorder=recorder,
        objects=resources.objects,
        contexts=CommitContexts(resources.objects, resources.database),
        artifacts=ArtifactService(resources.database, resources.objects, GeneratorConfig()),
        limits=DocumentLimits(max_bytes=settings.git_max_blob_bytes),
    )
    return Activities(
        EventActivities(recorder, patience),
        GitActivities(fetcher, IndexReader(resources.database)),
        FileActivities(processor),
    )


def build_workers(
    client: Client,
    resources: Resources,
    stack: AsyncExitStack,
    *,
    gateway: str = "",
    queues: Collection[TaskQueue] = tuple(TaskQueue),
) -> list[Worker]:
    """The workers of these task queues; ``stack`` closes their threads and connections."""
    settings = resources.settings
    subscribers = load_subscribers(settings.subscribers, allow_private=settings.notify_allow_private)
    steps = build_activities(resources)
    requests = IndexRequestActivities(
        client, steps.git.fetcher.url_policy, _index_policy(settings, steps.events.patience)
    )
    revalidator = Revalidator(
        steps.events.recorder, resources.database, resources.objects, steps.files.processor.contexts
    )
    indexes = IndexActivities(
        IndexUpdater(resources.ledger, resources.database, resources.objects, settings.ledger_namespace, revalidator),
        subscribers,
    )
    gone = GoneSubscribers(resources.database)
    audience = Audience(
        subscribers,
        gone,
        settings.public_url or gateway or f"http://{settings.gateway_host}:{settings.gateway_port}",
        DeliveryPolicy(timeout=settings.notify_timeout, patience=settings.notify_patience),
    )
    announcements = AnnounceActivities(client, audience)
    api = ApiActivities(
        ApiOperator(steps.events.recorder, resources.registry, resources.database, resources.objects),
        Dispatcher(client, REQUEST_TIMEOUT.total_seconds()),
        audience,
        settings.files_patience,
    )
    reactions = BittActivities(
        Reactor(Findings(steps.events.recorder), load_subscriptions(settings)),
        audience,
        event_source(resources),
        settings.causation_depth,
    )
    revalidations = RevalidationActivities(revalidator)
    effects = {MessageType.COMPLIANCE_FAILURE: opening(Findings(steps.events.recorder))}
    peers = PeerActivities(PeerInbox(steps.events.recorder, resources.objects, effects), audience)
    witness = WitnessActivities(stack.enter_context(open_witness(resources)))
    tasks = TaskActivities(build_runner(client, resources, steps.events.recorder, steps.git.fetcher, subscribers))
    alarms = AlarmActivities(client, audience)
    deliveries = DeliveryActivities(_deliverer(settings, subscribers, gone, stack))
    outbox = _outbox(resources, stack, audience.public_url)
    drain = timedelta(seconds=settings.drain_timeout)

    def threads(slots: int, name: str) -> ThreadPoolExecutor:
        pool = ThreadPoolExecutor(slots, thread_name_prefix=name)
        stack.callback(pool.shutdown)
        return pool

    made: dict[TaskQueue, Callable[[], Worker]] = {
        TaskQueue.EVENTS: lambda: Worker(
            client,
            task_queue=TaskQueue.EVENTS,
            workflows=WORKFLOWS,
            activities=[
                steps.events.receive,
                steps.events.park,
                steps.events.finish,
                requests.request,
                requests.request_all,
                announcements.announce,
                api.operate,
                api.start,
                reactions.react,
                revalidations.conclude,
                peers.apply,
                peers.shelve,
                peers.unshelve,
                outbox.collect,
                outbox.hold,
                alarms.alarm,
            ],
            # Local activities take threads from the same pool.
            activity_executor=threads(2 * settings.events_slots, "events"),
            max_concurrent_activities=settings.events_slots,
            max_concurrent_local_activities=settings.events_slots,
            workflow_runner=RUNNER,
            disable_eager_activity_execution=True,
            graceful_shutdown_timeout=drain,
        ),
        TaskQueue.GIT: lambda: Worker(
            client,
            task_queue=TaskQueue.GIT,
            activities=[steps.git.fetch, steps.git.tip],
            activity_executor=threads(settings.git_slots, "git"),
            max_concurrent_activities=settings.git_slots,
            max_task_queue_activities_per_second=settings.git_rate,
            graceful_shutdown_timeout=drain,
        ),
        TaskQueue.FILES: lambda: Worker(
            client,
            task_queue=TaskQueue.FILES,
            activities=[steps.files.process, steps.files.generate, indexes.update],
            activity_executor=threads(settings.files_slots, "files"),
            max_concurrent_activities=settings.files_slots,
            max_task_queue_activities_per_second=settings.files_rate,
            max_heartbeat_throttle_interval=timedelta(seconds=2),  # what is done must be known soon
            graceful_shutdown_timeout=drain,
        ),
        TaskQueue.API: lambda: Worker(
            client,
            task_queue=TaskQueue.API,
            activities=[api.operate],
            activity_executor=threads(settings.api_slots, "api"),
            max_concurrent_activities=settings.api_slots,
            max_task_queue_activities_per_second=settings.api_queue_rate,
            graceful_shutdown_timeout=drain,
        ),
        TaskQueue.DELIVERY: lambda: Worker(
            client,
            task_queue=TaskQueue.DELIVERY,
            activities=[deliveries.deliver, witness.see, outbox.deliver, outbox.settle],
            activity_executor=threads(settings.delivery_slots, "delivery"),
            max_concurrent_activities=settings.delivery_slots,
            max_task_queue_activities_per_second=settings.delivery_rate,
            max_heartbeat_throttle_interval=timedelta(seconds=2),  # a pause, and what is done, must be known soon
            graceful_shutdown_timeout=drain,
        ),
        TaskQueue.TASKS: lambda: Worker(
            client,
            task_queue=TaskQueue.TASKS,
            activities=[revalidations.revalidate, tasks.run],
            activity_executor=threads(settings.tasks_slots, "tasks"),
            max_concurrent_activities=settings.tasks_slots,
            max_task_queue_activities_per_second=settings.tasks_rate,
            graceful_shutdown_timeout=drain,
        ),
    }
    return [make() for queue, make in made.items() if queue in queues]


def _index_policy(settings: Settings, patience: Patience) -> IndexPolicy:
    return IndexPolicy(debounce=settings.index_debounce, fetch=patience.fetch, git=patience.git, files=patience.files)


def _deliverer(settings: Settings, subscribers: Subscribers, gone: GoneSubscribers, stack: AsyncExitStack) -> Deliverer:
    client = webhook_client(settings.notify_timeout)
    stack.push_async_callback(client.aclose)
    return Deliverer(subscribers, gone, client, settings.notify_timeout, settings.notify_allow_private)


def build_outbox(resources: Resources, public_url: str = "") -> Outbox:
    """What knows what peers are to be told, and were; with links to this gateway."""
    settings = resources.settings
    projection = Projection(
        peer=settings.federation_peer,
        namespace=settings.ledger_namespace,
        ledger=resources.ledger,
        registry=resources.registry,
        database=resources.database,
        objects=resources.objects,
        public_url=public_url,
    )
    peers = PeerStore(resources.database, resources.ledger, settings.ledger_namespace)
    return Outbox(peers, Positions(resources.database), projection, resources.objects)


def _outbox(resources: Resources, stack: AsyncExitStack, public_url: str) -> OutboxActivities:
    settings = resources.settings
    client = peer_client(settings.peers_timeout)
    stack.push_async_callback(client.aclose)
    key = FederationKey(settings.federation_key_path, settings.federation_peer)
    outbox = build_outbox(resources, public_url)
    return OutboxActivities(
        outbox,
        PeerDeliverer(outbox, key, client, settings.peers_timeout),
        OutboxPolicy(
            timeout=settings.peers_timeout, patience=settings.peers_patience, checkpoint=settings.peers_checkpoint
        ),
    )


def build_fetcher(resources: Resources) -> GitFetcher:
    """What talks to git."""
    settings = resources.settings
    ssh = None
    if settings.git_ssh_identity is not None and settings.git_ssh_known_hosts is not None:
        ssh = SshAccess(settings.git_ssh_identity, settings.git_ssh_known_hosts)
    return GitFetcher(
        mirrors=settings.mirrors_directory,
        objects=resources.objects,
        trees=TreeRecorder(resources.database, resources.objects),
        url_policy=url_policy(settings),
        limits=GitLimits(
            max_files=settings.git_max_files,
            max_blob_bytes=settings.git_max_blob_bytes,
            max_commit_bytes=settings.git_max_commit_bytes,
            fetch_timeout=settings.git_timeout,
            mirrors_quota_bytes=settings.git_mirrors_bytes,
        ),
        tokens=settings.git_tokens,
        ssh=ssh,
    )
