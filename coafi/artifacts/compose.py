"""What a page shows depends on its document alone; where it stands and where it came from are added here.

A generated page is the same wherever its document lies, so it has *marks*: places for what only whoever serves or
exports it can know. Filling them is cheap and pure. A page whose marks were never filled reads as well, without them.

No document can forge a mark. Each begins with ``<name data-coafi="word"``: in text every ``<`` is escaped, in values of
attributes every ``"`` is, and the sanitiser lets no attribute of that name through.

A composed page still tells what was filled in: :func:`restore` gives back the page as it was generated, whose SHA-256
the ledger names, and refuses a page that says anything which neither the generator nor ``compose`` put there.
"""

import json
import re
from dataclasses import dataclass
from html import escape, unescape
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from coafi.artifacts import links
from coafi.canonical import Sha256
from coafi.errors import ValidationError

PLACE = '<p class="place" data-coafi="place"></p>'
"""Where the file's place in its repository appears, above the title."""
ORIGIN = '<footer id="coafi-origin" data-coafi="origin"></footer>'
"""Where the panel appears that says where the page came from."""
LINK = '<a data-coafi="link" href="'
"""How a link begins that leads to another place in the repository; its value and the other attributes follow."""
IMAGE = '<img data-coafi="image" src="'
"""How an image begins that lies in the repository."""

_REFERENCE = re.compile(rb'<(a data-coafi="link"|img data-coafi="image") (href|src)="([^"]*)"')
_MOVED = re.compile(rb'<(a data-coafi="link"|img data-coafi="image") data-coafi-was="([^"]*)" (href|src)="([^"]*)"')
_PLACE = b'<p class="place" data-coafi="place">'
_ORIGIN = b'<footer id="coafi-origin" data-coafi="origin" data-coafi-facts="'
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
    served = location.exported is None
    place, origin = (_place(provenance, served=served), _origin(provenance)) if provenance else (b"", b"")
    return page.replace(PLACE.encode(), place, 1).replace(ORIGIN.encode(), origin, 1)


class Restored(NamedTuple):
    """A page as it was generated, and what ``compose`` had filled in."""

    page: bytes
    provenance: Provenance


def restore(page: bytes) -> Restored:
    """Undo :func:`compose`, where there was provenance: linear in the size of the page.

    Whatever ``compose`` added is compared with what it would add, so the page as it was generated vouches for the rest.

    Raises:
        ValidationError: this is no composed page, or somebody changed what was filled in.
    """
    place = _between(page, _PLACE, b"</p>")
    origin = _between(page, _ORIGIN, b"</footer>")
    facts, _, _ = page[origin].removeprefix(_ORIGIN).partition(b'"')
    try:
        provenance = Provenance.model_validate(json.loads(unescape(facts.decode())))
    except (ValueError, RecursionError):  # of UTF-8, JSON or pydantic
        raise _not_composed("what the panel at its end says cannot be read") from None
    if page[origin] != _origin(provenance):
        raise _not_composed("the panel at its end is not what was put there")
    if page[place] not in (_place(provenance, served=True), _place(provenance, served=False)):
        raise _not_composed("the line above its title is not what was put there")
    if place.start < origin.start:
        parts = (page[: place.start], PLACE.encode(), page[place.stop : origin.start], ORIGIN.encode())
        rest = page[origin.stop :]
    else:
        raise _not_composed("its panel stands before its title")
    location = PageLocation(provenance.path)
    return Restored(_MOVED.sub(lambda found: _as_it_was(found, location), b"".join(parts) + rest), provenance)


def _reference(found: re.Match[bytes], location: PageLocation) -> bytes:
    mark, attribute, value = found.groups()
    url = unescape(value.decode("utf-8", "replace"))
    moved = _moved(url, location) if mark.startswith(b"a") else _kept(url, location)
    if moved == url:
        return found[0]
    return b'<%s data-coafi-was="%s" %s="%s"' % (mark, value, attribute, _value(moved))


def _as_it_was(found: re.Match[bytes], location: PageLocation) -> bytes:
    """A reference as it was generated, once it is found to lead where ``compose`` makes it lead."""
    mark, was, attribute, value = found.groups()
    url = unescape(was.decode("utf-8", "replace"))
    fitting = [_kept(url, location)]
    if mark.startswith(b"a"):
        path, rest = links.from_root(url, location.path)
        fitting += [_exported(name, location, rest) for name in _names(path)]
    if value not in map(_value, fitting):
        shown = value[:100].decode("utf-8", "replace")
        raise _not_composed(f"a link in it was {url[:100]!r} and leads to {shown!r}")
    return b'<%s %s="%s"' % (mark, attribute, was)


def _value(url: str) -> bytes:
    return escape(url).encode("utf-8", "replace")


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
    for name in _names(path):
        if links.plain(name) in location.exported:
            return _exported(name, location, rest)
    return _kept(url, location)


def _names(path: str) -> tuple[str, str]:
    """The documents that a link to ``path`` may mean."""
    return path, f"{path.rstrip('/')}/{_INDEX}".removeprefix("/")


def _exported(name: str, location: PageLocation, rest: str) -> str:
    return f"{links.from_page(name, location.path)}.html{rest}"


def _between(page: bytes, begin: bytes, end: bytes) -> slice:
    """Where the one part of a page is that begins and ends so."""
    start = page.find(begin)
    stop = page.find(end, start)
    if start < 0 or stop < 0 or page.count(begin) > 1:
        raise _not_composed("it does not say where it comes from")
    return slice(start, stop + len(end))


def _not_composed(problem: str) -> ValidationError:
    return ValidationError(
        f"this is not a page as the service shows it: {problem}", remedy="get the page again, byte for byte"
    )


def _place(provenance: Provenance, *, served: bool) -> bytes:
    """The line above the title; where pages are served, with the ways to the index and to what was found."""
    one = provenance
    branch = f" on <b>{escape(one.branch)}</b>" if one.branch is not None else ""
    parts = [
        f'<span class="path">{escape(one.path)}</span>{branch} at <code>{escape(one.commit[:12])}</code>',
        '<a href="#coafi-origin">Where this page comes from</a>',
    ]
    if served:
        index = "../" * one.path.count("/") or "./"
        parts = [f'<a href="{index}">All documents</a>', *parts, '<a href="?findings">Findings</a>']
    return f"{_PLACE.decode()}{' · '.join(parts)}</p>".encode("utf-8", "replace")


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
    entries = "".join(f'<tr><td class="right">{index}</td><td>{said}</td></tr>' for index, said in proofs)
    told = json.dumps(one.model_dump(exclude_none=True), sort_keys=True)
    return (
        f'{_ORIGIN.decode()}{escape(told)}" class="origin"><h2>Where this page comes from</h2>'
        f'<dl class="meta">{facts}</dl>'
        "<h3>How to prove it</h3>"
        "<p>These entries of the ledger say so. The service exports them as a receipt:</p>"
        f"<p><code>coafi receipt {escape(one.utids)} -o receipt.json</code></p>"
        "<p>Anybody can then check this very file, without the service, by the ledger’s public key alone:</p>"
        "<p><code>coafi receipt verify receipt.json --artifact page.html --key ledger.vkey</code></p>"
        "<p>The SHA-256 is that of the page as it was generated, before this panel was added and its links were fitted "
        "to where it stands; the command takes both away again.</p>"
        '<div class="scroll" role="group" aria-label="Ledger entries" tabindex="0"><table><thead><tr>'
        '<th scope="col" class="right">Entry</th><th scope="col">What it says</th>'
        f"</tr></thead><tbody>{entries}</tbody></table></div></footer>"
    ).encode("utf-8", "replace")
