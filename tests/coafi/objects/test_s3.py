"""What only S3 does: what is put aside, what is damaged, and a server that refuses, or is away."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from unittest.mock import patch

import obstore
import pytest
from pydantic import SecretStr

from coafi.canonical import sha256
from coafi.errors import IntegrityError, Unavailable, ValidationError
from coafi.objects import object_path
from coafi.objects.s3 import Bucket, S3ObjectStore
from tests.s3 import S3Server, running_s3

LATER = 60.0


@pytest.fixture
def bucket(s3: S3Server) -> Bucket:
    return s3.create()


@pytest.fixture
def store(bucket: Bucket) -> S3ObjectStore:
    return S3ObjectStore(bucket)


def test_objects_are_where_people_look_for_them(bucket: Bucket, store: S3ObjectStore) -> None:
    digest = store.put(b"content")
    paths = [one["path"] for page in obstore.list(Bucket(**{**vars(bucket), "prefix": ""}).open()) for one in page]
    assert paths == [f"some/where/sha256/{digest[:2]}/{digest[2:]}"]
    assert store.place == f"s3://{bucket.name}/some/where"


def test_what_is_put_aside_is_found_put_back_and_goes_the_second_time(bucket: Bucket, store: S3ObjectStore) -> None:
    digest = store.put(b"content")
    assert store.remove(digest, older_than=time.time() + LATER)
    assert [one.digest for one in store.listed()] == [digest]
    assert S3ObjectStore(bucket).get(digest) == b"content"  # whoever had named it meanwhile loses nothing
    assert store.remove(digest, older_than=time.time() + LATER)
    assert store.has(digest)
    assert store.remove(digest, older_than=time.time() + LATER)
    assert not store.remove(digest, older_than=time.time() - LATER)  # it has not lain aside for long
    assert store.remove(digest, older_than=time.time() + LATER)
    assert not store.has(digest)


def test_a_writer_that_comes_in_the_middle_of_a_removal_loses_nothing(store: S3ObjectStore) -> None:
    digest = store.put(b"content")
    delete = obstore.delete

    def late(*arguments: object) -> None:
        assert store.put(b"content") == digest  # after it was found old, and before it goes
        delete(*arguments)  # type: ignore[arg-type]

    with patch("obstore.delete", late):
        assert store.remove(digest, older_than=time.time() + LATER)
    assert store.get(digest) == b"content"


def test_an_old_object_that_a_writer_finds_becomes_young(store: S3ObjectStore) -> None:
    digest = store.put(b"content")
    (before,) = store.listed()
    time.sleep(1.1)  # S3 gives the time in seconds
    with patch("coafi.objects.s3.YOUNG", 0.0):
        assert store.has(digest)
    (after,) = store.listed()
    assert after.modified > before.modified
    assert not store.remove(digest, older_than=after.modified)


def test_a_damaged_object_is_found_and_healed_by_putting_it_again(bucket: Bucket, store: S3ObjectStore) -> None:
    digest = store.put(b"content")
    obstore.put(bucket.open(), object_path(digest), b"garbage")
    with pytest.raises(IntegrityError, match="damaged") as caught:
        store.get(digest)
    assert f"{object_path(digest)} in {store.place}" in caught.value.remedy
    store.put(b"content")
    assert store.get(digest) == b"content"


def test_what_is_no_object_is_not_listed(bucket: Bucket, store: S3ObjectStore) -> None:
    for path in ("sha256/ab/short", "sha256/readme.txt", "else/where", "sha256/zz/" + "0" * 62):
        obstore.put(bucket.open(), path, b"x")
    assert list(store.listed()) == []


def test_a_bucket_that_is_not_there_is_an_outage_that_names_it(bucket: Bucket) -> None:
    store = S3ObjectStore(Bucket(**{**vars(bucket), "name": "nobody-s"}))
    with pytest.raises(Unavailable, match="s3://nobody-s/some/where"):
        store.put_many([b"a", b"b"])
    with pytest.raises(Unavailable, match="s3://nobody-s/some/where"):
        list(store.listed())
    with pytest.raises(Unavailable, match="NoSuchBucket"):
        store.get(sha256(b"a"))


@contextmanager
def answering(status: int, body: bytes = b"") -> Iterator[Bucket]:
    """A server that gives everybody the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", "0")))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_DELETE = answer  # noqa: N815  # their names

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield Bucket("b", "", f"http://127.0.0.1:{server.server_port}", "us-east-1", "id", SecretStr("a-secret"))
        server.shutdown()


def test_a_task_of_ecs_asks_as_its_role(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its agent answers at an address of its own, which a proxy stands for."""
    role = {
        "AccessKeyId": "of-the-role",
        "SecretAccessKey": "x",
        "Token": "token",
        "Expiration": "2099-01-01T00:00:00Z",
    }
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("authorization", ""), self.headers.get("x-amz-security-token")))
            body = json.dumps(role).encode() if "credentials" in self.path else b"content"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Last-Modified", "Fri, 27 Nov 2026 12:00:00 GMT")
            self.send_header("ETag", "x")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name, raising=False)
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "127.0.0.1")
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/of-this-task")
        store = S3ObjectStore(Bucket.parse("s3://b/objects", endpoint=url, region="eu-central-1"))
        assert store.get(sha256(b"content")) == b"content"
        server.shutdown()
    (agent, bucket) = asked
    assert agent == ("http://169.254.170.2/v2/credentials/of-this-task", "", None)
    assert "Credential=of-the-role/" in bucket[1]
    assert bucket[2] == "token"


def test_who_may_not_is_told_so_and_no_secret_is_said() -> None:
    with answering(403, b"<Error><Code>AccessDenied</Code></Error>") as bucket:
        store = S3ObjectStore(bucket)
        for call in (lambda: store.put(b"x"), lambda: store.get(sha256(b"x")), lambda: list(store.listed())):
            with pytest.raises(Unavailable, match="is not allowed") as caught:
                call()
            assert "credentials" in caught.value.remedy
            assert "a-secret" not in str(caught.value)


@pytest.mark.parametrize(("status", "body"), [(200, b"garbage"), (301, b""), (404, b"<html>"), (501, b"no")])
def test_what_does_not_speak_s3_is_an_outage_or_has_nothing(status: int, body: bytes) -> None:
    with answering(status, body) as bucket:
        store = S3ObjectStore(bucket)
        with pytest.raises((Unavailable, IntegrityError)):
            store.get(sha256(b"x"))
        with pytest.raises(Unavailable):
            list(store.listed())


def test_a_server_that_is_away_is_an_outage_and_comes_back() -> None:
    with running_s3() as server:
        bucket = server.create()
    with patch.dict("coafi.objects.s3._RETRIES", {"max_retries": 0}):
        store = S3ObjectStore(bucket)
    with pytest.raises(Unavailable, match="cannot be written") as caught:
        store.put(b"x")
    assert "COAFI_S3_ENDPOINT" in caught.value.remedy
    with pytest.raises(Unavailable, match="cannot be looked for"):
        store.has(sha256(b"x"))


@pytest.mark.parametrize("url", ["", "s3://", "s3:///x", "https://b", "s3://b?x", "s3://a b", "s3://u@b"])
def test_what_names_no_bucket_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="names no bucket"):
        Bucket.parse(url)


def test_a_url_names_bucket_and_prefix() -> None:
    assert str(Bucket.parse("s3://b/a/c/")) == "s3://b/a/c"
    assert (Bucket.parse("s3://b").name, Bucket.parse("s3://b/").prefix) == ("b", "")
