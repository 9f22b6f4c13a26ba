"""Notifications: who is told, by which runs (``notify.announce``), and one try at a message (``notify.deliver``)."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urljoin

from pydantic import Field
from temporalio import activity
from temporalio.client import Client
from temporalio.common import Priority, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from activities.boundary import async_boundary
from activities.index import REQUEST_TIMEOUT
from coafi.canonical import JsonObject
from coafi.errors import Unavailable
from coafi.events import EventRef, Wire
from coafi.federation.messages import ReceivedMessage
from coafi.git.manifest import Oid
from coafi.index.model import IndexUpdate
from coafi.names import (
    PRIORITY_APPLICATION,
    ActivityName,
    EntryVersionName,
    NotificationName,
    TaskQueue,
    WorkflowName,
    docs_path,
    entry_path,
    fairness_key,
    notification_workflow_id,
)
from coafi.notify.deliver import Delivered, Deliverer
from coafi.notify.gone import GoneSubscribers
from coafi.notify.message import (
    AlarmNotice,
    EntryChange,
    EntryNotice,
    EventNotice,
    EventReport,
    Notification,
    PeerNotice,
)
from coafi.notify.subscribers import PEERS, Subscriber, Subscribers
from coafi.registry.entry import EntrySummary

MAX_ANNOUNCED = 200
"""SHAs of commits that a message names at most; it says how many there were."""


MAX_SAID = 2_048
"""Bytes of a peer's message that subscribers get whole; of a longer one they get what it is, and where."""


class AnnounceTask(Wire):
    """An update that some subscribers are to be told of.

    Attributes:
        commits: the last ``MAX_ANNOUNCED`` of the commits that the update stands for.
    """

    repository: str
    branch: str
    update: IndexUpdate
    subscribers: tuple[str, ...]
    commits: tuple[Oid, ...] = Field(max_length=MAX_ANNOUNCED)
    commit_count: int


class Announced(Wire):
    """The runs that deliver."""

    workflow_ids: tuple[str, ...]


class DeliveryPolicy(Wire):
    """How long a subscriber is waited for, in seconds: one try, and all of them."""

    timeout: float
    patience: float


class NotificationTask(Wire):
    """A notification to deliver; the input of its run."""

    notification: Notification | AlarmNotice
    policy: DeliveryPolicy


class Addressee(Wire):
    """A subscriber as a run knows it: by name, and by what it shares the queue of deliveries with."""

    subscriber: str
    fairness_key: str


class EntryNoticeTask(Wire):
    """A new version of an entry, and everybody who is to be told of it; the input of the run that does.

    Attributes:
        time: when it was made.
    """

    time: str
    change: EntryChange
    addressees: tuple[Addressee, ...]
    policy: DeliveryPolicy


class EventNoticeTask(Wire):
    """An event that was handled, and everybody who is to be told of it; the input of the run that does."""

    report: EventReport
    addressees: tuple[Addressee, ...]
    policy: DeliveryPolicy


class PeerNoticeTask(Wire):
    """A message of a peer, and everybody who is to be told of it."""

    notices: tuple[PeerNotice, ...]
    addressees: tuple[Addressee, ...]
    policy: DeliveryPolicy


@dataclass(frozen=True)
class Audience:
    """Who is told, and how.

    Attributes:
        gone: subscribers that are left out.
        public_url: base URL of the gateway.
    """

    subscribers: Subscribers
    gone: GoneSubscribers
    public_url: str
    policy: DeliveryPolicy

    def present(self, names: Collection[str]) -> list[Subscriber]:
        """The subscribers of these names who still want messages.

        Raises:
            Unavailable: the database is out of reach.
        """
        gone = self.gone.since(self.subscribers)
        return [one for one in self.subscribers.all if one.name in names and one.name not in gone]

    def link(self, path: str) -> str:
        """A path of the gateway as a URL."""
        return urljoin(f"{self.public_url.rstrip('/')}/", path.removeprefix("/"))

    def notice_of_event(self, report: EventReport, topics: Collection[str]) -> EventNoticeTask | None:
        """What there is to tell of an event under some topics; ``None`` when nobody wants to know.

        Raises:
            Unavailable: the database is out of reach.
        """
        wanted = self.subscribers.of_topics(topics)
        told = self.present({one.name for one in wanted}) if wanted else []
        if not told:
            return None
        addressees = tuple(Addressee(subscriber=one.name, fairness_key=fairness_key(one.host)) for one in told)
        return EventNoticeTask(report=report, addressees=addressees, policy=self.policy)

    def notice_of(self, entry: JsonObject) -> EntryNoticeTask | None:
        """What there is to tell of a new version of an entry; ``None`` when nobody wants to know.

        Args:
            entry: the version as the API answers with it.

        Raises:
            Unavailable: the database is out of reach.
        """
        wanted = self.subscribers.of_registry(str(entry["registryId"]))
        told = self.present({one.name for one in wanted}) if wanted else []
        if not told:
            return None
        made = EntrySummary.model_validate({name: value for name, value in entry.items() if name != "data"})
        assert made.ledger_entry is not None  # noqa: S101  # only what the package ships has none
        assert made.workflow_id is not None  # noqa: S101
        change = EntryChange(
            registry_id=made.registry_id,
            entry_id=made.entry_id,
            version=made.version,
            status=made.status,
            entry_class=made.entry_class,
            digest=made.digest,
            by=made.by,
            ledger_entry=made.ledger_entry,
            workflow_id=made.workflow_id,
            entry_url=self.link(entry_path(EntryVersionName(made.registry_id, made.entry_id, made.version))),
        )
        addressees = tuple(Addressee(subscriber=one.name, fairness_key=fairness_key(one.host)) for one in told)
        return EntryNoticeTask(time=made.changed, change=change, addressees=addressees, policy=self.policy)

    def peer_notice_of(self, received: ReceivedMessage, event: EventRef, entry: int) -> PeerNoticeTask | None:
        """What there is to tell of a message of a peer; ``None`` when nobody wants to know.

        Args:
            event: the message's.
            entry: index of the entry that says that it was applied.

        Raises:
            Unavailable: the database is out of reach.
        """
        wanted = self.subscribers.of_topics((PEERS,))
        told = self.present({one.name for one in wanted}) if wanted else []
        if not told:
            return None
        message = received.message
        notices = tuple(
            PeerNotice(
                subscriber=one.name,
                time=message.time.isoformat() if message.time else "",
                peer=received.peer,
                peer_message=message.id,
                message_type=message.name,
                subject=message.subject or "",
                said=message.data if len(message.body) <= MAX_SAID else None,
                workflow_id=event.workflow_id,
                ledger_entry=entry,
            )
            for one in told
        )
        addressees = tuple(Addressee(subscriber=one.name, fairness_key=fairness_key(one.host)) for one in told)
        return PeerNoticeTask(notices=notices, addressees=addressees, policy=self.policy)


@dataclass(frozen=True)
class AnnounceActivities:
    """Starts the runs that deliver.

    Attributes:
        client: of Temporal: the runs are their own, so that a dead subscriber holds up nobody.
    """

    client: Client
    audience: Audience

    @activity.defn(name=ActivityName.ANNOUNCE)
    @async_boundary
    async def announce(self, task: AnnounceTask) -> Announced:
        """Start a run for each subscriber; one that was started before is left alone."""
        started = []
        for subscriber in await asyncio.to_thread(self.audience.present, task.subscribers):
            update = task.update
            workflow_id = notification_workflow_id(
                NotificationName(subscriber.name, task.repository, task.branch, update.generation)
            )
            notification = Notification(
                subscriber=subscriber.name,
                time=update.time,
                repository=task.repository,
                branch=task.branch,
                commit=update.commit,
                generation=update.generation,
                verdicts=update.verdicts,
                index_url=self.audience.link(docs_path(task.repository, task.branch)),
                commits=task.commits,
                commit_count=task.commit_count,
                entry=update.entry,
            )
            try:
                await self.client.start_workflow(
                    WorkflowName.NOTIFICATION,
                    NotificationTask(notification=notification, policy=self.audience.policy),
                    id=workflow_id,
                    task_queue=TaskQueue.EVENTS,
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    priority=Priority(priority_key=PRIORITY_APPLICATION, fairness_key=fairness_key(subscriber.host)),
                    static_summary=f"Notify {subscriber.name} of {task.branch} @ {(update.commit or 'gone')[:10]}"[
                        :200
                    ],
                    rpc_timeout=REQUEST_TIMEOUT,
                )
            except WorkflowAlreadyStartedError:
                pass
            except (RPCError, RuntimeError) as error:
                raise Unavailable(
                    f"Temporal did not start the notification {workflow_id}", remedy="nothing: it is tried again"
                ) from error
            started.append(workflow_id)
        return Announced(workflow_ids=tuple(started))


@dataclass(frozen=True)
class DeliveryActivities:
    """Delivers messages.

    Attributes:
        deliverer: does the work.
    """

    deliverer: Deliverer

    @activity.defn(name=ActivityName.DELIVER)
    @async_boundary
    async def deliver(self, task: Notification | EntryNotice | EventNotice | PeerNotice | AlarmNotice) -> Delivered:
        """Try once to deliver a message."""
        return await self.deliverer.deliver(task)
