"""What a commit changed, read from a mirror: never by checking it out, never by trusting a name.

Paths are bytes to git. We give them as text for people, escaped where they are not plain UTF-8, together with the
exact bytes; a path that could be dangerous to anybody who writes it to a disk or a terminal keeps its place in the
list, with a reason instead of its content.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Final

from coafi.canonical import sha256
from coafi.errors import ValidationError
from coafi.git.failures import MirrorDamaged
from coafi.git.limits import GitLimits
from coafi.git.mirror import Mirror, is_zero
from coafi.paths import Omitted, display_path, is_control, judge_path
from coafi.trees.listing import TreeFile

SYMLINK: Final = "120000"
SUBMODULE: Final = "160000"

_MAX_SUBJECT = 200
_IDENTITY = re.compile(rb"(?P<name>.*?) ?<(?P<email>[^<>]*)> (?P<time>-?\d+) (?P<zone>[+-]\d{4})")


class Change(StrEnum):
    """What happened to a file."""

    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"
    RENAMED = "renamed"
    COPIED = "copied"
    MODE_CHANGED = "mode-changed"
    TYPE_CHANGED = "type-changed"


class BaseKind(StrEnum):
    """What a commit was compared with."""

    BEFORE = "before"
    FIRST_PARENT = "first-parent"
    ROOT = "root"


@dataclass(frozen=True)
class Person:
    """An author or committer, as the commit says; nothing proves it.

    Attributes:
        time: RFC 3339 with the person's own offset; ``None`` when it cannot be told.
    """

    name: str
    email: str
    time: str | None


@dataclass(frozen=True)
class Commit:
    """The head of a commit.

    Attributes:
        parents: SHAs, the first parent first; none for a first commit.
        subject: first line of the message, at most 200 characters.
        message_digest: SHA-256 of the whole message's bytes.
    """

    sha: str
    tree: str
    parents: tuple[str, ...]
    author: Person
    committer: Person
    subject: str
    message_digest: str


@dataclass(frozen=True)
class ChangedFile:
    """One entry of the difference.

    Attributes:
        path: exact bytes; of the old file when it was deleted.
        old_path: where it was renamed or copied from.
        mode: six octal digits; ``None`` when it was deleted. ``old_mode``, ``blob`` and ``old_blob`` likewise.
        size: bytes of ``blob``; 0 where there is none.
        omitted: why its content is left out.
    """

    path: bytes
    old_path: bytes | None
    change: Change
    mode: str | None
    old_mode: str | None
    blob: str | None
    old_blob: str | None
    size: int = 0
    omitted: Omitted | None = None


def read_commit(mirror: Mirror, sha: str) -> Commit:
    """The head of commit ``sha``, from its own bytes (a shallow mirror would show it without parents).

    Raises:
        ValidationError: ``sha`` names another kind of object, or is too large to be held in memory.
        MirrorDamaged: it is not in the mirror.
    """
    info = mirror.objects.info([sha])[sha]
    if info is None:
        raise MirrorDamaged(f"mirror {mirror.name} has no object {sha}")
    if info.kind != "commit":
        raise ValidationError(f"{sha} is a {info.kind}, not a commit", remedy="give the SHA of the commit itself")
    if info.size > mirror.runner.limits.max_output_bytes:
        raise ValidationError(
            f"commit {sha} of {mirror.name} has {info.size} bytes without its files, and the limit is "
            f"{mirror.runner.limits.max_output_bytes} bytes",
            remedy="shorten its message, or raise the limits for git in the settings",
        )
    contents: list[bytes] = []
    mirror.objects.contents([(sha, info.size)], contents.append, kind="commit")
    head, _, message = contents[0].partition(b"\n\n")
    fields = [line.partition(b" ") for line in head.split(b"\n")]
    first = {key: value for key, _, value in reversed(fields)}
    subject = _text(message.lstrip(b"\n").partition(b"\n")[0])
    return Commit(
        sha=sha,
        tree=first[b"tree"].decode("ascii"),
        parents=tuple(value.decode("ascii") for key, _, value in fields if key == b"parent"),
        author=_person(first.get(b"author", b"")),
        committer=_person(first.get(b"committer", b"")),
        subject=subject if len(subject) <= _MAX_SUBJECT else subject[: _MAX_SUBJECT - 1] + "…",
        message_digest=sha256(message),
    )


def choose_base(commit: Commit, before: str | None, *, has: Callable[[str], bool]) -> tuple[str, BaseKind, bool]:
    """What to compare ``commit`` with, which kind that is, and whether a wanted ``before`` was not to be had.

    ``before`` counts when it is given, is not all zeros and the mirror ``has`` it; else the first parent; else, for a
    first commit, the empty tree.
    """
    lost = False
    if before is not None and not is_zero(before):
        if has(before):
            return before, BaseKind.BEFORE, False
        lost = True
    if commit.parents:
        return commit.parents[0], BaseKind.FIRST_PARENT, lost
    return empty_tree(len(commit.sha)), BaseKind.ROOT, lost


def empty_tree(sha_length: int) -> str:
    """The name of the tree without entries, which every repository has without storing it."""
    if sha_length == 40:
        return "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
    return "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321"


def compare_trees(mirror: Mirror, base: str, commit: str, limits: GitLimits) -> list[ChangedFile]:
    """What differs between two commits (or trees), by their trees alone: no contents, so no renames yet.

    Raises:
        ValidationError: more files than ``limits.max_files``.
    """
    return _diff(mirror, base, commit, ["--no-renames"], limits)


def contents_needed(files: Iterable[ChangedFile], limits: GitLimits) -> set[str]:
    """The blobs that :func:`changed_files` will read, given what :func:`compare_trees` found."""
    files = list(files)
    needed = {file.blob for file in files if file.blob and _is_content(file.mode)}
    origins = {file.old_blob for file in files if file.old_blob and _is_content(file.old_mode)}
    return needed | origins if _looks_for_similar(files, limits) else needed


def changed_files(
    mirror: Mirror,
    base: str,
    commit: str,
    limits: GitLimits,
    flat: list[ChangedFile],
    known: Mapping[str, int | None],
) -> list[ChangedFile]:
    """The files that differ between two commits, in the order of their paths' bytes, with renames, copies, sizes.

    Args:
        flat: what :func:`compare_trees` found.
        known: the sizes of the blobs of :func:`contents_needed`, which must be in the mirror.

    Raises:
        ValidationError: more bytes than ``limits`` allow.
        MirrorDamaged: a content is not in the mirror.
    """
    sizes = _sizes(mirror, contents_needed(flat, limits), known)
    similar = _looks_for_similar(flat, limits) and sum(sizes.values()) <= limits.max_similarity_bytes
    options = ["-M50%", "-C50%", f"-l{limits.rename_limit}"] if similar else ["-M100%"]
    found = _diff(mirror, base, commit, options, limits) if similar or _may_hold_renames(flat) else flat
    files = sorted((_judged(file, sizes, limits) for file in found), key=lambda file: (file.path, file.blob or ""))
    total = sum(file.size for file in files if file.omitted is None)
    if total > limits.max_commit_bytes:
        raise ValidationError(
            f"the changed files of commit {commit} of {mirror.name} have {total} bytes, and the limit is "
            f"{limits.max_commit_bytes} bytes per commit",
            remedy="split the commit, or raise the limit in the settings",
        )
    return files


def count_changes(files: Iterable[ChangedFile]) -> dict[str, int]:
    """How many files per kind of change, by name; kinds without files are left out."""
    return dict(sorted(Counter(file.change.value for file in files).items()))


def read_tree(mirror: Mirror, commit: str) -> list[TreeFile]:
    """Every file of a commit's tree.

    Raises:
        MirrorDamaged: a tree is not in the mirror.
    """
    answer = mirror.local(["ls-tree", "-r", "-z", "--full-tree", "--end-of-options", commit])
    files = []
    for line in answer.split(b"\0")[:-1]:
        head, _, path = line.partition(b"\t")
        mode, _, blob = head.decode("ascii").split(" ")
        files.append(TreeFile(display_path(path), mode, blob))
    return files


def _is_content(mode: str | None) -> bool:
    return mode is not None and mode not in (SYMLINK, SUBMODULE)


def _looks_for_similar(flat: list[ChangedFile], limits: GitLimits) -> bool:
    """Whether contents must be compared to find renames and copies: something appeared, and has a possible origin."""
    kinds = Counter(file.change for file in flat)
    appeared = kinds[Change.ADDED]
    origins = kinds[Change.DELETED] + kinds[Change.MODIFIED]
    return 0 < appeared * origins <= limits.rename_limit**2


def _may_hold_renames(flat: list[ChangedFile]) -> bool:
    """Whether a file that was only renamed can be among them; a copy of one that stayed is not looked for."""
    return {Change.ADDED, Change.DELETED} <= {file.change for file in flat}


def _sizes(mirror: Mirror, blobs: set[str], known: Mapping[str, int | None]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for oid in sorted(blobs):
        size = known.get(oid)
        if size is None:
            raise MirrorDamaged(f"mirror {mirror.name} has no content {oid}")
        sizes[oid] = size
    return sizes


def _judged(file: ChangedFile, sizes: dict[str, int], limits: GitLimits) -> ChangedFile:
    if file.blob is None or file.mode is None:
        return replace(file, omitted=Omitted.DELETED)
    if file.mode == SYMLINK:
        return replace(file, omitted=Omitted.SYMLINK)
    if file.mode == SUBMODULE:
        return replace(file, omitted=Omitted.SUBMODULE)
    size = sizes[file.blob]
    omitted = judge_path(file.path) or (Omitted.TOO_LARGE if size > limits.max_blob_bytes else None)
    return replace(file, size=size, omitted=omitted)


def _diff(mirror: Mirror, base: str, commit: str, options: list[str], limits: GitLimits) -> list[ChangedFile]:
    raw = mirror.local(
        [
            "diff-tree",
            "-r",
            "-z",
            "--raw",
            "--no-abbrev",
            "--no-commit-id",
            "--no-ext-diff",
            "--no-textconv",
            *options,
            "--end-of-options",
            base,
            commit,
        ]
    )
    files = list(parse_raw_diff(raw))
    if len(files) > limits.max_files:
        raise ValidationError(
            f"commit {commit} of {mirror.name} changes {len(files)} files, and the limit is {limits.max_files} files",
            remedy="split the commit, or raise the limit in the settings",
        )
    return files


def parse_raw_diff(raw: bytes) -> Iterator[ChangedFile]:
    """The entries of ``git diff-tree --raw -z``, format in git-diff-tree(1), "RAW OUTPUT FORMAT".

    Raises:
        MirrorDamaged: it is not that format.
    """
    fields = iter(raw.split(b"\0")[:-1])
    for field in fields:
        match = _RAW_ENTRY.fullmatch(field)
        if match is None:
            raise MirrorDamaged(f"git describes a change in a way that is not understood: {field[:120]!r}")
        old_mode, mode, old_blob, blob, status = (group.decode("ascii") for group in match.groups())
        try:
            path = next(fields)
            old_path, path = (path, next(fields)) if status in "RC" else (None, path)
        except StopIteration:
            raise MirrorDamaged("git's description of the changes ends too early") from None
        yield ChangedFile(
            path=path,
            old_path=old_path,
            change=_change(status, (old_mode, old_blob), (mode, blob)),
            mode=None if is_zero(mode) else mode,
            old_mode=None if is_zero(old_mode) else old_mode,
            blob=None if is_zero(blob) else blob,
            old_blob=None if is_zero(old_blob) else old_blob,
        )


def _change(status: str, old: tuple[str, str], new: tuple[str, str]) -> Change:
    if status == "M" and old[1] == new[1]:
        return Change.MODE_CHANGED
    return _STATUS[status]


_STATUS: Final = {
    "A": Change.ADDED,
    "M": Change.MODIFIED,
    "D": Change.DELETED,
    "R": Change.RENAMED,
    "C": Change.COPIED,
    "T": Change.TYPE_CHANGED,
}
_OID = rb"([0-9a-f]{40}|[0-9a-f]{64})"
_RAW_ENTRY = re.compile(rb":([0-7]{6}) ([0-7]{6}) " + _OID + b" " + _OID + rb" ([AMDRCT])\d*")


def _person(line: bytes) -> Person:
    match = _IDENTITY.fullmatch(line)
    if match is None:
        return Person(name=_text(line)[:_MAX_SUBJECT], email="", time=None)
    name, email, seconds, zone = match.groups()
    return Person(_text(name)[:_MAX_SUBJECT], _text(email)[:_MAX_SUBJECT], _rfc3339(int(seconds), zone.decode("ascii")))


def _rfc3339(seconds: int, zone: str) -> str | None:
    offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:5]))
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
        return moment.astimezone(timezone(-offset if zone[0] == "-" else offset)).isoformat()
    except (ValueError, OverflowError, OSError):
        return None


def _text(raw: bytes) -> str:
    """Text from a commit for people: what is not UTF-8 replaced, control characters removed."""
    return "".join(character for character in raw.decode("utf-8", "replace") if not is_control(character)).strip()
