"""The pages in a real browser; skipped where there is no Chromium."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, Page

from coafi.artifacts.compose import PageLocation, compose
from coafi.artifacts.generate import generate
from coafi.artifacts.model import ArtifactKind, GeneratorConfig
from coafi.documents.svg import clean_svg
from tests.browser import chromium, needs_chromium, opened
from tests.coafi.artifacts.site import GOLDEN, documents, provenance, served, write_site
from tests.coafi.artifacts.test_markdown import ATTACKS
from tests.coafi.documents.samples import SVG, check
from tests.coafi.documents.test_svg import ATTACKS as DRAWINGS
from tests.strength import size

DOCUMENTS = sorted(path.name for path in GOLDEN.iterdir() if path.is_file())

pytestmark = [needs_chromium, pytest.mark.timeout(120)]
every_document = pytest.mark.parametrize("name", DOCUMENTS)


@dataclass
class Site:
    """The sample on disk and over HTTP."""

    directory: Path
    address: str

    def url(self, name: str) -> str:
        """The page of a golden document."""
        return f"{self.address}/docs/{name}.html"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    write_site(directory)
    with served(directory) as address:
        yield Site(directory, address)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def load_images(page: Page) -> list[int]:
    """The widths of all images, once they are there: those below would wait to be scrolled to."""
    widths: list[int] = page.evaluate(
        """async () => {
            const images = [...document.images];
            for (const image of images) image.loading = 'eager';
            await Promise.all(images.map(image => image.decode().catch(() => null)));
            return images.map(image => image.naturalWidth);
        }"""
    )
    return widths


@every_document
@pytest.mark.parametrize("width", [320, 390, 800, 1280])
def test_no_page_is_wider_than_its_window(site: Site, browser: Browser, name: str, width: int) -> None:
    with opened(browser, site.url(name), width=width) as seen:
        assert seen.page.evaluate("document.documentElement.scrollWidth") == width
        wide = seen.page.evaluate(
            """[...document.querySelectorAll('body *')]
            .filter(one => !one.closest('.scroll, pre, .tree, .skip, .vh') && one.checkVisibility())
            .filter(one => one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML)"""
        )
        assert wide == []


@every_document
def test_images_are_shown_and_nothing_is_loaded_from_elsewhere(site: Site, browser: Browser, name: str) -> None:
    with opened(browser, "about:blank") as seen:
        asked: list[str] = []
        seen.page.on("request", lambda request: asked.append(request.url))
        seen.page.goto(site.url(name))
        assert all(load_images(seen.page))
        assert all(url.startswith(site.address) for url in asked)
        assert seen.page.title() != "broken"


@every_document
def test_links_lead_to_pages_that_exist(site: Site, browser: Browser, name: str) -> None:
    with opened(browser, site.url(name)) as seen:
        links = seen.page.evaluate("[...document.querySelectorAll('a[href]')].map(one => one.href)")
        ours = [urlsplit(link) for link in links if link.startswith(site.address)]
        assert ours
        for link in ours:
            path = site.directory / unquote(link.path).removeprefix("/")
            known = unquote(link.path).removeprefix("/") in UNWRITTEN or path.exists()
            assert known, link.path
            if link.fragment and path.suffix == ".html" and link.path.endswith(f"{name}.html"):
                assert seen.page.locator(f'[id="{unquote(link.fragment)}"]').count() == 1


UNWRITTEN = {"docs/rota/2025 June.md", "events/handlers.md"}
"""What the golden documents link to and no document is."""


def test_one_gets_from_page_to_page_and_back(site: Site, browser: Browser) -> None:
    with opened(browser, f"{site.address}/README.md.html") as seen:
        seen.page.get_by_role("link", name="Handbook").click()
        assert seen.page.locator("h1").inner_text() == "Handbook of the Flight Data Registry"
        seen.page.get_by_role("link", name="all schemas").click()
        seen.page.get_by_role("link", name="the handbook").click()
        assert seen.page.url.endswith("/docs/handbook.md.html#fields")
        assert seen.page.evaluate("document.querySelector(':target').id") == "fields"


def test_an_export_works_from_the_disk(site: Site, browser: Browser) -> None:
    with opened(browser, (site.directory / "docs/handbook.md.html").as_uri()) as seen:
        assert load_images(seen.page) == [96, 640]
        seen.page.get_by_role("link", name="the specification").click()
        assert seen.page.url == (site.directory / "docs/specification.md.html").as_uri() + "#2-form"


def test_the_table_of_contents_folds_on_a_phone_and_stands_beside_the_text_elsewhere(
    site: Site, browser: Browser
) -> None:
    with opened(browser, site.url("handbook.md"), width=390) as seen:
        entry = seen.page.locator(".toc").get_by_role("link", name="Fields")
        assert not entry.is_visible()
        seen.page.get_by_text("Contents").click()
        entry.click()
        assert seen.page.url.endswith("#fields")
    with opened(browser, site.url("handbook.md"), width=1280) as seen:
        entry = seen.page.locator(".toc").get_by_role("link", name="Fields")
        assert entry.is_visible()
        beside, text = entry.bounding_box(), seen.page.locator("main").bounding_box()
        assert beside is not None
        assert text is not None
        assert beside["x"] > text["x"] + text["width"]


def test_the_keyboard_reaches_content_code_and_tables(site: Site, browser: Browser) -> None:
    with opened(browser, site.url("handbook.md")) as seen:
        page = seen.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        assert page.locator(".skip").bounding_box()["x"] >= 0  # type: ignore[index]  # it is shown when it has the focus
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "coafi-content"
        frames = page.evaluate("[...document.querySelectorAll('pre, .scroll')].map(one => one.tabIndex)")
        assert set(frames) == {0}
        page.locator("pre").first.focus()
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"


@every_document
def test_landmarks_and_headings_are_in_order(site: Site, browser: Browser, name: str) -> None:
    with opened(browser, site.url(name)) as seen:
        page = seen.page
        for landmark in ("banner", "main", "contentinfo"):
            assert page.get_by_role(landmark).count() == 1, landmark
        levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(one => +one.tagName[1])")
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
        assert page.locator("img:not([alt])").count() == 0


@every_document
def test_a_page_prints_on_paper(site: Site, browser: Browser, name: str) -> None:
    with opened(browser, site.url(name), dark=True) as seen:
        assert seen.page.pdf(format="A4").startswith(b"%PDF")
        seen.page.emulate_media(media="print")
        assert seen.page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
        assert not seen.page.locator(".toc").first.is_visible()


@contextmanager
def guarded(browser: Browser, address: str) -> Iterator[Page]:
    """A page that must ask for nothing elsewhere, open no dialog and keep its title."""
    with opened(browser, "about:blank") as seen:
        wrong: list[str] = []
        seen.page.on("dialog", lambda dialog: wrong.append(dialog.message))
        seen.page.on("request", lambda one: wrong.append(one.url) if not one.url.startswith(address) else None)
        yield seen.page
        seen.complaints.clear()  # Images that nobody has are no harm here.
    assert wrong == []


@pytest.mark.also_in_soak
def test_a_hostile_drawing_that_is_opened_on_its_own_does_nothing(browser: Browser, tmp_path: Path) -> None:
    drawings = list(DRAWINGS)[:: size(4, soak=1)]
    for number, attack in enumerate(drawings):
        text = SVG % f"<title>quiet</title>{attack}<path id='there' d='M0 0h9v9z'/>"
        (tmp_path / f"{number}.svg").write_bytes(clean_svg(text.replace("alert(1)", ALARM).encode()).content)
    with served(tmp_path) as address, guarded(browser, address) as page:
        for number, attack in enumerate(drawings):
            page.goto(f"{address}/{number}.svg")
            page.locator("#there").dispatch_event("click")
            assert page.title() == "quiet", attack


@pytest.mark.also_in_soak
def test_a_hostile_document_does_nothing(browser: Browser, tmp_path: Path) -> None:
    attacks = ATTACKS[:: size(4, soak=1)]
    for number, attack in enumerate(attacks):
        content = attack.replace("alert(1)", ALARM).encode()
        report = check("a.md", content)
        for one in generate(report.kind, content, report, GeneratorConfig()).artifacts:
            if one.kind is ArtifactKind.PAGE:
                whole = compose(one.content, location=PageLocation("a.md"), provenance=provenance("a.md", one.content))
                (tmp_path / f"{number}.html").write_bytes(whole)
    files = sorted(tmp_path.glob("*.html"))
    assert len(files) > len(attacks) - 5
    with served(tmp_path) as address, guarded(browser, address) as page:
        for path in files:
            page.goto(f"{address}/{path.name}")
            assert page.title() != "broken", path.read_text()
            assert page.locator("main").count() == page.locator("footer#coafi-origin").count() == 1


ALARM = "document.title=`broken`"
CONTRAST = """() => {
  const rgb = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const back = one => {
    for (; one; one = one.parentElement) {
      const colour = rgb(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
  };
  const found = [];
  for (const one of document.querySelectorAll('body *')) {
    if (![...one.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
    const [a, b] = [light(rgb(getComputedStyle(one).color)), light(back(one))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push([ratio, one.outerHTML.slice(0, 200)]);
  }
  return found;
}"""


@every_document
@pytest.mark.parametrize("dark", [False, True])
def test_all_text_has_the_contrast_of_wcag_aa(site: Site, browser: Browser, name: str, dark: bool) -> None:
    with opened(browser, site.url(name), dark=dark) as seen:
        assert seen.page.evaluate(CONTRAST) == []


def test_the_sample_has_what_it_links_to() -> None:
    assert {"docs/handbook.md", "docs/notes.md", "schemas/README.md"} <= set(documents())
