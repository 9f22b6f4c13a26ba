"""What README and docs say is held against the code; ``python -m tests.test_docs --write`` renews the tables."""

import json
import re
import shlex
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import prometheus_client
import pytest
import typer
from pydantic import SecretStr
from temporalio.client import Client
from typer.testing import CliRunner

from activities.boundary import UNEXPECTED_ATTEMPTS
from activities.dispatch import ROUTES as ROUTES_OF_EVENTS
from activities.dispatch import Dispatcher
from coafi import errors, metrics
from coafi.api.answers import problem_type
from coafi.api.requests import MAX_KEY
from coafi.api.routes import ROUTES
from coafi.api.words import ERRORS, REQUEST_HEADERS, RESPONSE_HEADERS, Header
from coafi.artifacts.cache import ArtifactService
from coafi.artifacts.model import ArtifactKind, GeneratorConfig
from coafi.auth import keys
from coafi.auth.jwks import COOL_DOWN, FRESH, PATIENCE
from coafi.auth.principal import MAX_NAME, check_permission
from coafi.auth.roles import DEFAULT_ROLES
from coafi.auth.tokens import MAX_TOKEN
from coafi.bitt.reaction import Reactor, ReactTask
from coafi.bitt.subscriptions import SubscriptionFile, WrittenSubscription, parse
from coafi.canonical import MAX_DEPTH as MAX_JSON_DEPTH
from coafi.canonical import JsonObject, sha256
from coafi.commits import submitted_commit
from coafi.compliance.findings import FindingQuery, FindingReader, Findings
from coafi.database import Database
from coafi.documents.check import Verdict
from coafi.documents.kinds import FileKind
from coafi.documents.rules import RULES, Example
from coafi.documents.source import visible
from coafi.events import Event
from coafi.federation.inbox import ApplyTask, PeerInbox
from coafi.federation.messages import MessageType, ReceivedMessage, Via, new_message
from coafi.federation.messages import event_of as event_of_message
from coafi.federation.outbox import Confirmed, DeliveryOutcome, Outbox
from coafi.federation.peers import PeerStore
from coafi.federation.positions import Positions
from coafi.federation.projection import Projection
from coafi.git.archive import write_archive
from coafi.git.changes import Change
from coafi.git.manifest import BatchRef, ManifestFile
from coafi.index.model import IndexedDocument, IndexTask
from coafi.index.update import UPDATED, IndexUpdater
from coafi.ledger.entry import Entry
from coafi.ledger.handover import key_change
from coafi.ledger.keys import Signer
from coafi.ledger.log import Ledger
from coafi.names import EntryType, EventType, Phase, SearchAttribute, TaskQueue, WorkflowName
from coafi.notify.message import (
    ALARM_RAISED,
    ENTRY_CHANGED,
    MAX_DETAILS,
    PEER_MESSAGE,
    AlarmNotice,
    Notification,
    PeerNotice,
)
from coafi.objects.local import LocalObjectStore
from coafi.processing import BatchProcessor, BatchTask, Checked, Generated, GenerateTask
from coafi.recording import Conclusion, Decision, EventRecorder, Failure, Refusal
from coafi.registry.acceptance import MAX_PATTERNS, schema_of
from coafi.registry.effort import MAX_APPLIED
from coafi.registry.entry import MAX_DATA, MAX_DEPTH, MAX_TAGS, EntryClass, EntryStatus, RegistryId
from coafi.registry.entry import Entry as RegistryEntry
from coafi.registry.local import LocalRegistry
from coafi.registry.reader import MAX_PAGE
from coafi.registry.reserving import RESERVED_SECONDS
from coafi.registry.revalidation import Ended, Part, Place, Revalidation, Revalidator, Summary
from coafi.registry.search import MAX_WORDS
from coafi.registry.shipped import TAG
from coafi.registry.store import PublishedSchemas, builtin_schemas
from coafi.settings import Settings, variable
from coafi.tasks.compare_history import GapKind
from coafi.tasks.file import Schedule
from coafi.tasks.health_check import HealthCheck
from coafi.tasks.parameters import PARAMETERS
from coafi.tasks.publish_checkpoint import PublishCheckpoint
from coafi.tasks.results import TaskResults
from coafi.tasks.run import TaskRunner, TaskTask
from coafi.tasks.task import Task
from coafi.trees.commit import CommitContexts
from coafi.trees.listing import TreeFile
from coafi.trees.recorder import TreeRecorder
from coafi.webhooks.ledger_events import SourceKey, event_of
from starters import records
from starters.api import ApiGateway
from starters.api_requests import LONGEST_WAIT, MAX_HEADERS
from starters.cli import app
from starters.embedded import temporal_executable
from starters.reacting import EntryReactions
from tests.bench import capacity
from tests.coafi.federation.making import peer_of, signer
from tests.coafi.federation.test_messages import WHOLE
from tests.coafi.federation.witnesses import setting_of
from tests.coafi.ledger.making import draft, opened
from tests.coafi.ledger.trees import SIGNER, Tree
from tests.coafi.notify.test_message import event_notice, notice
from tests.coafi.registry.making import Registers
from tests.harness import batch_task
from tests.starters.ledger_events import failure
from workflows.lifecycle import REJECTING, Receipt

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = (README, *sorted(DOCS.rglob("*.md")))
COAFI = typer.main.get_command(app)

page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


# ---------------------------------------------------------------------- generated tables


def settings_table() -> str:
    """Every setting: name of its variable, default, description."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        rows.append(f"| `{variable(name)}` | {shown(name, default)} | {field.description} |")
    return "\n".join(rows)


def shown(name: str, default: object) -> str:
    """A default for people: numbers with their unit, nothing for what is empty."""
    if default in (None, "", (), {}, SecretStr("")) or name.endswith(("_tokens", "_token")):
        return ""
    if isinstance(default, bool):
        return f"`{default}`".lower()
    if isinstance(default, float):
        parts = ((86_400, "days"), (3_600, "h"), (60, "min"))
        unit = next((f" ({default / size:g} {word})" for size, word in parts if default >= size), "")
        return f"`{default:g}`{unit}" if default < 1e6 else f"`{default:.0f}`{unit}"
    if name.endswith("_bytes") and isinstance(default, int):
        units = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))
        size, word = next((size, word) for size, word in units if default >= size)
        return f"`{default}` ({default / size:g} {word})"
    return f"`{default}`"


def rules_table() -> str:
    """Every rule of documents: id, severity, meaning, remedy."""
    rows = ["| rule | severity | meaning | what to do |", "|---|---|---|---|"]
    rows += [f"| `{rule.id}` | {rule.severity} | {rule.meaning} | {rule.remedy} |" for rule in RULES.values()]
    return "\n".join(rows)


def examples_table() -> str:
    """Every rule with a file that breaks it and one that keeps it."""
    rows = ["| rule | breaks it | keeps it |", "|---|---|---|"]
    rows += [f"| `{rule.id}` | {example(rule.breaks)} | {example(rule.keeps)} |" for rule in RULES.values()]
    return "\n".join(rows)


def example(one: Example) -> str:
    """An example in a cell of a table: the path, then every line as code."""
    parts = [f"`{one.path}`"]
    if one.content is None:
        parts.append("(a symbolic link)")
    else:
        text = one.content if isinstance(one.content, str) else one.content.decode("utf-8", "backslashreplace")
        parts += [code(line) for line in text.split("\n")[:8] if line]
    parts += [f"and `{path}`: {code(' ⏎ '.join(text.split(chr(10))))}" for path, text in one.around.items() if text]
    parts += [f"and `{path}`" for path, text in one.around.items() if not text]
    parts += [f"with `{name}` {value}" for name, value in one.limits.items()]
    if one.without_schemas:
        parts.append("with an empty registry")
    if one.broken_schema:
        parts.append("with a schema in the registry that is none")
    return "<br>".join(parts)


def code(text: str) -> str:
    """``text`` as inline code in a cell."""
    shown = visible(text, 90).replace("|", "\\|")
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`"


def roles_table() -> str:
    """The built-in roles and what they may do."""
    rows = ["| role | may |", "|---|---|"]
    rows += [f"| `{role}` | {', '.join(f'`{one}`' for one in given)} |" for role, given in DEFAULT_ROLES.items()]
    return "\n".join(rows)


def endpoints_table() -> str:
    """Every route of the API."""
    rows = ["| endpoint | what it does | permission |", "|---|---|---|"]
    rows += [f"| `{route.method} {route.path}` | {route.summary} | `{route.permission}` |" for route in ROUTES]
    return "\n".join(rows)


def headers_table(headers: Mapping[str, Header]) -> str:
    """Headers with an example each."""
    rows = ["| header | example | meaning |", "|---|---|---|"]
    rows += [f"| `{name}` | {code(one.example)} | {one.text} |" for name, one in headers.items()]
    return "\n".join(rows)


def errors_table() -> str:
    """Every error of the API."""
    rows = ["| status | `type` | when | what to do |", "|---|---|---|---|"]
    for status, error in ERRORS.items():
        headers = "".join(f" `{name}` comes with it." for name in error.headers if RESPONSE_HEADERS[name].required)
        rows.append(f"| `{status}` | `{problem_type(error.kind)}` | {error.when}{headers} | {error.remedy} |")
    return "\n".join(rows)


def limits_table() -> str:
    """What the API takes at most."""
    fields = Settings.model_fields
    rows = ["| what | at most | setting |", "|---|---|---|"]
    settings = {
        "bytes of a body": "api_max_body_bytes",
        "requests of a caller in a second, in the long run": "api_rate",
        "requests of a caller at once": "api_burst",
    }
    rows += [
        f"| {what} | {shown(name, fields[name].default)} | `{variable(name)}` |" for what, name in settings.items()
    ]
    fixed = {
        "seconds that a body may take to arrive": f"`{ApiGateway.body_timeout:g}`",
        "bytes of all headers": f"`{MAX_HEADERS}` ({MAX_HEADERS // 1024} KiB)",
        "characters of an `Idempotency-Key`": f"`{MAX_KEY}`",
        "seconds to wait for an answer, with `Prefer: wait=N`": f"`{LONGEST_WAIT:g}`",
        "bytes of an entry's data, as canonical JSON": f"`{MAX_DATA}` ({MAX_DATA // 1024} KiB)",
        "levels of a body": f"`{MAX_JSON_DEPTH}`",
        "levels of an entry's data": f"`{MAX_DEPTH}`",
        "tags of an entry": f"`{MAX_TAGS}`",
        "entries, or versions, of a page": f"`{MAX_PAGE}`",
    }
    rows += [f"| {what} | {value} | |" for what, value in fixed.items()]
    return "\n".join(rows)


def costs_table() -> str:
    """What an event of each kind costs, as measured."""
    measured = capacity.recorded()
    columns = {kind: measured.costs[kind] for kind in capacity.MIX} | {"the mix": capacity.mixed(measured.costs)}
    rows = ["| | " + " | ".join(f"`{kind}`" if "." in kind else kind for kind in columns) + " |"]
    rows.append("|---|" + "---:|" * len(columns))
    for name, what in capacity.COST_NAMES.items():
        values = (getattr(cost, name) for cost in columns.values())
        rows.append(
            f"| {what} | " + " | ".join(f"{value:,.0f}" if value >= 10 else f"{value:.1f}" for value in values) + " |"
        )
    return "\n".join(rows)


def clusters_table() -> str:
    """What clusters need."""
    measured = capacity.recorded()
    sized = {
        f"{rate:,}/s {what}": capacity.cluster(cost, rate, entries_per_second=measured.entries_per_second)
        for what, cost in {"of the mix": capacity.mixed(measured.costs), "pushes": measured.costs["git.commit"]}.items()
        for rate in capacity.RATES
    }
    rows = ["| | " + " | ".join(sized) + " |", "|---|" + "---:|" * len(sized)]
    for name, what in capacity.CLUSTER_NAMES.items():
        values = (getattr(one, name) for one in sized.values())
        rows.append(f"| {what} | " + " | ".join(f"{value:,}" for value in values) + " |")
    return "\n".join(rows)


GENERATED = {
    "capacity-costs": (DOCS / "capacity.md", costs_table),
    "capacity-clusters": (DOCS / "capacity.md", clusters_table),
    "endpoints": (DOCS / "api.md", endpoints_table),
    "request-headers": (DOCS / "api.md", lambda: headers_table(REQUEST_HEADERS)),
    "answer-headers": (DOCS / "api.md", lambda: headers_table(RESPONSE_HEADERS)),
    "errors": (DOCS / "api.md", errors_table),
    "limits": (DOCS / "api.md", limits_table),
    "examples": (DOCS / "findings.md", examples_table),
    "settings": (DOCS / "settings.md", settings_table),
    "roles": (DOCS / "auth.md", roles_table),
    "rules": (DOCS / "findings.md", rules_table),
}


def renewed(name: str) -> tuple[Path, str]:
    """A page, and its text with the generated table ``name`` as it must be."""
    path, make = GENERATED[name]
    begin, end = f"<!-- begin generated: {name} -->", f"<!-- end generated: {name} -->"
    head, _, rest = path.read_text().partition(begin)
    _, found, tail = rest.partition(end)
    assert found, f"{path} has lost the marks of the table {name}"
    return path, f"{head}{begin}\n{make()}\n{end}{tail}"


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_table_is_current(name: str) -> None:
    path, text = renewed(name)
    assert path.read_text() == text, "run: python -m tests.test_docs --write"


# ---------------------------------------------------------------------- reading the pages


def blocks(text: str, language: str) -> Iterator[str]:
    """The contents of the fenced blocks in ``language``."""
    for match in re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield match[1]


def spans(text: str) -> Iterator[str]:
    """What stands between backticks, outside of fenced blocks."""
    for match in re.finditer(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)):
        yield " ".join(match[1].split())


def lines(text: str) -> Iterator[list[str]]:
    """The words of each command line in the shell blocks."""
    for block in blocks(text, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            end = next((at for at, word in enumerate(words) if word in (">", "|")), len(words))
            if words[:end]:
                yield words[:end]


def section(path: Path, heading: str) -> str:
    """The text below a heading, up to the next of its rank or higher."""
    head, _, rest = path.read_text().partition(f"{heading}\n")
    assert rest, f"{path} has no {heading!r} after {head[-40:]!r}"
    rank = len(heading) - len(heading.lstrip("#"))
    return re.split(rf"^#{{1,{rank}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def column(text: str, number: int = 0) -> list[str]:
    """The words in backticks in one column of the tables in ``text``."""
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row[2:].split(" | ")[number])]


# ---------------------------------------------------------------------- commands


class Command(NamedTuple):
    """A ``coafi`` subcommand, by its names, and the rest of a line that calls it."""

    path: tuple[str, ...]
    command: Any
    arguments: list[str]


def resolve(words: list[str]) -> Command:
    """The subcommand that ``coafi`` and ``words`` name."""
    command: Any = COAFI
    path: list[str] = []
    while subcommands := getattr(command, "commands", None):
        assert words, f"coafi {' '.join(path)} is not a whole command"
        if words[0] not in subcommands and (default := getattr(command, "default", None)):
            words = [default, *words]
        assert words[0] in subcommands, f"coafi {' '.join(path)} has no command {words[0]}"
        path.append(words[0])
        command, words = subcommands[words[0]], words[1:]
    return Command(tuple(path), command, words)


def leaves(command: Any = COAFI, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every subcommand that does something."""
    if subcommands := getattr(command, "commands", None):
        for name, one in subcommands.items():
            yield from leaves(one, (*path, name))
    else:
        yield path


def spoken(text: str) -> Iterator[list[str]]:
    """The ``coafi`` commands in running text; a group alone, or with a slash, is prose."""
    for span in spans(text):
        words = span.replace("…", "").split()
        if words[:1] == ["coafi"] and len(words) > 1 and not (len(words) == 2 and hasattr(sub(words[1]), "commands")):
            yield words


def sub(name: str) -> Any:
    return getattr(COAFI, "commands", {}).get(name)


@cache
def coafi_help(path: tuple[str, ...]) -> str:
    result = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    assert result.exit_code == 0
    return result.output


@page
def test_every_coafi_line_is_one_that_the_command_takes(page: Path) -> None:
    for words in lines(page.read_text()):
        if words[0] == "coafi":
            found = resolve(words[1:])
            given = ["1" if re.fullmatch(r"\$[A-Z]+", word) else word for word in found.arguments]
            found.command.make_context(" ".join(found.path), given)


@page
def test_every_option_that_is_mentioned_is_in_the_help(page: Path) -> None:
    text = page.read_text()
    for words in [*lines(text), *spoken(text)]:
        if words[0] == "coafi":
            found = resolve(words[1:])
            for option in (word for word in found.arguments if word.startswith("--")):
                assert re.search(rf"{re.escape(option)}\b", coafi_help(found.path)), " ".join(words)


def test_the_readme_shows_every_command() -> None:
    text = README.read_text()
    shown = {resolve(words[1:]).path for words in [*lines(text), *spoken(text)] if words[0] == "coafi"}
    assert shown == set(leaves())


def test_the_readme_names_the_handler_of_every_type_of_event() -> None:
    table = section(README, "## What starts work, and what it does")
    # A schedule starts its run itself: nothing is dispatched.
    handlers = {**ROUTES_OF_EVENTS, EventType.SCHEDULED_TASK: WorkflowName.SCHEDULED_TASK}
    assert set(handlers) == set(EventType)
    assert dict(zip(column(table), column(table, 2), strict=True)) == handlers


def test_the_readme_shows_every_endpoint_of_the_api() -> None:
    rows = [row for row in README.read_text().splitlines() if re.match(r"\| `(GET|POST) /", row)]
    shown = [word for row in rows for word in re.findall(r"`((?:GET|POST) /[^`]*)`", row)]
    assert sorted(shown) == sorted(f"{route.method} {route.path}" for route in ROUTES)


def test_the_readme_is_right_about_json() -> None:
    with_json = {path[0] for path in leaves() if "--json" in coafi_help(path)}
    assert with_json == {path[0] for path in leaves()} - {"up", "demo", "demo-federation", "worker", "gateway"}


@page
def test_every_make_target_exists(page: Path) -> None:
    text = page.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    mentioned = {words[1] for words in [*lines(text), *(s.split() for s in spans(text))] if words[:1] == ["make"]}
    assert mentioned <= targets


@cache
def temporal_help(*command: str) -> str:
    return subprocess.run(
        [temporal_executable(), *command, "--help"], check=True, capture_output=True, text=True, timeout=30
    ).stdout


@page
def test_every_temporal_line_uses_flags_that_it_has(page: Path) -> None:
    text = page.read_text()
    calls = [words for words in lines(text) if words[0] == "temporal"]
    calls += [shlex.split(span) for span in spans(text) if re.match(r"temporal \w.* --", span)]
    for words in calls:
        end = next((at for at, word in enumerate(words) if word.startswith("-")), len(words))
        command = words[1:end]
        text_of_help = temporal_help(*command)
        assert f"temporal {' '.join(command)} [flags]" in text_of_help, " ".join(words)
        flags = {word for word in words[end:] if word.startswith("-")}
        known = set(re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", text_of_help, re.MULTILINE))
        assert flags <= known, " ".join(words)
        required = re.findall(r"--[a-z-]+(?= [^-]*?Required\.)", re.sub(r"\s+", " ", text_of_help.split("Flags:")[1]))
        assert set(required) <= flags, " ".join(words)


@page
def test_search_attributes_and_task_queues_are_ours(page: Path) -> None:
    text = page.read_text()
    assert set(re.findall(r"\bCoafi[A-Z]\w+", text)) - {"CoafiError"} <= set(SearchAttribute)
    others = {"coafi-backup", "coafi-event", "coafi-federation"}  # a file, a header, and the tag of signatures
    others |= {"coafi-prod", "coafi-secrets"}  # of Kubernetes
    assert set(re.findall(r"(?<![\w./-])coafi-[a-z]+", text)) - others <= set(TaskQueue)


def test_a_cluster_is_told_every_search_attribute() -> None:
    (words,) = [words for words in lines((DOCS / "operations.md").read_text()) if "search-attribute" in words]
    assert {words[at + 1] for at, word in enumerate(words) if word == "--name"} == set(SearchAttribute)


def test_the_recipe_for_a_backup_works(tmp_path: Path) -> None:
    database = Database(tmp_path / "coafi.db")
    database.create_tables()
    (words,) = [words for words in lines((DOCS / "operations.md").read_text()) if words[0] == "python"]
    script = words[2].replace(".coafi/coafi.db", str(database.where)).replace("coafi-backup", str(tmp_path / "copy"))
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
    with Database(tmp_path / "copy.db").read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM delivery").scalar() == 0
    database.close()


def test_a_proof_is_verified_elsewhere_as_the_readme_says(tmp_path: Path) -> None:
    (script,) = blocks(README.read_text(), "python")
    with opened(tmp_path) as ledger:
        ledger.append([draft(number) for number in range(5)])
        proof = ledger.prove(3)
        (tmp_path / "key.txt").write_text(str(ledger.key))
    run = [sys.executable, "-c", script]
    for changed, code in (("docs/3.md", 0), ("docs/4.md", 1)):
        (tmp_path / "proof.json").write_text(
            json.dumps(json.loads(proof.model_dump_json().replace("docs/3.md", changed)), indent=2)
        )
        done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=30)
        assert done.returncode == code, done.stderr
    assert "IntegrityError" in done.stderr


# ---------------------------------------------------------------------- names, links, paths


@page
def test_every_variable_that_is_mentioned_is_a_setting(page: Path) -> None:
    mentioned = set(re.findall(r"\b(?:COAFI|BITT_API)_[A-Z0-9_]+", page.read_text()))
    assert mentioned - {"COAFI_"} <= {variable(name) for name in Settings.model_fields}


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@page
def test_every_relative_link_resolves(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"(`+)[^`].*?\1", "", page.read_text())):
        name, _, anchor = target.partition("#")
        if "://" in name:
            continue
        path = (page.parent / name).resolve() if name else page
        assert path.is_relative_to(ROOT), target
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


def test_the_layout_is_that_of_the_tree() -> None:
    layout = column(section(README, "## Layout"))
    assert all((ROOT / name).is_dir() for name in layout)
    sources = [*ROOT.glob("*/__init__.py"), *ROOT.glob("coafi/*/__init__.py")]
    assert {f"{path.parent.relative_to(ROOT)}/" for path in sources} <= set(layout)


def test_decisions_are_numbered_and_say_why() -> None:
    decisions = sorted((DOCS / "decisions").glob("*.md"))
    assert [path.name[:4] for path in decisions] == [f"{number:04d}" for number in range(1, len(decisions) + 1)]
    for path in decisions:
        text = path.read_text()
        assert text.startswith(f"# {path.name[:4]} ")
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]


@page
def test_every_source_that_a_page_names_exists(page: Path) -> None:
    for name in spans(page.read_text()):
        if re.fullmatch(r"(coafi|activities|workflows|workers|starters|tests|docs)/[\w/.-]*", name):
            assert (ROOT / name).exists(), name


def test_the_metrics_are_those_of_the_code() -> None:
    documented = column(section(DOCS / "operations.md", "## Health and metrics"))
    kinds = (prometheus_client.Counter, prometheus_client.Gauge, prometheus_client.Histogram)
    ours = [one for one in vars(metrics).values() if isinstance(one, kinds)]
    names = {f"{one._name}_total" if isinstance(one, prometheus_client.Counter) else one._name for one in ours}
    assert set(documented) == names
    labels = column(section(DOCS / "operations.md", "## Health and metrics"), 1)
    assert sorted(labels) == sorted(label for one in ours for label in one._labelnames)


def test_an_event_that_has_not_ended_is_called_what_the_command_calls_it() -> None:
    assert f"shows their events as `{records.OPEN}`" in " ".join((DOCS / "operations.md").read_text().split())


def test_what_auth_md_says_of_tokens_is_so() -> None:
    text = (DOCS / "auth.md").read_text()
    table = section(DOCS / "auth.md", "## Tokens").split("| claim |")[0]
    algorithms = {one for row in table.splitlines() if row.startswith("| a") for one in column(row, 2)}
    assert algorithms == set(keys.ALGORITHMS)
    assert f"{MAX_TOKEN:,} characters" in text
    assert f"up to {MAX_NAME - len('jwt:')} characters" in text
    assert (FRESH, COOL_DOWN, PATIENCE) == (5 * 60, 10, 24 * 3600), "five minutes, ten seconds, a day"
    for permission in column(section(DOCS / "auth.md", "## Permissions")):
        check_permission(permission)


# ---------------------------------------------------------------------- events.md, findings.md

EVENTS = DOCS / "events.md"
REGISTRY = DOCS / "registry.md"


def test_the_envelope_is_documented() -> None:
    assert set(column(section(EVENTS, "## Envelope"))) == set(Event.model_fields)


def test_the_payload_is_documented() -> None:
    (schema,) = [one.document for one in builtin_schemas() if one.schema_id == "GitCommitEventPayload"]
    text = section(EVENTS, "## Payload of `git.commit`")
    properties, required = schema["properties"], schema["required"]
    assert isinstance(properties, dict)
    assert set(column(text)) == set(properties)
    assert {row.split("`")[1] for row in text.splitlines() if "` | yes |" in row} == {*_texts(required)}


def _texts(value: object) -> list[str]:
    assert isinstance(value, list)
    return [str(one) for one in value]


def test_the_payload_of_events_of_ledgers_is_documented() -> None:
    (schema,) = [one.document for one in builtin_schemas() if one.schema_id == "BITTEventPayload"]
    page = DOCS / "ledger-events.md"
    properties = schema["properties"]
    assert isinstance(properties, dict)
    assert column(section(page, "## The payload")) == list(properties)
    assert column(section(page, "## Subscriptions")) == [
        field.alias or name for name, field in WrittenSubscription.model_fields.items()
    ]
    (example,) = blocks(section(page, "## Subscriptions"), "yaml")
    assert [one.name for one in parse(example.encode(), page).all] == [
        "compliance-failures",
        "compliance-resolved",
        "invalid-documents",
    ]
    assert f"{MAX_DETAILS // 1024} KiB" in page.read_text()
    assert column(section(page, "## Notifications")) == list(json.loads(event_notice().body()))


def test_the_example_of_an_event_is_taken_and_opens_findings(tmp_path: Path) -> None:
    (example,) = blocks(section(DOCS / "ledger-events.md", "## Sending events"), "json")
    keys = (SourceKey("https://ledger.example.org/*", (), "it"),)
    event = event_of(example.encode(), keys, received=datetime.now(UTC), own_source="", max_depth=8)
    with opened(tmp_path) as ledger:
        database = Database(tmp_path / "coafi.db")
        registry = PublishedSchemas(database)
        registry.publish(builtin_schemas())
        recorder = EventRecorder(ledger=ledger, registry=registry, namespace="default", build="1")
        assert recorder.receive(event, "run").findings == ()
        reacted = Reactor(Findings(recorder), SubscriptionFile(None)).react(ReactTask(event=event.ref("x"), told=event))
        database.close()
    assert (reacted.opened, reacted.topics) == (2, ("compliance",))


def test_schedules_and_tasks_are_documented() -> None:
    page = DOCS / "schedules.md"
    words = {field.alias or name for name, field in Schedule.model_fields.items()}
    assert set(column(section(page, "## The file").split("| word |")[1])) == words
    rows = {column(f"| {row[2:]}")[0]: row for row in section(page, "## Tasks").splitlines() if row.startswith("| `")}
    for task, model in PARAMETERS.items():
        assert set(column(rows[task], 1)) == {field.alias or name for name, field in model.model_fields.items()}
    assert set(GapKind) <= rows.keys()
    (schema,) = [one.document for one in builtin_schemas() if one.schema_id == "ScheduledTaskEventPayload"]
    properties = schema["properties"]
    assert isinstance(properties, dict)
    assert set(column(section(EVENTS, "## Payload of `scheduled.task`"))) == set(properties)


def test_every_phase_is_documented() -> None:
    assert set(column(section(EVENTS, "## Phases"))) == set(Phase)


def test_every_receipt_field_is_documented() -> None:
    assert set(column(section(EVENTS, "## Receipt"))) == set(Receipt.model_fields)


def test_every_error_is_documented() -> None:
    text = section(EVENTS, "## Errors")
    (tree,) = blocks(text, "text")
    ours = {name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, errors.CoafiError)}
    assert set(re.findall(r"\b[A-Z][a-z]+[A-Z]?\w*(?= {2,}|$)", tree, re.MULTILINE)) == ours
    assert tree.strip() in (errors.__doc__ or "").replace("\n    ", "\n")
    rows = [row for row in text.splitlines() if row.startswith("| ")]
    assert {name for row in rows if "`REJECTED`" in row for name in column(row)} == REJECTING
    assert all(f"| {UNEXPECTED_ATTEMPTS} |" in row for row in rows if "Integrity" in row or "unexpected" in row)


def test_every_verdict_kind_artifact_and_change_is_documented() -> None:
    text = section(DOCS / "findings.md", "## Kinds of files and what derives from them")
    assert set(column(section(DOCS / "findings.md", "## Verdicts"))) == set(Verdict)
    assert set(column(text)) == set(FileKind)
    assert set(column(text, 2)) == set(ArtifactKind)
    (change,) = [row for row in section(EVENTS, "### `FILE_PROCESSED`").splitlines() if row.startswith("| `change`")]
    assert set(column(change, 1)) == set(Change)


def test_the_members_of_an_indexed_document_are_documented() -> None:
    documented = set(re.findall(r"`(\w+)`", section(EVENTS, "## Index of a branch")))
    assert set(IndexedDocument.__annotations__) <= documented


def test_the_messages_to_subscribers_are_documented() -> None:
    notification = Notification(
        subscriber="portal",
        time="",
        repository="https://example.org/r",
        branch="main",
        commit="a" * 40,
        generation=1,
        verdicts={},
        index_url="",
        commits=(),
        commit_count=0,
        entry=None,
    )
    about_indexes, _, rest = section(EVENTS, "## Notifications").partition(f"`{ENTRY_CHANGED}`")
    about_entries, _, rest = rest.partition(f"`{PEER_MESSAGE}`")
    about_peers, _, rest = rest.partition(f"`{ALARM_RAISED}`")
    about_alarms = rest.split("| answer |")[0]
    peer_notice = PeerNotice(
        subscriber="portal",
        time="",
        peer="a",
        peer_message="1",
        message_type="x",
        subject="",
        said=None,
        workflow_id="w",
        ledger_entry=1,
    )
    assert set(column(about_peers)) == set(json.loads(peer_notice.body())["data"])
    alarm = AlarmNotice(
        subscriber="ops", time="", workflow_id="w", task="t", schedule="s", alarms=("a",), count=1, entry=None
    )
    assert set(column(about_alarms)) == set(json.loads(alarm.body())["data"])
    assert set(column(about_indexes)) == set(json.loads(notification.body())["data"])
    assert set(column(about_entries)) == set(json.loads(notice().body())["data"])
    assert f"`{UPDATED}`" in about_indexes


def test_the_fields_and_limits_of_registries_are_documented() -> None:
    text = section(REGISTRY, "## Entries")
    assert set(column(text)) == {field.alias or name for name, field in RegistryEntry.model_fields.items()}
    assert f"{MAX_DATA // 1024} KiB" in text
    assert f"{MAX_DEPTH} levels" in text
    assert f"up to {MAX_TAGS}," in text
    assert all(f"`{one}`" in text for one in EntryClass)
    assert f"{RESERVED_SECONDS // 60} minutes" in text.replace("ten", "10")
    schemas = section(REGISTRY, "## Schemas")
    assert f"{MAX_APPLIED:,} subschemas" in schemas
    assert f"{MAX_PATTERNS} at most" in schemas
    assert f"`{TAG}`" in schemas
    search = section(REGISTRY, "## Search")
    assert f"{MAX_WORDS:,} characters" in search
    assert f"up to {MAX_PAGE} entries" in search
    assert all(f"`{one}`" in REGISTRY.read_text() for one in RegistryId)
    assert all(str(one) in section(REGISTRY, "## From submission to integration") for one in EntryStatus)


SAMPLE = b"---\ntitle: Sample\nversion: v1.0\nstatus: ACTIVE\n---\n\n# Sample\n"
"""A document that is valid."""


def documented_entries() -> dict[str, set[str]]:
    """The fields of ``data`` by type of entry, as the page says."""
    found: dict[str, set[str]] = {}
    text = section(EVENTS, "## Ledger entries")
    for heading in re.findall(r"^### (.+)$", text, re.MULTILINE):
        for entry_type in re.findall(r"`(\w+)`", heading):
            found[entry_type] = set(column(section(EVENTS, f"### {heading}")))
    return found


def test_every_type_of_entry_is_documented() -> None:
    assert set(documented_entries()) == set(EntryType)


def test_the_members_of_an_entry_are_documented() -> None:
    members = section(EVENTS, "## Ledger entries").split("###")[0]
    assert set(column(members)) == {field.alias or name for name, field in Entry.model_fields.items()}


def test_the_fields_of_the_entries_are_those_that_are_recorded(tmp_path: Path) -> None:
    documented = documented_entries()
    recorded = recorded_entries(tmp_path)
    endings = {EntryType.EVENT_PROCESSED, EntryType.EVENT_REJECTED, EntryType.EVENT_DEAD_LETTERED}
    assert set(recorded) == {*EntryType}
    for entry_type, fields in recorded.items():
        if entry_type in endings:
            assert fields <= documented[entry_type]
        else:
            assert fields == documented[entry_type]
    assert set.union(*(recorded[one] for one in endings)) == documented[EntryType.EVENT_PROCESSED]
    assert recorded[EntryType.EVENT_PROCESSING_FAILED] == set(Failure.model_fields)


def recorded_entries(home: Path) -> dict[str, set[str]]:
    """The fields of ``data`` by type of entry, as the code records them of a few events with all there can be."""
    database = Database(home / "coafi.db")
    database.create_tables()
    registry = PublishedSchemas(database)
    registry.publish(builtin_schemas())
    objects = LocalObjectStore(home / "objects")
    ledger = Ledger(database, origin="docs", signer=Signer("docs", bytes(32)), state_directory=home / "ledger")
    try:
        recorder = EventRecorder(ledger=ledger, registry=registry, namespace="default", build="1")
        good = sample_event("a").model_copy(update={"causationid": "another"})
        ref = good.ref(recorder.receive(good, "run").utids)
        artifacts = ArtifactService(database, objects, GeneratorConfig())
        contexts = CommitContexts(objects, database)
        processor = BatchProcessor(recorder=recorder, objects=objects, contexts=contexts, artifacts=artifacts)
        task = batch_task(processor, ref, sample_batch(objects))
        process_sample(processor, task)
        failure = Failure(step="git.fetch", sequence=1, error="Unavailable", message="out of reach")
        recorder.park(ref, failure)
        decisions = (Decision(by="ada", reason="mended"),)
        recorder.conclude(ref, Conclusion(phase=Phase.FAILED, failure=failure, decisions=decisions))
        recorder.conclude(ref, Conclusion(phase=Phase.PROCESSED, counts={"files": 1}))
        recorder.receive(sample_event(""), "run")
        late = sample_event("b")
        refused = Refusal(step="git.fetch", error="ResourceNotFoundError", message="it is not there")
        recorder.conclude(
            late.ref(recorder.receive(late, "run").utids), Conclusion(phase=Phase.REJECTED, refused=refused)
        )
        IndexUpdater(ledger, database, objects, "default").update(
            IndexTask(
                repository="https://example.org/r",
                branch="main",
                generation=0,
                commit="a" * 40,
                tree=str(task.tree),
                commits=(),
                omitted=1,
            )
        )
        books = Registers(database, ledger, registry)
        books.publish("registry.AERO", "1.0.0")
        books.put("wing", {}, reason="sample")
        hold_against_schemas(Revalidator(recorder, database, objects, contexts), books, task)
        react_to_events(recorder, database, objects)
        run_tasks(recorder, objects, database)
        ledger.append([key_change(ledger.key, ledger.signer().sign, Signer("docs", bytes(31) + b"1"))])
        take_message(recorder, PeerStore(database, ledger, "default"), objects)
        witness = setting_of(database, ledger, home).witness
        witness.see(SIGNER.name, Tree(3).signed().note)
        witness.see(SIGNER.name, Tree(3, forked=1).signed().note)
        tell_peer(database, ledger, objects)
        fields: dict[str, set[str]] = defaultdict(set)
        for one in ledger.entries(0, ledger.size()):
            fields[one.entry.type] |= set(one.data)
        return fields
    finally:
        ledger.close()
        database.close()


def react_to_events(recorder: EventRecorder, database: Database, objects: LocalObjectStore) -> None:
    """Open and close findings; record an event that nobody subscribes to, and one that has no run."""
    findings = Findings(recorder)
    reactor = Reactor(findings, SubscriptionFile(None))
    keys = (SourceKey("*", (), "anybody"),)
    for event_type in ("bitt.event", "org.example.odd"):
        body = json.dumps({**failure("1", source=f"https://{event_type}.example"), "type": event_type}).encode()
        event = event_of(body, keys, received=datetime.now(UTC), own_source="", max_depth=8)
        reactor.react(ReactTask(event=event.ref(recorder.receive(event, "run").utids), told=event))
    reactions = EntryReactions(
        Dispatcher(cast("Client", None), 1), reactor.subscriptions, objects, recorder, "bitt:docs", ("default",), 8
    )
    reactions.record_failure(event.model_copy(update={"causationid": "another"}), errors.ValidationError("too long"))
    (one, *_) = FindingReader(database).find(FindingQuery())
    findings.close(one, Decision(by="ada", reason="mended"))


def take_message(recorder: EventRecorder, peers: PeerStore, objects: LocalObjectStore) -> None:
    """A peer that was changed once, and a message of it that tells of an entry."""
    peer = peer_of(signer())
    peers.put(peer, by="ada")
    peers.put(peer.model_copy(update={"accepts": ("RegistryEntryChanged",)}), by="ada", reason="contract 12")
    received = ReceivedMessage(peer=peer.id, via=Via.HTTPS, keyid="k", message=new_message(peer.id, "m-1", WHOLE[1]))
    event = event_of_message(received, body_digest=sha256(received.message.body), time=datetime.now(UTC))
    task = ApplyTask(event=event.ref(recorder.receive(event, "run").utids), received=received)
    PeerInbox(recorder, objects).apply(task)


def run_tasks(recorder: EventRecorder, objects: LocalObjectStore, database: Database) -> None:
    """Record a task, one that raises an alarm, and a checkpoint."""
    tasks: tuple[Task, ...] = (PublishCheckpoint(recorder, objects), HealthCheck(lambda: {"disk": broken_probe}))
    runner = TaskRunner({one.name: one for one in tasks}, recorder, objects, TaskResults(database))
    for one in tasks:
        event = sample_event(one.name)
        runner.run(
            TaskTask(event=event.ref(event.utids), schedule="s", task=one.name, parameters={}, due=event.time, body={}),
            lambda _text: None,
        )


def broken_probe(_beat: object) -> str:
    raise errors.Unavailable("it is full")


def tell_peer(database: Database, ledger: Ledger, objects: LocalObjectStore) -> None:
    """A message that a person sends to the peer, and what is on record of its delivery."""
    projection = Projection("docs", "default", ledger, LocalRegistry(database, ledger), database, objects)
    outbox = Outbox(PeerStore(database), Positions(database), projection, objects)
    payload: JsonObject = {"component": "portal", "version": "2", "summary": "Two hours off."}
    outbox.queue(signer().peer, MessageType.SYSTEM_UPDATE, payload, by="ada")
    (ref,) = outbox.look(signer().peer, None, news=False, checkpoint=False).messages
    told = Confirmed(ref, DeliveryOutcome.REJECTED, receipt="a" * 64, peer_entry=5, problem="it breaks the schema")
    outbox.record(signer().peer, [told], position=ref.after)


def hold_against_schemas(revalidator: Revalidator, books: Registers, task: BatchTask) -> None:
    """Publish schemas that make the sample and an entry invalid, and record what follows."""
    trees = TreeRecorder(revalidator.database, revalidator.objects)
    file = TreeFile("new.md", "100644", sample_blob())
    tree = trees.record(trees.plan([file]), lambda blobs: ((one, SAMPLE) for one in blobs))
    ledger, namespace = revalidator.recorder.ledger, revalidator.recorder.namespace
    IndexUpdater(ledger, revalidator.database, revalidator.objects, namespace).update(
        IndexTask(repository=task.repository, branch="main", generation=0, commit=task.commit, tree=tree, commits=())
    )
    for schema_id in ("frontmatter.general", "registry.AERO"):
        published = schema_of(schema_id, books.publish(schema_id, "9.0.0", required=["reviewer"]).data)
        revalidation = Revalidation(published_schema=published.reference, request="api.request:a:b", published=0)
        done = revalidator.part(Part(revalidation=revalidation, place=Place()))
        assert done.tally.now_invalid == 1
        revalidator.conclude(
            Summary(revalidation=revalidation, ended=Ended.FAILED, tally=done.tally, reason="out of reach")
        )
    books.move("wing", "Review")


def sample_event(author: str) -> Event:
    event, _ = submitted_commit(
        repository_url="https://example.org/r",
        commit="a" * 40,
        before=None,
        branch="main",
        author=author,
        principal="submit:ada",
        received=datetime.now(UTC),
        again=author,
    )
    return event


def sample_batch(objects: LocalObjectStore) -> BatchRef:
    """A batch with one renamed document."""
    file = ManifestFile(
        position=0,
        path="new.md",
        old_path="old.md",
        change=Change.RENAMED,
        mode="100644",
        blob=sample_blob(),
        size=len(SAMPLE),
        batch=0,
    )
    archive = objects.put(write_archive([file], [SAMPLE]))
    return BatchRef(index=0, archive=archive, files=1, size=len(SAMPLE))


def sample_blob() -> str:
    """Git's name of the sample."""
    return sha256(b"blob %d\0" % len(SAMPLE) + SAMPLE)


def process_sample(processor: BatchProcessor, task: BatchTask) -> None:
    checked = processor.check(task, Checked(), lambda _: None)
    assert checked.verdicts == {Verdict.VALID: 1}, "the sample must be valid, or nothing is generated"
    processor.generate(GenerateTask(task=task, checked=checked), Generated(), lambda _: None)


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m tests.test_docs --write")
    for table in GENERATED:
        target, renewed_text = renewed(table)
        target.write_text(renewed_text)
