"""Commands about the registries.

What a command does stands in ``starters/``, and is imported when it is called, so that ``--help`` is quick.
"""

from pathlib import Path
from typing import Annotated

import typer

from starters.commands.common import Json, Limit

registry = typer.Typer(no_args_is_help=True, help="The registries: entries, their versions, schemas, UTidS.")

RegistryName = Annotated[str, typer.Argument(help="The registry, such as AERO or schemas.", metavar="REGISTRY")]
EntryName = Annotated[str, typer.Argument(help="Id of the entry.")]
InRegistry = Annotated[str, typer.Option("--registry", help="Of this registry alone.")]
Cursor = Annotated[str, typer.Option(help="Go on where the page before ended, as it says.")]


@registry.command("list")
def registry_list(
    in_registry: InRegistry = "",
    status: Annotated[str, typer.Option(help="Submission, Review, Approval or Integration.")] = "",
    entry_class: Annotated[str, typer.Option("--class", help="Core, Service, Application or Experimental.")] = "",
    owner: Annotated[str, typer.Option(help="Who owns it.")] = "",
    tag: Annotated[list[str] | None, typer.Option(help="A tag that it has; repeatable.", show_default=False)] = None,
    limit: Limit = 50,
    cursor: Cursor = "",
    as_json: Json = False,
) -> None:
    """The entries that are like all you say, as their newest versions are."""
    from starters.registry import list_entries

    said = {"registryId": in_registry, "status": status, "class": entry_class, "owner": owner, "cursor": cursor}
    list_entries({**said, "tags": tag or [], "limit": limit}, as_json=as_json)


@registry.command("search")
def registry_search(
    words: Annotated[list[str], typer.Argument(help="Words that must occur in an entry.")],
    in_registry: InRegistry = "",
    limit: Limit = 50,
    cursor: Cursor = "",
    as_json: Json = False,
) -> None:
    """The entries with these words in id, owner, tags or data; without regard to case."""
    from starters.registry import list_entries

    said = {"registryId": in_registry, "text": " ".join(words), "limit": limit, "cursor": cursor}
    list_entries(said, as_json=as_json)


@registry.command("show")
def registry_show(
    name: RegistryName,
    entry: EntryName,
    version: Annotated[int | None, typer.Option(min=0, help="Which version; default: the newest.")] = None,
    as_json: Json = False,
) -> None:
    """One entry, whole."""
    from starters.registry import show_entry

    show_entry(name, entry, version, as_json=as_json)


@registry.command("history")
def registry_history(
    name: RegistryName,
    entry: EntryName,
    before: Annotated[int | None, typer.Option(min=1, help="Only versions before this one.")] = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """The versions of an entry, the newest first: who made each, why, and where the ledger has it."""
    from starters.registry import show_history

    show_history(name, entry, before, limit, as_json=as_json)


@registry.command("diff")
def registry_diff(
    name: RegistryName,
    entry: EntryName,
    old: Annotated[int, typer.Argument(min=0, help="The version before.")],
    new: Annotated[int, typer.Argument(min=0, help="The version after.")],
    as_json: Json = False,
) -> None:
    """What changed from one version to another, as a JSON Patch (RFC 6902)."""
    from starters.registry import show_diff

    show_diff(name, entry, old, new, as_json=as_json)


@registry.command("impact")
def registry_impact(
    schema: Annotated[str, typer.Argument(help="Id of the schema, such as frontmatter.INFO-SPEC.")],
    file: Annotated[Path, typer.Argument(help="The new version, as JSON.")],
    as_json: Json = False,
) -> None:
    """What a new version of a schema would make invalid; exit 1 if there is anything."""
    from starters.registry import show_impact

    show_impact(schema, file, as_json=as_json)


@registry.command("resolve")
def registry_resolve(
    utids: Annotated[str, typer.Argument(help="A UTidS, permanent or temporary.")], as_json: Json = False
) -> None:
    """What a UTidS names, where that came from, and its ledger entries."""
    from starters.registry import resolve_utids

    resolve_utids(utids, as_json=as_json)
