"""Heartbeats of an activity that is busy with one thing for a while, such as a hostile file that takes seconds."""

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from activities import tries
from coafi.events import Wire

EVERY = 5.0
"""Seconds between two heartbeats."""

LONGEST = 300.0
"""Seconds that one thing may take. The worst file that was found takes a dozen of processor time, on a machine that may
be busy; what takes longer is stuck, and is not to be kept alive."""


@contextmanager
def pulse(
    details: Callable[[], Wire | None] = lambda: None, *, every: float = EVERY, longest: float = LONGEST
) -> Iterator[Callable[[], None]]:
    """Heartbeat from a thread of its own while the block runs; it yields what to call when one thing is done.

    A library does not call back while it parses. Without this, a slow file on a busy machine would look like a worker
    that died: the batch would be tried again, and be as slow again.

    Args:
        details: what the heartbeats carry.
        every, longest: as the constants.
    """
    ended = threading.Event()
    begun = [time.monotonic()]
    context = contextvars.copy_context()  # It holds which activity this is.

    def beat() -> None:
        said = details()
        tries.heartbeat(*(() if said is None else (said,)))

    def keep_beating() -> None:
        while not ended.wait(every):
            if time.monotonic() - begun[0] > longest:
                return
            context.run(beat)

    def done() -> None:
        begun[0] = time.monotonic()

    thread = threading.Thread(target=keep_beating, name="pulse", daemon=True)
    thread.start()
    try:
        yield done
    finally:
        ended.set()
        thread.join()
