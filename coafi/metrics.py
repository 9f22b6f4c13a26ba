"""Prometheus metrics of this process."""

from prometheus_client import Counter, Gauge, Histogram

ACCEPTED = Counter("coafi_events_accepted", "Events for which a run was started or found.", ["type"])
REFUSED = Counter("coafi_events_refused", "Requests that started nothing, by HTTP status.", ["source", "status"])
IGNORED = Counter("coafi_events_ignored", "Authentic deliveries that are not wanted.", ["source", "kind"])
CONCLUDED = Counter("coafi_events_concluded", "Runs that ended, by final phase.", ["phase"])
PARKED = Counter("coafi_events_parked", "How often a run parked.", ["step"])
FILES = Counter("coafi_files_processed", "Files processed, by verdict.", ["verdict"])
ARTIFACTS = Counter("coafi_artifacts_generated", "Artifacts recorded, by whether the cache had them.", ["cached"])
INDEX_UPDATES = Counter("coafi_index_updates", "Updates of documentation indexes, by what came of them.", ["outcome"])
NOTIFICATION_ATTEMPTS = Counter(
    "coafi_notification_attempts", "Tries at notifications, by what came of them.", ["subscriber", "outcome"]
)
STEP_SECONDS = Histogram(
    "coafi_step_seconds",
    "Wall time of one attempt of a step.",
    ["step", "outcome"],
    buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
API_REQUESTS = Counter("coafi_api_requests", "Requests to the API.", ["endpoint", "method", "status"])
LEDGER_ENTRIES = Gauge("coafi_ledger_entries", "Entries in the ledger.")
LEDGER_REQUESTS = Counter("coafi_ledger_requests", "Requests to the ledger's API.", ["route", "status"])
TASKS = Counter("coafi_tasks", "Scheduled tasks that ran, by what came of them.", ["task", "outcome"])
ALARMS = Counter("coafi_alarms", "Alarms that scheduled tasks raised.", ["task"])
RECONCILED = Counter("coafi_reconciled", "Pushes that nobody delivered and that were started.")
