"""The page of an index in a real browser; skipped where there is no Chromium."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coafi.index.build import counts_of
from coafi.index.model import FORMAT, DocumentationIndex, IndexedDocument
from coafi.index.pages import index_page
from tests.browser import PHONE, Seen, chromium, needs_chromium, opened

pytestmark = [needs_chromium, pytest.mark.timeout(120)]

UNBROKEN = "docs/COAFI-GENERAL-00000001-SPECIFICATION-A_without_a_place_to_break_it_at_any_width.md"
WIDTHS = """[...document.querySelectorAll('.documents')].map(
    table => [...table.tBodies[0].rows[0].cells].map(cell => Math.round(cell.getBoundingClientRect().width)))"""
SPILLS = """[...document.querySelectorAll('.documents td *')].filter(one =>
    one.getBoundingClientRect().right > one.closest('td').getBoundingClientRect().right + 1)
    .map(one => one.outerHTML)"""


def document(path: str, area: str, **more: str) -> IndexedDocument:
    made: IndexedDocument = {"path": path, "blob": "1" * 40, "kind": "markdown", "verdict": "valid", "page": path}
    made.update({"area": area, **more})  # type: ignore[typeddict-item]  # names of fields
    return made


def index() -> DocumentationIndex:
    documents = [
        document("a.md", "ENG", title="A", documentId="COAFI-ENG-00001-SPECIFICATION-A", status="DRAFT"),
        document(
            "b.md", "GOV", title="A title of many words, which is longer than its column", version="v0.9-PRELIMINARY"
        ),
        document(UNBROKEN, "REG"),
    ]
    return {
        "format": FORMAT,
        "repository": "https://github.com/acme/docs",
        "branch": "main",
        "commit": "a" * 40,
        "tree": "b" * 64,
        "counts": counts_of(documents),
        "documents": documents,
    }


@contextmanager
def shown(directory: Path, *, width: int, dark: bool = False) -> Iterator[Seen]:
    """The page of that index in a browser."""
    (directory / "index.html").write_bytes(index_page(index()))
    with chromium() as browser, opened(browser, (directory / "index.html").as_uri(), width=width, dark=dark) as seen:
        yield seen


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [700, 1280])
def test_the_columns_of_all_areas_stand_below_each_other(tmp_path: Path, width: int, dark: bool) -> None:
    with shown(tmp_path, width=width, dark=dark) as seen:
        tables = seen.page.evaluate(WIDTHS)
        assert len(tables) == 3
        assert tables[0] == tables[1] == tables[2]
        assert seen.page.evaluate(SPILLS) == []
        assert not seen.overflows


def test_the_names_of_the_columns_are_seen_once_and_heard_with_every_area(tmp_path: Path) -> None:
    with shown(tmp_path, width=1280) as seen:
        heights = seen.page.eval_on_selector_all("thead", "all => all.map(one => one.getBoundingClientRect().height)")
        assert [height > 20 for height in heights] == [True, False, False]
        assert seen.page.get_by_role("columnheader").count() == 12


@pytest.mark.parametrize("width", [320, PHONE])
def test_on_a_phone_every_verdict_is_seen_without_scrolling_sideways(tmp_path: Path, width: int) -> None:
    with shown(tmp_path, width=width) as seen:
        verdicts = seen.page.get_by_role("cell").filter(has_text="valid")
        assert verdicts.count() == 3
        for number in range(3):
            box = verdicts.nth(number).bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
        assert seen.page.evaluate(SPILLS) == []
        assert not seen.overflows
