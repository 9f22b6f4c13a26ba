"""Every wrong token that we know of is refused, with a reason and without being quoted."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from coafi.auth.authenticator import Authenticator
from coafi.auth.keys import MAX_KEYS, keys_of_file, keys_of_set, make_key_file, watched_keys
from coafi.auth.tokens import MAX_TOKEN
from coafi.errors import AuthorizationError, Unavailable, ValidationError
from tests.coafi.auth.tokens import (
    ED25519,
    P256,
    RSA,
    RULES,
    SECRET,
    In,
    authenticator,
    by_hand,
    claims,
    confused,
    jwks,
    provider,
    raw,
    signed,
)
from tests.strength import examples


@pytest.fixture
def trusting(tmp_path: Path) -> Authenticator:
    """Trusts a key of each kind, and a secret."""
    return authenticator(tmp_path, keys=jwks(ED25519, P256, RSA), secret=SECRET)


async def refused(who: Authenticator, token: str, *, reason: str) -> None:
    with pytest.raises(AuthorizationError, match=reason) as caught:
        await who.authenticate(f"Bearer {token}")
    said = f"{caught.value!r} {caught.value} {caught.value.__cause__}"
    longest = max(token.split("."), key=len)
    assert len(longest) < 12 or longest not in said


@pytest.mark.parametrize(
    ("key", "alg"), [(ED25519, "EdDSA"), (ED25519, "Ed25519"), (P256, "ES256"), (RSA, "RS256"), (RSA, "PS256")]
)
async def test_a_token_of_a_trusted_key_is_a_principal(trusting: Authenticator, key: Any, alg: str) -> None:
    principal = await trusting.authenticate(f"Bearer {signed(key, alg, scope='openid api:event/{id}:GET')}")
    assert principal.name == "jwt:ada"
    assert principal.roles == ("editor",)
    assert principal.may("api:registry/update:POST")
    assert "api:event/{id}:GET" in principal.permissions
    assert not principal.may("api:registry/status:POST")


async def test_a_token_of_the_shared_secret_is_a_principal(trusting: Authenticator) -> None:
    secret = OctKey.import_key(SECRET)
    assert (await trusting.authenticate(f"bearer  {signed(secret, 'HS256')}")).name == "jwt:ada"
    assert (await trusting.authenticate(f"Bearer {signed(secret, 'HS256', {'kid': 'whatever'})}")).name == "jwt:ada"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": In(-31)}, "expired"),
        ({"exp": 0}, "expired"),
        ({"exp": -1e300}, "expired"),
        ({"exp": float("nan")}, "exp"),
        ({"exp": float("inf")}, "exp"),
        ({"exp": 10**300}, "exp"),
        ({"exp": True}, "exp"),
        ({"exp": "1e99"}, "exp"),
        ({"exp": [2**33]}, "exp"),
        ({"exp": None}, "lacks: exp"),
        ({"nbf": In(90)}, "not valid yet"),
        ({"nbf": float("nan")}, "nbf"),
        ({"nbf": "soon"}, "nbf"),
        ({"iat": In(90)}, "future"),
        ({"iat": {}}, "iat"),
        ({"aud": None}, "lacks: aud"),
        ({"aud": "another"}, "audience"),
        ({"aud": "coafi "}, "audience"),
        ({"aud": ["another", "third"]}, "audience"),
        ({"aud": []}, "audience"),
        ({"aud": {"coafi": 1}}, "audience"),
        ({"aud": ["coafi", 1]}, "audience"),
        ({"iss": None}, "lacks: iss"),
        ({"iss": "https://id.example.org"}, "issuer"),
        ({"iss": [RULES.issuer]}, "issuer"),
        ({"iss": ""}, "issuer"),
        ({"sub": None}, "lacks: sub"),
        ({"sub": ""}, "names nobody"),
        ({"sub": 5}, "names nobody"),
        ({"sub": "a\u202eb"}, "cannot be printed"),
        ({"sub": "a\nb"}, "cannot be printed"),
        ({"sub": "x" * 200}, "too long"),
        ({"sub": "ada "}, "cannot be a name"),
        ({"sub": "\ud800"}, "cannot be printed"),
        ({"roles": "admin"}, "roles"),
        ({"roles": {"admin": True}}, "roles"),
        ({"roles": [1]}, "roles"),
        ({"scope": ["api:*:*"]}, "scope"),
        ({"scope": 1}, "scope"),
        ({"exp": None, "aud": None}, "lacks: aud,exp"),
    ],
)
async def test_a_token_with_wrong_claims_is_refused(
    trusting: Authenticator, changes: dict[str, Any], reason: str
) -> None:
    await refused(trusting, signed(P256, "ES256", **changes), reason=reason)


@pytest.mark.parametrize("changes", [{"exp": In(-5)}, {"nbf": In(20)}, {"iat": In(20)}, {"nbf": None, "iat": None}])
async def test_clocks_may_differ_a_little_and_nbf_may_be_missing(
    trusting: Authenticator, changes: dict[str, Any]
) -> None:
    await trusting.authenticate(f"Bearer {signed(P256, 'ES256', **changes)}")


async def test_one_of_several_audiences_is_enough_and_unknown_claims_are_ignored(trusting: Authenticator) -> None:
    token = signed(ED25519, "EdDSA", aud=["other", "coafi"], roles=["nobody-knows-this"], validate_iss=1, _now=2)
    principal = await trusting.authenticate(f"Bearer {token}")
    assert principal.roles == principal.permissions == ()


@pytest.mark.parametrize("payload", [b"", b"null", b"[]", b"5", b"{", b"\xff\xfe", b'"exp"', b"[" * 5000])
async def test_a_payload_that_is_no_object_is_refused(trusting: Authenticator, payload: bytes) -> None:
    await refused(trusting, raw(P256, "ES256", payload), reason="no JSON object|neither")


@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "nOnE", "", "HS384", "RS512", "ES384", "dir", "RSA1_5", None, 5, ["ES256"]]
)
async def test_no_other_algorithm_is_taken(trusting: Authenticator, alg: object) -> None:
    for signature in (b"", b"x" * 64):
        await refused(trusting, by_hand({"alg": alg, "typ": "JWT"}, claims(), signature), reason="algorithm")


async def test_a_signed_token_is_not_made_unsigned(trusting: Authenticator) -> None:
    head, payload, _ = signed(P256, "ES256").split(".")
    await refused(trusting, f"{head}.{payload}.", reason="not signed")
    await refused(trusting, f"{head}.{payload}", reason="neither")


@pytest.mark.parametrize("public", [RSA, P256, ED25519])
async def test_a_public_key_is_not_taken_for_a_secret(
    tmp_path: Path, trusting: Authenticator, monkeypatch: pytest.MonkeyPatch, public: Any
) -> None:
    monkeypatch.setattr("joserfc._rfc7518.oct_key.UNSAFE_KEY_LOADERS", ())
    token = confused(public)
    secret = OctKey(public.as_pem(private=False), public.as_pem(private=False))
    assert (
        jwt.decode(token, secret, algorithms=["HS256"]).claims["sub"] == "ada"
    )  # a verifier that trusts the header would take it
    await refused(trusting, token, reason="not signed")
    (tmp_path / "one").mkdir()
    await refused(authenticator(tmp_path / "one", keys=public.as_pem(private=False)), token, reason="not signed")


@pytest.mark.parametrize(
    ("key", "kid", "alg"), [(P256, "ed", "ES256"), (ED25519, "rsa", "EdDSA"), (RSA, "ec", "RS256"), (RSA, "", "RS256")]
)
async def test_the_name_of_another_key_does_not_help(trusting: Authenticator, key: Any, kid: str, alg: str) -> None:
    await refused(trusting, signed(key, alg, {"kid": kid}), reason="not signed")


async def test_a_key_is_for_the_algorithm_that_it_was_published_for(tmp_path: Path) -> None:
    who = authenticator(tmp_path, keys=jwks(RSA, alg="PS256"))
    await who.authenticate(f"Bearer {signed(RSA, 'PS256')}")
    await refused(who, signed(RSA, "RS256"), reason="not signed")


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"], "exp": 1},
        {"crit": ["b64"], "b64": False},
        {"crit": ["b64"], "b64": True},
        {"b64": False},
        {"crit": []},
        {"crit": 5},
        {"crit": None, "kid": 5},
        {"kid": ["ec"]},
        {"kid": {"a": 1}},
        {"typ": 1},
        {"typ": "dpop+jwt"},
        {"typ": "JWE"},
    ],
)
async def test_a_header_that_wants_something_else_is_refused(trusting: Authenticator, header: dict[str, Any]) -> None:
    await refused(trusting, by_hand({"alg": "ES256", **header}, claims(), b"x" * 64), reason="crit|header|type|read")


async def test_a_critical_extension_is_refused_also_when_the_signature_is_right(trusting: Authenticator) -> None:
    await refused(trusting, signed(P256, "ES256", {"crit": ["kid"]}), reason="crit")


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", "application/at+jwt", None])
async def test_types_of_access_tokens_are_taken(trusting: Authenticator, typ: str | None) -> None:
    await trusting.authenticate(f"Bearer {signed(P256, 'ES256', {'typ': typ})}")


async def test_keys_that_a_token_brings_along_are_not_looked_at(trusting: Authenticator) -> None:
    mine = ECKey.generate_key("P-256", {"kid": "ec"})
    with provider(mine) as attacker:
        for header in (
            {"jwk": mine.as_dict(private=False)},
            {"jku": attacker.url},
            {"x5u": attacker.url},
            {"jwk": mine.as_dict(private=False), "kid": None},
            {"x5c": ["MIIB"]},
        ):
            await refused(trusting, signed(mine, "ES256", header), reason="not signed")
            await trusting.authenticate(f"Bearer {signed(P256, 'ES256', header)}")
        assert attacker.asked == []


async def test_every_change_of_a_token_is_noticed(trusting: Authenticator) -> None:
    token = signed(ED25519, "EdDSA")
    await trusting.authenticate(f"Bearer {token}")
    for at in range(len(token)):
        other = "A" if token[at] != "A" else "B"
        with pytest.raises(AuthorizationError):
            await trusting.authenticate(f"Bearer {token[:at]}{other}{token[at + 1 :]}")


async def test_claims_are_not_swapped_between_tokens(trusting: Authenticator) -> None:
    head, _, signature = signed(P256, "ES256").split(".")
    _, payload, _ = signed(P256, "ES256", roles=["admin"]).split(".")
    await refused(trusting, f"{head}.{payload}.{signature}", reason="not signed")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        "Token abc",
        "Bearer a b",
        "Bearer a.b.c.d.e",
        "Bearer ..",
        "Bearer é.é.é",
        "Bearer 𝔞.𝔟.𝔠",
        "Bearer \ud800",
        "Bearer a.b.c\n",
        "Bearer\ta.b.c",
        "Bearer e30.e30.e30=",
        "Bearer e30=.e30=.",
        "Bearer " + "a" * (MAX_TOKEN + 1),
        "Bearer " + "a" * 1_000_000,
        "Bearer coafi_" + "0" * 1_000_000,
        "Bearer coafi_",
        "Bearer coafi_" + "0" * 12 + "_" + "0" * 64,
        "Bearer coafi_" + "é" * 12 + "_" + "0" * 64,
        "Bearer coafi_\ud800",
    ],
)
async def test_a_header_without_a_token_of_ours_is_refused(trusting: Authenticator, header: str) -> None:
    with pytest.raises(AuthorizationError):
        await trusting.authenticate(header)


async def test_a_huge_token_is_refused_before_it_is_read(trusting: Authenticator) -> None:
    await refused(trusting, signed(P256, "ES256", filler="x" * MAX_TOKEN), reason="longer than")
    largest = signed(P256, "ES256", filler="x" * 5_000)
    assert len(largest) < MAX_TOKEN
    await trusting.authenticate(f"Bearer {largest}")
    await refused(trusting, by_hand(b"[" * 4_000, claims(), b"x"), reason="cannot be read")
    await refused(trusting, by_hand(b'{"alg":' + b"9" * 5_000 + b"}", claims(), b"x"), reason="cannot be read")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(300))
@given(
    header=st.one_of(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["alg", "kid", "crit", "b64", "typ", "jwk", "x5c", "jku"]), inner)
            ),
            max_leaves=12,
        ),
        st.fixed_dictionaries(
            {"alg": st.sampled_from(["ES256", "EdDSA", "HS256", "RS256", "none"])},
            optional={
                "kid": st.sampled_from(["ec", "ed", "rsa"]) | st.text(max_size=5) | st.none(),
                "crit": st.lists(st.text(max_size=3), max_size=2),
                "jwk": st.dictionaries(st.text(max_size=3), st.text(max_size=3)),
            },
        ),
        st.binary(max_size=50),
    ),
    payload=st.binary(max_size=80) | st.just(claims()),
    signature=st.binary(max_size=96),
)
async def test_garbage_is_refused_and_nothing_else_happens(
    trusting: Authenticator, header: object, payload: object, signature: bytes
) -> None:
    with pytest.raises(AuthorizationError):
        await trusting.authenticate(f"Bearer {by_hand(header, payload, signature)}")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(200))
@given(st.text(max_size=200) | st.text("Bearer coafi_.-AZaz09=+/", max_size=120))
async def test_a_header_of_garbage_is_refused(trusting: Authenticator, header: str) -> None:
    for value in (header, f"Bearer {header}", f"Bearer coafi_{header}"):
        with pytest.raises(AuthorizationError):
            await trusting.authenticate(value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(300))
@given(
    st.dictionaries(
        st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "jti", "roles", "scope", "cnf", "now"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("coafi"),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=6,
        ),
    )
)
async def test_signed_claims_of_any_type_give_a_principal_or_a_refusal(
    trusting: Authenticator, changes: dict[str, Any]
) -> None:
    try:
        principal = await trusting.authenticate(f"Bearer {signed(ED25519, 'EdDSA', **changes)}")
    except AuthorizationError:
        return
    assert principal.name.startswith("jwt:")
    assert principal.name.isprintable()


# ---------------------------------------------------------------------- keys in files


def test_weak_wrong_and_secret_keys_of_a_set_are_left_out() -> None:
    with pytest.warns(SecurityWarning):
        small = RSAKey.import_key(_small_rsa())
    others = [
        {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "kid": "shared"},
        small.as_dict(private=False),
        OKPKey.generate_key("X25519").as_dict(private=False),
        OKPKey.generate_key("Ed448").as_dict(private=False),
        ECKey.generate_key("P-384").as_dict(private=False),
        ECKey.generate_key("secp256k1").as_dict(private=False),
        P256.as_dict(private=False, use="enc"),
        P256.as_dict(private=False, use=["sig"]),
        P256.as_dict(private=False, key_ops=["sign"]),
        P256.as_dict(private=False, alg="HS256"),
        P256.as_dict(private=False, alg=["ES256"]),
        P256.as_dict(private=False, kid=7),
        {**P256.as_dict(private=False), "y": P256.as_dict(private=False)["x"]},
        {**ED25519.as_dict(private=False), "x": "AAAA"},
        {**RSA.as_dict(private=False), "e": "AA"},
        {"kty": "EC"},
        {"kty": ["EC"]},
        {},
        None,
        5,
        "key",
    ]
    content = json.dumps({"keys": [*others, P256.as_dict(private=True, kid="good")]}).encode()
    (key,) = keys_of_set(content)
    assert key.kid == "good"
    assert key.algorithms == {"ES256"}
    assert not key.key.is_private
    with pytest.raises(ValidationError, match="no key that can verify"):
        keys_of_set(json.dumps({"keys": others}).encode())


def _small_rsa() -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    return rsa.generate_private_key(65537, 1024).private_bytes(  # noqa: S505  # that is the point
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@settings(max_examples=examples(300))
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["kty", "crv", "x", "y", "n", "e", "d", "k", "kid", "alg", "use", "key_ops"]),
            st.sampled_from(["EC", "OKP", "RSA", "P-256", "Ed25519", "AQAB", "sig", "ES256"])
            | st.text(max_size=45)
            | st.integers()
            | st.none()
            | st.lists(st.text(max_size=6), max_size=2),
        ),
        max_size=3,
    )
    | st.integers()
)
def test_a_set_of_garbage_is_refused(keys: object) -> None:
    with pytest.raises(ValidationError):
        keys_of_set(json.dumps({"keys": keys}).encode())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'{"keys": []}',
        b'{"keys": {}}',
        b"-----BEGIN PUBLIC KEY-----",
    ],
)
def test_what_is_no_key_is_refused(content: bytes) -> None:
    with pytest.raises(ValidationError):
        keys_of_file(content, 0o600)
    with pytest.raises(ValidationError):
        keys_of_set(content)


@pytest.mark.parametrize(
    "key", [ECKey.generate_key("P-384"), OKPKey.generate_key("X25519"), OKPKey.generate_key("Ed448")]
)
def test_a_key_of_another_kind_is_refused(key: Any) -> None:
    with pytest.raises(ValidationError, match="cannot be used for tokens"):
        keys_of_file(key.as_pem(private=False), 0o600)


def test_a_key_is_made_once_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "auth-key.pem"
    make_key_file(path)
    made = path.read_bytes()
    (key,) = keys_of_file(made, path.stat().st_mode & 0o777)
    assert key.key.is_private
    make_key_file(path)
    assert path.read_bytes() == made
    assert [one.name for one in path.parent.iterdir()] == ["auth-key.pem"]
    with pytest.raises(Unavailable, match="cannot be written"):
        make_key_file(path / "below-a-file")


async def test_a_path_that_cannot_be_read_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="cannot be read"):
        watched_keys(tmp_path / "file" / "keys").current()


def test_a_set_with_too_many_keys_is_refused() -> None:
    one = P256.as_dict(private=False)
    assert len(keys_of_set(json.dumps({"keys": [one] * MAX_KEYS}).encode())) == MAX_KEYS
    with pytest.raises(ValidationError, match="up to"):
        keys_of_set(json.dumps({"keys": [one] * (MAX_KEYS + 1)}).encode())


@pytest.mark.parametrize("key", [ED25519, P256, RSA])
async def test_a_key_as_pem_is_trusted_whatever_name_a_token_gives_it(tmp_path: Path, key: Any) -> None:
    alg = {"OKP": "EdDSA", "EC": "ES256", "RSA": "RS256"}[key.key_type]
    who = authenticator(tmp_path, keys=key.as_pem(private=False))
    await who.authenticate(f"Bearer {signed(key, alg, {'kid': None})}")
    await who.authenticate(f"Bearer {signed(key, alg, {'kid': 'its-own'})}")


async def test_private_keys_must_be_private_and_public_ones_only_safe_from_writers(tmp_path: Path) -> None:
    token = f"Bearer {signed(P256, 'ES256')}"
    for content, mode, fine in (
        (P256.as_pem(private=True), 0o600, True),
        (P256.as_pem(private=True), 0o640, False),
        (json.dumps({"keys": [P256.as_dict(private=True)]}).encode(), 0o644, False),
        (P256.as_pem(private=False), 0o644, True),
        (P256.as_pem(private=False), 0o664, False),
        (jwks(P256), 0o666, False),
    ):
        who = authenticator(tmp_path, keys=content)
        (tmp_path / "keys").chmod(mode)
        if fine:
            assert (await who.authenticate(token)).name == "jwt:ada"
        else:
            with pytest.raises(Unavailable, match="file of keys"):
                await who.authenticate(token)


async def test_a_key_that_is_taken_out_of_its_file_counts_no_more(tmp_path: Path) -> None:
    who = authenticator(tmp_path, keys=jwks(P256, ED25519))
    old, new = f"Bearer {signed(P256, 'ES256')}", f"Bearer {signed(ED25519, 'EdDSA')}"
    for _ in range(2):
        await who.authenticate(old)
        await who.authenticate(new)
    (tmp_path / "next").write_bytes(jwks(ED25519))
    (tmp_path / "next").rename(tmp_path / "keys")
    await who.authenticate(new)
    with pytest.raises(AuthorizationError):
        await who.authenticate(old)
    (tmp_path / "keys").unlink()
    with pytest.raises(AuthorizationError):
        await who.authenticate(new)


async def test_a_file_of_keys_that_is_garbage_lets_nobody_in_until_it_is_mended(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    who = authenticator(tmp_path, keys=jwks(P256))
    token = f"Bearer {signed(P256, 'ES256')}"
    await who.authenticate(token)
    (tmp_path / "keys").write_bytes(jwks(P256)[:50])
    for _ in range(3):
        with pytest.raises(Unavailable) as caught:
            await who.authenticate(token)
        assert str(tmp_path) not in str(caught.value)
    assert sum(str(tmp_path) in line for line in capfd.readouterr().err.splitlines()) == 1
    (tmp_path / "keys").write_bytes(jwks(P256))
    await who.authenticate(token)


# ---------------------------------------------------------------------- what is remembered


async def test_a_token_is_remembered_for_a_minute_and_no_longer_than_it_is_valid(tmp_path: Path) -> None:
    start = int(time.time())
    now = [float(start)]
    who = authenticator(tmp_path, keys=jwks(P256), clock=lambda: now[0])
    short, long = signed(P256, "ES256", exp=start + 10), signed(P256, "ES256", exp=start + 600)
    first = await who.authenticate(f"Bearer {short}")
    assert await who.authenticate(f"Bearer {short}") is first
    kept = await who.authenticate(f"Bearer {long}")
    now[0] += 39  # within the skew
    assert await who.authenticate(f"Bearer {short}") is first
    now[0] += 1.5
    await refused(who, short, reason="expired")
    now[0] += 18
    assert await who.authenticate(f"Bearer {long}") is kept
    now[0] += 2
    again = await who.authenticate(f"Bearer {long}")
    assert again == kept
    assert again is not kept


async def test_only_so_many_tokens_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coafi.auth.authenticator.REMEMBERED_TOKENS", 3)
    who = authenticator(tmp_path, keys=jwks(ED25519))
    tokens = [signed(ED25519, "EdDSA", sub=f"user-{number}") for number in range(5)]
    seen = [await who.authenticate(f"Bearer {token}") for token in tokens[:3]]
    assert await who.authenticate(f"Bearer {tokens[0]}") is seen[0]
    await who.authenticate(f"Bearer {tokens[3]}")
    assert await who.authenticate(f"Bearer {tokens[0]}") is seen[0]
    assert await who.authenticate(f"Bearer {tokens[1]}") is not seen[1]


async def test_a_refusal_is_not_remembered(tmp_path: Path) -> None:
    start = int(time.time())
    now = [float(start)]
    who = authenticator(tmp_path, keys=jwks(P256), clock=lambda: now[0])
    token = signed(P256, "ES256", nbf=start + 60)
    await refused(who, token, reason="not valid yet")
    now[0] += 60
    await who.authenticate(f"Bearer {token}")


def test_nothing_shows_a_key(tmp_path: Path) -> None:
    who = authenticator(tmp_path, keys=P256.as_pem(private=True), secret=SECRET)
    for thing in (who, *who._shared, *keys_of_file(P256.as_pem(private=True), 0o600)):
        assert SECRET not in repr(thing)
        assert str(P256.as_dict(private=True)["d"]) not in repr(thing)
