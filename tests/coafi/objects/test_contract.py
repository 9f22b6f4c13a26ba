"""What every object store does, on a disk and in S3."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coafi.canonical import sha256
from coafi.errors import IntegrityError
from coafi.objects import ObjectStore
from coafi.objects.local import LocalObjectStore
from coafi.objects.s3 import S3ObjectStore
from tests.s3 import S3Server

NOBODY = "0" * 64


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "local":
        return LocalObjectStore(tmp_path / "objects")
    server: S3Server = request.getfixturevalue("s3")
    return S3ObjectStore(server.create())


@given(data=st.binary())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_put_is_got(store: ObjectStore, data: bytes) -> None:
    digest = store.put(data)
    assert digest == sha256(data)
    assert store.get(digest) == data
    assert store.has(digest)
    assert store.put(data) == digest


def test_many_are_put_together_each_under_its_digest(store: ObjectStore) -> None:
    contents = [b"content %d" % (number % 30) for number in range(60)]
    digests = store.put_many(contents)
    assert digests == [sha256(data) for data in contents]
    assert [store.get(digest) for digest in digests] == contents
    assert store.put_many([]) == []
    assert {one.digest for one in store.listed()} == set(digests)


def test_a_missing_object_says_where_and_what_to_do(store: ObjectStore) -> None:
    with pytest.raises(IntegrityError, match="not in the store") as caught:
        store.get(NOBODY)
    assert store.place in caught.value.message
    assert "backup" in caught.value.remedy
    assert not store.has(NOBODY)


@pytest.mark.parametrize("digest", ["", "ab//cd", "ab/../cd", "ab\0cd", "AB" * 32, "é" * 64])
def test_what_is_no_digest_names_no_object(store: ObjectStore, digest: str) -> None:
    with pytest.raises(IntegrityError, match="not in the store"):
        store.get(digest)


def test_many_writers_of_one_object_agree(store: ObjectStore) -> None:
    with ThreadPoolExecutor(16) as pool:
        digests = set(pool.map(lambda _: store.put(b"same" * 10_000), range(64)))
    assert len(digests) == 1
    assert store.get(digests.pop()) == b"same" * 10_000


def test_what_is_listed_has_size_and_time(store: ObjectStore) -> None:
    before = time.time()
    digest = store.put(b"twelve bytes")
    (one,) = store.listed()
    assert (one.digest, one.size) == (digest, 12)
    assert before - 2 < one.modified < time.time() + 2


def test_an_object_of_another_size_is_not_there(store: ObjectStore) -> None:
    digest = store.put(b"content")
    assert store.has(digest, 7)
    assert not store.has(digest, 8)
    assert not store.has(NOBODY, 7)


def test_what_is_younger_stays_and_what_is_older_goes(store: ObjectStore) -> None:
    digest = store.put(b"content")
    assert not store.remove(digest, older_than=time.time() - 60)
    assert store.get(digest) == b"content"
    assert store.remove(digest, older_than=time.time() + 60)
    store.remove(digest, older_than=time.time() + 60)  # in S3 it lay aside until now
    assert not store.has(digest)
    assert list(store.listed()) == []
    assert not store.remove(digest, older_than=time.time() + 60)
    assert not store.remove(NOBODY, older_than=time.time() + 60)
    assert store.put(b"content") == digest
    assert store.get(digest) == b"content"
