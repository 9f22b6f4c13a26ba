"""Where coverage is not measured: tracing takes a third of the suite's time.

Nearly all that is covered is covered by the tests of the parts. Those of the whole hold what happens when it is killed,
cut off, flooded or fed with garbage: the same code, a hundred times.
"""

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

_WHOLE = {
    "deploy",
    "federation",
    "fuzz",
    "guarantees",
    "histories",
    "coafi/api/test_browser.py",
    "coafi/artifacts/test_browser.py",
    "coafi/tasks/test_report_browser.py",
    "starters/test_api_fuzz.py",
    "starters/test_api_walk.py",
    "starters/test_audit.py",
    "starters/test_docs_browser.py",
    "starters/test_on_postgresql.py",
    "starters/test_on_s3.py",
    "starters/test_outage.py",
}
"""Tests of the whole, and of what is no code of ours."""

_CHILDREN = "COVERAGE_PROCESS_CONFIG"
"""The variable by which coverage is measured in other processes."""


def is_traced(item: pytest.Item) -> bool:
    """Whether coverage is measured in a test, if it is at all."""
    path = item.path.relative_to(item.config.rootpath / "tests")
    return _WHOLE.isdisjoint((path.parts[0], path.as_posix()))


@contextmanager
def untraced() -> Iterator[None]:
    """Measure no coverage meanwhile: here, in threads and in processes that are started."""
    here, threads, children = sys.gettrace(), threading.gettrace(), os.environ.pop(_CHILDREN, None)
    _trace_nothing()
    try:
        yield
    finally:
        if children is not None:
            os.environ[_CHILDREN] = children
        if threads is not None:
            threading.settrace(threads)
        sys.settrace(here)


def follow(environment: Mapping[str, str]) -> None:
    """In a fork: measure no coverage unless the environment says so."""
    if _CHILDREN not in environment:
        _trace_nothing()


def _trace_nothing() -> None:
    sys.settrace(None)
    threading.settrace(None)
