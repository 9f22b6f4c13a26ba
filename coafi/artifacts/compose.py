"""What a page shows depends on its document alone; where it stands and where it came from are added here.

A generated page is the same wherever its document lies, so it has *marks*: places for what only whoever serves or
exports it can know. Filling them is cheap and pure. A page whose marks were never filled reads as well, without them.

No document can forge a mark. Each begins with ``<name data-coafi="word"``: in text every ``<`` is escaped, in values of
attributes every ``"`` is, and the sanitiser lets no attribute of that name through.
"""

import re
from dataclasses import dataclass
from html import escape, unescape

from pydantic import BaseModel, ConfigDict, Field

from coafi.artifacts import links
from coafi.canonical import Sha256

PLACE = '<p class="place" data-coafi="place"></p>'
"""Where the file's place in its repository appears, above the title."""
ORIGIN = '<footer id="coafi-origin" data-coafi="origin"></footer>'
"""Where the panel appears that says where the page came from."""
LINK = '<a data-coafi="link" href="'
"""How a link begins that leads to another place in the repository; its value and the other attributes follow."""
IMAGE = '<img data-coafi="image" src="'
"""How an image begins that lies in the repository."""

_REFERENCE = re.compile(rb'<(a data-coafi="link" href|img data-coafi="image" src)="([^"]*)"')
_DATA = re.compile(rb' data-coafi="[a-z]+"')
_INDEX = "README.md"


@dataclass(frozen=True, slots=True)
class PageLocation:
    """Where a page stands.

    Attributes:
        path: of the document within its repository. The page's address ends with it, and addresses of other files of
            the repository differ from it in this part only.
        exported: for pages that are written to disk under the path and ``.html``: the paths of all documents that are
            exported so. ``None`` where pages are served under the documents' own paths.
    """

    path: str
    exported: frozenset[str] | None = None


class Provenance(BaseModel):
    """Where a page came from, and what proves it.

    Attributes:
        repository: its URL.
        branch: that was pushed; ``None`` when it is not known.
        commit: full id.
        path: of the document in it.
        blob: git's id of the document's content.
        event: id of the event.
        utids: the event's permanent UTidS.
        artifact: SHA-256 of the page as it was generated, before this was added.
        generator: version of the generator that made it.
        file_entry: ledger index of the file's ``FILE_PROCESSED``.
        artifact_entry: ledger index of the page's ``ARTIFACT_GENERATED``.
        receipt: ledger index of the event's conclusion; ``None`` while it has none.
    """

    model_config = ConfigDict(frozen=True)

    repository: str
    branch: str | None = None
    commit: str
    path: str
    blob: str
    event: str
    utids: str
    artifact: Sha256
    generator: str
    file_entry: int = Field(ge=0)
    artifact_entry: int = Field(ge=0)
    receipt: int | None = Field(default=None, ge=0)


def compose(page: bytes, *, location: PageLocation, provenance: Provenance | None = None) -> bytes:
    """Fill the marks of a generated page: pure, linear in its size.

    Links that begin at the repository's root become relative to the page, and none leads out of the repository. In an
    export, links to exported documents get the suffix ``.html``; so do those to a directory whose ``README.md`` is
    exported. Everything that is filled in is escaped.

    Args:
        page: as it was generated; anything else comes back as it is.
        location: where the page stands.
        provenance: where it came from; without it the places for it stay empty.
    """
    page = _REFERENCE.sub(lambda found: _reference(found, location), page)
    place, origin = (_place(provenance), _origin(provenance)) if provenance else (b"", b"")
    return page.replace(PLACE.encode(), place, 1).replace(ORIGIN.encode(), origin, 1)


def _reference(found: re.Match[bytes], location: PageLocation) -> bytes:
    mark, value = _DATA.sub(b"", found[1]), found[2]
    url = unescape(value.decode("utf-8", "replace"))
    moved = _moved(url, location) if mark.startswith(b"a") else _kept(url, location)
    if moved != url:
        value = escape(moved).encode("utf-8", "replace")
    return b'<%s="%s"' % (mark, value)


def _kept(url: str, location: PageLocation) -> str:
    """The URL of a file that lies where the repository has it."""
    if not links.climbs(url, location.path):
        return url
    path, rest = links.from_root(url, location.path)
    return links.from_page(path, location.path) + rest


def _moved(url: str, location: PageLocation) -> str:
    """The URL of a file that may be a document, which an export writes under another name."""
    if location.exported is None:
        return _kept(url, location)
    path, rest = links.from_root(url, location.path)
    index = f"{path.rstrip('/')}/{_INDEX}".removeprefix("/")
    for name in (path, index):
        if links.plain(name) in location.exported:
            return f"{links.from_page(name, location.path)}.html{rest}"
    return _kept(url, location)


def _place(provenance: Provenance) -> bytes:
    branch = f" on <b>{escape(provenance.branch)}</b>" if provenance.branch is not None else ""
    return (
        f'<p class="place"><span class="path">{escape(provenance.path)}</span>{branch} at '
        f'<code>{escape(provenance.commit[:12])}</code> · <a href="#coafi-origin">Where this page comes from</a></p>'
    ).encode("utf-8", "replace")


def _origin(provenance: Provenance) -> bytes:
    one = provenance
    proofs = [
        (one.file_entry, "the file was checked and is valid"),
        (one.artifact_entry, "this page was generated from it"),
        *([(one.receipt, "the event is done, and what it recorded: the receipt")] if one.receipt is not None else []),
    ]
    rows = [
        ("Repository", escape(one.repository)),
        *([("Branch", escape(one.branch))] if one.branch is not None else []),
        ("Commit", f"<code>{escape(one.commit)}</code>"),
        ("Path", escape(one.path)),
        ("Content", f"git blob <code>{escape(one.blob)}</code>"),
        ("Event", f"<code>{escape(one.event)}</code>"),
        ("UTidS", f"<code>{escape(one.utids)}</code>"),
        ("Page", f"SHA-256 <code>{escape(one.artifact)}</code>, generator {escape(one.generator)}"),
    ]
    facts = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in rows)
    entries = "".join(
        f'<tr><td class="right">{index}</td><td>{said}</td><td><code>coafi ledger prove {index}</code></td></tr>'
        for index, said in proofs
    )
    return (
        '<footer id="coafi-origin" class="origin"><h2>Where this page comes from</h2>'
        f'<dl class="meta">{facts}</dl>'
        "<h3>How to prove it</h3>"
        "<p>Facts about this page stand in the ledger. Each command makes a proof that can be checked without "
        "the service, with the ledger’s public key alone. The entry of the page names its SHA-256: that of the page as "
        "it was generated, before this panel was added and its links were fitted to where it stands.</p>"
        '<div class="scroll" role="group" aria-label="Ledger entries" tabindex="0"><table><thead><tr>'
        '<th scope="col" class="right">Entry</th><th scope="col">What it says</th><th scope="col">Proof</th>'
        f"</tr></thead><tbody>{entries}</tbody></table></div></footer>"
    ).encode("utf-8", "replace")
