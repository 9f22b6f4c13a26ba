"""A notification, and its message after Standard Webhooks 1.0 (https://www.standardwebhooks.com)."""

import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from pydantic import Field, SecretStr
from standardwebhooks.webhooks import Webhook

from coafi.canonical import sha256
from coafi.events import Wire
from coafi.git.manifest import Oid
from coafi.index.update import UPDATED

LONGEST_WAIT = 3_600.0
"""Seconds that a subscriber can make us wait before the next try."""


class Notification(Wire):
    """One update of one index, for one subscriber; no secret is in it.

    Attributes:
        subscriber: its name.
        time: when the index was updated, RFC 3339.
        repository: canonical URL.
        commit: the tip; ``None`` when the branch is gone.
        generation: of the index.
        verdicts: how many documents are what.
        index_url: where the index is.
        commits: SHAs that the update stands for, the last ones of ``commit_count``.
        entry: ledger index of the update.
    """

    subscriber: str
    time: str
    repository: str
    branch: str
    commit: Oid | None
    generation: int
    verdicts: dict[str, int]
    index_url: str
    commits: tuple[Oid, ...]
    commit_count: int = Field(ge=0)
    entry: int | None

    @property
    def message_id(self) -> str:
        """What tells this message from every other; the same with every try."""
        return f"msg_{sha256(f'{self.subscriber} {self.generation} {self.repository} {self.branch}'.encode())[:32]}"

    def body(self) -> bytes:
        """The message; the same bytes with every try."""
        data = {
            "repository": self.repository,
            "branch": self.branch,
            "commit": self.commit,
            "deleted": self.commit is None,
            "generation": self.generation,
            "verdicts": self.verdicts,
            "indexUrl": self.index_url,
            "commits": list(self.commits),
            "commitCount": self.commit_count,
            "ledgerEntry": self.entry,
        }
        value = {"type": UPDATED, "timestamp": self.time, "data": data}
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def headers(message_id: str, body: bytes, key: SecretStr, moment: datetime) -> dict[str, str]:
    """The headers of one try at a message.

    Args:
        key: ``whsec_`` and Base64.
        moment: of this try, in UTC: receivers refuse what is older than a few minutes.
    """
    return {
        "Content-Type": "application/json",
        "User-Agent": "coafi-event-handlers",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(key.get_secret_value()).sign(message_id, moment, body.decode()),
    }


def seconds_of(retry_after: str | None, now: datetime) -> float | None:
    """The seconds that a ``Retry-After`` header asks for, at most ``LONGEST_WAIT``; ``None`` if it asks for none."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return min(float(retry_after), LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - now).total_seconds()), LONGEST_WAIT)
