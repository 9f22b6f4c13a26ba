"""Commands about witnesses: ``witness``, and what ``receipt`` asks of them. They need the database, not Temporal."""

from collections.abc import Mapping
from pathlib import Path

from coafi.canonical import JsonObject
from coafi.database import Database
from coafi.errors import IntegrityError, ResourceNotFoundError, Unavailable
from coafi.federation.cosigning import Answered, Cosigners, Gathered, witness_client
from coafi.federation.peer_log import PeerLog, log_client
from coafi.federation.witness import Witness
from coafi.federation.witnessed import Grade, SplitView, WitnessRecord
from coafi.ledger.checkpoint import SignedCheckpoint
from coafi.ledger.cosignature import cosignatures
from coafi.ledger.fork import Fork, verify_fork
from coafi.ledger.log import Ledger
from coafi.ledger.policy import Policy
from coafi.settings import Settings
from starters.output import clean, command_settings, err, facts, out, print_json, safe, table
from starters.records import open_database, opened_ledger, own_ledger
from starters.trust import read_file, trusted_log
from workers.witnessing import known_logs, known_witnesses, witness_key

_MAX_PROOF = 2**20


def show_key(*, as_json: bool) -> None:
    """``coafi witness key``."""
    settings = command_settings()
    key = witness_key(settings).key
    if as_json:
        print_json({"key": str(key), "id": key.key_id.hex(), "file": str(settings.witness_key_path)})
    else:
        out.print(safe(str(key)), soft_wrap=True, highlight=False)


def list_logs(*, as_json: bool) -> None:
    """``coafi witness list``."""
    with open_database(command_settings()) as database:
        record = WitnessRecord(database)
        last, views = record.all(), record.split_views()
    by_origin: dict[str, list[SplitView]] = {}
    for view in views:
        by_origin.setdefault(view.origin, []).append(view)
    if as_json:
        print_json(
            [
                {
                    "origin": one.checkpoint.origin,
                    "size": one.checkpoint.size,
                    "root": one.checkpoint.root.hex(),
                    "time": one.time,
                    "note": one.signed.note,
                    "splitViews": [_view_json(view) for view in by_origin.get(one.checkpoint.origin, [])],
                }
                for one in last
            ]
        )
        return
    rows = table("Ledger", "#Entries", "Root", "State")
    for one in last:
        origin = one.checkpoint.origin
        rows.add_row(safe(origin), str(one.checkpoint.size), one.checkpoint.root.hex()[:16], _state(by_origin, origin))
    out.print(rows if last else "No checkpoint was cosigned yet.")


def show_evidence(origin: str | None, entry: int | None, output: Path | None, *, as_json: bool) -> None:
    """``coafi witness evidence``."""
    with open_database(command_settings()) as database:
        views = WitnessRecord(database).split_views(origin)
    proved = [one for one in views if one.grade is Grade.PROVED and entry in (None, one.entry)]
    origins = sorted({one.origin for one in proved})
    if len(origins) > 1:
        raise ResourceNotFoundError(
            f"{len(origins)} ledgers have shown two histories, as far as is proved here",
            remedy="name one of " + ", ".join(origins),
        )
    if not as_json and output is None and entry is None and views:
        for one in proved or views:
            _print_view(one)
        return
    if not proved:
        recorded = "" if entry is None else f" that entry {entry} of our ledger records"
        raise ResourceNotFoundError(
            f"no ledger has shown two histories{recorded}, as far as is proved here", remedy="see: coafi witness list"
        )
    if len(proved) > 1:
        raise ResourceNotFoundError(
            f"{len(proved)} keys of {origins[0]} have signed two histories",
            remedy="name one with --entry: "
            + ", ".join(f"{one.entry} ({one.key or 'key not kept'})" for one in proved),
        )
    (view,) = proved
    assert view.fork is not None  # noqa: S101  # it is what proves it
    if output is not None:
        try:
            output.write_text(view.fork.model_dump_json() + "\n")
        except OSError as error:
            raise Unavailable(f"{output} cannot be written: {error.strerror}", remedy="check its directory") from error
    if as_json:
        print_json(view.fork)
    elif output is None:
        _print_view(view)
    else:
        err.print(clean(f"Proof of two histories of {origin or view.origin}: {output}"), markup=False, highlight=False)


def verify_evidence(file: Path, key: str, hand_overs: Path | None, *, as_json: bool) -> None:
    """``coafi witness verify``: without a database."""
    fork = Fork.parse(read_file(file, _MAX_PROOF, "proof"))
    smaller, larger = verify_fork(fork, trusted_log(key, hand_overs))
    begins = larger.root.hex() if fork.prefix is None else fork.prefix
    if as_json:
        print_json(
            {
                "proved": True,
                "origin": smaller.origin,
                "smaller": {"size": smaller.size, "root": smaller.root.hex()},
                "larger": {"size": larger.size, "root": larger.root.hex()},
                "prefix": begins,
            }
        )
        return
    out.print(f"[bold red]Proved[/bold red]: {safe(smaller.origin)} has shown two histories", highlight=False)
    rows = facts()
    rows.add_row("It signed", f"{smaller.size} entries with root {smaller.root.hex()}")
    rows.add_row("and", f"{larger.size} entries with root {larger.root.hex()}")
    if fork.prefix is not None:
        rows.add_row("of which", f"the first {smaller.size} have root {begins}")
    out.print(rows)


def forget_log(origin: str, *, without_asking: bool, as_json: bool) -> None:
    """``coafi witness forget``."""
    settings = command_settings()
    with opened_ledger(settings) as ledger, open_database(settings) as database, log_client() as client:
        Witness(
            database,
            ledger,
            namespace=settings.ledger_namespace,
            cosigner=witness_key(settings),
            logs=known_logs(settings, database),
            shown=lambda log: PeerLog(log.url, client),
            directory=settings.ledger_directory / "witnessed",
        ).forget(origin, without_asking=without_asking)
    if as_json:
        print_json({"origin": origin, "forgotten": True})
    else:
        out.print(f"Forgotten: {safe(origin)}. The next checkpoint is the first one.", highlight=False)


def ask_witnesses(*, as_json: bool) -> None:
    """``coafi witness ask``."""
    settings = command_settings()
    with opened_ledger(settings) as ledger, open_database(settings) as database:
        own = own_ledger(ledger)
        found, policy = _gather(settings, database, own)
    if found is None:
        raise ResourceNotFoundError(
            "there is nobody to ask",
            remedy="give a peer its witness key, or set COAFI_WITNESS_POLICY; see docs/witnessing.md",
        )
    cosigned = cosignatures(found.signed.note, policy.keys)
    if as_json:
        print_json(
            {
                "size": found.signed.size,
                "checkpoint": found.signed.note,
                "answers": {
                    name: {"outcome": one.outcome.value, "problem": one.problem} for name, one in found.answers.items()
                },
                "quorum": policy.wanted(),
                "met": policy.is_met({one.key for one in cosigned}),
            }
        )
    else:
        _print_answers(found.answers)
        out.print(f"{len(cosigned)} of {len(policy.witnesses)} have cosigned {found.signed.size} entries.")
    policy.check(cosigned)


def gathered(settings: Settings, database: Database, ledger: Ledger) -> SignedCheckpoint | None:
    """A checkpoint for a receipt, with the cosignatures that can be had; ``None`` where nobody is to be asked.

    Those that are missing are said on standard error: the receipt is of use to whoever asks for no more.

    Raises:
        ValidationError: the policy file or the quorum is not right.
        IntegrityError, Unavailable: the checkpoint cannot be signed.
    """
    found, policy = _gather(settings, database, ledger)
    if found is None:
        return None
    try:
        policy.check(cosignatures(found.signed.note, policy.keys))
    except IntegrityError as error:
        err.print(f"[yellow]Warning: {safe(error.message)}.[/yellow]", highlight=False)
        for name, answer in found.answers.items():
            if answer.problem:
                err.print(clean(f"  {name}: {answer.problem}"), markup=False, highlight=False)
    return found.signed


def _gather(settings: Settings, database: Database, ledger: Ledger) -> tuple[Gathered | None, Policy]:
    known = known_witnesses(settings, database)
    policy, witnesses = known.wanted(settings.witness_quorum), known()
    if not witnesses:
        return None, policy

    def enough(note: str) -> bool:
        return len(cosignatures(note, policy.keys)) == len(policy.witnesses)

    with witness_client() as client:
        return Cosigners(ledger, client).gather(witnesses, settings.witness_wait, enough=enough), policy


def _print_answers(answers: Mapping[str, Answered]) -> None:
    rows = table("Witness", "Outcome", "Problem")
    for name, one in answers.items():
        rows.add_row(safe(name), one.outcome.value, safe(one.problem))
    out.print(rows)


def _state(views: dict[str, list[SplitView]], origin: str) -> str:
    grades = [one.grade for one in views.get(origin, [])]
    if proved := grades.count(Grade.PROVED):
        keys = f", by {proved} keys" if proved > 1 else ""
        return f"[bold red]two histories{keys}[/bold red]"
    return "[yellow]in doubt[/yellow]" if grades else "[green]one history[/green]"


def _print_view(view: SplitView) -> None:
    proved = view.grade is Grade.PROVED
    said = "[bold red]has shown two histories[/bold red]" if proved else "[yellow]is in doubt[/yellow]"
    out.print(f"{safe(view.origin)} of {safe(view.peer)} {said}", highlight=False)
    rows = facts()
    if view.key:
        rows.add_row("Key", safe(view.key))
    rows.add_row("Found", view.found)
    rows.add_row("Because", safe(view.problem))
    if view.entry is not None:
        rows.add_row("Recorded", f"entry {view.entry} of our ledger")
    out.print(rows)
    for what, note in (("Cosigned here", view.kept), ("Shown as well", view.shown)):
        out.print(f"[bold]{what}[/bold]")
        out.print(safe(note), soft_wrap=True, highlight=False, end="")
    if proved:
        out.print(
            f"To hand it on: coafi witness evidence {safe(view.origin)} --entry {view.entry} -o proof.json",
            highlight=False,
            soft_wrap=True,
        )


def _view_json(view: SplitView) -> JsonObject:
    return {
        "grade": view.grade.value,
        "key": view.key,
        "peer": view.peer,
        "problem": view.problem,
        "found": view.found,
        "entry": view.entry,
        "kept": view.kept,
        "shown": view.shown,
    }
