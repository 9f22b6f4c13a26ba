"""Commands about the ledger: read, prove, verify, archive; receipts and witnesses; the database that it is kept in.

What a command does stands in ``starters/``, and is imported when it is called, so that ``--help`` is quick.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from coafi.errors import ValidationError
from starters.commands.common import Json


class GroupWithDefault(typer.core.TyperGroup):
    """A group whose command ``export`` need not be named: ``coafi receipt EVENT`` is ``coafi receipt export EVENT``."""

    default = "export"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401  # typer does not export the type
        """Name the default command where no command is named."""
        if args and args[0] not in {*self.commands, "--help"}:
            args = [self.default, *args]
        return super().parse_args(ctx, args)


ledger = typer.Typer(no_args_is_help=True, help="BITT, the ledger: read, prove, verify; its keys.")
ledger_keys = typer.Typer(no_args_is_help=True, help="The ledger's signing keys: list, make, replace.")
ledger.add_typer(ledger_keys, name="keys")
receipt = typer.Typer(
    cls=GroupWithDefault,
    no_args_is_help=True,
    help="Receipts: `coafi receipt EVENT -o FILE` exports what proves an event offline; `verify` checks it anywhere.",
)
witness = typer.Typer(
    no_args_is_help=True, help="Witnessing: peers cosign each other's checkpoints, so that nobody rewrites quietly."
)
database = typer.Typer(no_args_is_help=True, help="The tables of the database, and their version.")
archive = typer.Typer(no_args_is_help=True, help="Archives of the ledger: files that prove themselves.")

HandOvers = Annotated[
    Path | None,
    typer.Option(help="File of `ledger keys list --json`: leads from your key to the others of the log."),
]


@archive.command("list")
def archive_list(as_json: Json = False) -> None:
    """The archives that there are, and which entries are in each."""
    from starters.reports import list_archives

    list_archives(as_json=as_json)


@archive.command("verify")
def archive_verify(
    file: Annotated[Path, typer.Argument(help="An archive.")],
    key: Annotated[str, typer.Option(help="The public key that you trust, or a file with it.")],
    hand_overs: HandOvers = None,
    as_json: Json = False,
) -> None:
    """Verify an archive; needs neither service nor database. Exit 1 if anything is wrong."""
    from starters.reports import verify_archive_file

    verify_archive_file(file, key, hand_overs, as_json=as_json)


@ledger.command("verify")
def ledger_verify(
    proof: Annotated[
        Path | None, typer.Option(help="Verify the proof in this file instead, without a database; needs --key.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Verify that the ledger has only grown since the checkpoint, note or JSON, here."),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="The public key that you trust, or a file with it; default: the ledger's own.")
    ] = None,
    hand_overs: HandOvers = None,
    as_json: Json = False,
) -> None:
    """Recompute every hash from the entries and hold them against columns, tiles, checkpoints and keys."""
    from starters.ledger import verify_against, verify_ledger, verify_proof

    if proof is not None and key is not None and against is None:
        verify_proof(proof, key, hand_overs, as_json=as_json)
    elif proof is None and against is not None:
        verify_against(against, key, hand_overs, as_json=as_json)
    elif (proof, against, key, hand_overs) == (None, None, None, None):
        verify_ledger(as_json=as_json)
    else:
        raise ValidationError("these options do not go together", remedy="say --proof and --key, or --against, or none")


@ledger.command("show")
def ledger_show(
    first: Annotated[int | None, typer.Argument(help="First index; default: the newest entries.")] = None,
    last: Annotated[int | None, typer.Argument(help="Last index; default: the first.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many, if no index is given.")] = 10,
    as_json: Json = False,
) -> None:
    """Entries by index."""
    from starters.ledger import show_entries

    show_entries(first, last, limit=limit, as_json=as_json)


@ledger.command("tail")
def ledger_tail(
    limit: Annotated[int, typer.Option(min=0, max=100_000, help="How many of the newest entries to begin with.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what is appended; Ctrl-C ends it.")] = False,
    as_json: Json = False,
) -> None:
    """The newest entries, a line each; with --json, a JSON object on each line."""
    from starters.ledger import tail_entries

    tail_entries(limit, follow=follow, as_json=as_json)


@ledger.command("find")
def ledger_find(
    event: Annotated[str, typer.Option(help="Id of the event.")] = "",
    entry_type: Annotated[str, typer.Option("--type", help="Type of the entry, such as FILE_PROCESSED.")] = "",
    repository: Annotated[str, typer.Option(help="URL of the repository.")] = "",
    utids: Annotated[str, typer.Option(help="UTidS of the event.")] = "",
    since: Annotated[str | None, typer.Option(help="Taken at this time or later (ISO 8601, UTC by default).")] = None,
    until: Annotated[str | None, typer.Option(help="Taken before this time.")] = None,
    as_json: Json = False,
) -> None:
    """The entries that are like all you say, in order; printed while they are read."""
    from coafi.ledger.search import Query
    from starters.ledger import find_entries, parse_moment

    query = Query(
        event=event,
        type=entry_type,
        repository=repository,
        utids=utids,
        since=None if since is None else parse_moment(since),
        until=None if until is None else parse_moment(until),
    )
    find_entries(query, as_json=as_json)


@ledger.command("prove")
def ledger_prove(
    index: Annotated[int, typer.Argument(min=0, help="Index of the entry.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the proof to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Make an inclusion proof and check it with the independent verifier."""
    from starters.ledger import prove_entry

    prove_entry(index, output, as_json=as_json)


@ledger.command("checkpoint")
def ledger_checkpoint(as_json: Json = False) -> None:
    """The newest signed checkpoint (C2SP signed note)."""
    from starters.ledger import show_checkpoint

    show_checkpoint(as_json=as_json)


@database.command("check")
def database_check(as_json: Json = False) -> None:
    """What version the tables are at, and what is missing; exit 1 unless this software can use them."""
    from starters.database import check_database

    check_database(as_json=as_json)


@database.command("migrate")
def database_migrate(as_json: Json = False) -> None:
    """Make the tables, or bring them to the version of this software. Back up first."""
    from starters.database import migrate_database

    migrate_database(as_json=as_json)


@ledger_keys.command("list")
def ledger_keys_list(as_json: Json = False) -> None:
    """The keys that the ledger has had, and which of its checkpoints each signed."""
    from starters.ledger import list_keys

    list_keys(as_json=as_json)


@ledger_keys.command("generate")
def ledger_keys_generate(
    file: Annotated[Path, typer.Argument(help="The private key goes into this file, readable by you only.")],
    as_json: Json = False,
) -> None:
    """Make a signing key for the ledger that the settings name, and print its public half."""
    from starters.ledger import make_key

    make_key(file, as_json=as_json)


@ledger_keys.command("rotate")
def ledger_keys_rotate(
    to: Annotated[
        Path | None, typer.Option(help="Hand over to the key in this file, which you then give to every process.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Give the ledger a new key. On the record, signed by both keys; the old private key is destroyed."""
    from starters.ledger import rotate_key

    rotate_key(to, as_json=as_json)


@receipt.command("export")
def receipt_export(
    event: Annotated[str, typer.Argument(help="Workflow id, event id or UTidS.")],
    output: Annotated[str, typer.Option("--output", "-o", help="File to write; - for standard output.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Export the receipt of an event: one file that proves, offline, what was done with it."""
    from starters.receipts import make_receipt

    make_receipt(event, output, force=force)


@receipt.command("verify")
def receipt_verify(
    file: Annotated[str, typer.Argument(help="The receipt; - for standard input.")],
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            help="The log's vkey, or a file that holds it; repeatable. Not needed if the policy names logs.",
            show_default=False,
        ),
    ] = None,
    artifact: Annotated[
        list[Path] | None, typer.Option("--artifact", help="A file to prove as well; repeatable.", show_default=False)
    ] = None,
    hand_overs: HandOvers = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(
            "--witness",
            help="The vkey of a witness that must have cosigned, or a file that holds it; repeatable.",
            show_default=False,
        ),
    ] = None,
    quorum: Annotated[
        int | None, typer.Option(help="How many of these witnesses must have cosigned; default: all.", min=0)
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="Policy file (C2SP tlog-policy) that says which witnesses must have cosigned.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify a receipt, and say what it proves; needs neither service nor database. Exit 1 if anything is wrong."""
    from starters.receipts import verify
    from starters.trust import trusted_witnesses

    wanted = trusted_witnesses(witness or [], quorum, policy)
    verify(file, artifact or [], key or [], hand_overs, wanted, as_json=as_json)


@witness.command("key")
def witness_key(as_json: Json = False) -> None:
    """The public key with which this instance cosigns: what others need to verify it. It is made if missing."""
    from starters.witnessing import show_key

    show_key(as_json=as_json)


@witness.command("list")
def witness_list(as_json: Json = False) -> None:
    """The ledgers of others: what was cosigned last, and what does not fit together."""
    from starters.witnessing import list_logs

    list_logs(as_json=as_json)


@witness.command("ask")
def witness_ask(as_json: Json = False) -> None:
    """Have the newest checkpoint of our own ledger cosigned now; how each witness answers. Exit 1 if too few do."""
    from starters.witnessing import ask_witnesses

    ask_witnesses(as_json=as_json)


@witness.command("evidence")
def witness_evidence(
    origin: Annotated[str | None, typer.Argument(help="The ledger; default: the only one.", show_default=False)] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the proof to this file.")] = None,
    entry: Annotated[
        int | None,
        typer.Option(
            help="The entry of our ledger that records it; needed if several keys of a ledger have.",
            min=0,
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """The proof that a ledger has shown two histories: convinces anybody who has its public key."""
    from starters.witnessing import show_evidence

    show_evidence(origin, entry, output, as_json=as_json)


@witness.command("verify")
def witness_verify(
    file: Annotated[Path, typer.Argument(help="The proof, as `witness evidence` writes it.")],
    key: Annotated[str, typer.Option("--key", help="A vkey of the ledger that it is about, or a file that holds it.")],
    hand_overs: HandOvers = None,
    as_json: Json = False,
) -> None:
    """Verify such a proof; needs neither service nor database. Exit 1 if it proves nothing."""
    from starters.witnessing import verify_evidence

    verify_evidence(file, key, hand_overs, as_json=as_json)


@witness.command("forget")
def witness_forget(
    origin: Annotated[str, typer.Argument(help="The ledger.")],
    without_asking: Annotated[
        bool,
        typer.Option(
            "--without-asking",
            help="Even if the ledger cannot be asked for hand-overs: you know that it was begun again.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Forget what was cosigned of a ledger that was begun again under another key."""
    from starters.witnessing import forget_log

    forget_log(origin, without_asking=without_asking, as_json=as_json)
