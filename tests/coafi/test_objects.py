import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coafi.canonical import sha256
from coafi.errors import IntegrityError, Unavailable
from coafi.objects import ObjectStore


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "objects")


@given(data=st.binary())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_put_is_got(store: ObjectStore, data: bytes) -> None:
    digest = store.put(data)
    assert digest == sha256(data)
    assert store.get(digest) == data
    assert store.has(digest)
    assert store.put(data) == digest


def test_a_missing_object_says_what_to_do(store: ObjectStore) -> None:
    with pytest.raises(IntegrityError, match="not in the store") as caught:
        store.get("0" * 64)
    assert "backup" in caught.value.remedy
    assert not store.has("0" * 64)


def test_a_damaged_object_is_found_and_healed_by_putting_it_again(store: ObjectStore) -> None:
    digest = store.put(b"content")
    store.path(digest).write_bytes(b"garbage")
    with pytest.raises(IntegrityError, match="damaged"):
        store.get(digest)
    store.put(b"content")
    assert store.get(digest) == b"content"


def test_many_writers_of_one_object_agree(store: ObjectStore) -> None:
    with ThreadPoolExecutor(16) as pool:
        digests = set(pool.map(lambda _: store.put(b"same" * 10_000), range(64)))
    assert len(digests) == 1
    assert store.get(digests.pop()) == b"same" * 10_000


def test_a_disk_that_refuses_is_unavailable(store: ObjectStore) -> None:
    shutil.rmtree(store.root)
    store.root.write_text("a file where the directory was")
    with pytest.raises(Unavailable) as caught:
        store.put(b"x")
    assert "disk space" in caught.value.remedy
