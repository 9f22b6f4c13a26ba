"""The ledger over HTTP: an independent reader of tlog-tiles, who may read and append, and what is refused."""

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from coafi.errors import IntegrityError, Unavailable
from coafi.ledger.handover import key_change, parse_hand_overs
from coafi.ledger.keyfile import KeyFile
from coafi.ledger.keys import VerifierKey, generate_key
from coafi.ledger.log import Ledger
from coafi.ledger.proof import Proof
from coafi.ledger.rotation import rotate
from coafi.ledger.verifier import verify_inclusion
from coafi.ledger.wire import MAX_DRAFTS, MAX_REQUEST, AppendRequest, DraftMessage
from starters.access import is_one_of
from tests.coafi.ledger.making import draft
from tests.coafi.ledger.serving import APPEND_TOKEN, INSTANCE, READ_TOKEN, Served, served
from tests.strength import examples

SIZE = 600
READ = {"Authorization": f"Bearer {READ_TOKEN}"}
APPEND = {"Authorization": f"Bearer {APPEND_TOKEN}"}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A ledger of ``SIZE`` entries, all of them signed."""
    with served(tmp_path_factory.mktemp("bitt")) as one:
        one.ledger.append([draft(number, event=f"e{number % 2}") for number in range(SIZE)])
        one.ledger.checkpoint(force=True)
        yield one


@pytest.fixture(scope="module")
def http(log: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{log.url}/bitt/", timeout=30, trust_env=False) as client:
        yield client


def problem(response: httpx.Response, status: int, kind: str) -> str:
    """The detail of a refusal, which must be a problem after RFC 9457."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (body["status"], body["type"]) == (status, f"urn:coafi:error:{kind}")
    detail: str = body["detail"]
    return detail


def as_json(*drafts: Any) -> bytes:
    return AppendRequest(drafts=tuple(DraftMessage.of(one) for one in drafts)).model_dump_json().encode()


# ------------------------------------------------- a reader that was written from the specifications alone
#
# It knows https://c2sp.org/tlog-tiles, https://c2sp.org/tlog-checkpoint, https://c2sp.org/signed-note and RFC 6962,
# and nothing of this project.


class Reader:
    """Reads a log by its prefix and its vkey, and believes nothing but the signature."""

    def __init__(self, http: httpx.Client, vkey: str) -> None:
        self.http = http
        self.tiles: dict[tuple[int, int, int], list[bytes]] = {}
        self.name, key_id, key = vkey.split("+", 2)
        self.id = bytes.fromhex(key_id)
        kind_and_key = base64.b64decode(key)
        assert kind_and_key[0] == 1
        assert hashlib.sha256(self.name.encode() + b"\n" + kind_and_key).digest()[:4] == self.id
        self.key = Ed25519PublicKey.from_public_bytes(kind_and_key[1:])

    def checkpoint(self) -> tuple[int, bytes]:
        """Size and root, once the signature is verified."""
        response = self.http.get("checkpoint")
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        text, _, signatures = response.text.partition("\n\n")
        (line,) = [one for one in signatures.splitlines() if one.startswith(f"— {self.name} ")]
        signed = base64.b64decode(line.split(" ")[2])
        assert signed[:4] == self.id
        self.key.verify(signed[4:], text.encode() + b"\n")
        origin, size, root = text.split("\n")
        assert origin == self.name
        return int(size), base64.b64decode(root)

    def path(self, n: int, width: int) -> str:
        """``<N>[.p/<W>]``."""
        digits = str(n)
        digits = "0" * (-len(digits) % 3) + digits
        groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
        return "/".join([f"x{one}" for one in groups[:-1]] + groups[-1:]) + (f".p/{width}" if width < 256 else "")

    def tile(self, size: int, level: int, n: int) -> list[bytes]:
        """The hashes of a tile of the tree of ``size`` entries."""
        width = min(256, size // 256**level - n * 256)
        if (level, n, width) not in self.tiles:
            self.tiles[level, n, width] = self.fetched(level, n, width)
        return self.tiles[level, n, width]

    def fetched(self, level: int, n: int, width: int) -> list[bytes]:
        """A tile over HTTP."""
        response = self.http.get(f"tile/{level}/{self.path(n, width)}")
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "application/octet-stream"
        assert len(response.content) == 32 * width
        return [response.content[at : at + 32] for at in range(0, 32 * width, 32)]

    def range_hash(self, size: int, start: int, stop: int) -> bytes:
        """MTH of D[start:stop], RFC 6962 section 2.1, from the highest tile that holds a perfect subtree."""
        count = stop - start
        level = 0
        while count % 256 ** (level + 1) == 0 and count & (count - 1) == 0 and start % count == 0:
            level += 1
        unit: int = 256**level
        if count == unit and start % unit == 0:
            n, offset = divmod(start // unit, 256)
            return self.tile(size, level, n)[offset]
        half = 1
        while half * 2 < count:
            half *= 2
        left = self.range_hash(size, start, start + half)
        return hashlib.sha256(b"\x01" + left + self.range_hash(size, start + half, stop)).digest()

    def inclusion(self, index: int, start: int, stop: int, size: int) -> list[tuple[bytes, bool]]:
        """PATH(index, D[start:stop]), RFC 6962 section 2.1.1, each hash with whether it lies to the left."""
        if stop - start == 1:
            return []
        half = 1
        while half * 2 < stop - start:
            half *= 2
        if index < start + half:
            return [
                *self.inclusion(index, start, start + half, size),
                (self.range_hash(size, start + half, stop), False),
            ]
        return [*self.inclusion(index, start + half, stop, size), (self.range_hash(size, start, start + half), True)]

    def bundle(self, size: int, n: int) -> list[bytes]:
        """The entries of a bundle of the log of ``size`` entries."""
        width = min(256, size - n * 256)
        response = self.http.get(f"tile/entries/{self.path(n, width)}", headers=READ)
        assert response.headers["content-type"] == "application/octet-stream"
        data, entries = response.content, []
        while data:
            length = int.from_bytes(data[:2], "big")
            entries.append(data[2 : 2 + length])
            assert len(entries[-1]) == length
            data = data[2 + length :]
        assert len(entries) == width
        return entries


def test_a_reader_written_from_the_specification_proves_entries_from_tiles_alone(
    log: Served, http: httpx.Client
) -> None:
    reader = Reader(http, str(log.ledger.key))
    size, root = reader.checkpoint()
    assert size == SIZE
    assert reader.range_hash(size, 0, size) == root
    for index in (0, 1, 255, 256, 511, 512, 513, 598, 599):
        entry = reader.bundle(size, index // 256)[index % 256]
        at = hashlib.sha256(b"\x00" + entry).digest()
        assert at == reader.tile(size, 0, index // 256)[index % 256]
        for sibling, is_left in reader.inclusion(index, 0, size, size):
            at = hashlib.sha256(b"\x01" + (sibling + at if is_left else at + sibling)).digest()
        assert at == root
        hashes = http.get("proof/inclusion", params={"index": index, "size": size}).json()["hashes"]
        assert [one.hex() for one, _ in reader.inclusion(index, 0, size, size)] == hashes
        assert json.loads(entry)["step"] == f"files.process/{index}"


def test_a_reader_computes_the_root_of_every_older_tree(log: Served, http: httpx.Client) -> None:
    reader = Reader(http, str(log.ledger.key))
    leaves = [hashlib.sha256(b"\x00" + body).digest() for n in range(3) for body in reader.bundle(SIZE, n)]

    def mth(row: list[bytes]) -> bytes:
        if len(row) == 1:
            return row[0]
        half = 1
        while half * 2 < len(row):
            half *= 2
        return hashlib.sha256(b"\x01" + mth(row[:half]) + mth(row[half:])).digest()

    for size in (1, 2, 3, 255, 256, 257, 511, 512, 513, 599):
        assert reader.range_hash(size, 0, size) == mth(leaves[:size])


# ---------------------------------------------------------------------------------------------- tiles


@pytest.mark.parametrize(
    ("path", "length"),
    [
        ("tile/0/000", 256),
        ("tile/0/001", 256),
        ("tile/0/000.p/17", 17),
        ("tile/0/002.p/88", 88),
        ("tile/0/002.p/1", 1),
        ("tile/1/000.p/2", 2),
    ],
)
def test_tiles_are_there_in_every_width_they_had(http: httpx.Client, path: str, length: int) -> None:
    response = http.get(path)
    assert (response.status_code, len(response.content)) == (200, 32 * length)
    assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert response.content == http.get(path.partition(".p/")[0] if length == 17 else path).content[: 32 * length]


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/002",  # only a partial one is there
        "tile/0/002.p/89",
        "tile/0/003.p/1",
        "tile/1/000",
        "tile/1/000.p/3",
        "tile/2/000.p/1",
        "tile/63/000.p/1",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/017",
        "tile/64/000",
        "tile/00/000",
        "tile/0/0",
        "tile/0/x000/000",
        "tile/0/x999/x999/x999/x999/x999/x999/999.p/1",
        "tile/0/000/",
        "tile/-1/000",
        "tile/entries/002",
        "tile/entries/002.p/89",
        "tile/entries/003.p/1",
        "tile/entries/x000/000",
        "entries/600",
        "entries/-1",
        "entries/x",
        "entries/99999999999999999999",
        "proof/600",
        "proof/x",
        "proof/inclusion?index=600&size=600",
        "proof/inclusion?index=0&size=601",
        "proof/consistency?old=2&new=1",
        "proof/consistency?old=1&new=601",
    ],
)
def test_what_is_not_there_is_not_found(http: httpx.Client, path: str) -> None:
    assert problem(http.get(path, headers=READ), 404, "ResourceNotFoundError")


@pytest.mark.parametrize(
    "path",
    [
        "entries?start=x",
        "entries?start=5&end=4",
        "entries?start=-1",
        "entries?event=e1&start=99999999999999999999",
        "entries?key=abc",
        "proof/inclusion?index=0",
        "proof/inclusion?size=1",
        "proof/consistency?old=0&new=",
    ],
)
def test_a_query_that_is_none_is_refused(http: httpx.Client, path: str) -> None:
    assert problem(http.get(path, headers=READ), 400, "ValidationError")


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=40), st.sampled_from(["tile/", "tile/entries/", "entries/", "proof/", "entries?start="]))
def test_no_path_is_a_defect(http: httpx.Client, text: str, prefix: str) -> None:
    try:
        response = http.get(prefix + text, headers=READ)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeEncodeError):
        return
    assert response.status_code in (200, 307, 400, 404), response.text


def test_only_get_and_head_read(http: httpx.Client) -> None:
    for path in ("checkpoint", "tile/0/000", "entries/3", "head", "tile/entries/000"):
        found = http.get(path, headers=READ)
        head = http.head(path, headers=READ)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["etag"] == found.headers["etag"]
        assert http.put(path, headers=READ).status_code == 405


def test_what_a_client_has_is_not_sent_again(http: httpx.Client) -> None:
    for path in (
        "checkpoint",
        "keys",
        "tile/0/000",
        "tile/entries/000",
        "entries/3",
        "entries?start=0",
        "proof/3",
        "head",
    ):
        tag = http.get(path, headers=READ).headers["etag"]
        for known in (tag, f'"other", W/{tag}', "*"):
            again = http.get(path, headers={**READ, "If-None-Match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == tag
        assert http.get(path, headers={**READ, "If-None-Match": '"other"'}).status_code == 200


def test_a_checkpoint_is_not_kept_for_long_and_entries_by_nobody_else(http: httpx.Client) -> None:
    for path in ("checkpoint", "keys"):
        assert http.get(path).headers["cache-control"] == "public, max-age=1"
    for path in ("entries/3", "tile/entries/000", "proof/3", "entries", "head"):
        response = http.get(path, headers=READ)
        assert response.headers["cache-control"].startswith("private")
        assert "Authorization" in response.headers["vary"]


def test_bundles_are_compressed_for_who_takes_it(http: httpx.Client) -> None:
    plain = http.get("tile/entries/000", headers={**READ, "Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    refused = http.get("tile/entries/000", headers={**READ, "Accept-Encoding": "gzip;q=0, identity"})
    assert refused.headers["etag"] == plain.headers["etag"]
    with http.stream("GET", "tile/entries/000", headers={**READ, "Accept-Encoding": "br, gzip"}) as response:
        raw = b"".join(response.iter_raw())
    assert response.headers["content-encoding"] == "gzip"
    assert response.headers["etag"] != plain.headers["etag"]
    assert gzip.decompress(raw) == plain.content


# -------------------------------------------------------------------------------------------- entries


def test_entries_are_read_by_index_range_event_and_key(log: Served, http: httpx.Client) -> None:
    def indices(query: str) -> list[int]:
        return [one["index"] for one in http.get(f"entries?{query}", headers=READ).json()["entries"]]

    known = log.ledger.entry(7)
    response = http.get("entries/7", headers=READ)
    assert (response.content, response.headers["content-type"]) == (known.body, "application/json")
    assert indices("start=5&end=8") == [5, 6, 7]
    assert indices("start=598&end=700") == [598, 599]
    assert indices("start=700") == []
    assert indices("") == indices("start=0&end=100000") == list(range(256))
    assert indices("event=e1") == list(range(1, 512, 2))
    assert indices("event=e1&start=512") == list(range(513, 600, 2))
    assert indices("event=nobody") == []
    assert indices(f"key={known.entry.key}") == [7]
    assert indices(f"key={'0' * 64}") == []
    assert http.get("entries?start=7&end=8", headers=READ).json()["entries"][0]["body"].encode() == known.body


def test_a_proof_is_verified_offline(log: Served, http: httpx.Client) -> None:
    proof = Proof.parse(http.get("proof/599", headers=READ).content)
    assert verify_inclusion(proof, VerifierKey.parse(str(log.ledger.key))).index == 599


def test_the_keys_are_shown_with_the_hand_overs_from_which_they_follow(tmp_path: Path) -> None:
    with served(tmp_path) as one, httpx.Client(base_url=f"{one.url}/bitt/", trust_env=False) as client:
        (first,) = client.get("keys").json()["keys"]
        assert first == {
            "id": one.ledger.key.key_id.hex(),
            "key": str(one.ledger.key),
            "since": 0,
            "until": None,
            "active": True,
        }
        done = rotate(one.ledger, KeyFile(one.resources.settings.ledger_key_path).prepare())
        shown = client.get("keys")
        assert [(key["key"], key["since"], key["until"]) for key in shown.json()["keys"]] == [
            (first["key"], 0, done.size),
            (str(done.new), done.size, None),
        ]
        assert parse_hand_overs(shown.content) == one.ledger.hand_overs() == [done]


def test_the_head_is_what_is_committed(log: Served, http: httpx.Client) -> None:
    head = log.ledger.head()
    assert http.get("head", headers=READ).json() == {
        "origin": head.origin,
        "size": head.size,
        "root": head.root.hex(),
    }


RESTRICTED = ("entries", "entries/3", "tile/entries/000", "proof/3", "head", "entries?event=e1")
PUBLIC = (
    "checkpoint",
    "keys",
    "tile/0/000",
    "proof/inclusion?index=0&size=1",
    "proof/consistency?old=1&new=2",
)


def test_hashes_are_public_and_entries_are_not(http: httpx.Client) -> None:
    for path in PUBLIC:
        assert http.get(path).status_code == 200
    for path in RESTRICTED:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {READ_TOKEN}"}):
            response = http.get(path, headers=headers)
            assert "token" in problem(response, 401, "AuthorizationError")
            assert response.headers["www-authenticate"].startswith("Bearer")
            assert response.headers["cache-control"] == "no-store"
        for headers in (READ, APPEND):
            assert http.get(path, headers=headers).status_code == 200


def test_without_tokens_entries_are_open_to_this_machine_alone(tmp_path: Path) -> None:
    with served(tmp_path, bitt_tokens=(), bitt_append_tokens={}) as one, httpx.Client(trust_env=False) as client:
        one.ledger.append([draft(0)])
        assert client.get(f"{one.url}/bitt/entries/0").status_code == 200
        for headers in ({"Host": "evil.example"}, {"X-Forwarded-For": "192.0.2.1"}):
            assert "COAFI_BITT_TOKENS" in problem(
                client.get(f"{one.url}/bitt/entries/0", headers=headers), 403, "PolicyDenied"
            )
        assert "COAFI_BITT_APPEND_TOKENS" in problem(client.post(f"{one.url}/bitt/entries"), 403, "PolicyDenied")
        assert one.ledger.size() == 1


def test_a_gateway_that_others_reach_keeps_entries_closed_without_tokens(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"bitt_tokens": (), "bitt_append_tokens": {}, "gateway_host": "0.0.0.0"}  # noqa: S104
    with served(tmp_path, **changes) as one, httpx.Client(trust_env=False) as client:
        url = one.url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        assert client.get(f"{url}/bitt/checkpoint").status_code == 200
        assert "COAFI_BITT_TOKENS" in problem(client.get(f"{url}/bitt/entries"), 403, "PolicyDenied")


def test_nothing_given_is_never_a_token() -> None:
    assert not is_one_of("", [SecretStr("")])
    assert is_one_of("b", [SecretStr("a"), SecretStr("b")])


# ------------------------------------------------------------------------------------------- appending


def test_an_append_is_recorded_once_and_conflicts_are_told(log: Served, http: httpx.Client) -> None:
    body = as_json(draft("one", data={"try": 1}), draft("two"))
    first = http.post("entries", content=body, headers=APPEND).json()["entries"]
    assert [one["fresh"] for one in first] == [True, True]
    again = http.post("entries", content=as_json(draft("one", data={"try": 2})), headers=APPEND).json()["entries"]
    assert again == [{**first[0], "fresh": False}]
    size = log.ledger.size()
    conflict = as_json(draft("three"), draft("one", inputs={"other": 1}))
    assert "made from other inputs" in problem(
        http.post("entries", content=conflict, headers=APPEND), 409, "IdempotencyConflict"
    )
    assert log.ledger.size() == size
    note = http.post("checkpoint", headers=APPEND)
    assert Reader(http, str(log.ledger.key)).name in note.text
    assert int(note.text.split("\n")[1]) == size


def test_who_may_not_append_is_told_and_nothing_is_written(log: Served, http: httpx.Client, tmp_path: Path) -> None:
    size = log.ledger.size()
    body = as_json(draft("stranger"))
    for path in ("entries", "checkpoint"):
        assert problem(http.post(path, content=body), 401, "AuthorizationError")
        assert "may not append" in problem(http.post(path, content=body, headers=READ), 403, "PolicyDenied")
    for namespace in ("default", "plant-bb/default", "plant-c/default", INSTANCE, ""):
        foreign = json.loads(as_json(draft("good"), draft("foreign")))
        foreign["drafts"][1]["namespace"] = namespace
        response = http.post("entries", json=foreign, headers=APPEND)
        assert "COAFI_INSTANCE=plant-b" in problem(response, 403, "PolicyDenied")
    change = key_change(log.ledger.key, log.ledger.signer().sign, generate_key(tmp_path / "key", log.ledger.origin))
    response = http.post("entries", content=as_json(replace(change, namespace="plant-b/default")), headers=APPEND)
    assert "may not record a change of the ledger's keys" in problem(response, 403, "PolicyDenied")
    assert log.ledger.size() == size


def test_what_is_no_append_is_refused_and_nothing_is_written(log: Served, http: httpx.Client) -> None:
    size = log.ledger.size()
    good = json.loads(as_json(draft("good")))

    def changed(**changes: Any) -> bytes:
        return json.dumps({"drafts": [*good["drafts"], {**good["drafts"][0], **changes}]}).encode()

    cases = [
        (b"", 400),
        (b"{", 400),
        (b"[" * 100_000, 400),
        (b'{"drafts": []}', 400),
        (b'{"drafts": [{}]}', 400),
        (changed(type="NO_SUCH_TYPE"), 400),
        (changed(step="s" * 5_000), 400),
        (changed(more=1), 400),
        (json.dumps({"drafts": good["drafts"] * (MAX_DRAFTS + 1)}).encode(), 400),
        (changed(step="x", data={"x": "a" * 70_000}), 422),
        (changed(step="x", data={"x": 2**60}), 422),
        (changed(step="x", inputs={"x": 2**60}), 422),
        (changed(step="x", data={"x": 1e20}).replace(b"1e+20", b"1e20"), 422),
        (changed(step="x", data={"x": 7}).replace(b'"x": 7', b'"x": ' + b"[" * 150 + b"]" * 150), 422),
        (changed(step="x", data={"x": 7}).replace(b'"x": 7', b'"x": ' + b"[" * 250 + b"]" * 250), 400),
        (b"x" * (MAX_REQUEST + 1), 413),
    ]
    for body, status in cases:
        assert problem(http.post("entries", content=body, headers=APPEND), status, "ValidationError")

    def endless() -> Iterator[bytes]:
        for _ in range(MAX_REQUEST // 65_536 + 2):
            yield b"x" * 65_536

    assert problem(http.post("entries", content=endless(), headers=APPEND), 413, "ValidationError")
    places = http.post("entries", content=changed(type="NO"), headers=APPEND).json()["errors"]
    assert places[0]["pointer"] == "/drafts/1/type"
    assert log.ledger.size() == size


def test_an_outage_is_told_with_a_time_to_wait_and_a_defect_without_its_detail(
    log: Served, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[Exception] = []

    def fails(*_arguments: Any, **_options: Any) -> None:
        raise errors[-1]

    for name in ("append", "entries", "tile"):
        monkeypatch.setattr(Ledger, name, fails)
    errors.append(Unavailable("the disk is full"))
    for response in (
        http.post("entries", content=as_json(draft("later")), headers=APPEND),
        http.get("entries", headers=READ),
        http.get("tile/0/000"),
    ):
        assert "the disk is full" in problem(response, 503, "Unavailable")
        assert int(response.headers["retry-after"]) >= 1
    errors.append(IntegrityError("entry 3 was changed by a detail of ours"))
    assert "detail of ours" not in problem(http.get("tile/0/000"), 500, "IntegrityError")


def test_a_checkpoint_that_cannot_be_had_is_asked_for_once_in_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fails(_self: Ledger, *, force: bool = False) -> None:
        asked.append(force)
        raise Unavailable("the state directory is full")

    monkeypatch.setattr("starters.bitt.PUBLISH_SECONDS", 3600.0)
    with served(tmp_path) as one, httpx.Client(trust_env=False) as client:
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "checkpoint", fails)
            for _ in range(5):
                problem(client.get(f"{one.url}/bitt/checkpoint"), 503, "Unavailable")
        assert len(asked) == 1


def test_requests_are_counted(log: Served, http: httpx.Client) -> None:
    http.get("tile/0/000")
    http.get("entries")
    text = httpx.get(f"{log.url}/metrics", trust_env=False).text
    assert 'coafi_ledger_requests_total{route="tile",status="200"}' in text
    assert 'coafi_ledger_requests_total{route="entries",status="401"}' in text
