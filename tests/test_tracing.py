"""Whether coverage is measured where it should be."""

import os
import sys
import threading
from pathlib import Path
from unittest.mock import patch

import pytest

from tests import tracing


def test_nothing_is_traced_meanwhile_and_everything_afterwards() -> None:
    seen: list[object] = []

    def look() -> None:
        seen.append(sys.gettrace())

    def trace(*_: object) -> None:
        return None

    before = sys.gettrace(), threading.gettrace()
    try:
        sys.settrace(trace)
        threading.settrace(trace)
        with patch.dict(os.environ, {"COVERAGE_PROCESS_CONFIG": "x"}):
            with tracing.untraced():
                assert "COVERAGE_PROCESS_CONFIG" not in os.environ
                look()
                thread = threading.Thread(target=look)
                thread.start()
                thread.join()
            assert os.environ["COVERAGE_PROCESS_CONFIG"] == "x"
        look()
        assert threading.gettrace() is trace
    finally:
        sys.settrace(before[0])
        if before[1] is not None:
            threading.settrace(before[1])
    assert seen == [None, None, trace]


def test_the_tests_that_are_not_traced_are_there(request: pytest.FixtureRequest) -> None:
    assert all((Path(__file__).parent / name).exists() for name in tracing._WHOLE)
    assert tracing.is_traced(request.node)
