"""``coafi demo``: a commit goes through the whole system, and every claim about it is checked."""

import asyncio
import contextlib
import json
import shutil
import struct
import uuid
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from git import Actor, Repo
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from temporalio.client import WorkflowHandle, WorkflowQueryFailedError
from temporalio.service import RPCError

from coafi.artifacts.compose import PageLocation, Provenance, compose
from coafi.artifacts.model import ArtifactKind
from coafi.canonical import JsonObject
from coafi.documents.check import Verdict
from coafi.errors import IntegrityError, PolicyDenied, Unavailable
from coafi.findings import Severity
from coafi.git.urls import UrlPolicy, parse_repository_url
from coafi.index.build import INDEX_JSON
from coafi.ledger.entry import Recorded
from coafi.ledger.verifier import verify_inclusion, verify_log
from coafi.logs import configure_logging
from coafi.names import EntryType, Phase, docs_path
from coafi.settings import Settings, load_settings
from coafi.webhooks import github
from starters.addresses import run_url
from starters.embedded import ServiceAddress
from starters.output import err, facts, out, print_findings, print_link
from starters.records import (
    entries_of,
    file_reports,
    one_delivery,
    open_database,
    opened_ledger,
    print_files,
)
from starters.service import embedded_service, github_secrets
from workers.client import connect
from workers.resources import open_objects
from workflows.lifecycle import EventWorkflow, Receipt

AUTHOR = Actor("Ada Example", "ada@example.org")

INDEX_SECONDS = 60
"""An index that does not show a push after this long will not show it."""

EXPECTED = {
    "docs/COAFI-SCHEMA-0001-SPEC-A.md": Verdict.VALID,
    "docs/COAFI-ENG-0002-PLAN-A.md": Verdict.VALID,
    "docs/COAFI-POL-0003-EVENT-A.md": Verdict.INVALID,
    "registry/aero.yaml": Verdict.VALID,
    "registry/space.yaml": Verdict.INVALID,
    "registry/entries.json": Verdict.VALID,
    "schemas/entry.schema.json": Verdict.VALID,
    "docs/COAFI-OLD-0009-SPEC-A.md": Verdict.DELETED,
    "assets/logo.png": Verdict.VALID,
    "assets/pipeline.svg": Verdict.VALID,
    "archive/old.bin": Verdict.SKIPPED,
}
"""The sample's files and the verdicts they must get."""

FRONT_PAGE = "docs/COAFI-SCHEMA-0001-SPEC-A.md"
"""The document whose page leads to the others."""


@dataclass(frozen=True)
class Push:
    """A commit in the sample repository, as GitHub would report it."""

    repository: Path
    before: str
    after: str

    def payload(self) -> JsonObject:
        """The body of the webhook."""
        return {
            "ref": "refs/heads/main",
            "before": self.before,
            "after": self.after,
            "created": False,
            "deleted": False,
            "forced": False,
            "repository": {"full_name": "example/documents", "clone_url": self.repository.as_uri()},
            "pusher": {"name": AUTHOR.name},
            "head_commit": {"id": self.after, "message": "Revise the documents", "author": {"name": AUTHOR.name}},
        }


async def run_demo() -> None:
    """Run the demonstration.

    Raises:
        CoafiError: something did not happen as it must; the exit code is 1.
    """
    settings = load_settings()
    configure_logging(settings.model_copy(update={"log_level": "warning"}))
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err) as progress:

        def done(text: str) -> None:
            progress.console.print(f"[green]✓[/green] {text}", highlight=False, soft_wrap=True)

        task = progress.add_task("Starting Temporal, workers and gateway")
        async with _service(settings) as address:
            done(f"Service runs: gateway {address.gateway}, Temporal {address.temporal}, Web UI {address.ui}")
            progress.update(task, description="Committing documents")
            push = await asyncio.to_thread(commit_sample, settings.home / "demo" / "documents")
            done(f"Committed {push.after[:12]} to {push.repository}")
            progress.update(task, description="Delivering the signed webhook")
            workflow_id, run_id = await deliver_push(settings, address, push)
            done(f"Delivered the push: run {workflow_id}")
            client = await connect(settings, address.temporal)
            handle = client.get_workflow_handle(workflow_id, run_id=run_id, result_type=Receipt)
            receipt = await follow_run(handle, lambda text: progress.update(task, description=text))
            done(f"The run ended: {receipt.phase}")
            again, _ = await deliver_push(settings, address, push, delivery=receipt.event_id)
            if again != workflow_id:
                raise IntegrityError("the redelivery started another run")
            done("Delivered it again: the same run answers")
            progress.update(task, description="Waiting for the index of the branch")
            url = await _indexed(settings, address, push)
            done(f"The documentation index shows the push: {url}")
            progress.update(task, description="Proving every entry")
            proved, size = await asyncio.to_thread(_prove, settings, receipt)
            done(f"Proved {proved} entries of this event, and verified all {size} of the ledger")
        progress.remove_task(task)
    _report(settings, push, receipt, address, run_id)


@asynccontextmanager
async def _service(settings: Settings) -> AsyncIterator[ServiceAddress]:
    """The service that runs in this home, or one for as long as the demonstration takes."""
    running = ServiceAddress.read(settings.home)
    if running is not None:
        yield running
        return
    async with embedded_service(settings) as service:
        yield service.address


def commit_sample(directory: Path) -> Push:
    """Commit a revision of the sample documents; the first time, make the repository."""
    known = (directory / ".git").exists()
    repo = Repo.init(directory, initial_branch="main", mkdir=True)
    if not known:
        _write(directory, sample_files("0"))
    old = directory / "docs/COAFI-OLD-0009-SPEC-A.md"
    old.write_text(_document("COAFI-OLD-0009-SPEC-A", "Superseded", "0"))
    _add_all(repo, "Keep an old document")
    before = repo.head.commit.hexsha
    _write(directory, sample_files(uuid.uuid4().hex[:8]))
    old.unlink()
    _add_all(repo, "Revise the documents")
    return Push(directory, before, repo.head.commit.hexsha)


def _add_all(repo: Repo, message: str) -> None:
    repo.git.add(all=True)
    repo.index.commit(message, author=AUTHOR, committer=AUTHOR)


def _write(directory: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


async def deliver_push(
    settings: Settings, address: ServiceAddress, push: Push, *, delivery: str | None = None
) -> tuple[str, str]:
    """Send the push as GitHub would, and return workflow id and run id."""
    body = json.dumps(push.payload()).encode()
    headers = {
        "Content-Type": "application/json",
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": delivery or str(uuid.uuid4()),
        "X-Hub-Signature-256": github.sign(body, github_secrets(settings)[0]),
    }
    async with httpx.AsyncClient(timeout=10) as http:
        response = await http.post(f"{address.gateway}/webhooks/github", content=body, headers=headers)
    if response.status_code != httpx.codes.ACCEPTED:
        raise Unavailable(f"the gateway answered {response.status_code}: {response.text}")
    answer = response.json()
    return answer["workflowId"], answer["runId"]


async def follow_run(handle: WorkflowHandle[Any, Receipt], show: Callable[[str], None]) -> Receipt:
    """Wait for the run's receipt, and show its steps meanwhile."""
    result = asyncio.create_task(handle.result())
    while not result.done():
        with contextlib.suppress(RPCError, WorkflowQueryFailedError):
            state = await handle.query(EventWorkflow.state)
            if state.phase is Phase.PARKED and state.failure is not None:
                result.cancel()
                raise Unavailable(f"the run parked at {state.failure.step}: {state.failure.message}")
            show(f"{state.phase}: {', '.join(state.steps_done) or 'receiving'}")
        await asyncio.wait([result], timeout=0.2)
    return result.result()


async def _indexed(settings: Settings, address: ServiceAddress, push: Push) -> str:
    """Wait for the index of the push, and have it served; its address."""
    repository = str(parse_repository_url(push.repository.as_uri(), UrlPolicy(file_roots=(push.repository,))))
    url = f"{address.gateway}{docs_path(repository, 'main')}"
    headers = {"Authorization": f"Bearer {settings.docs_tokens[0].get_secret_value()}"} if settings.docs_tokens else {}
    try:
        async with asyncio.timeout(INDEX_SECONDS), httpx.AsyncClient(timeout=10, headers=headers) as http:
            while True:
                answer = await http.get(f"{url}{INDEX_JSON}")
                if answer.status_code == httpx.codes.FORBIDDEN:
                    raise PolicyDenied(answer.json()["detail"], remedy="set COAFI_DOCS_TOKENS")
                if answer.status_code == httpx.codes.OK and answer.json()["commit"] == push.after:
                    return url
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise Unavailable(
            f"the index did not show the push within {INDEX_SECONDS} s", remedy="look at its run, index:… in the Web UI"
        ) from None


def _prove(settings: Settings, receipt: Receipt) -> tuple[int, int]:
    """Prove every entry of the receipt, and verify the whole ledger. The verifier gets proof and key, nothing else."""
    with opened_ledger(settings) as ledger:
        indices = [index for one in receipt.entries for index in range(one.first, one.last + 1)]
        for index in indices:
            verify_inclusion(ledger.prove(index), ledger.keys)
        checkpoint = ledger.checkpoint(force=True)
        report = verify_log(ledger.bodies(), checkpoint.note, ledger.keys, stored_tiles=ledger.tiles())
    return len(indices), report.checkpoint.size


def _report(settings: Settings, push: Push, receipt: Receipt, address: ServiceAddress, run_id: str) -> None:
    """Print what came of it, and fail unless it is what the sample must give."""
    with opened_ledger(settings) as ledger, open_database(settings) as database:
        delivery = one_delivery(database, receipt.workflow_id)
        entries = entries_of(ledger, delivery, settings.ledger_namespace)
        key = str(ledger.key)
    print_files(entries)
    reports = file_reports(open_objects(settings), entries)
    print_findings([finding for report in reports for finding in report.findings if finding.severity is Severity.ERROR])
    exported = _export(settings, push, receipt, entries)
    _check(receipt, entries, exported)
    rows = facts()
    rows.add_row("Receipt", f"ledger entry {receipt.conclusion}, {len(entries)} entries in all, UTidS {receipt.utids}")
    rows.add_row("Proof", f"coafi receipt {receipt.utids} -o receipt.json")
    rows.add_row("Ledger's key", key)
    rows.add_row("Checkpoint", str(settings.ledger_directory / "checkpoint"))
    rows.add_row("Pages", exported[FRONT_PAGE].as_uri())
    rows.add_row("Objects", str(settings.objects_directory))
    rows.add_row(
        "To look around", "make up, then open the run, and /docs/ of the gateway; coafi events list; coafi docs list"
    )
    out.print()
    out.print(rows)
    out.print("The run:")
    print_link(run_url(settings, receipt.workflow_id, run_id, ui=address.ui))


def _export(settings: Settings, push: Push, receipt: Receipt, entries: list[Recorded]) -> dict[str, Path]:
    """Write pages and images to disk, so that a browser opens them and their links work; the files by their paths."""
    objects = open_objects(settings)
    directory = settings.home / "demo" / "pages"
    shutil.rmtree(directory, ignore_errors=True)
    checked = {str(one.entry.data["path"]): one for one in entries if one.entry.type == EntryType.FILE_PROCESSED}
    made = [one for one in entries if one.entry.type == EntryType.ARTIFACT_GENERATED]
    pages = {str(one.entry.data["path"]): one for one in made if one.entry.data["artifact"] == ArtifactKind.PAGE}
    images = {str(one.entry.data["path"]): one for one in made if one.entry.data["artifact"] == ArtifactKind.IMAGE}
    files = {path: directory / f"{path}.html" for path in pages} | {path: directory / path for path in images}
    for path, one in {**pages, **images}.items():
        content = objects.get(str(one.entry.data["digest"]))
        if path in pages:
            provenance = Provenance(
                repository=push.repository.as_uri(),
                branch="main",
                commit=push.after,
                path=path,
                blob=str(one.entry.data["blob"]),
                event=receipt.event_id,
                utids=receipt.utids,
                artifact=str(one.entry.data["digest"]),
                generator=str(one.entry.data["generator"]),
                file_entry=checked[path].index,
                artifact_entry=one.index,
                receipt=receipt.conclusion,
            )
            location = PageLocation(path=path, exported=frozenset(pages))
            content = compose(content, location=location, provenance=provenance)
        files[path].parent.mkdir(parents=True, exist_ok=True)
        files[path].write_bytes(content)
    return files


def _check(receipt: Receipt, entries: list[Recorded], exported: dict[str, Path]) -> None:
    verdicts = {
        str(one.entry.data["path"]): one.entry.data["verdict"]
        for one in entries
        if one.entry.type == EntryType.FILE_PROCESSED
    }
    valid = {path for path, verdict in EXPECTED.items() if verdict is Verdict.VALID}
    if receipt.phase is not Phase.PROCESSED or verdicts != EXPECTED or set(exported) != valid:
        raise IntegrityError(
            f"the sample gave {receipt.phase}, pages and images of {sorted(exported)}, and the verdicts {verdicts}",
            remedy=f"expected are PROCESSED, pages and images of {sorted(valid)}, and {EXPECTED}",
        )


def sample_files(revision: str) -> dict[str, bytes]:
    """The sample's files; each revision differs in every file."""
    texts = {
        "docs/COAFI-SCHEMA-0001-SPEC-A.md": _document("COAFI-SCHEMA-0001-SPEC-A", "UTidS Management Schema", revision)
        + _PIPELINE,
        "docs/COAFI-ENG-0002-PLAN-A.md": _document("COAFI-ENG-0002-PLAN-A", "Event Handlers Plan", revision) + _PLAN,
        # Its status is said twice, and its identifier is another file's.
        "docs/COAFI-POL-0003-EVENT-A.md": _document("COAFI-POL-0004-EVENT-A", "Event Policy", revision).replace(
            "status: DRAFT", "status: DRAFT\nstatus: ACTIVE"
        ),
        "registry/aero.yaml": f"# revision {revision}\nid: AERO\nstatus: Approval\nowner: GAIA\ntags: [core, flight]\n",
        "registry/space.yaml": f"# revision {revision}\nid: SPACE\n  status: Review\n",
        "registry/entries.json": json.dumps({"revision": revision, "entries": [{"id": "AERO-1", "class": "Core"}]}),
        "schemas/entry.schema.json": json.dumps(
            {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "title": f"Entry, revision {revision}",
                "description": "One entry of a registry.",
                "type": "object",
                "required": ["id"],
                "properties": {
                    "id": {"type": "string", "description": "Domain and number.", "pattern": "^[A-Z]+-[0-9]+$"},
                    "class": {"enum": ["Core", "Service", "Application", "Experimental"]},
                },
            }
        ),
        "assets/pipeline.svg": _DRAWING.replace("REVISION", revision),
    }
    files = {name: text.encode() for name, text in texts.items()}
    files["assets/logo.png"] = _logo(revision)
    files["archive/old.bin"] = b"\0\1\2" + revision.encode()
    return files


def _document(document_id: str, title: str, revision: str) -> str:
    kind = document_id.split("-")[-2]
    return f"""---
title: "{title}"
document_id: {document_id}
version: v0.9-PRELIMINARY
status: DRAFT
author: GAIA Platforms Initiative
date: 2025-04-27
tags: [COAFI, Sample]
infoCode: INFO-{kind}
utids: TBD
---

# {title}

![The initiative's mark: a ring around a point](/assets/logo.png)

Revision `{revision}`.

## Purpose

Shows what becomes of a document that is pushed.

| Step | Recorded as |
|------|-------------|
| receive | `EVENT_RECEIVED` |
| check | `FILE_PROCESSED` |
| generate | `ARTIFACT_GENERATED` |
"""


_PIPELINE = """
## Pipeline

![Four boxes in a row: receive, check, generate, conclude](../assets/pipeline.svg)

> [!NOTE]
> The same bytes give the same page, wherever and whenever it is made. That is why the ledger can name it.

```python
def derive(content: bytes) -> str:
    # The id of a document, by hash from what it names.
    return f"UTIDS-P-{sha256(content).hexdigest()[:26].upper()}"
```

## See also

- [the plan](COAFI-ENG-0002-PLAN-A.md#milestones), beside this document;
- [the registry's entries](/registry/entries.json) and [the schema they follow](/schemas/entry.schema.json);
- [the entry of AERO](../registry/aero.yaml).
"""

_PLAN = """
## Milestones

- [x] Events become runs
- [x] Documents become pages
- [ ] Partners cosign the ledger

What an event is follows [the schema](COAFI-SCHEMA-0001-SPEC-A.md).

```yaml
handler: git.commit
queue: coafi-files
enabled: true
```
"""

_DRAWING = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 96" width="640" height="96">
<title>What becomes of a document, revision REVISION</title>
<g fill="#e9f2fc" stroke="#0a58a8" stroke-width="2">
<rect x="2" y="24" width="124" height="48" rx="8"/><rect x="172" y="24" width="124" height="48" rx="8"/>
<rect x="342" y="24" width="124" height="48" rx="8"/><rect x="512" y="24" width="124" height="48" rx="8"/>
<path d="M126 48h40m-7-5l7 5-7 5M296 48h40m-7-5l7 5-7 5M466 48h40m-7-5l7 5-7 5" fill="none"/>
</g>
<g font-family="sans-serif" font-size="17" fill="#1b212a" text-anchor="middle">
<text x="64" y="54">receive</text><text x="234" y="54">check</text>
<text x="404" y="54">generate</text><text x="574" y="54">conclude</text>
</g>
</svg>
"""


def _logo(revision: str, size: int = 96) -> bytes:
    """A small PNG: a ring around a point, with the revision as its comment."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    def pixel(x: int, y: int) -> bytes:
        far = ((x - size / 2) ** 2 + (y - size / 2) ** 2) ** 0.5 / size
        inked = far < 0.12 or 0.30 < far < 0.42
        return bytes((10, 88, 168, 255 if inked else 0))

    rows = b"".join(b"\0" + b"".join(pixel(x, y) for x in range(size)) for y in range(size))
    header = struct.pack(">IIBBBBB", size, size, 8, 6, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"tEXt", b"Comment\0revision " + revision.encode())
        + chunk(b"IDAT", zlib.compress(rows, 9))
        + chunk(b"IEND", b"")
    )
