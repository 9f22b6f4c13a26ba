"""Tokens for tests, right and wrong, and an identity provider on a real port."""

import base64
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from joserfc import jws, jwt
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from pydantic import SecretStr

from coafi.auth.apikeys import ApiKeyFile
from coafi.auth.authenticator import Authenticator
from coafi.auth.jwks import PublishedKeys
from coafi.auth.keys import PinnedRegistry, shared_key, watched_keys
from coafi.auth.roles import DEFAULT_ROLES, Roles
from coafi.auth.tokens import TokenRules

SECRET = "a-shared-secret-that-nobody-may-see-in-any-place"
RULES = TokenRules("https://id.example.org/", "coafi", skew=30)
ROLES = Roles(DEFAULT_ROLES)

ED25519 = OKPKey.generate_key("Ed25519", {"kid": "ed"})
P256 = ECKey.generate_key("P-256", {"kid": "ec"})
RSA = RSAKey.generate_key(2048, {"kid": "rsa"})


@dataclass(frozen=True)
class In:
    """So many seconds from when a token is made: a suite can take longer than the skew."""

    seconds: int


def claims(**changes: Any) -> dict[str, Any]:
    """Claims that are right, but for ``changes``; a change to None takes a claim out."""
    now = int(time.time())
    right = {
        "iss": RULES.issuer,
        "aud": RULES.audience,
        "sub": "ada",
        "exp": now + 600,
        "nbf": now - 1,
        "iat": now - 1,
        "roles": ["editor"],
    }
    whole = {**right, **changes}
    return {
        name: now + value.seconds if isinstance(value, In) else value
        for name, value in whole.items()
        if value is not None
    }


def signed(key: Key, alg: str, header: dict[str, Any] | None = None, **changes: Any) -> str:
    """A token."""
    return raw(key, alg, json.dumps(claims(**changes)).encode(), header)


def raw(key: Key, alg: str, payload: bytes, header: dict[str, Any] | None = None) -> str:
    """A token of any payload."""
    named = {"kid": key.kid} if key.kid else {}
    whole = {name: value for name, value in {"alg": alg, **named, **(header or {})}.items() if value is not None}
    return jws.serialize_compact(whole, payload, key, registry=_Anything())


def by_hand(header: object, payload: object, signature: bytes = b"") -> str:
    """A token that no library would make."""
    return ".".join(_base64(part) for part in (_bytes(header), _bytes(payload), signature))


def jwks(*keys: Key, **changes: Any) -> bytes:
    """A set of public keys."""
    return json.dumps({"keys": [{**key.as_dict(private=False), **changes} for key in keys]}).encode()


def authenticator(
    home: Path, *, url: str = "", keys: bytes | None = None, secret: str = "", **options: Any
) -> Authenticator:
    """An authenticator of ``home``, which trusts the keys at a URL, in a file, or a secret."""
    if keys is not None:
        (home / "keys").write_bytes(keys)
        (home / "keys").chmod(0o600)
    return Authenticator(
        options.pop("rules", RULES),
        options.pop("roles", ROLES),
        shared=(shared_key(SecretStr(secret)),) if secret else (),
        key_file=watched_keys(home / "keys"),
        published=options.pop("published", PublishedKeys(url, cool_down=0.0) if url else None),
        api_keys=ApiKeyFile(home / "api-keys.json"),
        **options,
    )


@dataclass
class Provider:
    """An identity provider: what it answers, once its gate is open, and what it was asked."""

    answer: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    chunks: Iterator[bytes] | None = None
    delay: float = 0.0
    gate: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)
    seen: list[dict[str, str]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        """Where its keys are."""
        return f"http://127.0.0.1:{self.port}/keys"


@contextmanager
def provider(*keys: Key, port: int = 0) -> Iterator[Provider]:
    """A provider that publishes these keys."""
    here = Provider(jwks(*keys) if keys else b"")
    here.gate.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            here.asked.append(self.path)
            here.seen.append(dict(self.headers))
            time.sleep(here.delay)
            here.gate.wait(30)
            with contextlib.suppress(OSError):  # the other side has had enough
                self.answer(here.chunks)

        def answer(self, chunks: Iterator[bytes] | None) -> None:
            self.send_response(here.status)
            for name, value in here.headers.items():
                self.send_header(name, value)
            if chunks is None:
                self.send_header("Content-Length", str(len(here.answer)))
            self.end_headers()
            for chunk in chunks or (here.answer,):
                self.wfile.write(chunk)
                self.wfile.flush()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    here.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield here
    finally:
        here.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Anything(PinnedRegistry):
    """Signs with every algorithm there is."""

    def __init__(self) -> None:
        super().__init__(JWSRegistry.algorithms)

    def check_header(self, header: dict[str, Any]) -> None:
        """Take every header."""


def confused(public: Key, **changes: Any) -> str:
    """A token signed with HS256, and as its secret the PEM of a public key: what algorithm confusion is."""
    assert isinstance(public, RSAKey | ECKey | OKPKey)
    secret = OctKey(public.as_pem(private=False), public.as_pem(private=False))
    return jwt.encode({"alg": "HS256", "kid": public.kid}, claims(**changes), secret, algorithms=["HS256"])


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
