"""``coafi auth`` as people and scripts run it."""

import json
import stat
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from joserfc.jwk import RSAKey
from pydantic import SecretStr

from coafi.auth.tokens import MAX_TOKEN
from coafi.errors import AuthorizationError, ValidationError
from coafi.settings import Settings
from starters.auth import parse_duration
from tests.coafi.auth.tokens import P256, jwks, provider, signed
from tests.harness import settings_for
from tests.starters.support import COMMAND, HANG, Home, command
from workers.auth import build_authenticator

SECRET = "a-shared-secret-that-nobody-may-see-in-any-place"


@dataclass(frozen=True)
class Done:
    """What a command did."""

    returncode: int
    stdout: str
    stderr: str


def coafi(home: Home, *arguments: str, given: str = "", **environment: str) -> Done:
    """A ``coafi`` command, in this process: it is faster. One test below runs them as processes."""
    done = command(arguments, home.environment(**environment), given.encode())
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def shown(home: Home, *arguments: str, **environment: str) -> Any:
    """What a command prints with ``--json``."""
    done = coafi(home, *arguments, "--json", **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(home: Home, token: str, *options: str, **environment: str) -> Done:
    """``coafi auth check`` with a token on standard input."""
    return coafi(home, "auth", "check", *options, given=token, **environment)


def test_key_and_token_go_through_pipes(home: Home) -> None:
    for words in (("key", "add", "ci", "--role", "reader"), ("token", "--subject", "ada", "--role", "reader")):
        made = home.coafi_process("auth", *words)
        assert made.returncode == 0
        checked = subprocess.run(
            (COMMAND, "auth", "check", "--json"),
            env=home.environment(),
            input=made.stdout,
            capture_output=True,
            text=True,
            timeout=HANG,
            check=True,
        )
        assert json.loads(checked.stdout)["roles"] == ["reader"]
        assert checked.stderr == ""


def test_a_key_is_printed_once_alone_on_standard_output(home: Home) -> None:
    added = coafi(home, "auth", "key", "add", "ci", "--role", "editor", "--role", "reader")
    assert added.returncode == 0
    key = added.stdout.removesuffix("\n")
    assert key.startswith("coafi_")
    assert len(key.split()) == 1
    assert key not in added.stderr
    assert "cannot be shown again" in added.stderr
    listed = coafi(home, "auth", "key", "list")
    assert "ci" in listed.stdout
    assert key.split("_")[2] not in listed.stdout + json.dumps(shown(home, "auth", "key", "list"))
    who = json.loads(check(home, key, "--json").stdout)
    assert who["name"] == "key:ci"
    assert who["roles"] == ["editor", "reader"]
    assert "api:registry/update:POST" in who["permissions"]
    for path in (home.path, home.path / "secrets", home.path / "secrets" / "api-keys.json"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_key_is_listed_revoked_and_refused(home: Home) -> None:
    made = shown(home, "auth", "key", "add", "ci", "--role", "admin", "--expires", "never")
    assert made["expires"] is None
    assert made["status"] == "valid"
    again = coafi(home, "auth", "key", "add", "ci", "--role", "admin")
    assert again.returncode == 1
    assert again.stdout == ""
    assert "--another" in again.stderr
    beside = shown(home, "auth", "key", "add", "ci", "--role", "admin", "--another")
    (revoked,) = shown(home, "auth", "key", "revoke", made["id"])
    assert revoked["status"] == "revoked"
    assert [row["status"] for row in shown(home, "auth", "key", "list")] == ["revoked", "valid"]
    refused = check(home, made["key"])
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert "was revoked" in refused.stderr
    assert check(home, beside["key"]).returncode == 0
    assert coafi(home, "auth", "key", "revoke", "ci").returncode == 0
    assert "before" in coafi(home, "auth", "key", "revoke", "ci").stdout
    assert coafi(home, "auth", "key", "revoke", "nobody").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("key", "add", "ci", "--role", "root"), "'root'"),
        (("key", "add", "c i", "--role", "admin"), "name"),
        (("key", "add", "ci", "--role", "admin", "--expires", "soon"), "'soon'"),
        (("key", "add", "ci", "--role", "admin", "--expires", "0d"), "'0d'"),
        (("key", "add", "ci", "--role", "admin", "--expires", "99999d"), "ten years"),
        (("token", "--subject", "ada", "--role", "root"), "'root'"),
        (("token", "--subject", "a\nb", "--role", "admin"), "printed"),
        (("token", "--subject", "ada", "--permission", "everything"), "api:ENDPOINT:METHOD"),
        (("token", "--subject", "ada", "--ttl", "1y"), "'1y'"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(home: Home, arguments: tuple[str, ...], reason: str) -> None:
    done = coafi(home, "auth", *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert reason in done.stderr
    assert not (home.path / "secrets").exists()


def test_a_token_is_printed_alone_and_says_who_it_is(home: Home) -> None:
    made = coafi(home, "auth", "token", "--subject", "ada", "--role", "reader", "--permission", "api:x:PUT")
    token = made.stdout.removesuffix("\n")
    assert token.count(".") == 2
    assert token not in made.stderr
    key = home.path / "secrets" / "auth-key.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    checked = check(home, token)
    assert checked.returncode == 0
    assert "jwt:ada" in checked.stdout
    assert "api:x:PUT" in checked.stdout
    again = shown(home, "auth", "token", "--subject", "ada", "--ttl", "90s")
    assert check(home, again["token"]).returncode == 0, "the key that was made is used again"
    elsewhere = check(home, token, COAFI_AUTH_AUDIENCE="another")
    assert elsewhere.returncode == 1
    assert "audience" in elsewhere.stderr
    key.unlink()
    assert "not signed" in check(home, token).stderr


def test_a_token_of_the_shared_secret_is_taken_by_who_has_it(home: Home) -> None:
    made = coafi(home, "auth", "token", "--subject", "ada", "--role", "admin", AUTH_SECRET=SECRET)
    assert not (home.path / "secrets").exists()
    token = made.stdout.strip()
    secret_file = home.root / "auth-secret"
    secret_file.write_text(SECRET + "\n")
    secret_file.chmod(0o600)
    assert check(home, token, AUTH_SECRET=SECRET).returncode == 0
    assert check(home, token, AUTH_SECRET_FILE=str(secret_file)).returncode == 0
    assert check(home, token, AUTH_SECRET="x" * 40).returncode == 1
    assert check(home, token).returncode == 1


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "é" * 10, "x" * (MAX_TOKEN + 1), "Bearer x"])
def test_what_is_no_token_is_refused(home: Home, text: str) -> None:
    done = check(home, text)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")


def test_a_published_key_cannot_sign(home: Home) -> None:
    file = home.root / "public.pem"
    file.write_bytes(P256.as_pem(private=False))
    done = coafi(home, "auth", "token", "--subject", "ada", COAFI_AUTH_KEY_FILE=str(file))
    assert done.returncode == 1
    assert "can sign" in done.stderr
    assert done.stdout == ""


def test_the_group_is_not_loaded_for_other_commands() -> None:
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, starters.cli, workers.resources, coafi.settings; print('joserfc' in sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=HANG,
    )
    assert loaded.stdout.strip() == "False"


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1_800), ("12h", 43_200), ("90d", 7_776_000)])
def test_lengths_of_time_are_read(text: str, seconds: int) -> None:
    assert parse_duration(text).total_seconds() == seconds


# ---------------------------------------------------------------------- wiring


@pytest.fixture
def settings(home: Home) -> Settings:
    return settings_for(home.root)


async def test_keys_at_a_url_need_an_issuer(home: Home, settings: Settings) -> None:
    with provider(P256) as here:
        with pytest.raises(ValidationError, match="COAFI_AUTH_ISSUER"):
            build_authenticator(settings_for(home.root, auth_jwks_url=here.url))
        who = build_authenticator(
            settings_for(home.root, auth_jwks_url=here.url, auth_issuer="https://id.example.org/")
        )
        assert (await who.authenticate(f"Bearer {signed(P256, 'ES256')}")).name == "jwt:ada"
        await who.close()


async def test_without_keys_nobody_is_let_in_and_keys_may_come_later(settings: Settings) -> None:
    who = build_authenticator(settings)
    with pytest.raises(AuthorizationError):
        await who.authenticate(f"Bearer {signed(P256, 'ES256', iss='coafi')}")
    settings.secrets_directory.mkdir(parents=True)
    settings.auth_key_path.write_bytes(jwks(P256))
    assert (await who.authenticate(f"Bearer {signed(P256, 'ES256', iss='coafi')}")).name == "jwt:ada"


async def test_roles_of_the_settings_take_the_place_of_the_built_in_ones(home: Home) -> None:
    settings = settings_for(home.root, auth_roles='{"clerk": ["api:registry/*:GET"]}', auth_secret=SecretStr(SECRET))
    settings.secrets_directory.mkdir(parents=True)
    settings.auth_key_path.write_bytes(jwks(P256))
    who = build_authenticator(settings)
    token = signed(P256, "ES256", iss="coafi", roles=["clerk", "admin"])
    principal = await who.authenticate(f"Bearer {token}")
    assert principal.roles == ("clerk",)
    assert principal.permissions == ("api:registry/*:GET",)


def test_a_file_that_is_wrong_stops_the_start(home: Home, settings: Settings) -> None:
    missing = home.root / "missing"
    for name in ("auth_key_file", "api_keys_file", "auth_secret_file"):
        with pytest.raises(ValidationError, match="there is no"):
            build_authenticator(settings_for(home.root, **{name: missing}))
    settings.secrets_directory.mkdir(parents=True)
    settings.api_keys_path.write_text('{"keys": []}')
    settings.api_keys_path.chmod(0o644)
    with pytest.raises(ValidationError, match="open to others"):
        build_authenticator(settings)
    settings.api_keys_path.chmod(0o600)
    settings.auth_key_path.write_text("garbage")
    with pytest.raises(ValidationError, match="neither a key"):
        build_authenticator(settings)
    settings.auth_key_path.unlink()
    build_authenticator(settings)


def test_a_secret_must_be_one(home: Home) -> None:
    secret_file = home.root / "secret"
    secret_file.write_text("short")
    secret_file.chmod(0o600)
    with pytest.raises(ValidationError, match="has 5 bytes"):
        build_authenticator(settings_for(home.root, auth_secret_file=secret_file))
    with pytest.raises(ValidationError, match="both set"):
        build_authenticator(settings_for(home.root, auth_secret_file=secret_file, auth_secret=SecretStr(SECRET)))
    public = RSAKey.generate_key(2048).as_pem(private=False).decode()
    with pytest.raises(ValidationError, match="public key"):
        build_authenticator(settings_for(home.root, auth_secret=SecretStr(public)))
    secret_file.write_text(public)
    secret_file.chmod(0o644)
    with pytest.raises(ValidationError, match="readable by others"):
        build_authenticator(settings_for(home.root, auth_secret_file=secret_file))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AUTH_SECRET", "shorter-than-32-bytes-secret"),
        ("COAFI_AUTH_JWKS_URL", "http://id.example.org/keys"),
        ("COAFI_AUTH_JWKS_URL", "https://user:password@id.example.org/keys"),
        ("COAFI_AUTH_JWKS_URL", "file:///etc/passwd"),
        ("COAFI_AUTH_SKEW", "301"),
        ("COAFI_AUTH_AUDIENCE", ""),
        ("COAFI_AUTH_ROLES", "admin"),
        ("COAFI_AUTH_ROLES", '["admin"]'),
        ("COAFI_AUTH_ROLES", '{"admin": "api:*:*"}'),
        ("COAFI_AUTH_ROLES", '{"admin": ["*"]}'),
        ("COAFI_AUTH_ROLES", '{"Admin": ["api:*:*"]}'),
        ("COAFI_AUTH_SECRET", "x" * 40),
    ],
)
def test_a_setting_that_is_wrong_is_named_and_no_secret_shown(home: Home, name: str, value: str) -> None:
    done = coafi(home, "auth", "key", "list", **{name: value})
    assert done.returncode == 1
    assert name in done.stderr
    assert value == "" or "AUTH_SECRET" not in name or value not in done.stderr + done.stdout
