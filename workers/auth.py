"""Settings become what verifies and makes tokens. Apart from ``workers.resources``, because it needs no database."""

from pydantic import SecretStr

from coafi.auth.apikeys import ApiKeyFile
from coafi.auth.authenticator import Authenticator
from coafi.auth.jwks import PublishedKeys
from coafi.auth.keys import shared_key, watched_keys
from coafi.auth.roles import DEFAULT_ROLES, Roles
from coafi.auth.tokens import TokenRules
from coafi.errors import ValidationError
from coafi.secret_files import read_secret
from coafi.settings import Settings

ISSUER = "coafi"
"""The issuer of tokens that are made here, unless the settings name another one."""


def build_authenticator(settings: Settings) -> Authenticator:
    """What verifies the tokens of requests; its user closes it. Files in the home may be missing, and come later.

    Raises:
        ValidationError: a setting, or a file that it names, is wrong.
        Unavailable: a file cannot be read.
    """
    if settings.auth_jwks_url and not settings.auth_issuer:
        raise ValidationError(
            "COAFI_AUTH_JWKS_URL is set, and COAFI_AUTH_ISSUER must be too",
            remedy="set it to what the provider writes into its tokens as iss; see docs/auth.md",
        )
    secret = auth_secret(settings)
    key_file = watched_keys(settings.auth_key_path)
    api_keys = ApiKeyFile(settings.api_keys_path)
    for named in (settings.auth_key_file, settings.api_keys_file):
        if named is not None and not named.exists():
            raise ValidationError(f"there is no file {named}", remedy="correct the setting, or make the file")
    key_file.current()
    api_keys.keys()
    return Authenticator(
        token_rules(settings),
        token_roles(settings),
        shared=() if secret is None else (shared_key(secret),),
        key_file=key_file,
        published=PublishedKeys(settings.auth_jwks_url) if settings.auth_jwks_url else None,
        api_keys=api_keys,
    )


def token_rules(settings: Settings) -> TokenRules:
    """What the claims of tokens must say."""
    return TokenRules(settings.auth_issuer or ISSUER, settings.auth_audience, settings.auth_skew)


def token_roles(settings: Settings) -> Roles:
    """The roles of this service."""
    return Roles(DEFAULT_ROLES if settings.auth_roles is None else settings.auth_roles)


def auth_secret(settings: Settings) -> SecretStr | None:
    """The secret that tokens may be signed with, if there is one.

    Raises:
        ValidationError: two are given, or the file is missing, open to others or empty.
    """
    given = settings.auth_secret if settings.auth_secret.get_secret_value() else None
    if settings.auth_secret_file is None:
        return given
    if given is not None:
        raise ValidationError("AUTH_SECRET and AUTH_SECRET_FILE are both set", remedy="set one of them")
    return read_secret(settings.auth_secret_file)
