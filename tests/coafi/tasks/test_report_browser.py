"""The page of a report, as a person sees it."""

from pathlib import Path

import pytest

from coafi.index.model import VERDICTS
from coafi.tasks.compliance_report import BranchReport, ComplianceReport, OpenFinding, TrendPoint
from coafi.tasks.report_page import report_page
from tests.browser import PHONE, chromium, needs_chromium, opened

pytestmark = [needs_chromium, pytest.mark.timeout(120)]

COUNTS = dict.fromkeys(VERDICTS, 7)


def test_the_page_of_a_report_fits_a_phone_and_complains_of_nothing(tmp_path: Path) -> None:
    repository = "https://git.example.org/engineering/a-repository-with-a-long-name"
    report = ComplianceReport(
        due="2026-11-27T06:00:00.000Z",
        documents=28,
        verdicts=COUNTS,
        statuses={"ACTIVE": COUNTS, "A STATUS THAT SOMEBODY MADE UP": COUNTS},
        findings={"error": 1},
        rules={"front-matter/required": 1},
        branches=(
            BranchReport(
                repository=repository,
                branch="main",
                commit="a" * 40,
                generation=1,
                index="b" * 64,
                entry=12,
                documents=28,
                verdicts=COUNTS,
                statuses={"ACTIVE": 28},
            ),
        ),
        open=(
            OpenFinding(
                repository=repository,
                branch="main",
                path=f"docs/{'x' * 80}.md",
                line=1,
                severity="error",
                rule="front-matter/required",
                message="no author",
            ),
        ),
        trend=tuple(
            TrendPoint(due=f"2026-11-{day:02}T06:00:00.000Z", documents=28, verdicts=COUNTS, findings={"error": day})
            for day in (13, 20, 27)
        ),
    )
    file = tmp_path / "report.html"
    file.write_bytes(report_page(report, "Compliance report"))
    with chromium() as browser:
        for width in (1280, PHONE):
            for dark in (False, True):
                with opened(browser, file.as_uri(), width=width, dark=dark) as seen:
                    assert not seen.overflows
                    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
                    assert seen.page.locator("svg").count() == 4
