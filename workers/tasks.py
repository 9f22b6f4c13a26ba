"""Settings become the tasks of schedules, and what they work with."""

import asyncio
from collections.abc import Mapping

from temporalio.client import Client

from activities.dispatch import Dispatcher
from activities.index import REQUEST_TIMEOUT
from activities.tasks import Calls, StartRun, TemporalHistory
from coafi.git.fetch import GitFetcher
from coafi.git.heads import RemoteHeads
from coafi.git.mirror import MirrorStore
from coafi.git.runner import GitRunner
from coafi.index.pointers import IndexReader
from coafi.names import TaskName
from coafi.notify.gone import GoneSubscribers
from coafi.notify.subscribers import Subscribers
from coafi.recording import EventRecorder
from coafi.tasks.archive import Archiver
from coafi.tasks.clean_up import CleanUp
from coafi.tasks.compare_history import CompareHistory
from coafi.tasks.compliance_report import ComplianceReporter
from coafi.tasks.health_check import HealthCheck
from coafi.tasks.probes import ServiceProbes
from coafi.tasks.publish_checkpoint import PublishCheckpoint
from coafi.tasks.pushes import KnownPushes
from coafi.tasks.reconcile import Reconciler, Start
from coafi.tasks.results import TaskResults
from coafi.tasks.run import TaskRunner
from coafi.tasks.task import Task
from coafi.tasks.verify_ledger import VerifyLedger
from workers.resources import Resources


def build_runner(
    client: Client, resources: Resources, recorder: EventRecorder, fetcher: GitFetcher, subscribers: Subscribers
) -> TaskRunner:
    """What runs tasks, within a running event loop, which is the client's."""
    settings = resources.settings
    call = Calls(asyncio.get_running_loop())
    history = TemporalHistory(client, call)
    results = TaskResults(resources.database)
    reconciler = build_reconciler(
        resources, fetcher, StartRun(Dispatcher(client, REQUEST_TIMEOUT.total_seconds()), call)
    )
    probes = ServiceProbes(
        resources.database,
        resources.objects,
        resources.ledger,
        history,
        reconciler.pushes,
        reconciler.heads,
        subscribers,
        GoneSubscribers(resources.database),
        settings.notify_allow_private,
    )
    tasks: tuple[Task, ...] = (
        ComplianceReporter(IndexReader(resources.database), resources.objects, results),
        HealthCheck(probes),
        CleanUp(
            resources.database,
            resources.objects,
            resources.ledger,
            history,
            MirrorStore(settings.mirrors_directory, _git(fetcher)),
        ),
        Archiver(resources.ledger, resources.objects, results, settings.archives),
        PublishCheckpoint(recorder, resources.objects),
        VerifyLedger(resources.ledger),
        CompareHistory(
            history,
            resources.ledger,
            resources.database,
            resources.objects,
            results,
            settings.ledger_namespace,
        ),
        reconciler,
    )
    by_name: Mapping[TaskName, Task] = {task.name: task for task in tasks}
    return TaskRunner(by_name, recorder, resources.objects, results)


def build_reconciler(resources: Resources, fetcher: GitFetcher, start: Start) -> Reconciler:
    """What finds out which pushes nobody delivered."""
    settings = resources.settings
    return Reconciler(
        KnownPushes(resources.database, resources.ledger, settings.ledger_namespace),
        RemoteHeads(settings.mirrors_directory, _git(fetcher), fetcher.url_policy),
        resources.objects,
        start,
    )


def _git(fetcher: GitFetcher) -> GitRunner:
    return GitRunner(fetcher.limits, fetcher.tokens, fetcher.ssh, fetcher.ca_bundle)
