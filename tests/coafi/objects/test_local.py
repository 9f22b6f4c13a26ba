import errno
import os
import shutil
from pathlib import Path

import pytest

from coafi.canonical import sha256
from coafi.errors import IntegrityError, Unavailable
from coafi.objects.local import LocalObjectStore


@pytest.fixture
def store(tmp_path: Path) -> LocalObjectStore:
    return LocalObjectStore(tmp_path / "objects")


def test_a_damaged_object_is_found_and_healed_by_putting_it_again(store: LocalObjectStore) -> None:
    digest = store.put(b"content")
    store.path(digest).write_bytes(b"garbage")
    with pytest.raises(IntegrityError, match="damaged"):
        store.get(digest)
    store.put(b"content")
    assert store.get(digest) == b"content"


def test_a_disk_that_refuses_is_unavailable(store: LocalObjectStore) -> None:
    shutil.rmtree(store.root)
    store.root.write_text("a file where the directory was")
    with pytest.raises(Unavailable) as caught:
        store.put(b"x")
    assert "disk space" in caught.value.remedy


def test_many_objects_are_on_the_disk_before_any_digest_is_given_out(
    store: LocalObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    contents = [b"content %d" % (number % 300) for number in range(600)]
    digests = store.put_many(contents)
    assert digests == [sha256(data) for data in contents]
    assert [store.get(digest) for digest in digests] == contents
    paths = {store.path(digest) for digest in digests}
    files, directories = ({path.stat().st_ino for path in some} for some in (paths, {path.parent for path in paths}))
    assert set(synced[: len(files)]) == files
    assert set(synced[len(files) :]) == directories, "a directory after what is in it"
    assert len(synced) == len(files) + len(directories), "each once"


def test_a_disk_that_fails_to_sync_one_of_many_is_unavailable(
    store: LocalObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(descriptor: int) -> None:
        if os.fstat(descriptor).st_ino == store.path(sha256(b"b")).stat().st_ino:
            raise OSError(errno.EIO, "broken")

    monkeypatch.setattr("os.fsync", fsync)
    with pytest.raises(Unavailable):
        store.put_many([b"a", b"b", b"c"])
    assert store.put_many([]) == []
