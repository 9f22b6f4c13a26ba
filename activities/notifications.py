"""Notifications: a run for each subscriber (``notify.announce``), which delivers its message (``notify.deliver``)."""

import asyncio
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
from coafi.errors import Unavailable
from coafi.events import Wire
from coafi.git.manifest import Oid
from coafi.index.model import IndexUpdate
from coafi.names import (
    PRIORITY_APPLICATION,
    ActivityName,
    NotificationName,
    TaskQueue,
    WorkflowName,
    docs_path,
    fairness_key,
    notification_workflow_id,
)
from coafi.notify.deliver import Delivered, Deliverer
from coafi.notify.gone import GoneSubscribers
from coafi.notify.message import Notification
from coafi.notify.subscribers import Subscribers

MAX_ANNOUNCED = 200
"""SHAs of commits that a message names at most; it says how many there were."""


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

    notification: Notification
    policy: DeliveryPolicy


@dataclass(frozen=True)
class AnnounceActivities:
    """Starts the runs that deliver.

    Attributes:
        client: of Temporal: the runs are their own, so that a dead subscriber holds up nobody.
        gone: subscribers that are left out.
        public_url: base URL of the gateway.
    """

    client: Client
    subscribers: Subscribers
    gone: GoneSubscribers
    public_url: str
    policy: DeliveryPolicy

    @activity.defn(name=ActivityName.ANNOUNCE)
    @async_boundary
    async def announce(self, task: AnnounceTask) -> Announced:
        """Start a run for each subscriber; one that was started before is left alone."""
        started = []
        gone = await asyncio.to_thread(self.gone.since, self.subscribers)
        for subscriber in self.subscribers.all:
            if subscriber.name not in task.subscribers or subscriber.name in gone:
                continue
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
                index_url=urljoin(f"{self.public_url.rstrip('/')}/", docs_path(task.repository, task.branch)[1:]),
                commits=task.commits,
                commit_count=task.commit_count,
                entry=update.entry,
            )
            try:
                await self.client.start_workflow(
                    WorkflowName.NOTIFICATION,
                    NotificationTask(notification=notification, policy=self.policy),
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
    async def deliver(self, task: Notification) -> Delivered:
        """Try once to deliver a message."""
        return await self.deliverer.deliver(task)
