"""Commands about who may use the API: ``auth``. They need files of the home and the settings, nothing that runs."""

import asyncio
import getpass
import re
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Final

from coafi.auth.apikeys import ApiKey, ApiKeyFile
from coafi.auth.keys import TrustedKey, make_key_file, shared_key, watched_keys
from coafi.auth.principal import check_name, check_permission
from coafi.errors import ValidationError
from coafi.settings import Settings
from starters.output import clean, command_settings, err, facts, out, print_json, safe, styled, table
from workers.auth import auth_secret, build_authenticator, token_roles, token_rules

NEVER: Final = "never"

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_LONGEST = 3_660 * 86_400
_MAX_INPUT = 65_536


def add_key(name: str, roles: list[str], expires: str, *, another: bool, as_json: bool) -> None:
    """``coafi auth key add``.

    Raises:
        ValidationError: the name, a role or the time is none, or a valid key has the name.
    """
    settings = command_settings()
    known = token_roles(settings).check(roles)
    until = None if expires == NEVER else datetime.now(UTC).replace(microsecond=0) + parse_duration(expires)
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    key, text = ApiKeyFile(settings.api_keys_path).add(name, known, expires=until, another=another)
    if as_json:
        print_json({**_shown(key), "key": text.get_secret_value()})
        return
    sys.stdout.write(text.get_secret_value() + "\n")
    sys.stdout.flush()
    _note(f"This is the key of {name} (id {key.id}), valid {_until(until)}. It is not kept and cannot be shown again.")


def list_keys(*, as_json: bool) -> None:
    """``coafi auth key list``."""
    keys = list(ApiKeyFile(command_settings().api_keys_path).keys().values())
    if as_json:
        print_json([_shown(key) for key in keys])
        return
    rows = table("Name", "Id", "Status", "Created", "Expires", "Roles")
    now = datetime.now(UTC)
    for key in keys:
        status = key.status(now)
        rows.add_row(
            safe(key.name),
            key.id,
            styled(status),
            _time(key.created),
            _time(key.expires) if key.expires else NEVER,
            safe(" ".join(key.roles)),
        )
    out.print(rows if keys else "There are no API keys. Make one with: coafi auth key add NAME --role ROLE")


def revoke_keys(name: str, *, as_json: bool) -> None:
    """``coafi auth key revoke``.

    Raises:
        ResourceNotFoundError: there is no such key.
    """
    revoked = ApiKeyFile(command_settings().api_keys_path).revoke(name)
    if as_json:
        print_json([_shown(key) for key in revoked])
        return
    for key in revoked:
        out.print(f"The API key {safe(key.name)} ({key.id}) is revoked.", highlight=False)
    if not revoked:
        out.print(f"Every API key {safe(name)} was revoked before.", highlight=False)


def make_token(subject: str, roles: list[str], permissions: list[str], ttl: str, *, as_json: bool) -> None:
    """``coafi auth token``.

    Raises:
        ValidationError: subject, role, permission or time are none, or no key here can sign.
    """
    settings = command_settings()
    known = token_roles(settings).check(roles)
    try:
        check_name(f"jwt:{subject}")
        for permission in permissions:
            check_permission(permission)
    except ValueError as error:
        raise ValidationError(
            f"there is no token for this: it {error}", remedy="correct subject or permission"
        ) from None
    seconds = parse_duration(ttl).total_seconds()
    key, source = _signing_key(settings)
    now = time.time()
    rules = token_rules(settings)
    token = rules.issue(key, subject, roles=known, scope=permissions, seconds=seconds, now=now)
    expires = datetime.fromtimestamp(int(now) + int(seconds), UTC)
    if as_json:
        print_json({"token": token, "subject": subject, "roles": list(known), "expires": _time(expires)})
        return
    sys.stdout.write(token + "\n")
    sys.stdout.flush()
    _note(f"A token of {subject}, valid {_until(expires)}, signed with {source}.")


def check_token(*, as_json: bool) -> None:
    """``coafi auth check``.

    Raises:
        AuthorizationError: the token is not valid.
        Unavailable: its keys are out of reach.
    """
    authenticator = build_authenticator(command_settings())
    text = getpass.getpass("Token: ") if sys.stdin.isatty() else sys.stdin.read(_MAX_INPUT)
    principal = asyncio.run(authenticator.authenticate(f"Bearer {text.strip()}"))
    if as_json:
        print_json(principal)
        return
    rows = facts()
    rows.add_row("Who", safe(principal.name))
    rows.add_row("Roles", safe(" ".join(principal.roles)) or "–")
    rows.add_row("May", "\n".join(safe(one) for one in principal.permissions) or "nothing")
    out.print(rows)


def parse_duration(text: str) -> timedelta:
    """A length of time such as ``90s``, ``30m``, ``12h`` or ``90d``.

    Raises:
        ValidationError: it is none, or longer than ten years.
    """
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 0 < seconds <= _LONGEST:
        raise ValidationError(
            f"{clean(text)!r} is no length of time", remedy="say 90s, 30m, 12h or 90d, and ten years at most"
        )
    return timedelta(seconds=seconds)


def _signing_key(settings: Settings) -> tuple[TrustedKey, str]:
    """A key that signs, and where it is from."""
    secret = auth_secret(settings)
    if secret is not None:
        return shared_key(secret), "AUTH_SECRET"
    path = settings.auth_key_path
    if settings.auth_key_file is None:
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        make_key_file(path)
    for trusted in watched_keys(path).current():
        if trusted.key.is_private:
            return trusted, str(path)
    raise ValidationError(
        f"no key in {path} can sign", remedy="set AUTH_SECRET, or unset COAFI_AUTH_KEY_FILE, and a key is made"
    )


def _shown(key: ApiKey) -> dict[str, object]:
    """What may be shown of a key."""
    return {
        "name": key.name,
        "id": key.id,
        "status": key.status(datetime.now(UTC)),
        "roles": list(key.roles),
        "created": _time(key.created),
        "expires": _time(key.expires) if key.expires else None,
        "revoked": _time(key.revoked) if key.revoked else None,
    }


def _note(text: str) -> None:
    err.print(safe(text), highlight=False)


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _until(moment: datetime | None) -> str:
    return "for ever" if moment is None else f"until {_time(moment)}"
