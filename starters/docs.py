"""Commands that read the documentation indexes: ``docs``. They need database and object store, not Temporal."""

from dataclasses import asdict

from coafi.canonical import JsonObject
from coafi.errors import ResourceNotFoundError
from coafi.git.urls import parse_repository_url
from coafi.index.build import decode
from coafi.index.model import VERDICTS, DocumentationIndex
from coafi.index.pointers import IndexPointer, IndexReader
from coafi.names import docs_path
from coafi.settings import Settings
from starters.embedded import ServiceAddress
from starters.output import command_settings, facts, out, print_json, print_link, safe, styled, table
from starters.records import open_database
from workers.resources import open_objects, url_policy

SHOWN = 50
"""Documents that are not valid that ``docs show`` lists."""


def list_docs(*, as_json: bool) -> None:
    """``coafi docs list``."""
    settings = command_settings()
    with open_database(settings) as database:
        pointers = IndexReader(database).all()
    if as_json:
        print_json([_pointer_json(settings, pointer) for pointer in pointers])
        return
    rows = table("#Generation", "Updated", "Commit", "Branch", "Repository")
    for one in pointers:
        rows.add_row(str(one.generation), one.updated_at, one.commit[:12], safe(one.branch), safe(one.repository))
    out.print(rows if pointers else "No branch has an index yet.")


def show_docs(repository: str, branch: str, *, as_json: bool) -> None:
    """``coafi docs show``.

    Raises:
        ResourceNotFoundError: the branch has no index.
    """
    settings = command_settings()
    canonical = str(parse_repository_url(repository, url_policy(settings)))
    with open_database(settings) as database:
        pointer = IndexReader(database).newest(canonical, branch)
    if pointer is None or pointer.deleted:
        raise ResourceNotFoundError(
            f"branch {branch} of {canonical} has no index", remedy="see which have: `coafi docs list`"
        )
    index = decode(open_objects(settings).get(pointer.index_digest))
    if as_json:
        print_json({**_pointer_json(settings, pointer), "index": index})
    else:
        _print(settings, pointer, index)


def _print(settings: Settings, pointer: IndexPointer, index: DocumentationIndex) -> None:
    rows = facts()
    rows.add_row("Repository", safe(pointer.repository))
    rows.add_row("Branch", safe(pointer.branch))
    rows.add_row("Commit", pointer.commit)
    rows.add_row("Generation", f"{pointer.generation}, of {pointer.updated_at}, ledger entry {pointer.entry}")
    counts = index["counts"]
    verdicts = ", ".join(f"{counts['verdicts'][name]} {styled(name)}" for name in VERDICTS if counts["verdicts"][name])
    rows.add_row("Documents", f"{counts['documents']}: {verdicts}" if verdicts else "none")
    out.print(rows)
    print_link(_url(settings, pointer))
    invalid = [document for document in index["documents"] if document["verdict"] == "invalid"]
    if not invalid:
        return
    listed = table("#Errors", "#Warnings", "Id", "Path", title="Invalid")
    for document in invalid[:SHOWN]:
        found = document.get("findings", {})
        numbers = (str(found.get(name, 0)) for name in ("error", "warning"))
        listed.add_row(*numbers, safe(document.get("documentId", "–")), safe(document["path"]))
    out.print(listed)
    if len(invalid) > SHOWN:
        out.print(f"… and {len(invalid) - SHOWN} more")


def _pointer_json(settings: Settings, pointer: IndexPointer) -> JsonObject:
    return {
        **{name: value for name, value in asdict(pointer).items() if name != "deleted"},
        "url": _url(settings, pointer),
    }


def _url(settings: Settings, pointer: IndexPointer) -> str:
    service = ServiceAddress.read(settings.home)
    base = settings.public_url or (
        service.gateway if service else f"http://{settings.gateway_host}:{settings.gateway_port}"
    )
    return f"{base.rstrip('/')}{docs_path(pointer.repository, pointer.branch)}"
