"""The event ``git.commit``: its payload, and how one is made at ingress."""

import re
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from coafi.canonical import JsonObject, canonical_json, digest_of, sha256
from coafi.events import Event, new_event
from coafi.names import RECONCILED, EventType

PAYLOAD_SCHEMA = "GitCommitEventPayload"
MAX_TEXT = 4096
MAX_SOURCE = 256
"""Longest source, in characters: a workflow id holds it percent-encoded, and may have 1,000."""

_SUBMITTED = "submit-"

# Up to the last "@" before the path; in what is no URL because of a slash in a password, up to the last one at all.
_USERINFO = re.compile(r"(?<=//)(?:[^/\s]*@|[^/\s:]*:(?!\d*(?:/|$))\S*@)")
_QUERY = re.compile(r"(?<=[?#])\S+")
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f]")


class GitCommit(BaseModel):
    """The validated payload of ``git.commit``: schema ``GitCommitEventPayload``.

    Attributes:
        before: tip of the branch before the push, where known; all zeros when the branch is new.
        deleted: the push deleted the branch: there is no commit to look at.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    repository_url: str = Field(alias="repositoryUrl")
    commit_sha: str = Field(alias="commitSha")
    branch: str
    before: str | None = None
    deleted: bool = False


def submitted_commit(
    *,
    repository_url: str,
    commit: str,
    before: str | None,
    branch: str,
    author: str,
    principal: str,
    received: datetime,
    again: str = "",
) -> tuple[Event, bytes]:
    """A commit that a person or a script submits, and the body that stands for it in the object store.

    The delivery id is derived from repository, branch, before and commit, and the body holds nothing else: submitting
    the same again, whoever does it, finds the run that exists, unless ``again`` (any fresh text) asks for another.
    """
    fields: dict[str, JsonValue] = {
        "repositoryUrl": repository_url,
        "commitSha": commit,
        "before": before,
        "branch": branch,
    }
    body = canonical_json(bounded(fields))
    data = bounded({**fields, "author": author})
    event = new_event(
        event_type=EventType.GIT_COMMIT,
        source=source_of(repository_url),
        delivery_id=f"{_SUBMITTED}{digest_of([repository_url, branch, before, commit, again])[:32]}",
        time=received,
        body_digest=sha256(body),
        principal=principal,
        data=data,
    )
    return event, body


def reconciled_id(url: str, branch: str, before: str, after: str, *, earlier: int = 0) -> str:
    """The delivery id of a push that was found missing: the same wherever and whenever that is found out.

    Args:
        earlier: how many pushes from and to the same commits are known: a branch may come back to where it was.
    """
    name = f"{RECONCILED}-{digest_of([source_of(url), branch, before, after])[:32]}"
    return f"{name}-{earlier}" if earlier else name


@dataclass(frozen=True, slots=True)
class PushKeys:
    """What the deliveries of a push have in common: a host's, and that of a push that was found missing.

    Attributes:
        push: digest of repository, branch, and the commits before and after.
        branch: digest of repository and branch.
        earlier: of a push that was found missing: how many from and to the same commits were known then.
        submitted: somebody asked for it by hand, and is not told that it was done already.
    """

    push: str
    branch: str
    earlier: int | None
    submitted: bool


def push_keys(event: Event) -> PushKeys | None:
    """The keys of a ``git.commit`` event; ``None`` for others."""
    if event.type != EventType.GIT_COMMIT:
        return None
    said = [event.data.get(name) for name in ("repositoryUrl", "branch", "before", "commitSha")]
    url, branch, before, after = (one if isinstance(one, str) else "" for one in said)
    push = reconciled_id(url, branch, before, after)
    found = re.fullmatch(rf"{re.escape(push)}(?:-(\d+))?", event.id)
    return PushKeys(
        push=push,
        branch=branch_key(url, branch),
        earlier=int(found[1] or 0) if found else None,
        submitted=event.id.startswith(_SUBMITTED),
    )


def branch_key(repository_url: str, branch: str) -> str:
    """What the deliveries of the pushes to a branch have in common (:class:`PushKeys`)."""
    return digest_of([source_of(repository_url), branch])


def source_of(repository_url: JsonValue) -> str:
    """The CloudEvents ``source`` of a repository: its URL without ``.git``, credentials and what is not ASCII."""
    text = repository_url if isinstance(repository_url, str) else ""
    clean = _UNPRINTABLE.sub("", _QUERY.sub("***", _USERINFO.sub("", text))).removesuffix(".git")
    return quote(clean, safe="/:@!$&'()*+,;=~%?#[]", errors="replace")[:MAX_SOURCE] or "unknown"


def cut(value: JsonValue) -> JsonValue:
    """A text that may rightly be long, such as a commit message, cut to ``MAX_TEXT`` characters."""
    return f"{value[: MAX_TEXT - 1]}…" if isinstance(value, str) and len(value) > MAX_TEXT else value


def bounded(fields: dict[str, JsonValue]) -> JsonObject:
    """The fields that are there, fit for history.

    A wrong value keeps its type, so that the run finds it wrong, but not its bulk; credentials in a URL are blanked,
    because no secret may enter history.
    """
    found = {name: _bounded(value) for name, value in fields.items() if value is not None}
    url = found.get("repositoryUrl")
    if isinstance(url, str):
        found["repositoryUrl"] = _QUERY.sub("***", url)  # where some put tokens; such a URL is refused later
    return found


def _bounded(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return {}
    if isinstance(value, list):
        return []
    if isinstance(value, str):
        return _USERINFO.sub("***@", value[: 2 * MAX_TEXT]).encode("utf-8", "replace").decode()
    return value
