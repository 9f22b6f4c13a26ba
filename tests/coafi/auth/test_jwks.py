"""Keys from an identity provider that answers, rotates, lies, hangs and goes away."""

import asyncio
import gzip
import itertools
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from joserfc.jwk import ECKey, OctKey

from coafi.auth.authenticator import Authenticator
from coafi.auth.jwks import PublishedKeys
from coafi.auth.keys import MAX_SET
from coafi.errors import AuthorizationError, Unavailable
from tests.coafi.auth.tokens import ED25519, P256, RSA, SECRET, Provider, authenticator, jwks, provider, signed
from tests.harness import until


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def here() -> Iterator[Provider]:
    """A provider with one key."""
    with provider(P256) as running:
        yield running


def asking(home: Path, here: Provider, clock: Clock, *, timeout: float = 5.0, secret: str = "") -> Authenticator:
    published = PublishedKeys(here.url, fresh=300, cool_down=10, patience=3600, timeout=timeout, clock=clock)
    return authenticator(home, published=published, secret=secret)


async def name_of(who: Authenticator, token: str) -> str:
    return (await who.authenticate(f"Bearer {token}")).name


async def test_keys_are_fetched_once_and_tokens_of_them_are_taken(tmp_path: Path, here: Provider, clock: Clock) -> None:
    who = asking(tmp_path, here, clock)
    tokens = [signed(P256, "ES256", sub=f"user-{number}") for number in range(20)]
    names = await asyncio.gather(*(name_of(who, token) for token in tokens))
    assert names == [f"jwt:user-{number}" for number in range(20)]
    assert here.asked == ["/keys"]
    assert "identity" in here.seen[0]["Accept-Encoding"]
    assert "Authorization" not in here.seen[0]


async def test_a_rotated_key_is_fetched_when_a_token_names_it(tmp_path: Path, here: Provider, clock: Clock) -> None:
    who = asking(tmp_path, here, clock)
    assert await name_of(who, signed(P256, "ES256")) == "jwt:ada"
    here.answer = jwks(P256, ED25519)
    clock.now += 10
    assert await name_of(who, signed(ED25519, "EdDSA")) == "jwt:ada"
    assert len(here.asked) == 2
    assert await name_of(who, signed(P256, "ES256", sub="bob")) == "jwt:bob"
    assert len(here.asked) == 2


async def test_a_key_that_is_published_no_more_counts_no_more(tmp_path: Path, here: Provider, clock: Clock) -> None:
    here.answer = jwks(P256, ED25519)
    who = asking(tmp_path, here, clock)
    token = signed(P256, "ES256")
    assert await name_of(who, token) == "jwt:ada"
    here.answer = jwks(ED25519)
    clock.now += 301
    await name_of(who, token)  # starts the fetch, and does not wait for it
    with pytest.raises(AuthorizationError):
        for _ in range(500):
            await name_of(who, token)
            await asyncio.sleep(0.01)


async def test_a_flood_of_unknown_keys_asks_the_provider_once_in_a_cool_down(
    tmp_path: Path, here: Provider, clock: Clock
) -> None:
    who = asking(tmp_path, here, clock)
    await name_of(who, signed(P256, "ES256"))
    for round_ in range(3):
        attempts = [signed(ED25519, "EdDSA", {"kid": f"{round_}-{number}"}) for number in range(100)]
        outcomes = await asyncio.gather(*(name_of(who, token) for token in attempts), return_exceptions=True)
        assert all(isinstance(one, AuthorizationError) for one in outcomes)
        assert len(here.asked) == 1 + round_
        clock.now += 10
    assert await name_of(who, signed(P256, "ES256", sub="bob")) == "jwt:bob"


async def test_a_token_that_names_a_known_key_and_is_not_signed_by_it_does_not_ask(
    tmp_path: Path, here: Provider, clock: Clock
) -> None:
    who = asking(tmp_path, here, clock)
    await name_of(who, signed(P256, "ES256"))
    clock.now += 100
    mine = ECKey.generate_key("P-256", {"kid": "ec"})
    for token in (signed(mine, "ES256"), signed(OctKey.import_key(SECRET), "HS256")):
        with pytest.raises(AuthorizationError):
            await name_of(who, token)
    assert len(here.asked) == 1


async def test_tokens_of_other_keys_do_not_wait_for_the_provider(tmp_path: Path, here: Provider, clock: Clock) -> None:
    here.status = 500
    who = asking(tmp_path, here, clock, secret=SECRET)
    assert await name_of(who, signed(OctKey.import_key(SECRET), "HS256")) == "jwt:ada"
    assert here.asked == []


async def test_known_keys_stay_good_while_the_provider_is_away_but_not_for_ever(
    tmp_path: Path, here: Provider, clock: Clock
) -> None:
    who = asking(tmp_path, here, clock)
    old, new = signed(P256, "ES256"), signed(ED25519, "EdDSA")
    await name_of(who, old)
    here.status = 503
    for _ in range(5):
        clock.now += 600
        assert await name_of(who, signed(P256, "ES256", sub=f"at-{clock.now:.0f}")) == f"jwt:at-{clock.now:.0f}"
        with pytest.raises(Unavailable, match="the answer is 503") as caught:
            await name_of(who, new)
        assert caught.value.retry_after is not None
        assert 1 <= caught.value.retry_after <= 10
    clock.now += 601
    with pytest.raises(Unavailable):
        await name_of(who, old)
    here.status = 200
    clock.now += 10
    assert await name_of(who, old) == "jwt:ada"


async def test_a_provider_that_is_away_from_the_start_is_tried_again_after_the_cool_down(
    tmp_path: Path, clock: Clock
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    who = asking(tmp_path, Provider(port=port), clock)
    token = signed(P256, "ES256")
    for _ in range(3):
        with pytest.raises(Unavailable, match="ConnectError"):
            await name_of(who, token)
    with provider(P256, port=port) as here:
        with pytest.raises(Unavailable):
            await name_of(who, token)
        clock.now += 10
        assert await name_of(who, token) == "jwt:ada"
        assert len(here.asked) == 1


async def test_old_keys_are_renewed_while_nobody_waits(tmp_path: Path, here: Provider, clock: Clock) -> None:
    who = asking(tmp_path, here, clock, timeout=30)
    await name_of(who, signed(P256, "ES256"))
    here.gate.clear()
    here.answer = jwks(P256, ED25519)
    clock.now += 301
    for number in range(50):
        assert await name_of(who, signed(P256, "ES256", sub=f"user-{number}")) == f"jwt:user-{number}"
    await until(lambda: len(here.asked) == 2)
    waiting = asyncio.create_task(name_of(who, signed(ED25519, "EdDSA")))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    here.gate.set()
    assert await waiting == "jwt:ada"
    assert len(here.asked) == 2


def endless() -> Iterator[bytes]:
    for _ in itertools.count():
        yield b" " * 65_536


def dripping() -> Iterator[bytes]:
    for _ in range(600):
        yield b" "
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"status": 404}, "404"),
        ({"status": 204}, "204"),
        ({"status": 302, "headers": {"Location": "/elsewhere"}}, "redirect"),
        ({"status": 308, "headers": {"Location": "http://169.254.169.254/"}}, "redirect"),
        ({"answer": b""}, "no set of keys"),
        ({"answer": b"<html>"}, "no set of keys"),
        ({"answer": b"\x00\xff" * 100}, "no set of keys"),
        ({"answer": b"[" * 200_000}, "no set of keys"),
        ({"answer": b"[]"}, "no set of"),
        ({"answer": b'{"keys": 5}'}, "no set of"),
        ({"answer": b'{"keys": [5, null, {}]}'}, "no key that can verify"),
        ({"answer": json.dumps({"keys": [{}] * 65}).encode()}, "up to 64"),
        ({"answer": jwks(P256) + b" " * MAX_SET}, "larger than"),
        ({"answer": gzip.compress(jwks(P256), mtime=0), "headers": {"Content-Encoding": "gzip"}}, "no set of keys"),
        ({"chunks": endless()}, "larger than"),
        ({"chunks": dripping()}, "within 1 s"),
        ({"delay": 3.0}, "within 1 s"),
        ({"headers": {"X": "y" * 200_000}}, "ProtocolError"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
async def test_a_wrong_answer_is_unavailable_and_leaves_known_keys_alone(
    tmp_path: Path, clock: Clock, changes: dict[str, object], problem: str
) -> None:
    with provider(P256) as here:
        patience = 1.0 if problem.startswith("within") else 30.0
        fresh, knowing = (asking(tmp_path, here, clock, timeout=patience) for _ in range(2))
        await name_of(knowing, signed(P256, "ES256"))
        for name, value in changes.items():
            setattr(here, name, value)
        began = time.monotonic()
        with pytest.raises(Unavailable, match=problem):
            await name_of(fresh, signed(P256, "ES256"))
        assert time.monotonic() - began < 10
        clock.now += 10
        if here.chunks is None:
            with pytest.raises(Unavailable, match=problem):
                await name_of(knowing, signed(RSA, "RS256"))
            assert await name_of(knowing, signed(P256, "ES256", sub="bob")) == "jwt:bob"
        assert set(here.asked) == {"/keys"}


async def test_a_client_that_goes_away_does_not_take_the_fetch_with_it(
    tmp_path: Path, here: Provider, clock: Clock
) -> None:
    here.delay = 0.2
    who = asking(tmp_path, here, clock)
    first = asyncio.create_task(name_of(who, signed(P256, "ES256")))
    await until(lambda: bool(here.asked))
    second = asyncio.create_task(name_of(who, signed(P256, "ES256")))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "jwt:ada"
    assert len(here.asked) == 1


async def test_closing_ends_a_fetch(tmp_path: Path, here: Provider, clock: Clock) -> None:
    here.delay = 1.0
    who = asking(tmp_path, here, clock)
    waiting = asyncio.create_task(name_of(who, signed(P256, "ES256")))
    await until(lambda: bool(here.asked))
    await who.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await who.close()


async def test_the_log_tells_what_happened_and_nobodys_token(
    tmp_path: Path, here: Provider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = structlog.testing.CapturingLogger()  # whatever other tests of this process have made of the real one
    for module in ("jwks", "authenticator"):
        monkeypatch.setattr(f"coafi.auth.{module}._LOG", structlog.wrap_logger(log, [], structlog.stdlib.BoundLogger))
    who = asking(tmp_path, here, clock)
    token = signed(P256, "ES256")
    await name_of(who, token)
    here.status = 500
    clock.now += 10
    with pytest.raises(Unavailable):
        await name_of(who, signed(RSA, "RS256"))
    logged = repr(log.calls)
    assert "auth_keys_fetched" in logged
    assert "auth_keys_unavailable" in logged
    assert not any(part in logged for part in token.split("."))
