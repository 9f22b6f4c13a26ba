"""The page of a compliance report: one file, no script, its plots drawn in it as SVG."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from coafi.artifacts.page import page
from coafi.index.model import VERDICTS

if TYPE_CHECKING:
    from coafi.tasks.compliance_report import ComplianceReport, TrendPoint

_COLOURS: Mapping[str, str] = {"invalid": "#b3261e", "unchecked": "#8a6d00", "skipped": "#6b7280", "valid": "#1a7f37"}
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 720, 240, 44, 28, 12
_BAR = 22
_SHOWN_FINDINGS = 500
_SHOWN_STATUSES = 20


def report_page(report: "ComplianceReport", title: str) -> bytes:
    """The page; the same bytes for the same report."""
    findings = ", ".join(f"{count} {severity}s" for severity, count in report.findings.items()) or "none"
    body = [
        f'<p class="lede">{report.documents} documents on {len(report.branches)} branches, as of {escape(report.due)}. '
        f"Open findings: {findings}.</p>",
        "<h2>Verdicts by status</h2>",
        _bars(report),
        _table(
            ["Status", *VERDICTS],
            [[status, *(str(counts.get(one, 0)) for one in VERDICTS)] for status, counts in report.statuses.items()],
        ),
        "<h2>Trend</h2>",
        _trend(report.trend),
        _table(
            ["Report", "Documents", *VERDICTS, "Errors", "Warnings"],
            [
                [
                    point.due,
                    str(point.documents),
                    *(str(point.verdicts.get(one, 0)) for one in VERDICTS),
                    str(point.findings.get("error", 0)),
                    str(point.findings.get("warning", 0)),
                ]
                for point in reversed(report.trend)
            ],
        ),
        "<h2>Branches</h2>",
        _table(
            ["Repository", "Branch", "Commit", "Documents", *VERDICTS, "Ledger entry"],
            [
                [
                    one.repository,
                    one.branch,
                    one.commit[:12],
                    str(one.documents),
                    *(str(one.verdicts.get(verdict, 0)) for verdict in VERDICTS),
                    str(one.entry),
                ]
                for one in report.branches
            ],
        ),
        "<h2>Open findings</h2>",
        _table(["Rule", "Findings"], [[rule, str(count)] for rule, count in report.rules.items()]),
        _table(
            ["Severity", "Document", "Rule", "Finding"],
            [
                [
                    one.severity,
                    f"{one.path}{'' if one.line is None else f':{one.line}'} ({one.branch})",
                    one.rule,
                    one.message,
                ]
                for one in report.open[:_SHOWN_FINDINGS]
            ],
        ),
    ]
    if sum(report.findings.values()) > _SHOWN_FINDINGS:
        body.append(f'<p class="note">The first {_SHOWN_FINDINGS} are shown; report.json has more.</p>')
    if report.damaged:
        body.append("<h2>Not readable</h2>" + _table(["What"], [[one] for one in report.damaged]))
    return page(title=title, language="en", kind="Report", body="\n".join(body))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return '<p class="note">None.</p>'
    head = "".join(f"<th>{escape(one.capitalize() if one in VERDICTS else one)}</th>" for one in heads)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    label = f"Table of {len(rows)} rows: {escape(heads[0])}"
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
    return _scrolling(label, table)


def _scrolling(label: str, content: str) -> str:
    """What is wider than a phone: it scrolls by itself, and the page does not."""
    return f'<div class="scroll" role="group" aria-label="{label}" tabindex="0">{content}</div>'


def _bars(report: "ComplianceReport") -> str:
    """For every status a bar, with a part for every verdict."""
    rows = sorted(report.statuses.items(), key=lambda item: (-sum(item[1].values()), item[0]))[:_SHOWN_STATUSES]
    if not rows:
        return ""
    longest = max(sum(counts.values()) for _, counts in rows)
    left, right = 150, 60
    parts: list[str] = []
    for number, (status, counts) in enumerate(rows):
        y = number * (_BAR + 6)
        parts.append(_text(left - 6, y + 15, status[:24], anchor="end"))
        x = float(left)
        for verdict in VERDICTS:
            count = counts.get(verdict, 0)
            width = (_WIDTH - left - right) * count / longest
            if count:
                parts.append(
                    f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{_COLOURS[verdict]}">'
                    f"<title>{escape(status)}: {count} {verdict}</title></rect>"
                )
            x += width
        parts.append(_text(x + 5, y + 15, str(sum(counts.values()))))
    return _scrolling(
        "Plot by status", _svg(len(rows) * (_BAR + 6), parts, "Documents by status and verdict") + _legend()
    )


def _trend(points: "Sequence[TrendPoint]") -> str:
    """For every verdict a line over the reports."""
    most = max([1, *(count for point in points for count in point.verdicts.values())])
    plot_width, plot_height = _WIDTH - _LEFT - 10, _HEIGHT - _TOP - _BOTTOM

    def at(number: int, count: int) -> tuple[float, float]:
        x = _LEFT + (plot_width * number / (len(points) - 1) if len(points) > 1 else plot_width / 2)
        return x, _TOP + plot_height * (1 - count / most)

    floor = _TOP + plot_height
    parts = [f'<path d="M{_LEFT} {_TOP}V{floor}H{_WIDTH - 10}" fill="none" stroke="currentColor"/>']
    parts += [_text(_LEFT - 6, _TOP + 10, str(most), anchor="end"), _text(_LEFT - 6, floor, "0", anchor="end")]
    for verdict in VERDICTS:
        places = [at(number, point.verdicts.get(verdict, 0)) for number, point in enumerate(points)]
        if len(places) > 1:
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{_COLOURS[verdict]}" stroke-width="2"/>')
        for (x, y), point in zip(places, points, strict=True):
            said = f"{escape(point.due)}: {point.verdicts.get(verdict, 0)} {verdict}"
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{_COLOURS[verdict]}"><title>{said}</title></circle>'
            )
    parts.append(_text(_LEFT, _HEIGHT - 8, points[0].due[:10]))
    if len(points) > 1:
        parts.append(_text(_WIDTH - 10, _HEIGHT - 8, points[-1].due[:10], anchor="end"))
    return _scrolling("Plot over time", _svg(_HEIGHT, parts, "Documents by verdict over the reports") + _legend())


def _legend() -> str:
    parts = []
    for number, verdict in enumerate(VERDICTS):
        x = number * 120
        parts.append(f'<rect x="{x}" y="4" width="12" height="12" fill="{_COLOURS[verdict]}"/>')
        parts.append(_text(x + 18, 15, verdict))
    return _svg(22, parts, "What the colours mean")


def _svg(height: int, parts: Sequence[str], what: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(what)}">{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="12" text-anchor="{anchor}" fill="currentColor">{escape(text)}</text>'
    )
