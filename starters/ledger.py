"""Commands about the ledger: read it, prove, verify, change its key. They need the database, not Temporal."""

import contextlib
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from coafi.canonical import JsonObject
from coafi.errors import Unavailable, ValidationError
from coafi.ledger.audit import AuditReport, audit
from coafi.ledger.checkpoint import Checkpoint, open_checkpoint
from coafi.ledger.cosignature import Cosignature
from coafi.ledger.entry import Recorded
from coafi.ledger.handover import keyring
from coafi.ledger.keyfile import HeldKey, KeyFile, KeySource
from coafi.ledger.keys import generate_key, load_key
from coafi.ledger.log import Ledger as OwnLedger
from coafi.ledger.port import Ledger
from coafi.ledger.proof import Proof
from coafi.ledger.rotation import rotate
from coafi.ledger.search import Query, find
from coafi.ledger.verifier import LogReport, VerifiedEntry, verify_consistency, verify_inclusion, verify_log
from coafi.ledger.wire import KeysAnswer
from starters.output import clean, command_settings, err, facts, out, print_error, print_json, safe, table
from starters.records import (
    elsewhere,
    entry_json,
    moment,
    open_database,
    opened_ledger,
    own_ledger,
    print_entries,
    print_entry,
)
from starters.trust import trusted_log
from workers.resources import ledger_key, open_ledger

FOLLOW_SECONDS = 0.5
"""How often ``tail --follow`` looks for more."""

_MAX_FILE = 64 * 2**20


def show_entries(first: int | None, last: int | None, *, limit: int, as_json: bool) -> None:
    """``coafi ledger show``."""
    with opened_ledger(command_settings()) as ledger:
        size = ledger.size()
        if first is None:
            first, last = max(0, size - limit), size - 1
        last = first if last is None else last
        if not 0 <= first <= last < size and (first, last) != (0, -1):
            has = f"has the entries 0 to {size - 1}" if size else "is empty"
            raise ValidationError(
                f"there is no such range as {first} to {last}: the ledger {has}",
                remedy="name the first and the last index",
            )
        entries = ledger.entries(first, last + 1)
    if as_json:
        print_json([entry_json(entry) for entry in entries])
    elif len(entries) == 1:
        print_entry(entries[0])
    else:
        print_entries(entries)


def tail_entries(limit: int, *, follow: bool, as_json: bool) -> None:
    """``coafi ledger tail``: a line for each entry; with ``follow``, until Ctrl-C."""
    with opened_ledger(command_settings()) as ledger, _interrupted() as stop:
        at = max(0, ledger.size() - limit)
        told = ""
        while not stop.is_set():
            try:
                for one in _from(ledger, at):
                    _print_line(one, as_json=as_json)
                    at = one.index + 1
                    if stop.is_set():
                        return
                told = ""
            except Unavailable as error:
                if not follow:
                    raise
                if error.message != told:
                    print_error(error)
                    told = error.message
            if not follow:
                return
            stop.wait(FOLLOW_SECONDS)


@contextmanager
def _interrupted() -> Iterator[threading.Event]:
    """Is set by the first Ctrl-C, which so never cuts a statement or a line in two; the second one ends at once."""
    pressed = threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def press(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, before)
        pressed.set()

    signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def find_entries(query: Query, *, as_json: bool) -> None:
    """``coafi ledger find``: prints while it reads."""
    with opened_ledger(command_settings()) as ledger:
        found = find(own_ledger(ledger), query)
        if as_json:
            _print_array(entry_json(one) for one in found)
            return
        count = 0
        for one in found:
            _print_line(one, as_json=False)
            count += 1
        if not count:
            err.print("No entry is like that.")


def parse_moment(text: str) -> datetime:
    """A moment in ISO 8601; in UTC unless it says otherwise.

    Raises:
        ValidationError: it is none.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValidationError(f"{text!r} is no time", remedy="write 2026-11-23 or 2026-11-23T20:03:29Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def prove_entry(index: int, output: Path | None, *, as_json: bool) -> None:
    """``coafi ledger prove``."""
    with opened_ledger(command_settings()) as ledger:
        proof = ledger.prove(index)
        verify_inclusion(proof, ledger.keys)
        key = ledger.key
    if output is not None:
        _write(output, proof.model_dump_json() + "\n")
    if as_json:
        print_json(proof)
        return
    rows = facts()
    rows.add_row("Entry", str(index))
    rows.add_row("In a tree of", str(proof.size))
    rows.add_row("Proof", f"{len(proof.hashes)} hashes" + (f", in {output}" if output else ""))
    rows.add_row("Key", str(key))
    rows.add_row("Verdict", "[green]the entry is in the signed tree[/green]")
    out.print(rows)


def verify_ledger(*, as_json: bool) -> None:
    """``coafi ledger verify``."""
    with (
        opened_ledger(command_settings()) as ledger,
        Progress(
            TextColumn("Verifying"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=err,
            disable=as_json or not err.is_terminal,
            transient=True,
        ) as progress,
    ):
        task = progress.add_task("verify", total=ledger.size())

        def show(done: int) -> None:
            progress.update(task, completed=done)

        # Of another instance's ledger there is what its API shows: no columns, no stored checkpoints, no old keys.
        report = audit(ledger, show) if isinstance(ledger, OwnLedger) else None
        log = report.log if report else _verify_shown(ledger, show)
        cosigned = ledger.last_cosignatures() if isinstance(ledger, OwnLedger) else []
    if as_json:
        print_json(_report_json(log, report, cosigned))
        return
    out.print(f"[green]Verified[/green]: {log.checkpoint.size} entries, {log.tiles} tiles", highlight=False)
    rows = facts()
    rows.add_row("Root", log.checkpoint.root.hex())
    columns = ", and what they are looked up by" if report else ""
    rows.add_row("Entries", f"hashes, canonical bytes, keys, no step twice{columns}")
    rows.add_row("Tiles", f"every hash of {log.tiles}")
    rows.add_row("Checkpoints", f"signatures and roots of {log.checkpoints + 1}")
    if report:
        rows.add_row("Keys", f"{len(report.keys.terms)}, each handed over to the next by both")
        rows.add_row("Times", _times(report))
    for checkpoint, one in cosigned:
        rows.add_row("Cosigned", safe(f"{checkpoint.size} entries, by {one.key.name}, {one.moment}"))
    if report and not cosigned:
        rows.add_row("Cosigned", "by nobody: whoever holds key and database could rewrite all of it")
    if log.beyond:
        rows.add_row("Not signed yet", f"{log.beyond} entries, written meanwhile")
    out.print(rows)


def verify_proof(path: Path, key: str, hand_overs: Path | None, *, as_json: bool) -> None:
    """``coafi ledger verify --proof``: without a database."""
    keys = trusted_log(key, hand_overs)
    found = verify_inclusion(Proof.parse(_read(path)), keys)
    if as_json:
        print_json(_verified_json(found))
        return
    out.print(f"[green]Verified[/green]: entry {found.index} is in the log {safe(found.checkpoint.origin)}")
    print_entry(Recorded(found.index, found.entry.model_dump_json(by_alias=True).encode()))


def verify_against(path: Path, key: str | None, hand_overs: Path | None, *, as_json: bool) -> None:
    """``coafi ledger verify --against``: has this ledger only grown since a checkpoint that was kept elsewhere?"""
    note = _kept_note(_read(path))
    with opened_ledger(command_settings()) as ledger:
        keys = keyring(ledger.key, ledger.hand_overs()) if key is None else trusted_log(key, hand_overs)
        old = open_checkpoint(note, keys).checkpoint
        new = ledger.checkpoint(force=True)
        proof = ledger.consistency_proof(old.size, new.size) if old.size <= new.size else []
        verify_consistency(note, new.note, proof, keys)
    if as_json:
        print_json({"verified": True, "from": old.size, "to": new.size, "hashes": [one.hex() for one in proof]})
    else:
        out.print(
            f"[green]Verified[/green]: the {new.size} entries begin with the {old.size} of that checkpoint",
            highlight=False,
        )


def show_checkpoint(*, as_json: bool) -> None:
    """``coafi ledger checkpoint``."""
    with opened_ledger(command_settings()) as ledger:
        note, key = ledger.checkpoint(force=True).note, str(ledger.key)
    if as_json:
        print_json({"checkpoint": note, "key": key})
    else:
        sys.stdout.write(note)


def list_keys(*, as_json: bool) -> None:
    """``coafi ledger keys list``."""
    with opened_ledger(command_settings()) as ledger:
        key, hand_overs = ledger.key, ledger.hand_overs()
    if as_json:
        print_json(KeysAnswer.of(key, hand_overs).model_dump())
        return
    rows = table("Id", "State", "#Since", "#Until", "Key")
    for term in keyring(key, hand_overs).terms:
        state = "[green]active[/green]" if term.until is None else "[dim]retired[/dim]"
        until = "" if term.until is None else str(term.until)
        rows.add_row(term.key.key_id.hex(), state, str(term.since), until, safe(str(term.key)))
    out.print(rows)


def make_key(path: Path, *, as_json: bool) -> None:
    """``coafi ledger keys generate``."""
    key = generate_key(path, command_settings().ledger_origin).key
    if as_json:
        print_json({"key": str(key), "id": key.key_id.hex(), "file": str(path)})
    else:
        out.print(safe(str(key)), soft_wrap=True, highlight=False)


def rotate_key(to: Path | None, *, as_json: bool) -> None:
    """``coafi ledger keys rotate``."""
    settings = command_settings()
    if settings.bitt_api_url:
        raise elsewhere()
    with open_database(settings) as database:
        source: KeySource = ledger_key(settings, database)
        if to is not None:
            successor = load_key(to)
            source = HeldKey(source.current(), successor)
        elif isinstance(source, KeyFile):
            successor = source.prepare()
        else:
            raise ValidationError(
                "the ledger's key is in COAFI_LEDGER_KEY, where no command can replace it",
                remedy="make a new one with `coafi ledger keys generate`, hand over with `--to`, then set it there",
            )
        with _closing(open_ledger(settings, database, source)) as ledger:
            done = rotate(own_ledger(ledger), successor)
    if as_json:
        print_json({"old": str(done.old), "new": str(done.new), "size": done.size, "handOver": done.proof})
        return
    rows = facts()
    rows.add_row("New key", safe(str(done.new)))
    rows.add_row("Old key", safe(str(done.old)))
    rows.add_row("From", f"{done.size} entries on; the checkpoint there is signed by both")
    if to is not None:
        rows.add_row("Now", f"give {safe(str(to))} to every process, restart them, and destroy the old key")
    out.print(rows)


@contextmanager
def _closing(ledger: Ledger) -> Iterator[Ledger]:
    try:
        yield ledger
    finally:
        ledger.close()


def _verify_shown(ledger: Ledger, on_progress: Callable[[int], None]) -> LogReport:
    note = ledger.checkpoint(force=True).note
    return verify_log(ledger.bodies(), note, ledger.keys, stored_tiles=ledger.tiles(), on_progress=on_progress)


def _from(ledger: Ledger, start: int) -> Iterator[Recorded]:
    """The entries from ``start`` on, a few at a time."""
    while entries := ledger.entries(start, start + 500):
        yield from entries
        start += len(entries)


def _print_line(one: Recorded, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(entry_json(one), ensure_ascii=True) + "\n")
    else:
        entry = one.entry
        line = f"{one.index:>8}  {moment(entry.time)}  {entry.type:<24}  {clean(entry.event_id)}  {clean(entry.step)}"
        sys.stdout.write(line.encode("utf-8", "replace").decode() + "\n")
    sys.stdout.flush()


def _print_array(values: Iterable[JsonObject]) -> None:
    """One JSON array, printed as its members come, a line each."""
    before = "["
    for value in values:
        sys.stdout.write(f"{before}\n{json.dumps(value, ensure_ascii=True)}")
        before = ","
    sys.stdout.write("\n]\n" if before == "," else "[]\n")


def _times(report: AuditReport) -> str:
    if report.worst is None:
        return "in order"
    worst = report.worst
    return f"went back {report.steps_back} times, at most by {worst.seconds:.3f} s, at entry {worst.entry}"


def _report_json(
    log: LogReport, report: AuditReport | None, cosigned: Sequence[tuple[Checkpoint, Cosignature]]
) -> JsonObject:
    found: JsonObject = {
        "verified": True,
        "size": log.checkpoint.size,
        "root": log.checkpoint.root.hex(),
        "tiles": log.tiles,
        "checkpoints": log.checkpoints + 1,
        "beyond": log.beyond,
    }
    if report is not None:
        worst = report.worst
        found["keys"] = len(report.keys.terms)
        found["timesBack"] = report.steps_back
        found["furthestBack"] = {"entry": worst.entry, "seconds": worst.seconds} if worst else None
        found["cosignatures"] = [
            {"witness": str(one.key), "size": checkpoint.size, "time": one.moment} for checkpoint, one in cosigned
        ]
    return found


def _verified_json(found: VerifiedEntry) -> JsonObject:
    return {
        "verified": True,
        "index": found.index,
        "size": found.checkpoint.size,
        "origin": found.checkpoint.origin,
        "root": found.checkpoint.root.hex(),
        "entry": found.entry.model_dump(mode="json", by_alias=True),
    }


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE)
    except OSError as error:
        raise ValidationError(f"{path} cannot be read: {error.strerror}", remedy="check its path") from error


def _kept_note(content: bytes) -> bytes | str:
    """The note in what somebody has kept: the note itself, or what ``ledger checkpoint --json`` prints."""
    with contextlib.suppress(ValueError, RecursionError, LookupError, TypeError):
        note = json.loads(content)["checkpoint"]
        if isinstance(note, str):
            return note
    return content


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}", remedy="check its directory") from error
