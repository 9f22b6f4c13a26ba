"""GitHub's webhooks: the signature, and a push as an event.

Source: https://docs.github.com/en/webhooks (``X-GitHub-Event``, ``X-GitHub-Delivery``, ``X-Hub-Signature-256``).
"""

import hmac
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from urllib.parse import parse_qs

from pydantic import JsonValue, SecretStr

from coafi.canonical import JsonObject, sha256
from coafi.cloudevents import require_levels
from coafi.commits import bounded, cut, source_of
from coafi.errors import AuthorizationError, ValidationError
from coafi.events import Event, new_event
from coafi.names import EventType

PRINCIPAL = "github-webhook"
BRANCH_PREFIX = "refs/heads/"

_DELIVERY = re.compile(r"^[A-Za-z0-9._-]{1,128}$")


def verify_signature(body: bytes, signature: str | None, secrets: Sequence[SecretStr]) -> None:
    """Check ``X-Hub-Signature-256``, which is ``sha256=`` and the hex HMAC-SHA256 of the raw body.

    Args:
        secrets: any of them may have signed, so that a secret can be rotated.

    Raises:
        AuthorizationError: it is missing, malformed or does not match. SHA-1 signatures are not looked at.
    """
    if not signature:
        raise AuthorizationError(
            "header X-Hub-Signature-256 is missing",
            remedy="set a secret on the webhook in GitHub, the same as COAFI_GITHUB_WEBHOOK_SECRET",
        )
    given = signature.encode("utf-8", "replace")
    matches = [
        hmac.compare_digest(b"sha256=" + hmac.new(_key(secret), body, "sha256").hexdigest().encode(), given)
        for secret in secrets
    ]
    if not any(matches):
        raise AuthorizationError(
            "header X-Hub-Signature-256 does not match the body",
            remedy="use the same secret in GitHub and in COAFI_GITHUB_WEBHOOK_SECRET",
        )


def sign(body: bytes, secret: SecretStr) -> str:
    """The value of ``X-Hub-Signature-256`` for ``body``: what GitHub would send."""
    return "sha256=" + hmac.new(_key(secret), body, "sha256").hexdigest()


def delivery_id(headers: Mapping[str, str]) -> str:
    """The delivery's GUID: a redelivery carries the same one.

    Raises:
        ValidationError: it is missing or malformed.
    """
    value = headers.get("x-github-delivery", "")
    if not _DELIVERY.fullmatch(value):
        raise ValidationError(
            "header X-GitHub-Delivery must be 1 to 128 letters, digits, dots, dashes or underscores",
            remedy="send the webhook from GitHub, or set the header to a GUID",
        )
    return value


def parse_body(body: bytes, content_type: str) -> JsonObject:
    """The JSON object in a webhook's body, which GitHub sends as JSON or as a form with one field ``payload``.

    Raises:
        ValidationError: the body holds no JSON object.
    """
    text: bytes | str = body
    if content_type.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded":
        try:
            fields = parse_qs(body.decode("ascii"), max_num_fields=8, strict_parsing=True)
        except ValueError as error:
            raise ValidationError("the body is not a form", remedy="send application/json") from error
        text = fields.get("payload", [""])[0]
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValidationError(f"the body is not JSON: {error}", remedy="send application/json") from error
    if not isinstance(parsed, dict):
        raise ValidationError("the body must be a JSON object", remedy="send GitHub's push payload as it is")
    require_levels(parsed)
    return parsed


def push_event(
    payload: JsonObject, *, delivery: str, body: bytes, received: datetime, traceparent: str | None
) -> Event:
    """A push as a ``git.commit`` event.

    What the payload lacks or mistypes stays lacking or mistyped: the run validates it, and records what is wrong.
    Its lists of commits and files are left out: they are truncated by the sender, and git knows better.
    """
    repository = _object(payload.get("repository"))
    head = _object(payload.get("head_commit"))
    url = repository.get("clone_url")
    sender = _object(payload.get("pusher")).get("name") or _object(payload.get("sender")).get("login")
    ref = payload.get("ref")
    fields: dict[str, JsonValue] = {
        "repositoryUrl": url,
        "commitSha": payload.get("after"),
        "before": payload.get("before"),
        "branch": ref.removeprefix(BRANCH_PREFIX) if isinstance(ref, str) else ref,
        "author": _object(head.get("author")).get("name") or sender,
        "message": cut(head.get("message")),
        "created": payload.get("created"),
        "deleted": payload.get("deleted"),
        "forced": payload.get("forced"),
    }
    return new_event(
        event_type=EventType.GIT_COMMIT,
        source=source_of(url),
        delivery_id=delivery,
        time=received,
        body_digest=sha256(body),
        principal=PRINCIPAL,
        data=bounded(fields),
        traceparent=traceparent,
    )


def is_branch_push(payload: JsonObject) -> bool:
    """Whether a push is about a branch; tags are pushes as well."""
    ref = payload.get("ref")
    return not isinstance(ref, str) or ref.startswith(BRANCH_PREFIX)


def _key(secret: SecretStr) -> bytes:
    return secret.get_secret_value().encode()


def _object(value: JsonValue) -> JsonObject:
    return value if isinstance(value, dict) else {}
