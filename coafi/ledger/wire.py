"""What travels between a ledger's API (``starters.bitt``) and a remote ledger (:mod:`coafi.ledger.remote`), as JSON."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, StringConstraints

from coafi.canonical import JsonObject
from coafi.events import Wire
from coafi.ledger.entry import MAX_BODY, Draft, Recorded
from coafi.ledger.handover import HandOver, keyring
from coafi.ledger.keys import VerifierKey
from coafi.ledger.proof import Proof
from coafi.ledger.tiles import WIDTH
from coafi.names import EntryType

MAX_DRAFTS = 4_096
"""Drafts of one request at most: as many as one commit takes."""

MAX_REQUEST = 16 * 2**20
"""Bytes of a request to append at most."""

PAGE = WIDTH
"""Entries of one answer at most."""

MAX_HASHES = 128
"""Hashes of a proof at most: two for each level of the tree."""

MAX_HAND_OVERS = 1_000
"""Changes of keys of one answer at most, the newest."""

MAX_KEYS_ANSWER = 8 * 2**20
"""Bytes of an answer about keys at most; a change of keys takes about 3 KiB."""

ERROR = "urn:coafi:error:"
"""What the ``type`` of a problem begins with; the name of the error in :mod:`coafi.errors` follows."""

_Text = Annotated[str, StringConstraints(max_length=4_000)]


class DraftMessage(Wire):
    """A :class:`coafi.ledger.entry.Draft`."""

    namespace: _Text
    workflow: _Text
    step: _Text
    type: EntryType
    event: _Text
    utids: _Text
    inputs: JsonObject
    data: JsonObject

    @classmethod
    def of(cls, draft: Draft) -> "DraftMessage":
        """The message that says ``draft``."""
        return cls.model_construct(
            namespace=draft.namespace,
            workflow=draft.workflow_id,
            step=draft.step,
            type=draft.type,
            event=draft.event_id,
            utids=draft.utids,
            inputs=draft.inputs,
            data=draft.data,
        )

    @property
    def draft(self) -> Draft:
        """What the message says."""
        return Draft(
            namespace=self.namespace,
            workflow_id=self.workflow,
            step=self.step,
            type=self.type,
            event_id=self.event,
            utids=self.utids,
            inputs=self.inputs,
            data=self.data,
        )


class AppendRequest(Wire):
    """``POST /bitt/entries``: entries to record, all or none."""

    drafts: tuple[DraftMessage, ...] = Field(min_length=1, max_length=MAX_DRAFTS)


class EntryMessage(Wire):
    """A :class:`coafi.ledger.entry.Recorded`; ``body`` is the UTF-8 text that its bytes are."""

    index: int = Field(ge=0)
    body: str = Field(max_length=MAX_BODY)
    fresh: bool = False

    @classmethod
    def of(cls, recorded: Recorded) -> "EntryMessage":
        """The message that says ``recorded``."""
        return cls.model_construct(index=recorded.index, body=recorded.body.decode(), fresh=recorded.fresh)

    @property
    def recorded(self) -> Recorded:
        """What the message says."""
        return Recorded(self.index, self.body.encode("utf-8", "replace"), self.fresh)


class EntriesAnswer(Wire):
    """Entries, in the order of the request or of the log."""

    entries: tuple[EntryMessage, ...] = Field(max_length=MAX_DRAFTS)


class HashesAnswer(Wire):
    """The hashes of a proof, lowest first, in hexadecimal."""

    hashes: tuple[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")], ...] = Field(max_length=MAX_HASHES)


class HeadAnswer(Wire):
    """The committed state, which nobody may have signed yet; ``root`` in hexadecimal."""

    origin: str
    size: int = Field(ge=0)
    root: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class KeyMessage(Wire):
    """A :class:`coafi.ledger.keys.Term`; ``key`` is the vkey."""

    id: str
    key: str
    since: int = Field(ge=0)
    until: int | None = Field(ge=0)
    active: bool


class KeysAnswer(Wire):
    """The keys that a log has had, oldest first, and the hand-overs from each to the next, from which they follow."""

    keys: tuple[KeyMessage, ...] = Field(max_length=MAX_HAND_OVERS + 1)
    handOvers: tuple[Proof, ...] = Field(max_length=MAX_HAND_OVERS)  # noqa: N815  # the name on the wire

    @classmethod
    def of(cls, key: VerifierKey, hand_overs: Sequence[HandOver]) -> "KeysAnswer":
        """The message that says where ``hand_overs`` lead from ``key``; of too many, the newest."""
        keys = tuple(
            KeyMessage(
                id=term.key.key_id.hex(),
                key=str(term.key),
                since=term.since,
                until=term.until,
                active=term.until is None,
            )
            for term in keyring(key, hand_overs).terms[-MAX_HAND_OVERS - 1 :]
        )
        return cls(keys=keys, handOvers=tuple(one.proof for one in hand_overs[-MAX_HAND_OVERS:]))
