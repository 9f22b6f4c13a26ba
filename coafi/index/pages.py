"""The pages around the generated ones: an index, the findings of a document, lists and messages.

They use the frame of the generated pages: no script, nothing loaded from anywhere. An index may be searched: its form
sends what was chosen back to the page itself, so the policy allows that, and only that, in addition.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from html import escape
from importlib import resources
from urllib.parse import urlencode

from coafi.artifacts.page import STYLE, page
from coafi.documents.check import FileReport
from coafi.findings import Finding
from coafi.index.build import INDEX_JSON, counts_of
from coafi.index.model import UNCHECKED, VERDICTS, DocumentationIndex, IndexedDocument
from coafi.index.pointers import IndexPointer
from coafi.names import docs_path
from coafi.results import FileResult

PAGE_SIZE = 500
"""Documents on one page of an index."""

NO_AREA = "–"
"""Stands for the area of documents that have none, also in a selection."""

_STYLE = STYLE + resources.files("coafi.index").joinpath("index.css").read_text(encoding="utf-8")
_LONGEST_QUERY = 200
_COLUMNS = ("Document", "Id and info code", "Status and version", "Verdict")
_WORDS = {
    "valid": '<span class="status active">valid</span>',
    "invalid": '<strong class="req">invalid</strong>',
    "skipped": '<span class="status">skipped</span>',
    "deleted": '<span class="status">deleted</span>',
    UNCHECKED: '<span class="status draft">not yet checked</span>',
}


@dataclass(frozen=True)
class Selection:
    """Which documents of an index are asked for; an empty field asks for all.

    Attributes:
        q: words that must all be in title, id or path, in any case.
        area, infoCode, status, verdict: exactly these; ``NO_AREA`` for documents without an area.
    """

    q: str = ""
    area: str = ""
    infoCode: str = ""  # noqa: N815  # the wire name
    status: str = ""
    verdict: str = ""

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> "Selection":
        """What the parameters of a URL ask for; unknown ones are left alone."""
        return cls(**{one.name: parameters.get(one.name, "").strip()[:_LONGEST_QUERY] for one in fields(cls)})

    def of_documents(self, documents: Iterable[IndexedDocument]) -> list[IndexedDocument]:
        """The documents that are asked for."""
        words = self.q.casefold().split()
        return [document for document in documents if self._has(document, words)]

    def query(self, page_number: int = 1) -> str:
        """The query string that asks for this; empty when it asks for all."""
        asked = {name: value for name, value in asdict(self).items() if value}
        if page_number > 1:
            asked["page"] = str(page_number)
        return f"?{urlencode(asked)}" if asked else ""

    def _has(self, document: IndexedDocument, words: list[str]) -> bool:
        if self.verdict and document["verdict"] != self.verdict:
            return False
        if self.area and document.get("area", NO_AREA) != self.area:
            return False
        if self.infoCode and document.get("infoCode") != self.infoCode:
            return False
        if self.status and document.get("status") != self.status:
            return False
        if words:
            text = f"{document.get('title', '')}\n{document.get('documentId', '')}\n{document['path']}".casefold()
            return all(word in text for word in words)
        return True


def index_page(index: DocumentationIndex, selection: Selection | None = None, page_number: int = 1) -> bytes:
    """The page of an index: its documents by registry area, ``PAGE_SIZE`` of them.

    Args:
        selection: what is asked for; all documents by default.
        page_number: from 1; one that is too high shows the last page.
    """
    selection = selection or Selection()
    documents = selection.of_documents(index["documents"])
    documents.sort(key=lambda document: (document.get("area", "~"), document["path"]))
    pages = max(1, -(-len(documents) // PAGE_SIZE))
    number = min(max(1, page_number), pages)
    shown = documents[(number - 1) * PAGE_SIZE : number * PAGE_SIZE]
    counts = counts_of(documents)["verdicts"]
    summary = ", ".join(f"{counts[verdict]} {_verdict_words(verdict)}" for verdict in VERDICTS if counts[verdict])
    body = [
        f'<p class="lede">{_plural(len(documents), "document")}{f": {summary}" if summary else ""}.</p>',
        _facts(
            {
                "Repository": escape(index["repository"]),
                "Branch": escape(index["branch"]),
                "Commit": f"<code>{escape(index['commit'])}</code>",
                "Data": f'<a href="./{INDEX_JSON}">{INDEX_JSON}</a>',
            }
        ),
        _form(index, selection),
    ]
    if not documents:
        body.append('<p class="note">No document is like this. <a href="./">Show all documents</a>.</p>')
    area: str | None = None
    rows: list[IndexedDocument] = []
    first = True
    for document in [*shown, None]:
        here = None if document is None else document.get("area", NO_AREA)
        if rows and here != area:
            body.append(_area(area or NO_AREA, rows, first=first))
            rows, first = [], False
        area = here
        if document is not None:
            rows.append(document)
    body.append(_pages(selection, number, pages))
    title = f"{'/'.join(index['repository'].split('/')[-2:])}, {index['branch']}"
    return _allowing_form(
        page(title=title, language="en", kind="Documentation index", body="\n".join(body), style=_STYLE)
    )


def findings_page(
    path: str, result: FileResult, report: FileReport | None, history: Sequence[FileResult], *, back: str, link: str
) -> bytes:
    """What was found in one document, and its verdicts so far.

    Args:
        report: the findings; ``None`` when they are lost.
        history: the newest first.
        back: where the index is.
        link: where the document's own page is; empty when it has none.
    """
    body = [
        f"<p>{_verdict(result.verdict)}</p>",
        _facts(
            {
                "Path": f"<code>{escape(path)}</code>",
                "Checked for commit": f"<code>{escape(result.commit)}</code>",
                "Ledger entry": str(result.entry),
                "Index": f'<a href="{escape(back)}">All documents</a>',
                **({"Page": f'<a href="{escape(link)}">Read the document</a>'} if link else {}),
            }
        ),
    ]
    if report is None:
        body.append('<p class="note">The report of this check is not in the object store any more.</p>')
    elif report.findings:
        rows = "".join(_finding(finding) for finding in report.findings)
        head = '<tr><th scope="col">Line</th><th scope="col">What is wrong</th><th scope="col">What to do</th></tr>'
        table = f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"
        body.append(f"<h2>Findings</h2>{_scrolling('Findings', table)}")
    else:
        body.append("<p>There is nothing to say about it.</p>")
    if history:
        rows = "".join(
            f"<tr><td>{one.entry}</td><td><code>{escape(one.commit[:12])}</code></td><td>{_verdict(one.verdict)}</td>"
            f'<td class="right">{one.errors}</td><td class="right">{one.warnings}</td></tr>'
            for one in history
        )
        head = "".join(
            f'<th scope="col">{name}</th>' for name in ("Ledger entry", "Commit", "Verdict", "Errors", "Warnings")
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        body.append(f"<h2>Verdicts of this path</h2>{_scrolling('Verdicts of this path', table)}")
    return page(title=path, language="en", kind="Findings", body="\n".join(body))


def list_page(pointers: Sequence[IndexPointer]) -> bytes:
    """Every branch whose documentation is served."""
    rows = "".join(
        f'<tr><td><a href="{escape(docs_path(one.repository, one.branch))}">{escape(one.repository)}</a></td>'
        f"<td>{escape(one.branch)}</td><td><code>{escape(one.commit[:12])}</code></td><td>{escape(one.updated_at)}</td></tr>"
        for one in pointers
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Repository", "Branch", "Commit", "Updated"))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    body = _scrolling("Branches", table) if pointers else '<p class="note">No branch has an index yet: push to one.</p>'
    return page(title="Documentation", language="en", kind="Documentation indexes", body=body)


def message_page(title: str, text: str, *, back: str = "") -> bytes:
    """A page that only says something.

    Args:
        back: where to go on.
    """
    link = f'<p><a href="{escape(back)}">All documents</a></p>' if back else ""
    return page(title=title, language="en", kind="Documentation", body=f"<p>{escape(text)}</p>{link}")


def _form(index: DocumentationIndex, selection: Selection) -> str:
    counts = index["counts"]
    areas = dict(counts["areas"])
    if without := counts["documents"] - sum(areas.values()):
        areas[NO_AREA] = without
    choices: tuple[tuple[str, str, str, Mapping[str, int]], ...] = (
        ("area", "Area", selection.area, areas),
        ("infoCode", "Info code", selection.infoCode, counts["infoCodes"]),
        ("status", "Status", selection.status, counts["statuses"]),
        ("verdict", "Verdict", selection.verdict, {name: counts["verdicts"][name] for name in VERDICTS}),
    )
    parts = [
        '<form role="search" class="search" method="get" action="./">',
        '<div class="words"><label for="q">Title, id or path</label>'
        f'<input id="q" name="q" type="search" maxlength="{_LONGEST_QUERY}" value="{escape(selection.q)}"></div>',
    ]
    for name, label, chosen, values in choices:
        options = "".join(
            f'<option value="{escape(value)}"{" selected" if value == chosen else ""}>'
            f"{escape(_verdict_words(value) if name == 'verdict' else value)} ({count})</option>"
            for value, count in values.items()
            if count or value == chosen
        )
        if chosen and chosen not in values:
            options += f'<option value="{escape(chosen)}" selected>{escape(chosen)} (0)</option>'
        parts.append(
            f'<div><label for="{name}">{label}</label>'
            f'<select id="{name}" name="{name}"><option value="">all</option>{options}</select></div>'
        )
    parts.append('<button type="submit">Show</button></form>')
    return "".join(parts)


def _area(area: str, documents: Sequence[IndexedDocument], *, first: bool) -> str:
    """The documents of an area. The names of the columns are seen above the first area, and heard with every one."""
    name = "No area" if area == NO_AREA else area
    head = "".join(f'<th scope="col">{column}</th>' for column in _COLUMNS)
    rows = "".join(_row(document) for document in documents)
    again = "" if first else ' class="again"'
    return (
        f'<h2>{escape(name)}</h2><table class="documents" aria-label="{escape(name)}">'
        f"<colgroup>{'<col>' * len(_COLUMNS)}</colgroup>"
        f"<thead{again}><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _row(document: IndexedDocument) -> str:
    link, path = document["page"], document["path"]
    title = document.get("title")
    name = f"{escape(title)}</a><br><code>{escape(path)}</code>" if title else f"<code>{escape(path)}</code></a>"
    identity = _lines(document.get("documentId"), document.get("infoCode"))
    standing = _lines(document.get("status"), document.get("version"), document.get("date"))
    return (
        f'<tr><td><a href="{escape(link)}">{name}</td><td>{identity}</td><td>{standing}</td>'
        f"<td>{_verdict(document['verdict'])}{_count_of_findings(document)}</td></tr>"
    )


def _count_of_findings(document: IndexedDocument) -> str:
    counts = document.get("findings", {})
    named = ", ".join(_plural(count, severity) for severity, count in counts.items() if count)
    if not named:
        return ""
    separator = "&amp;" if "?" in document["page"] else "?"
    return f'<br><a href="{escape(document["page"])}{separator}findings">{named}</a>'


def _finding(finding: Finding) -> str:
    place = "" if finding.line is None else str(finding.line)
    if finding.column is not None:
        place += f":{finding.column}"
    severity = '<strong class="req">error</strong>' if finding.severity == "error" else escape(finding.severity)
    return (
        f"<tr><td>{place}</td><td>{severity} <code>{escape(finding.rule)}</code><br>{escape(finding.message)}</td>"
        f"<td>{escape(finding.remedy)}</td></tr>"
    )


def _pages(selection: Selection, number: int, pages: int) -> str:
    if pages == 1:
        return ""
    before = f'<a rel="prev" href="./{escape(selection.query(number - 1))}">Previous</a> ' if number > 1 else ""
    after = f' <a rel="next" href="./{escape(selection.query(number + 1))}">Next</a>' if number < pages else ""
    return f'<nav aria-label="Pages"><p>{before}Page {number} of {pages}{after}</p></nav>'


def _facts(values: Mapping[str, str]) -> str:
    rows = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in values.items())
    return f'<div class="scroll"><dl class="meta">{rows}</dl></div>'


def _scrolling(label: str, table: str) -> str:
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">{table}</div>'


def _lines(*values: str | None) -> str:
    return "<br>".join(f"<span>{escape(value)}</span>" for value in values if value)


def _verdict(verdict: str) -> str:
    return _WORDS.get(verdict, escape(verdict))


def _verdict_words(verdict: str) -> str:
    return "not yet checked" if verdict == UNCHECKED else verdict


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 or noun == 'info' else 's'}"


def _allowing_form(html: bytes) -> bytes:
    """The page with a policy that lets it send its form to its own origin."""
    return html.replace(b"form-action 'none'", b"form-action 'self'", 1)
