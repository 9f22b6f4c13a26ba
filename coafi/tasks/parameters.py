"""What each task may be told: a wrong parameter is found before a schedule is made."""

from collections.abc import Mapping

from coafi.names import TaskName
from coafi.tasks.archive import Archiver
from coafi.tasks.clean_up import CleanUp
from coafi.tasks.compare_history import CompareHistory
from coafi.tasks.compliance_report import ComplianceReporter
from coafi.tasks.health_check import HealthCheck
from coafi.tasks.publish_checkpoint import PublishCheckpoint
from coafi.tasks.reconcile import Reconciler
from coafi.tasks.task import Task, TaskModel
from coafi.tasks.verify_ledger import VerifyLedger

ALL: tuple[type[Task], ...] = (
    ComplianceReporter,
    HealthCheck,
    CleanUp,
    Archiver,
    PublishCheckpoint,
    VerifyLedger,
    CompareHistory,
    Reconciler,
)
"""Every task."""

PARAMETERS: Mapping[TaskName, type[TaskModel]] = {task.name: task.parameters for task in ALL}
"""The model of each task's parameters."""
