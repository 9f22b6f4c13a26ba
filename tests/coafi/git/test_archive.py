"""Batches and archives: planned alike everywhere, read only when untouched."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coafi.errors import IntegrityError
from coafi.git.archive import MAX_BATCHES, plan_batches, read_archive, write_archive
from coafi.git.changes import Change, ChangedFile
from coafi.git.limits import MIB, GitLimits
from coafi.git.manifest import ManifestFile
from coafi.paths import Omitted
from tests.strength import examples

LIMITS = GitLimits()


def sized(size: int, omitted: Omitted | None = None) -> ChangedFile:
    return ChangedFile(b"p", None, Change.ADDED, "100644", None, "a" * 40, None, size, omitted)


@pytest.mark.parametrize(
    ("files", "batches"), [(0, 0), (1, 1), (10, 1), (64, 1), (65, 2), (200, 4), (2_000, 32), (4_033, 64), (20_000, 64)]
)
def test_the_number_of_batches(files: int, batches: int) -> None:
    assert len(plan_batches([sized(10)] * files, LIMITS)) == batches


def test_large_files_make_more_batches_up_to_the_most() -> None:
    assert len(plan_batches([sized(3 * MIB)] * 10, LIMITS)) == 5
    assert len(plan_batches([sized(9 * MIB)] * 10, LIMITS)) == 10
    assert [len(batch) for batch in plan_batches([sized(1), sized(9 * MIB), sized(1)], LIMITS)] == [1, 1, 1]
    assert len(plan_batches([sized(9 * MIB)] * 500, LIMITS)) <= MAX_BATCHES


def test_files_without_content_take_a_place_but_no_bytes() -> None:
    assert len(plan_batches([sized(100 * MIB, Omitted.TOO_LARGE)] * 16, LIMITS)) == 1


@settings(max_examples=examples(200))
@given(st.lists(st.integers(0, 200), max_size=600), st.integers(1, 300))
def test_batches_cover_every_file_once_and_in_order(sizes: list[int], limit: int) -> None:
    files = [sized(size) for size in sizes]
    batches = plan_batches(files, GitLimits(max_batch_bytes=limit))
    assert [position for batch in batches for position in batch] == list(range(len(files)))
    assert len(batches) <= MAX_BATCHES
    assert all(batches)
    assert batches == plan_batches(files, GitLimits(max_batch_bytes=limit))


def entry(position: int, content: bytes | None, repository_path: str = "a.md") -> ManifestFile:
    done = subprocess.run(["git", "hash-object", "--stdin"], input=content or b"", capture_output=True, check=True)
    return ManifestFile(
        position=position,
        path=repository_path,
        change=Change.ADDED if content is not None else Change.DELETED,
        blob=done.stdout.decode().strip() if content is not None else None,
        size=len(content or b""),
        batch=0,
        omitted=None if content is not None else Omitted.DELETED,
    )


FILES = [entry(0, b"first"), entry(1, None), entry(2, b""), entry(3, b"last" * 1_000, "../../etc/passwd")]
CONTENTS = [b"first", b"", b"last" * 1_000]


def test_what_is_written_is_read() -> None:
    data = write_archive(FILES, CONTENTS)
    assert list(read_archive(data)) == list(zip(FILES, [b"first", None, b"", b"last" * 1_000], strict=True))
    assert data == write_archive(FILES, CONTENTS)


def test_an_archive_is_a_plain_tar_without_names_from_the_repository(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(write_archive(FILES, CONTENTS))) as tar:
        assert [member.name for member in tar][1:] == [f"{f.position:06d}-{f.blob}" for f in FILES if not f.omitted]
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar} == {(0, 0, 0, "", "", 0o644)}


def test_a_batch_of_nothing_but_deletions() -> None:
    assert list(read_archive(write_archive([FILES[1]], []))) == [(FILES[1], None)]


def member(name: str, content: bytes, kind: bytes = tarfile.REGTYPE) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.type = kind
    info.linkname = "/etc/passwd" if kind == tarfile.SYMTYPE else ""
    return info, content


def tar_of(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an archive",
        bytes(10_240),
        b"\xff" * 2_000,
        tar_of(member("other.json", b"[]")),
        tar_of(member("files.json", b"{}")),
        tar_of(member("files.json", b'[{"position":0}]')),
        tar_of(member("files.json", b"[]"), member("../x", b"x")),
        tar_of(member("files.json", b"[]"), member("x", b"", tarfile.SYMTYPE)),
        tar_of(member("files.json", b"[]", tarfile.SYMTYPE)),
        tar_of(member("x" * 300, b""), form=tarfile.GNU_FORMAT),
        tar_of(member("ü" * 200, b""), form=tarfile.PAX_FORMAT),
    ],
)
def test_what_is_no_archive_of_ours_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        list(read_archive(data))


def test_a_swapped_content_is_refused() -> None:
    data = write_archive([FILES[0]], [b"first"])
    with pytest.raises(IntegrityError, match="is not blob"):
        list(read_archive(data.replace(b"first", b"fraud")))
    with pytest.raises(IntegrityError):
        list(read_archive(data[:600]))
    with pytest.raises(IntegrityError, match="lacks"):
        list(read_archive(write_archive([FILES[0]], [b"first"])[:1024]))


@settings(max_examples=examples(300))
@given(st.data())
def test_a_damaged_archive_is_refused_or_reads_the_same(data: st.DataObject) -> None:
    intact = write_archive(FILES[:3], CONTENTS[:2])
    position = data.draw(st.integers(0, len(intact) - 1))
    damaged = bytearray(intact)
    damaged[position] ^= data.draw(st.integers(1, 255))
    try:
        read = [content for _, content in read_archive(bytes(damaged))]
    except IntegrityError:
        return
    assert read == [b"first", None, b""]
