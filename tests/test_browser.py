"""A browser that hangs fails a test: it does not hold up all the others."""

import psutil
import pytest
from playwright.sync_api import Error

from tests.browser import chromium, ended_in_time, needs_chromium, opened


@needs_chromium
def test_a_browser_that_hangs_is_ended() -> None:
    with chromium() as browser, pytest.raises(Error, match="closed"):  # noqa: SIM117  # the page is opened in time
        with opened(browser, "about:blank") as seen, ended_in_time(0.5):
            for process in psutil.Process().children(recursive=True):
                if "--type=renderer" in process.cmdline():
                    process.suspend()
            seen.page.evaluate("1 + 1")
