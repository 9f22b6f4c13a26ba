"""The reference of the API in a real browser; skipped where there is no Chromium."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
from playwright.sync_api import Browser

from coafi.api.pages import reference_page
from coafi.api.routes import ROUTES
from coafi.api.words import ERRORS, OPERATIONS
from tests.browser import PHONE, chromium, needs_chromium, opened
from tests.coafi.api.test_openapi import made
from tests.coafi.artifacts.site import served
from tests.coafi.artifacts.test_browser import CONTRAST

pytestmark = [needs_chromium, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("reference")
    (directory / "api").mkdir()
    (directory / "api" / "index.html").write_bytes(reference_page(made()))
    with served(directory) as address:
        yield f"{address}/api/"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as one:
        yield one


@pytest.mark.parametrize("width", [320, PHONE, 800, 1280])
def test_it_is_not_wider_than_its_window(url: str, browser: Browser, width: int) -> None:
    with opened(browser, url, width=width) as seen:
        assert seen.page.evaluate("document.documentElement.scrollWidth") == width
        seen.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        wide = seen.page.evaluate(
            """[...document.querySelectorAll('body *')]
            .filter(one => !one.closest('.scroll, pre, .skip, .vh, thead') && one.checkVisibility())
            .filter(one => one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML)"""
        )
        assert wide == []
        assert not seen.overflows


def test_a_phone_shows_whole_tables_without_scrolling_sideways(url: str, browser: Browser) -> None:
    with opened(browser, url, width=PHONE) as seen:
        tables = seen.page.evaluate(
            "[...document.querySelectorAll('.scroll')].map(one => [one.scrollWidth, one.clientWidth])"
        )
        assert len(tables) > 2 * len(ROUTES)
        assert all(inner <= outer for inner, outer in tables)


def test_nothing_is_loaded_and_no_script_is_in_it(url: str, browser: Browser) -> None:
    with opened(browser, "about:blank") as seen:
        asked: list[str] = []
        seen.page.on("request", lambda request: asked.append(request.url))
        seen.page.goto(url)
        assert asked == [url]
        assert seen.page.locator("script, iframe, img, link").count() == 0


def test_every_link_within_it_leads_somewhere_and_ids_are_unique(url: str, browser: Browser) -> None:
    with opened(browser, url) as seen:
        links = seen.page.evaluate("[...document.querySelectorAll('a[href^=\"#\"]')].map(one => one.hash.slice(1))")
        ids = seen.page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
        assert len(ids) == len(set(ids))
        assert set(links) <= set(ids)
        assert {words.id for words in OPERATIONS.values()} <= set(links), "the contents lead to every operation"
        assert {f"error-{status}" for status in ERRORS} <= set(ids)


def test_one_gets_from_the_contents_to_an_operation_and_on_to_its_answer(url: str, browser: Browser) -> None:
    with opened(browser, url, width=PHONE) as seen:
        page = seen.page
        page.get_by_text("Contents", exact=True).click()
        page.locator(".toc").get_by_role("link", name="Search entries").click()
        assert page.evaluate("document.querySelector(':target').id") == "searchEntries"
        page.locator("section:has(#searchEntries)").get_by_role("link", name="EntryPage").click()
        assert page.evaluate("document.querySelector(':target').id") == "schema-EntryPage"
        page.locator("section:has(#schema-EntryPage)").get_by_role("link", name="EntrySummary").click()
        assert page.locator(":target").inner_text() == "EntrySummary"


def test_an_example_of_an_answer_unfolds(url: str, browser: Browser) -> None:
    with opened(browser, url) as seen:
        operation = seen.page.locator("section:has(#updateEntry)")
        assert not operation.get_by_text('"wing-spar-12"').last.is_visible()
        operation.get_by_text("Answer, 201").click()
        assert operation.locator("details pre").is_visible()


def test_the_keyboard_reaches_content_code_and_tables(url: str, browser: Browser) -> None:
    with opened(browser, url) as seen:
        seen.page.keyboard.press("Tab")
        assert seen.page.evaluate("document.activeElement.className") == "skip"
        seen.page.keyboard.press("Enter")
        assert seen.page.evaluate("document.activeElement.id") == "coafi-content"
        frames = seen.page.evaluate("[...document.querySelectorAll('pre, .scroll')].map(one => one.tabIndex)")
        assert set(frames) == {0}
        unnamed = seen.page.evaluate(
            "[...document.querySelectorAll('[role=region]')].filter(one => !one.ariaLabel).length"
        )
        assert unnamed == 0


def test_landmarks_and_headings_are_in_order(url: str, browser: Browser) -> None:
    with opened(browser, url) as seen:
        for landmark in ("banner", "main", "navigation"):
            assert seen.page.get_by_role(landmark).count() == 1, landmark
        levels = seen.page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(one => +one.tagName[1])")
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
        assert seen.page.locator("th:not([scope])").count() == 0


def test_it_prints_on_paper(url: str, browser: Browser) -> None:
    with opened(browser, url, dark=True) as seen:
        assert seen.page.pdf(format="A4").startswith(b"%PDF")
        seen.page.emulate_media(media="print")
        assert seen.page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
        assert not seen.page.locator(".toc").first.is_visible()


@pytest.mark.parametrize("width", [PHONE, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_all_text_has_the_contrast_of_wcag_aa(url: str, browser: Browser, dark: bool, width: int) -> None:
    with opened(browser, url, dark=dark, width=width) as seen:
        seen.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert seen.page.evaluate(CONTRAST) == []
