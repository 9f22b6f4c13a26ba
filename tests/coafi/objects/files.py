"""The files of an object store, for tests that damage them."""

from pathlib import Path

from coafi.objects import ObjectStore
from coafi.objects.local import LocalObjectStore


def object_root(store: ObjectStore) -> Path:
    """The directory of a store on the local disk."""
    assert isinstance(store, LocalObjectStore)
    return store.root


def object_file(store: ObjectStore, digest: str) -> Path:
    """The file of an object."""
    assert isinstance(store, LocalObjectStore)
    return store.path(digest)
