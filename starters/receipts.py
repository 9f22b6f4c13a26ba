"""The command ``receipt``. To make one takes database and key; to verify one, the file and a public key."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from coafi.errors import IntegrityError, Unavailable, ValidationError
from coafi.ledger.checkpoint import parse_note
from coafi.ledger.cosignature import Cosignature, cosignatures
from coafi.ledger.policy import Policy
from coafi.receipts.dsse import key_id
from coafi.receipts.story import OPEN, ChangeData, Story
from coafi.receipts.verify import VerifiedArtifact, VerifiedReceipt, verify_artifact, verify_receipt
from starters.output import clean, command_settings, err, facts, out, print_json, safe, styled
from starters.trust import read_file, trusted_keys, unreadable

STDOUT = "-"
MAX_ARTIFACT = 256 * 2**20
"""Bytes of an artifact at most: pages have at most 8 MiB, images what a file may have."""

_SHOWN = 10


def make_receipt(name: str, output: str, *, force: bool) -> None:
    """``coafi receipt EVENT``: written beside its place, verified, and only then put there."""
    from coafi.receipts.make import write_receipt  # These need SQLAlchemy, which `verify` must not.
    from starters.records import entries_to_export, open_database, opened_ledger
    from starters.witnessing import gathered

    target = None if output == STDOUT else Path(output)
    if target is not None and not force and os.path.lexists(target):
        raise _exists(target)
    settings = command_settings()
    with opened_ledger(settings) as ledger, open_database(settings) as database, _beside(target) as (file, path):
        own, entries = entries_to_export(ledger, database, name, settings.ledger_namespace)
        signed = gathered(settings, database, own)
        with _progress("Writing", len(entries)) as advance:
            story = write_receipt(own, entries, file, signed=signed, on_progress=advance)
        file.seek(0)
        with _progress("Verifying", len(entries)) as advance:
            verify_receipt(file, [ledger.keys], on_progress=advance)
        size = file.tell()
        if target is None or path is None:
            _copy(file)
        else:
            _put(file, path, target, force=force)
    where = "standard output" if target is None else str(target)
    said = clean(f"{story.count} entries of event {story.event_id}, {size:,} bytes: {where}")
    err.print(said, markup=False, highlight=False)
    if story.phase == OPEN:
        err.print("The event has not ended: the receipt tells what there is so far.", style="yellow", highlight=False)


def verify(
    file: str,
    artifacts: Sequence[Path],
    keys: Sequence[str],
    hand_overs: Path | None,
    policy: Policy | None,
    *,
    as_json: bool,
) -> None:
    """``coafi receipt verify``."""
    given = [str(log.key) for log in policy.logs] if policy and not keys else keys
    if not given:
        raise ValidationError("no key of a log is given", remedy="give --key, or a policy file that names logs")
    known = trusted_keys(given, hand_overs)
    with _opened(file) as stream, _progress("Verifying", None) as advance:
        receipt = verify_receipt(stream, known, on_progress=advance)
    cosigned = cosignatures(receipt.checkpoint.note, policy.keys) if policy else ()
    if policy:
        policy.check(cosigned)
    found = [(path, _artifact(receipt, path)) for path in artifacts]
    if as_json:
        print_json(_receipt_json(receipt, found, policy, cosigned))
    else:
        _print_receipt(receipt, found, policy, cosigned)


def _artifact(receipt: VerifiedReceipt, path: Path) -> VerifiedArtifact:
    try:
        return verify_artifact(receipt, read_file(path, MAX_ARTIFACT, "artifact"))
    except IntegrityError as error:
        raise IntegrityError(f"the file {path} is not proved: {error.message}", remedy=error.remedy) from error


# ---------------------------------------------------------------------- files


@contextmanager
def _beside(target: Path | None) -> Iterator[tuple[BinaryIO, Path | None]]:
    """A new file without a name, or one beside its place, and its path; it goes away unless it was put there."""
    try:
        if target is None:
            with tempfile.TemporaryFile() as unnamed:
                yield unnamed, None
            return
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                yield file, Path(name)
        finally:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()
    except OSError as error:
        raise Unavailable(f"the receipt cannot be written: {error}", remedy="check directory and disk space") from error


def _put(file: BinaryIO, path: Path, target: Path, *, force: bool) -> None:
    file.flush()
    os.fsync(file.fileno())
    path.chmod(0o644)
    if force:
        path.replace(target)
        return
    try:
        target.hardlink_to(path)  # unlike a rename it fails when somebody was quicker
    except FileExistsError:
        raise _exists(target) from None


def _copy(file: BinaryIO) -> None:
    file.seek(0)
    while block := file.read(2**20):
        sys.stdout.buffer.write(block)
    sys.stdout.flush()


def _exists(target: Path) -> ValidationError:
    return ValidationError(f"there is a file {target} already", remedy="name another one, or give --force")


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == STDOUT:
        yield sys.stdin.buffer
        return
    try:
        with Path(file).open("rb") as stream:
            yield stream
    except OSError as error:
        raise unreadable("receipt", file, error) from error


@contextmanager
def _progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; nothing elsewhere."""
    bar = Progress(
        TextColumn(what), BarColumn(), MofNCompleteColumn(), console=err, disable=not err.is_terminal, transient=True
    )
    with bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


# ---------------------------------------------------------------------- what was proved


def _receipt_json(
    receipt: VerifiedReceipt,
    artifacts: Sequence[tuple[Path, VerifiedArtifact]],
    policy: Policy | None,
    cosigned: Sequence[Cosignature],
) -> dict[str, Any]:
    story, checkpoint = receipt.story, receipt.checkpoint.checkpoint
    received = story.received
    return {
        "verified": True,
        "event": story.event_id,
        "type": received.data.event_type,
        "source": received.data.source,
        "utids": received.utids,
        "workflowId": story.workflow_id,
        "runId": received.data.run_id,
        "phase": story.phase,
        "complete": story.conclusion is not None,
        "principal": received.data.principal,
        "bodyDigest": received.data.body_digest,
        "receivedAt": received.time,
        "concludedAt": story.conclusion.time if story.conclusion else None,
        "subject": received.data.subject,
        "parameters": received.data.parameters,
        "commit": story.commit or None,
        "builds": sorted(story.builds),
        "verdicts": _verdicts(story),
        "artifacts": len(story.artifacts),
        "changes": [
            {
                "registryId": one.registry_id,
                "entryId": one.entry_id,
                "version": one.version,
                "status": one.status,
                "digest": one.digest,
                "by": one.by,
                "entry": index,
            }
            for index, one in story.changes
        ],
        "log": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "entries": [list(one) for one in story.ranges],
        "entryCount": story.count,
        "checkpointKey": key_id(receipt.key),
        "statementKey": key_id(receipt.statement_key),
        "quorum": policy.wanted() if policy else None,
        "cosignatures": [{"witness": str(one.key), "time": one.moment} for one in cosigned],
        "cosignaturesNotVerified": _strangers(receipt, cosigned),
        "files": [
            {
                "file": str(path),
                "sha256": one.digest,
                "asGenerated": one.provenance is None,
                "subjects": [
                    {"path": subject.data.path, "artifact": subject.data.artifact, "entry": subject.entry}
                    for subject in one.subjects
                ],
                "unproved": list(one.unproved),
            }
            for path, one in artifacts
        ],
    }


def _print_receipt(
    receipt: VerifiedReceipt,
    artifacts: Sequence[tuple[Path, VerifiedArtifact]],
    policy: Policy | None = None,
    cosigned: Sequence[Cosignature] = (),
) -> None:
    story, checkpoint, received = receipt.story, receipt.checkpoint.checkpoint, receipt.story.received
    out.print("[bold green]Proved[/bold green]", highlight=False)
    rows = facts()
    rows.add_row("Event", safe(f"{story.event_id} ({received.data.event_type}), UTidS {received.utids}"))
    rows.add_row("From", safe(received.data.source))
    rows.add_row("Vouched for", safe(f"by {received.data.principal}"))
    if received.data.subject and not story.commit:
        rows.add_row("About", safe(received.data.subject))
    rows.add_row("Body", received.data.body_digest)
    rows.add_row("Received", received.time)
    _add_ending(rows.add_row, story)
    if story.commit:
        rows.add_row("Commit", safe(f"{story.commit} on {received.data.asked('branch')}"))
        rows.add_row("Repository", safe(received.data.asked("repositoryUrl")))
    if story.files:
        verdicts = ", ".join(f"{count} {verdict}" for verdict, count in _verdicts(story).items())
        rows.add_row("Files", safe(f"{len(story.files)}: {verdicts}"))
        rows.add_row("Artifacts", str(len(story.artifacts)))
    for index, change in story.changes:
        rows.add_row("Changed", safe(f"{change.path}, {change.status}, by {change.by} (entry {index})"))
    if story.builds:
        rows.add_row("Workers", safe(", ".join(sorted(story.builds))))
    rows.add_row("Ledger", safe(f"entries {_ranges(story)} of {checkpoint.origin}"))
    rows.add_row("Checkpoint", f"{checkpoint.size} entries, root {checkpoint.root.hex()}")
    rows.add_row("Signed by", safe(" and ".join(dict.fromkeys(map(key_id, (receipt.key, receipt.statement_key))))))
    for cosignature in cosigned:
        rows.add_row(
            "Cosigned by", safe(f"{cosignature.key.name}+{cosignature.key.key_id.hex()}, {cosignature.moment}")
        )
    if policy:
        rows.add_row("Quorum", safe(f"{policy.wanted()}: {len(cosigned)} of {len(policy.witnesses)} have cosigned"))
    out.print(rows)
    if strangers := _strangers(receipt, cosigned):
        out.print(
            f"[yellow]Not verified: cosignatures of {safe(', '.join(strangers[:_SHOWN]))}; give --witness or"
            " --policy[/yellow]",
            highlight=False,
        )
    for path, one in artifacts:
        _print_artifact(path, one)
    if story.conclusion is None:
        out.print(
            "[yellow]The event had not ended when this was made: what it did later, and whether an entry is left out,"
            " cannot be told from it.[/yellow]",
            highlight=False,
        )


def _strangers(receipt: VerifiedReceipt, cosigned: Sequence[Cosignature]) -> list[str]:
    """Whose signatures are under the checkpoint, besides those that were verified: name and key id."""
    known = {(one.key.name, one.key.key_id) for one in cosigned} | {(receipt.key.name, receipt.key.key_id)}
    lines = parse_note(receipt.checkpoint.note).signatures
    return [
        f"{one.name}+{one.key_id.hex()}"
        for one in lines
        if (one.name, one.key_id) not in known and one.name != receipt.key.name
    ]


def _add_ending(add: Callable[[str, str], None], story: Story) -> None:
    conclusion = story.conclusion
    add("Ended", styled(story.phase, safe(story.phase)) + (f" {conclusion.time}" if conclusion else ""))
    for failure in story.failures[-_SHOWN:]:
        add("Parked at", safe(f"{failure.step}: {failure.message}"))
    if conclusion is None:
        return
    if conclusion.data.refused is not None:
        add("Refused at", safe(f"{conclusion.data.refused.step}: {conclusion.data.refused.message}"))
    for finding in conclusion.data.findings[:_SHOWN]:
        add("Because", safe(f"{finding.rule}: {finding.message}"))
    if conclusion.data.failure is not None:
        add("Failed at", safe(f"{conclusion.data.failure.step}: {conclusion.data.failure.message}"))
    for decision in conclusion.data.decisions:
        add("Decided", safe(f"by {decision.by}: {decision.reason}"))
    if story.conflicts:
        add("Refused", f"{len(story.conflicts)} other bodies under the same delivery id")


def _print_artifact(path: Path, artifact: VerifiedArtifact) -> None:
    what = ", ".join(
        f"the {subject.data.artifact} of {subject.data.path} (entry {subject.entry})"
        for subject in artifact.subjects[:_SHOWN]
    )
    more = f" and {len(artifact.subjects) - _SHOWN} more" if len(artifact.subjects) > _SHOWN else ""
    out.print(f"[bold green]Proved[/bold green]: {safe(str(path))} is {safe(what)}{more}", highlight=False)
    if artifact.provenance is None and isinstance(artifact.subjects[0].data, ChangeData):
        out.print(f"  as JSON; in its canonical form it has the SHA-256 {artifact.digest}", highlight=False)
        return
    if artifact.provenance is None:
        out.print(f"  byte for byte as it was generated, SHA-256 {artifact.digest}", highlight=False)
        return
    out.print(
        f"  as the service shows it; as it was generated, without panel and fitted links, SHA-256 {artifact.digest}",
        highlight=False,
    )
    if artifact.unproved:
        out.print(
            f"  [yellow]not proved by this receipt: the {safe(', '.join(artifact.unproved))} that its panel names"
            "[/yellow]",
            highlight=False,
        )


def _verdicts(story: Story) -> dict[str, int]:
    found: dict[str, int] = {}
    for _, file in story.files:
        found[file.verdict] = found.get(file.verdict, 0) + 1
    return dict(sorted(found.items()))


def _ranges(story: Story) -> str:
    shown = [f"{first}–{last}" if first != last else f"{first}" for first, last in story.ranges[:_SHOWN]]
    more = f" and {len(story.ranges) - _SHOWN} more ranges" if len(story.ranges) > _SHOWN else ""
    return ", ".join(shown) + more + f" ({story.count} in all)"
