"""What the gateway serves below ``/docs/``, in a real browser, link by link."""

import asyncio
from pathlib import Path
from urllib.parse import urldefrag

import pytest

from coafi.index.pointers import IndexReader
from starters.demo import sample_files
from tests.browser import PHONE, chromium, needs_chromium, opened
from tests.harness import Repository, Stack, running_stack, until

pytestmark = [needs_chromium, pytest.mark.timeout(170)]

REASON_ENOUGH = 12
"""Pages of the sample at least: list, index, documents, findings, filters."""


def crawled(start: str) -> dict[str, int]:
    """The status of every page that links lead to from ``start``; none may scroll sideways on a phone or complain."""
    found: dict[str, int] = {}
    waiting = [start]
    with chromium() as browser:
        while waiting:
            url = waiting.pop()
            if url in found:
                continue
            with opened(browser, url, width=PHONE) as seen:
                answer = seen.page.request.get(url)
                found[url] = answer.status
                assert not seen.overflows, url
                if "html" in answer.headers["content-type"]:
                    for link in seen.page.eval_on_selector_all("a[href]", "all => all.map(one => one.href)"):
                        target = urldefrag(link).url
                        if target.startswith(start.partition("/docs/")[0]):
                            waiting.append(target)
                    widths = seen.page.evaluate(
                        "Promise.all([...document.images].map(i => (i.loading = 'eager', i.decode()"
                        ".then(() => i.naturalWidth, () => 0))))"
                    )
                    assert all(widths), f"an image is missing on {url}"
    return found


async def test_every_link_of_the_documentation_works_and_every_page_fits_a_phone(tmp_path: Path) -> None:
    async with running_stack(tmp_path, index_debounce=0.2) as stack:
        repository = Repository.create(tmp_path / "repository")
        await (await stack.accepted(repository.push(dict(sample_files("1").items())))).result()
        await until(lambda: _is_indexed(stack))
        pages = await asyncio.to_thread(crawled, f"{stack.gateway}/docs/")
    assert len(pages) >= REASON_ENOUGH
    assert {url: status for url, status in pages.items() if status != 200} == {}


def _is_indexed(stack: Stack) -> bool:
    return bool(IndexReader(stack.resources.database).all())
