"""Objects of a mirror by their names, all from one git process.

A push asks several times for kinds, sizes and contents, and to start a git costs more than it takes to answer. So one
``git cat-file --batch-command`` (git-cat-file(1), "BATCH OUTPUT") is started when the first object is asked for, and
answers until the mirror is left. It finds what a fetch brought in between: git looks for new packs when it misses an
object.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from coafi.git.failures import MirrorDamaged
from coafi.git.runner import GitProcess, GitRunner, Watch

_OID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_HEADER = re.compile(rb"([0-9a-f]+) (?:missing|(commit|tree|blob|tag) (\d{1,20}))")
_MAX_HEADER: Final = 256


class ObjectInfo(NamedTuple):
    """What git knows of an object without its content.

    Attributes:
        kind: ``commit``, ``tree``, ``blob`` or ``tag``.
        size: bytes of the content.
    """

    kind: str
    size: int


class ObjectReader:
    """Reads objects of the bare repository ``git_dir``; a context manager, which ends the git process.

    Only one thread at a time may use it, and not from within ``take``: a question waits for the answer to the one
    before. After an error the process is gone, and the next question starts another one.

    Args:
        name: of the repository, for messages.
        inherit: file descriptors that stay open until git has ended.
    """

    def __init__(
        self, runner: GitRunner, git_dir: Path, *, name: str, watch: Watch, inherit: tuple[int, ...] = ()
    ) -> None:
        self._runner = runner
        self._git_dir = git_dir
        self._name = name
        self._watch = watch
        self._inherit = inherit
        self._git: GitProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        git, self._git = self._git, None
        if git is not None:
            git.close()

    def info(self, objects: Sequence[str]) -> dict[str, ObjectInfo | None]:
        """Kind and size of each of ``objects``; ``None`` for those that are not here.

        Raises:
            MirrorDamaged: git does not answer for them.
            CoafiError: see :meth:`GitRunner.run`.
        """
        found: dict[str, ObjectInfo | None] = {}
        self._ask("info", objects, _Answers(self._name, objects, found.__setitem__))
        return found

    def contents(
        self, objects: Sequence[tuple[str, int]], take: Callable[[bytes], None], *, kind: str = "blob"
    ) -> None:
        """Give the content of each of ``objects`` to ``take``, in their order; only one is held at a time.

        Args:
            objects: names, each with its size in bytes.
            kind: of all of them.

        Raises:
            MirrorDamaged: one is missing, or is of another kind or size.
            CoafiError: see :meth:`GitRunner.run`.
        """
        expected = iter(objects)

        def check(oid: str, info: ObjectInfo | None) -> None:
            _, size = next(expected)
            if info != ObjectInfo(kind, size):
                found = "nothing" if info is None else f"a {info.kind} of {info.size} bytes"
                raise MirrorDamaged(f"mirror {self._name} has {found} for {kind} {oid} of {size} bytes")

        oids = [oid for oid, _ in objects]
        self._ask("contents", oids, _Answers(self._name, oids, check, take))

    def _ask(self, command: str, objects: Sequence[str], answers: "_Answers") -> None:
        if not objects:
            return
        if odd := next((oid for oid in objects if not _OID.fullmatch(oid)), None):
            raise MirrorDamaged(f"mirror {self._name} is asked for {odd[:80]!a}, which is no name of an object")
        request = "".join(f"{command} {oid}\n" for oid in objects) + "flush\n"
        what = f"reading {self._name}: git cat-file"
        limits = self._runner.limits
        if self._git is None:
            self._git = self._runner.start(
                ["cat-file", "--batch-command", "--buffer"],
                git_dir=self._git_dir,
                lifetime=limits.longest_fetch,
                inherit=self._inherit,
            )
        git = self._git
        try:
            git.communicate(
                request.encode("ascii"),
                answers.feed,
                watch=self._watch,
                what=what,
                timeout=limits.local_timeout,
                answered=lambda: answers.complete,
            )
            if not answers.complete:
                raise git.failure(what)
        except BaseException:
            self._git = None
            git.end()
            raise


class _Answers:
    """Cuts the output for ``objects`` into answers, whatever the chunks it comes in.

    Args:
        check: takes what each object is, ``None`` when it is missing, before its content.
        take: takes the contents; without it they were not asked for.
    """

    def __init__(
        self,
        name: str,
        objects: Sequence[str],
        check: Callable[[str, ObjectInfo | None], None],
        take: Callable[[bytes], None] | None = None,
    ) -> None:
        self._name = name
        self._objects = objects
        self._check = check
        self._take = take
        self._buffer = bytearray()
        self._answered = 0
        self._size: int | None = None  # of the content that comes next

    @property
    def complete(self) -> bool:
        return self._answered == len(self._objects)

    def feed(self, chunk: bytes) -> None:
        self._buffer += chunk
        while not self.complete and (self._cut_header() if self._size is None else self._cut_content(self._size)):
            pass
        if self.complete and self._buffer:
            raise MirrorDamaged(f"mirror {self._name} answers more than it was asked for")

    def _cut_header(self) -> bool:
        """Take one header; whether there is a whole one."""
        end = self._buffer.find(b"\n", 0, _MAX_HEADER)
        if end < 0 and len(self._buffer) < _MAX_HEADER:
            return False
        header = bytes(self._buffer[: end if end >= 0 else _MAX_HEADER])
        oid = self._objects[self._answered]
        match = _HEADER.fullmatch(header)
        if match is None or match[1] != oid.encode():
            raise MirrorDamaged(f"mirror {self._name} answers {header[:120]!r} for object {oid}")
        del self._buffer[: end + 1]
        info = None if match[2] is None else ObjectInfo(match[2].decode(), int(match[3]))
        self._check(oid, info)
        if self._take is not None and info is not None:
            self._size = info.size
        else:
            self._answered += 1
        return True

    def _cut_content(self, size: int) -> bool:
        """Take one content, with the line feed after it; whether there is a whole one."""
        if len(self._buffer) <= size:
            return False
        if self._buffer[size] != ord("\n"):
            raise MirrorDamaged(f"mirror {self._name} answers with more than {size} bytes")
        content = bytes(memoryview(self._buffer)[:size])
        del self._buffer[: size + 1]
        self._size = None
        self._answered += 1
        if self._take is not None:
            self._take(content)
        return True
