"""What the processes of ``tests.processes`` are forked from: all of ``coafi`` is loaded, and nothing touched."""

import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from starters import cli, listener, service
from starters.commands import config, events, ledger
from tests import tracing

LOADED = (cli, config, events, ledger, listener, service)
"""What would take each process seconds of its own."""


def become(arguments: Sequence[str], environment: Mapping[str, str], logs: tuple[Path, Path]) -> None:
    """In a fork: be what ``arguments`` would have started, ``coafi`` or ``python -m``, to its end."""
    for stream, log in enumerate(logs, start=1):
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, stream)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    tracing.follow(environment)
    program, *words = arguments
    if words[:1] == ["-m"]:
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [program, *words]
        cli.main()
