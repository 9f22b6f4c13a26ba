"""A real browser for the tests of pages; they are skipped where there is no Chromium."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Timer

import psutil
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = next(filter(None, (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

PATIENCE = 100.0
"""Seconds after which a browser that does not answer is ended."""

PHONE = 390
"""Width of a phone, in CSS pixels."""

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on the path: pages are not looked at in a browser"
)


@dataclass
class Seen:
    """A page in the browser, and what went wrong on it."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    @property
    def overflows(self) -> bool:
        """Whether the page scrolls sideways."""
        result: bool = self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
        return result


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser of its own."""
    with sync_playwright() as playwright:
        with ended_in_time():
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=FLAGS, chromium_sandbox=hasattr(os, "geteuid") and os.geteuid() != 0
            )
        yield browser
        with ended_in_time():
            browser.close()


@contextmanager
def ended_in_time(seconds: float = PATIENCE) -> Iterator[None]:
    """End a browser that hangs, which fails what is asked of it.

    Playwright waits for it without end, and the alarm of pytest-timeout gets lost in its event loop.
    """
    timer = Timer(seconds, _kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _kill() -> None:
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "chrom" in process.name():
                process.kill()


@contextmanager
def opened(browser: Browser, url: str, *, width: int = 1280, dark: bool = False) -> Iterator[Seen]:
    """A page in a fresh context; whatever the browser complains about fails the test."""
    with ended_in_time():
        context = browser.new_context(
            viewport={"width": width, "height": 844}, color_scheme="dark" if dark else "light", is_mobile=width < 600
        )
        seen = Seen(context.new_page())
        seen.page.on("console", lambda message: seen.complaints.append(message.text))
        seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        seen.page.on("requestfailed", lambda request: seen.complaints.append(request.url))
        try:
            seen.page.goto(url)
            yield seen
        finally:
            context.close()
    assert seen.complaints == [], url
