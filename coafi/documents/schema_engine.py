"""Schemas of a repository, held against data in a process that can be ended (see ``schema_process``)."""

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pydantic import JsonValue

from coafi.documents import schema_process
from coafi.errors import Unavailable

_PROGRAM = Path(schema_process.__file__)
_WALL_SECONDS = 120.0
"""When the processor has no time for us; the allowance of processor time is what ends hostile schemas."""


class Unusable(Exception):
    """The schema cannot be used; the text says why, for a person.

    Args:
        exhausted: whether finding that out used up the time or memory that there is.
    """

    def __init__(self, why: str, *, exhausted: bool = False) -> None:
        super().__init__(why)
        self.exhausted = exhausted


@dataclass(frozen=True, slots=True)
class Located:
    """One place where data breaks a schema.

    Attributes:
        instance: which of the values, from 0.
        pointer: JSON Pointer into it.
        keyword: of the schema, which is broken.
        message: what is wrong, for a person.
    """

    instance: int
    pointer: str
    keyword: str
    message: str


@dataclass(frozen=True, slots=True)
class UsableSchema:
    """A schema with all that it refers to.

    Attributes:
        key: the same for the same schema, and for no other.
        document: the schema.
        base: its URI, for relative references; empty for the meta-schema of draft 3.
        resources: other schemas, by their URIs.
        draft3: whether it is of draft 3, which needs another library.
    """

    key: str
    document: JsonValue
    base: str
    resources: dict[str, JsonValue] = field(default_factory=dict)
    draft3: bool = False


class SchemaEngine:
    """Holds data against schemas that may be hostile, in one process for all threads, started when it is needed.

    Args:
        cpu_seconds: processor time for one question.
    """

    def __init__(self, cpu_seconds: float = schema_process.CPU_SECONDS) -> None:
        self._cpu_seconds = cpu_seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def violations(self, schema: UsableSchema, instances: Sequence[JsonValue]) -> tuple[Located, ...]:
        """Where the values break the schema: at most ``schema_process.MAX_VIOLATIONS`` places.

        Raises:
            Unusable: the schema is no schema, or asks for too much.
            Unavailable: no process can be started on this machine.
        """
        request: dict[str, Any] = {"key": schema.key, "instances": instances}
        with self._lock:
            answer = self._ask(request)
            if "unknown" in answer:
                more = {"schema": schema.document, "base": schema.base, "resources": schema.resources}
                answer = self._ask({**request, **more, "draft3": schema.draft3})
        if "unusable" in answer:
            raise Unusable(str(answer["unusable"]), exhausted="exhausted" in answer)
        return tuple(Located(*found) for found in answer["violations"])

    def close(self) -> None:
        """End the process; the next question starts another."""
        with self._lock:
            self._end()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        line = json.dumps(request).encode() + b"\n"
        for attempt in (1, 2):
            process = self._started()
            assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018  # both are pipes
            alarm = threading.Timer(_WALL_SECONDS, process.kill)
            alarm.start()
            try:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(line)
                    process.stdin.flush()
                answer = process.stdout.readline()
            finally:
                alarm.cancel()
            if answer.endswith(b"\n"):
                return cast("dict[str, Any]", json.loads(answer))
            code = process.wait()
            self._end()
            if code == -signal.SIGPROF:
                why = f"it takes more than {self._cpu_seconds:g} seconds to hold data against it"
                return {"unusable": why, "exhausted": True}
            if code != -signal.SIGKILL or attempt == 2:  # Killed: by somebody else, perhaps for want of memory.
                break
        why = "it takes more memory than there is to hold data against it, or breaks the validator"
        return {"unusable": why, "exhausted": True}

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and (self._owner != os.getpid() or self._process.poll() is not None):
            if self._owner == os.getpid():
                self._end()
            self._process = None
        if self._process is None:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", str(_PROGRAM), str(self._cpu_seconds)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env={name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ},
                )
            except OSError as error:
                raise Unavailable(f"no process for schemas can be started: {error}") from error
            self._owner = os.getpid()
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()


ENGINE = SchemaEngine()
"""The engine of this process."""

atexit.register(ENGINE.close)
