"""One batch of changed files as one object: a deterministic, uncompressed tar archive.

Members, in this order::

    files.json             the entries of the batch's files (``ManifestFile``), canonical JSON
    <position>-<blob id>   the content of each file that has one; position with six digits at least

No member is named after a path from the repository, so that unpacking one by hand is harmless. Owner, mode and time
are the same for all (POSIX.1-1988 "ustar" headers).
"""

import hashlib
import io
import tarfile
from collections.abc import Iterator, Sequence

from pydantic import TypeAdapter
from pydantic import ValidationError as PydanticError

from coafi.canonical import canonical_json
from coafi.errors import IntegrityError
from coafi.git.changes import ChangedFile
from coafi.git.limits import GitLimits
from coafi.git.manifest import ManifestFile

MAX_BATCHES = 64
FILES_PER_BATCH = 64

_INDEX = "files.json"
_FILES = TypeAdapter(tuple[ManifestFile, ...])


def plan_batches(files: Sequence[ChangedFile], limits: GitLimits) -> list[range]:
    """Which files go together: contiguous ranges of indices that cover all of ``files``.

    ``min(64, ceil(files / 64))`` batches of about equal length; more where one would pass ``max_batch_bytes``, but
    never over 64: then batches get larger instead.
    """
    if not files:
        return []
    wanted = min(MAX_BATCHES, -(-len(files) // FILES_PER_BATCH))
    length = -(-len(files) // wanted)
    limit = limits.max_batch_bytes
    while len(batches := _split(files, length, limit)) > MAX_BATCHES:
        limit *= 2
    return batches


def _split(files: Sequence[ChangedFile], length: int, limit: int) -> list[range]:
    batches = []
    start = size = 0
    for index, file in enumerate(files):
        added = 0 if file.omitted else file.size
        if index > start and (index - start >= length or size + added > limit):
            batches.append(range(start, index))
            start, size = index, 0
        size += added
    return [*batches, range(start, len(files))]


def write_archive(files: Sequence[ManifestFile], contents: Sequence[bytes]) -> bytes:
    """The archive of one batch.

    Args:
        files: the batch's files, in order.
        contents: the content of each of them that is not omitted, in the same order.
    """
    archive = io.BytesIO()
    present = [file for file in files if file.omitted is None]
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        index = canonical_json(_FILES.dump_python(tuple(files), mode="json", by_alias=True, exclude_none=True))
        for name, content in [
            (_INDEX, index),
            *((_member(file), c) for file, c in zip(present, contents, strict=True)),
        ]:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return archive.getvalue()


def read_archive(data: bytes) -> Iterator[tuple[ManifestFile, bytes | None]]:
    """Every file of a batch in order, with its content, or ``None`` where it is omitted.

    What is read is checked: member for member against the index, and every content against the name git gave it.

    Raises:
        IntegrityError: it is no archive of ours, or it was changed.
    """
    members = _members(data)
    try:
        name, index = next(members)
        files = _FILES.validate_json(index) if name == _INDEX else None
    except (StopIteration, PydanticError) as error:
        raise _damaged("its index cannot be read") from error
    if files is None:
        raise _damaged("it has no index")
    for file in files:
        if file.omitted is not None:
            yield file, None
            continue
        name, content = next(members, ("", b""))
        if name != _member(file):
            raise _damaged(f"it lacks the content of file {file.position}")
        if len(content) != file.size or _blob_id(content, len(file.blob or "")) != file.blob:
            raise _damaged(f"the content of file {file.position} is not blob {file.blob}")
        yield file, content
    if next(members, None) is not None:
        raise _damaged("it holds more than its index names")


def _member(file: ManifestFile) -> str:
    return f"{file.position:06d}-{file.blob}"


def _members(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a tar of plain files. Anything else that the format can say is refused, not obeyed."""
    offset = 0
    while header := data[offset : offset + tarfile.BLOCKSIZE].rstrip(b"\0"):
        try:
            member = tarfile.TarInfo.frombuf(header.ljust(tarfile.BLOCKSIZE, b"\0"), "ascii", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError) as error:
            raise _damaged(f"its header at byte {offset} cannot be read") from error
        offset += tarfile.BLOCKSIZE
        if member.type != tarfile.REGTYPE or member.size < 0 or offset + member.size > len(data):
            raise _damaged(f"it holds something other than plain files at byte {offset}")
        yield member.name, data[offset : offset + member.size]
        offset += -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _blob_id(content: bytes, length: int) -> str:
    """The name git gives a blob: SHA-1 (40 digits) or SHA-256 (64) of its header and content."""
    digest = hashlib.sha256 if length == 64 else hashlib.sha1
    return digest(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _damaged(problem: str) -> IntegrityError:
    return IntegrityError(f"the archive of a batch is damaged: {problem}", remedy="fetch the commit again")
