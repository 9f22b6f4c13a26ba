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
PEER_MESSAGES = Counter("coafi_peer_messages", "Messages of peers that were applied.", ["peer", "type"])
PEER_REFUSED = Counter(
    "coafi_peer_requests_refused", "Requests of peers that started nothing, by reason.", ["reason", "status"]
)
STEP_SECONDS = Histogram(
    "coafi_step_seconds",
    "Wall time of one attempt of a step.",
    ["step", "outcome"],
    buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
API_REQUESTS = Counter("coafi_api_requests", "Requests to the API.", ["endpoint", "method", "status"])
LEDGER_ENTRIES = Gauge("coafi_ledger_entries", "Entries in the ledger.")
LEDGER_UNSIGNED = Gauge("coafi_ledger_unsigned_entries", "Entries that no signed checkpoint covers yet.")
OPEN_RUNS = Gauge("coafi_open_runs", "Runs that wait for a person, by what is the matter.", ["state"])
QUEUE_BACKLOG = Gauge("coafi_queue_backlog", "Tasks that wait for a worker.", ["queue", "kind"])
QUEUE_AGE = Gauge("coafi_queue_age_seconds", "How long the oldest of them has waited.", ["queue", "kind"])
LEDGER_REQUESTS = Counter("coafi_ledger_requests", "Requests to the ledger's API.", ["route", "status"])
FOLLOWER_LAG = Gauge("coafi_follower_lag", "Entries of the ledger that a follower has not dealt with.", ["follower"])
FOLLOWER_ENTRIES = Counter("coafi_follower_entries", "Entries that a follower has dealt with.", ["follower"])
FOLLOWER_FAILURES = Counter("coafi_follower_failures", "How often a follower had to try again.", ["follower", "error"])
FOLLOWER_HOLDS = Gauge("coafi_follower_holds", "Whether this process is the one that follows.", ["follower"])
CAPPED = Counter(
    "coafi_events_capped", "Entries that started nothing because of all that lies between them and a cause."
)
WITNESS_REQUESTS = Counter("coafi_witness_requests", "Checkpoints that were sent to be cosigned.", ["status"])
COSIGNATURES = Counter(
    "coafi_cosignatures", "Tries to have a checkpoint cosigned, by what came of them.", ["witness", "outcome"]
)
PEER_CHECKPOINTS = Counter(
    "coafi_peer_checkpoints", "Checkpoints that peers told of, by what they are.", ["peer", "sight"]
)
SPLIT_VIEWS = Counter(
    "coafi_peer_split_views", "Histories of a peer's ledger that do not fit together, by what is known.", ["grade"]
)
PEER_ATTEMPTS = Counter(
    "coafi_peer_attempts", "Requests with a message to a peer, by what came of them.", ["peer", "outcome"]
)
PEER_DELIVERIES = Counter(
    "coafi_peer_deliveries", "Messages that are on record as delivered, by what became of them.", ["peer", "outcome"]
)
PEER_BACKLOG = Gauge("coafi_peer_backlog", "Ledger entries that were not dealt with for a peer yet.", ["peer"])
TASKS = Counter("coafi_tasks", "Scheduled tasks that ran, by what came of them.", ["task", "outcome"])
ALARMS = Counter("coafi_alarms", "Alarms that scheduled tasks raised.", ["task"])
RECONCILED = Counter("coafi_reconciled", "Pushes that nobody delivered and that were started.")
