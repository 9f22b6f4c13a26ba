"""The reference of the API as the gateway serves it, in a real browser: its policy lets all of it be seen."""

import asyncio

import pytest

from tests.browser import PHONE, chromium, needs_chromium, opened
from tests.harness import Stack

pytestmark = [needs_chromium, pytest.mark.timeout(120)]


def looked_at(url: str) -> tuple[str, str, str]:
    """What the page says, how it looks, and what its link to the document leads to."""
    with chromium() as browser, opened(browser, url, width=PHONE) as seen:
        assert not seen.overflows
        border = seen.page.evaluate("getComputedStyle(document.querySelector('.call')).borderTopStyle")
        title = seen.page.locator("h1").inner_text()
        seen.page.get_by_role("link", name="/openapi.json").click()
        return title, border, seen.page.content()


async def test_the_page_is_styled_and_leads_to_the_document(stack: Stack) -> None:
    title, border, document = await asyncio.to_thread(looked_at, f"{stack.gateway}/api/")
    assert title == "COAFI API"
    assert border == "solid", "the policy would not let the style sheet be applied"
    assert "readEvent" in document
