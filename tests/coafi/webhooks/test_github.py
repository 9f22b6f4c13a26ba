import hashlib
import hmac
import json
from datetime import UTC, datetime
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from coafi.canonical import JsonObject
from coafi.errors import AuthorizationError, ValidationError
from coafi.events import Event
from coafi.webhooks import github

SECRET = SecretStr("It's a Secret to Everybody")
NOW = datetime(2026, 11, 23, tzinfo=UTC)


def push(payload: JsonObject) -> Event:
    return github.push_event(payload, delivery="d1", body=b"{}", received=NOW, traceparent=None)


def test_github_s_own_example_is_accepted() -> None:
    # From GitHub's documentation, "Testing the webhook payload validation".
    github.verify_signature(
        b"Hello, World!", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17", [SECRET]
    )


def test_any_of_several_secrets_may_have_signed() -> None:
    signature = github.sign(b"body", SECRET)
    github.verify_signature(b"body", signature, [SecretStr("new"), SECRET])
    with pytest.raises(AuthorizationError):
        github.verify_signature(b"body", signature, [SecretStr("new")])
    with pytest.raises(AuthorizationError):
        github.verify_signature(b"body", signature, [])


@pytest.mark.parametrize(
    "signature",
    [
        None,
        "",
        "sha256=",
        "sha1=" + hmac.new(b"It's a Secret to Everybody", b"body", hashlib.sha1).hexdigest(),
        github.sign(b"body", SECRET).upper(),
        github.sign(b"body", SECRET).removeprefix("sha256="),
        github.sign(b"other", SECRET),
        "sha256=é",
    ],
)
def test_other_signatures_are_refused(signature: str | None) -> None:
    with pytest.raises(AuthorizationError, match="X-Hub-Signature-256") as caught:
        github.verify_signature(b"body", signature, [SECRET])
    assert "Everybody" not in str(caught.value)


@pytest.mark.parametrize("value", ["", "a b", "x" * 129, "../..", "a\n"])
def test_a_malformed_delivery_id_is_refused(value: str) -> None:
    with pytest.raises(ValidationError, match="X-GitHub-Delivery"):
        github.delivery_id({"x-github-delivery": value})


def test_json_and_form_bodies_are_read() -> None:
    assert github.parse_body(b'{"a": 1}', "application/json; charset=utf-8") == {"a": 1}
    form = f"payload={quote_plus(json.dumps({'a': 'é+&'}))}".encode()
    assert github.parse_body(form, "application/x-www-form-urlencoded") == {"a": "é+&"}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "application/json"),
        (b"[]", "application/json"),
        (b"null", ""),
        (b"\xff\xfe", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"payload", "application/x-www-form-urlencoded"),
        (b"x=1", "application/x-www-form-urlencoded"),
        (b"payload=\xff", "application/x-www-form-urlencoded"),
        (b"&".join(b"a=1" for _ in range(50)), "application/x-www-form-urlencoded"),
    ],
)
def test_other_bodies_are_refused_with_a_reason(body: bytes, content_type: str) -> None:
    with pytest.raises(ValidationError) as caught:
        github.parse_body(body, content_type)
    assert caught.value.remedy


@given(st.binary(max_size=200), st.sampled_from(["application/json", "application/x-www-form-urlencoded", "x"]))
def test_no_body_breaks_the_parser(body: bytes, content_type: str) -> None:
    try:
        parsed = github.parse_body(body, content_type)
    except ValidationError:
        return
    push(parsed)


def test_a_push_becomes_an_event() -> None:
    event = push(
        {
            "ref": "refs/heads/feature/x",
            "before": "a" * 40,
            "after": "b" * 40,
            "created": False,
            "deleted": False,
            "forced": True,
            "repository": {"clone_url": "https://github.com/acme/docs.git"},
            "pusher": {"name": "ada"},
            "head_commit": {"message": "Mend", "author": {"name": "Ada"}},
            "commits": [{"added": ["secret-plan.md"]}],
        }
    )
    assert event.source == "https://github.com/acme/docs"
    assert event.data == {
        "repositoryUrl": "https://github.com/acme/docs.git",
        "commitSha": "b" * 40,
        "before": "a" * 40,
        "branch": "feature/x",
        "author": "Ada",
        "message": "Mend",
        "created": False,
        "deleted": False,
        "forced": True,
    }


def test_tags_are_not_branches() -> None:
    assert github.is_branch_push({"ref": "refs/heads/main"})
    assert not github.is_branch_push({"ref": "refs/tags/v1"})
    assert github.is_branch_push({})  # malformed: the run will say so
