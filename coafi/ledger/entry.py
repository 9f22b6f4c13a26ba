"""An entry: what is recorded of one step, under which key, and the exact bytes that are hashed.

The key says *what step of what* and the request digest says *from which inputs*. Neither holds a time or a result, so
a step that is done again after a crash asks for the same entry and gets the one that is already there.
"""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Literal, TypeVar

import msgspec
import pydantic
from pydantic import BaseModel, ConfigDict, Field

from coafi.canonical import MAX_DEPTH, JsonObject, Sha256, canonical_json, sha256, stable_json
from coafi.errors import IntegrityError, ValidationError
from coafi.names import EntryType

MAX_BODY = 65_535
"""Bytes of a body at most: C2SP tlog-tiles prefixes each entry of a bundle with a 16-bit length."""

MAX_DATA_DEPTH = MAX_DEPTH + 20
"""Levels of the data of an entry at most: what came from outside, and what we wrap it in."""

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode  # text as RFC 8785 writes it; lone surrogates raise UnicodeEncodeError
_TIME = re.compile(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$")


def entry_key(namespace: str, workflow_id: str, step: str, entry_type: str) -> str:
    """The key of an entry: SHA-256, in hexadecimal, of the canonical JSON array of its four parts."""
    parts = (namespace, workflow_id, step, entry_type)
    try:
        return sha256(_encode(parts))  # of text, and a tenth of the cost
    except UnicodeEncodeError:
        return sha256(canonical_json(list(parts)))  # which says what is wrong


def timestamp(moment: datetime) -> str:
    """``moment`` as RFC 3339 in UTC with milliseconds, such as ``2026-11-23T20:03:29.123Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


class _Body(msgspec.Struct, gc=False):
    """An entry as it is written: in canonical order, and at half the cost of a dictionary."""

    data: msgspec.Raw
    event: str
    key: str
    namespace: str
    request: str
    step: str
    time: str
    type: str
    utids: str
    version: int
    workflow: str


class _once(cached_property[T]):  # noqa: N801  # as the one that it is
    """``cached_property`` as it is from Python 3.12 on: without a lock, which costs as much as a SHA-256."""

    def __get__(self, instance: object, owner: type | None = None) -> T:  # type: ignore[override]
        value: T = self.func(instance)
        instance.__dict__[self.attrname or ""] = value
        return value


@dataclass(frozen=True, kw_only=True)
class Draft:
    """An entry that somebody wants recorded; the ledger adds its time and its index.

    Attributes:
        namespace: Temporal namespace of the run, after ``<instance>/`` where instances share a ledger. A key part, like
            the three that follow.
        workflow_id: id of the workflow whose step this is.
        step: id of the step, unique within the workflow and across its continue-as-new.
        type: what the entry reports.
        event_id: id of the event that is handled.
        utids: the event's UTidS.
        inputs: what the step works on, and nothing that it finds out: its digest is the request digest. Two tries of
            the same step must give equal inputs.
        data: what is recorded. Of two tries, the data of the one that came first.
    """

    namespace: str
    workflow_id: str
    step: str
    type: EntryType
    event_id: str
    utids: str
    inputs: JsonObject
    data: JsonObject = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.type} of step {self.step!r} of workflow {self.workflow_id!r} in namespace {self.namespace!r}"

    @_once
    def key(self) -> str:
        """What step of what this is, as 64 hexadecimal digits. See :func:`entry_key`."""
        return entry_key(self.namespace, self.workflow_id, self.step, self.type)

    @_once
    def request_digest(self) -> str:
        """SHA-256, in hexadecimal, of the canonical JSON of the inputs."""
        try:
            return sha256(canonical_json(self.inputs))
        except ValidationError as error:
            raise self._no_form("inputs", error) from error

    def body(self, time: str) -> bytes:
        """The entry's exact bytes: canonical JSON (RFC 8785) of what :class:`Entry` holds.

        Args:
            time: when the ledger takes the entry, as :func:`timestamp` gives it.

        Raises:
            ValidationError: the data are too deep, or have no canonical form, also once they are read back; or the body
                is longer than ``MAX_BODY``.
        """
        try:
            data = stable_json(self.data, MAX_DATA_DEPTH)
        except ValidationError as error:
            raise self._no_form("data", error) from error
        try:
            body = _encode(  # the bytes that canonical_json would give of it
                _Body(
                    msgspec.Raw(data),
                    self.event_id,
                    self.key,
                    self.namespace,
                    self.request_digest,
                    self.step,
                    time,
                    self.type,
                    self.utids,
                    1,
                    self.workflow_id,
                )
            )
        except UnicodeEncodeError as error:
            raise ValidationError(
                f"the entry {self} has no canonical form: {error}", remedy="write text without lone surrogates"
            ) from None
        if len(body) > MAX_BODY:
            raise ValidationError(
                f"the entry {self} has {len(body):,} bytes and may have {MAX_BODY:,}",
                remedy="put what is large into the object store and record its digest",
            )
        return body

    def _no_form(self, what: str, error: ValidationError) -> ValidationError:
        return ValidationError(f"the {what} of the entry {self}: {error.message}", remedy=error.remedy)


class Entry(BaseModel):
    """A recorded entry, read back from its body. The wire names are the aliases.

    Attributes:
        time: when the ledger took it, RFC 3339, UTC, milliseconds.
        key: see :func:`entry_key`.
        request: digest of the inputs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_by_name=True)

    version: Literal[1]
    type: str = Field(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")
    time: str = Field(pattern=_TIME.pattern)
    key: Sha256
    request: Sha256
    event_id: str = Field(alias="event")
    utids: str
    namespace: str
    workflow_id: str = Field(alias="workflow")
    step: str
    data: JsonObject

    @classmethod
    def parse(cls, body: bytes) -> "Entry":
        """The entry in ``body``.

        Raises:
            ValidationError: the bytes are not an entry.
        """
        if len(body) > MAX_BODY:
            raise ValidationError(
                f"these {len(body):,} bytes are too long for an entry", remedy=f"at most {MAX_BODY:,}"
            )
        try:
            return cls.model_validate_json(body)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = "/".join(str(part) for part in first["loc"])
            raise ValidationError(
                f"these bytes are not a ledger entry: {where or 'body'}: {first['msg']}",
                remedy="entries of version 1 are what this software reads",
            ) from None

    def check_key(self) -> None:
        """Check that the key is that of the parts it names.

        Raises:
            IntegrityError: it is another.
        """
        if entry_key(self.namespace, self.workflow_id, self.step, self.type) != self.key:
            raise IntegrityError(
                f"the entry {self.type} of step {self.step!r} of workflow {self.workflow_id!r} carries another's key",
                remedy="whoever wrote it did not follow the format; compare it with the original",
            )

    def check_canonical(self, body: bytes) -> None:
        """Check that ``body`` says this and nothing else, such as a member twice, of which others read the first.

        Raises:
            IntegrityError: it is not the canonical JSON of what was read.
        """
        said: JsonObject = {
            "version": self.version,
            "type": self.type,
            "time": self.time,
            "key": self.key,
            "request": self.request,
            "event": self.event_id,
            "utids": self.utids,
            "namespace": self.namespace,
            "workflow": self.workflow_id,
            "step": self.step,
            "data": self.data,
        }
        try:
            same = canonical_json(said) == body
        except ValidationError:  # an integer that others read as another one, for instance
            same = False
        if not same:
            raise IntegrityError(
                "its bytes are not the canonical JSON of what they say",
                remedy="whoever wrote it did not follow the format; compare it with the original",
            )


@dataclass(slots=True)  # not frozen, which would take longer than to hash the entry; nobody changes one
class Recorded:
    """An entry that is in the ledger.

    Attributes:
        index: its place, from 0.
        body: its exact bytes. When the step was recorded before, these are the first ones.
        fresh: whether this very call recorded it; false when it was there already, and for all that is read.
    """

    index: int
    body: bytes
    fresh: bool = False
    _entry: Entry | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def entry(self) -> Entry:
        """The body, read once."""
        if self._entry is None:
            self._entry = Entry.parse(self.body)
        return self._entry

    @property
    def data(self) -> JsonObject:
        """What was recorded. A step that finds ``fresh`` false goes on with these, not with its own."""
        return self.entry.data
