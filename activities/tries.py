"""How often the tries of an activity have failed in which way, kept where its heartbeats are.

A number of attempts does not tell: it also counts those that met an outage, which costs a step nothing but patience.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import structlog
from temporalio import activity

from coafi.events import Wire

MEMBER = "coafiFailedTries"
"""By this the count is told from an activity's own details; it is the last of them."""

log = structlog.stdlib.get_logger()


class _Tries:
    """What the heartbeats say: an activity's own details, and the count."""

    def __init__(self, details: tuple[Any, ...]) -> None:
        self.own = details
        self.failed: dict[str, int] = {}
        if details and isinstance(details[-1], dict) and details[-1].keys() == {MEMBER}:
            self.own, self.failed = details[:-1], dict(details[-1][MEMBER])

    def details(self) -> tuple[Any, ...]:
        return (*self.own, {MEMBER: dict(self.failed)}) if self.failed else self.own


_current: ContextVar[_Tries] = ContextVar("tries")


@contextmanager
def counted() -> Iterator[None]:
    """Know, while the block runs, how the tries before this one have failed."""
    token = _current.set(_Tries(tuple(activity.info().heartbeat_details)))
    try:
        yield
    finally:
        _current.reset(token)


def told() -> tuple[Any, ...]:
    """The activity's own details, as a try before this one reported them last."""
    return _current.get().own


def heartbeat(*details: Wire | str) -> None:
    """Heartbeat with an activity's own details, and keep the count: for use in its stead of Temporal's."""
    tries = _current.get(None)
    if tries is None:
        activity.heartbeat(*details)
    else:
        tries.own = details
        activity.heartbeat(*tries.details())


def failed(kind: str) -> int:
    """Count that this try fails in this way: how many have, this one included.

    A local activity has no heartbeats, and is tried too few times for that to matter.
    """
    tries = _current.get()
    tries.failed[kind] = tries.failed.get(kind, 0) + 1
    if not activity.info().is_local:
        try:
            activity.heartbeat(*tries.details())
        except Exception as error:  # the error of the step is what has to be told
            log.warning("a failed try was not counted", exc_info=error)
    return tries.failed[kind]
