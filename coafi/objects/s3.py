"""Objects in a bucket of S3, or of anything that speaks it.

S3 answers a PUT when the object is stored durably, and every reader sees it from then on. So an object is simply
written, also when it was there before: that heals one that was damaged, makes it young, and asks nothing beforehand.

Removal is in two steps, because nothing in S3 forbids a deletion between somebody's finding an object and naming it:
an object is first put aside, where whoever asks for it finds it and puts it back; what still lies aside when it has
grown old there as well goes for good.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store
from pydantic import SecretStr

from coafi.canonical import sha256
from coafi.errors import Unavailable, ValidationError
from coafi.objects import YOUNG, ObjectStore, StoredObject, object_path

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ClientConfig, RetryConfig, S3Config

T = TypeVar("T")

_AT_ONCE = 16
"""Requests that one call has under way."""

_ASIDE = "aside/"

_DIGEST = re.compile(r"[0-9a-f]{64}")
_PATH = re.compile(r"(aside/)?sha256/[0-9a-f]{2}/[0-9a-f]{62}")

_RETRIES: "RetryConfig" = {"max_retries": 4, "retry_timeout": timedelta(seconds=20)}
"""Of one request; what fails then is tried again by Temporal."""

_TIMEOUTS: "ClientConfig" = {"connect_timeout": timedelta(seconds=5), "timeout": timedelta(seconds=60)}


@dataclass(frozen=True)
class Bucket:
    """Where objects are.

    Attributes:
        name: of the bucket.
        prefix: before every name in it; empty for none.
        endpoint: base URL of the server; empty for that of AWS.
        region: of the bucket; empty: ``AWS_REGION``, or that of the machine.
        key_id, secret: who asks; empty: ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY``, or the role that this
            machine has.
    """

    name: str
    prefix: str = ""
    endpoint: str = ""
    region: str = ""
    key_id: str = ""
    secret: SecretStr = field(default_factory=lambda: SecretStr(""))

    def __str__(self) -> str:
        return f"s3://{self.name}/{self.prefix}".rstrip("/")

    @classmethod
    def parse(cls, url: str, **more: str | SecretStr) -> "Bucket":
        """The bucket that a URL like ``s3://bucket/prefix`` names.

        Raises:
            ValidationError: it names none.
        """
        name, _, prefix = url.removeprefix("s3://").partition("/")
        if not url.startswith("s3://") or not name or set(url) & set("?#@ "):
            raise ValidationError(
                f"{url[:200]!r} names no bucket", remedy="write it like s3://bucket, or s3://bucket/prefix"
            )
        return cls(name, prefix.strip("/"), **more)  # type: ignore[arg-type]  # checked by the caller's types

    def open(self) -> S3Store:
        """The store of this bucket; nothing is asked yet."""
        config: S3Config = {"checksum_algorithm": "SHA256"}
        if self.endpoint:
            config["endpoint"] = self.endpoint
        if self.region:
            config["region"] = self.region
        if self.key_id:
            config |= {"access_key_id": self.key_id, "secret_access_key": self.secret.get_secret_value()}
        options: ClientConfig = {**_TIMEOUTS, "allow_http": self.endpoint.startswith("http://")}
        return S3Store(
            self.name, prefix=self.prefix or None, config=config, client_options=options, retry_config=_RETRIES
        )


class S3ObjectStore(ObjectStore):
    """Objects in a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._store = bucket.open()
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="objects")

    @property
    def place(self) -> str:
        """See :class:`ObjectStore`."""
        return str(self._bucket)

    def put_many(self, contents: Sequence[bytes]) -> list[str]:
        """See :class:`ObjectStore`."""
        digests = [sha256(data) for data in contents]
        some = dict(zip(digests, contents, strict=True))
        if len(some) == 1:
            self._put(digests[0], contents[0])
        else:
            for _ in self._threads.map(self._put, some.keys(), some.values()):
                pass
        return digests

    def has(self, digest: str, size: int | None = None) -> bool:
        """See :class:`ObjectStore`."""
        found = self._head(object_path(digest))
        if found is not None and found.modified > time.time() - YOUNG:
            return size in (None, found.size)
        data = self._read(digest)
        if data is None or size not in (None, len(data)):
            return False
        self._put(digest, data)
        return True

    def listed(self) -> Iterator[StoredObject]:
        """See :class:`ObjectStore`. What is only aside is among them, and as old as it is there."""
        aside = {one.digest: one for one in self._list(f"{_ASIDE}sha256/")}
        for one in self._list("sha256/"):
            aside.pop(one.digest, None)
            yield one
        yield from aside.values()

    def remove(self, digest: str, *, older_than: float) -> bool:
        """See :class:`ObjectStore`. Whoever reads the object still finds it, until it is removed a second time."""
        path, aside = object_path(digest), _ASIDE + object_path(digest)
        found = self._head(path)
        if found is None:
            waiting = self._head(aside)
            if waiting is not None and waiting.modified < older_than:
                self._ask("removed", partial(obstore.delete, self._store, aside), or_none=True)
                return True
            return False
        if found.modified >= older_than:
            return False
        self._ask("put aside", partial(obstore.copy, self._store, path, aside))
        self._ask("removed", partial(obstore.delete, self._store, path), or_none=True)
        return True

    def _read(self, digest: str) -> bytes | None:
        if not _DIGEST.fullmatch(digest):
            return None
        path = object_path(digest)
        data = self._get(path)
        if data is None:
            data = self._get(_ASIDE + path)
            if data is not None and sha256(data) == digest:
                self._put(digest, data)
        return data

    def _put(self, digest: str, data: bytes) -> None:
        self._ask("written", partial(obstore.put, self._store, object_path(digest), data, use_multipart=False))

    def _get(self, path: str) -> bytes | None:
        return self._ask("read", lambda: bytes(obstore.get(self._store, path).bytes()), or_none=True)

    def _head(self, path: str) -> StoredObject | None:
        meta = self._ask("looked for", partial(obstore.head, self._store, path), or_none=True)
        return None if meta is None else _stored(meta)

    def _list(self, prefix: str) -> Iterator[StoredObject]:
        pages = iter(obstore.list(self._store, prefix))
        while page := self._ask("listed", lambda: next(pages, None)):
            for meta in page:
                if _PATH.fullmatch(meta["path"]):
                    yield _stored(meta)

    def _ask(self, done: str, call: Callable[[], T], *, or_none: bool = False) -> T | None:
        """Do a request; with ``or_none`` the answer that there is no such object is ``None``.

        Raises:
            Unavailable: it was refused, or not answered.
        """
        try:
            return call()
        except (BaseError, OSError) as error:
            said = " ".join(str(error).partition("\nDebug source")[0].split())[:500]
            if or_none and isinstance(error, (NotFoundError, FileNotFoundError)) and "NoSuchBucket" not in str(error):
                return None
            refused = isinstance(error, (PermissionDeniedError, UnauthenticatedError)) or " 403 " in said
            what = "it is not allowed: " if refused else ""
            raise Unavailable(
                f"objects cannot be {done} in {self.place}: {what}{said}",
                remedy="check the credentials, and what they may do; see docs/operations.md"
                if refused
                else "check COAFI_OBJECTS_URL, COAFI_S3_ENDPOINT, and the way there",
            ) from None


def _stored(meta: "ObjectMeta") -> StoredObject:
    digest = "".join(meta["path"].split("/")[-2:])
    return StoredObject(digest, meta["size"], meta["last_modified"].timestamp())
