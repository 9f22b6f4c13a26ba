"""What the ledger's entries tell of one event, taken together.

Whoever calls has proved that each entry is in the log. Here they are held against each other: all of one event, one
receipt of it, and none left out that the event's conclusion names.
"""

from dataclasses import dataclass
from typing import Annotated, TypeVar

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from coafi.canonical import JsonObject, Sha256, sha256
from coafi.errors import IntegrityError, ValidationError
from coafi.ledger.entry import Entry
from coafi.names import CONCLUDE, EntryType, workflow_id

OPEN = "open"
"""The phase of an event that had not ended when its receipt was made."""

NO_COMMIT = frozenset({"0" * 40, "0" * 64})
"""What stands for the commit of a branch that is gone."""

Index = Annotated[int, Field(ge=0)]


class _Data(BaseModel):
    """What we need of an entry's data; what later versions add is left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class PayloadSchema(_Data):
    """The schema of a payload."""

    id: str
    version: str
    digest: Sha256


class FileSchema(_Data):
    """The schema of front matter."""

    schema_id: str = Field(alias="schemaId")
    version: str
    digest: Sha256


class ReceivedData(_Data):
    """``EVENT_RECEIVED``; entries of older versions lack what has a default. See docs/events.md."""

    source: str
    event_type: str = Field(alias="eventType")
    principal: str
    body_digest: Sha256 = Field(alias="bodyDigest")
    payload_digest: Sha256 = Field(alias="payloadDigest")
    payload_schema: PayloadSchema | None = Field(default=None, alias="schema")
    subject: str = ""
    parameters: JsonObject = Field(default_factory=dict)
    run_id: str = Field(default="", alias="runId")
    build: str = ""

    def asked(self, name: str) -> str:
        """A parameter that is text; empty when it is not there."""
        value = self.parameters.get(name)
        return value if isinstance(value, str) else ""


class FileData(_Data):
    """``FILE_PROCESSED``."""

    path: str
    change: str
    kind: str
    verdict: str
    errors: int
    warnings: int
    reports: Sha256 = Field(alias="reportsDigest")
    blob: str = ""
    sha256: Sha256 | None = None
    used_schema: FileSchema | None = Field(default=None, alias="schema")
    build: str = ""


class ArtifactData(_Data):
    """``ARTIFACT_GENERATED``."""

    path: str
    blob: str
    artifact: str
    media_type: str = Field(alias="mediaType")
    digest: Sha256
    generator: str
    build: str = ""


class PreviousData(_Data):
    """The version of an entry that was replaced."""

    version: int
    digest: Sha256


class ChangeData(_Data):
    """``REGISTRY_ENTRY_CHANGED``: a version of an entry of a registry. ``digest`` is that of its data."""

    registry_id: str = Field(alias="registryId")
    entry_id: str = Field(alias="entryId")
    version: int
    status: str
    digest: Sha256
    by: str
    previous: PreviousData | None = None
    used_schema: FileSchema | None = Field(default=None, alias="schema")

    @property
    def name(self) -> str:
        """The entry, as people name it."""
        return f"{self.registry_id}/{self.entry_id}"

    @property
    def path(self) -> str:
        """What is named where an artifact's path stands."""
        return f"{self.name}, version {self.version}"

    @property
    def artifact(self) -> str:
        """What the digest is of."""
        return "data"


class FailureData(_Data):
    """``EVENT_PROCESSING_FAILED``, and the failure of a conclusion."""

    step: str
    message: str


class DecisionData(_Data):
    """Somebody's decision about a parked run."""

    by: str
    reason: str


class FindingData(_Data):
    """Why an event was rejected."""

    rule: str
    message: str


class RefusedData(_Data):
    """The step that rejected an event, and why."""

    step: str
    message: str


class RangeData(_Data):
    """A run of ledger indices, both ends included."""

    first: Index
    last: Index


class ConclusionData(_Data):
    """``EVENT_PROCESSED``, ``EVENT_REJECTED`` and ``EVENT_DEAD_LETTERED``."""

    phase: str
    counts: dict[str, int] = Field(default_factory=dict)
    digests: dict[str, Sha256] = Field(default_factory=dict)
    entries: tuple[RangeData, ...] = ()
    findings: tuple[FindingData, ...] = ()
    refused: RefusedData | None = None
    failure: FailureData | None = None
    decisions: tuple[DecisionData, ...] = ()
    build: str = ""


Data = TypeVar("Data", bound=_Data)


@dataclass(frozen=True, slots=True)
class Received:
    """The receipt of the event: where it is recorded, when, under which UTidS, and what it says."""

    index: int
    time: str
    utids: str
    data: ReceivedData


@dataclass(frozen=True, slots=True)
class Conclusion:
    """How the event ended: where that is recorded, when, the digest of the entry, and what it says."""

    index: int
    time: str
    digest: str
    data: ConclusionData


class Story:
    """The entries of one event, added in the order of their indices, then told to be all (:meth:`end`).

    Attributes:
        event_id, workflow_id, namespace: those of every entry.
        files, artifacts: index and content of ``FILE_PROCESSED`` and ``ARTIFACT_GENERATED``.
        changes: likewise of ``REGISTRY_ENTRY_CHANGED``.
        failures: why the run parked, each time.
        conflicts: where other bodies under the same delivery id were rejected.
        conclusion: the last one; ``None`` while the event is open.
        ranges: the indices of all entries, both ends included.
        count: how many entries there are.
        builds: versions of the workers that wrote them, as far as they say.
    """

    def __init__(self) -> None:
        self.event_id = self.workflow_id = self.namespace = ""
        self.files: list[tuple[int, FileData]] = []
        self.artifacts: list[tuple[int, ArtifactData]] = []
        self.changes: list[tuple[int, ChangeData]] = []
        self.failures: list[FailureData] = []
        self.conflicts: list[int] = []
        self.conclusion: Conclusion | None = None
        self.ranges: list[tuple[int, int]] = []
        self.count = 0
        self.builds: set[str] = set()
        self._received: Received | None = None
        self._named: list[tuple[int, RangeData]] = []

    @property
    def received(self) -> Received:
        """The receipt of the event.

        Raises:
            IntegrityError: no entry says that it was received.
        """
        if self._received is None:
            raise _incomplete(f"the entries have no {EntryType.EVENT_RECEIVED}: nothing says what they are about")
        return self._received

    @property
    def phase(self) -> str:
        """``PROCESSED``, ``REJECTED``, ``FAILED`` or ``open``."""
        return OPEN if self.conclusion is None else self.conclusion.data.phase

    @property
    def commit(self) -> str:
        """The commit that was fetched; empty when none was."""
        asked = self.received.data.asked("commitSha")
        fetched = bool(self.files) or (self.conclusion is not None and "manifest" in self.conclusion.data.digests)
        return asked if fetched and asked not in NO_COMMIT else ""

    def add(self, index: int, body: bytes) -> None:
        """Take the next entry.

        Raises:
            IntegrityError: it is none, or not of this event, or out of order.
        """
        try:
            entry = Entry.parse(body)
            entry.check_key()
            entry.check_canonical(body)
        except (ValidationError, IntegrityError) as error:
            raise IntegrityError(f"entry {index}: {error.message}", remedy=error.remedy) from error
        self._check_belongs(index, entry)
        self._count(index)
        if entry.type == EntryType.EVENT_RECEIVED:
            self._receive(index, entry)
        elif entry.type == EntryType.FILE_PROCESSED:
            file = _read(index, entry, FileData)
            self.files.append((index, file))
            self._build(file.build)
        elif entry.type == EntryType.ARTIFACT_GENERATED:
            artifact = _read(index, entry, ArtifactData)
            self.artifacts.append((index, artifact))
            self._build(artifact.build)
        elif entry.type == EntryType.REGISTRY_ENTRY_CHANGED:
            self.changes.append((index, _read(index, entry, ChangeData)))
        elif entry.type == EntryType.EVENT_PROCESSING_FAILED:
            self.failures.append(_read(index, entry, FailureData))
        elif entry.type in _CONCLUDING:
            self._conclude(index, entry, body)

    def end(self) -> None:
        """Check that no entry is missing, as far as the entries tell.

        Raises:
            IntegrityError: one is.
        """
        _ = self.received
        for conclusion, named in self._named:
            missing = _first_missing(named, self.ranges)
            if missing is not None:
                raise _incomplete(f"entry {missing} is left out: entry {conclusion} says that it belongs to the event")

    def _check_belongs(self, index: int, entry: Entry) -> None:
        ours = (self.namespace, self.workflow_id, self.event_id)
        theirs = (entry.namespace, entry.workflow_id, entry.event_id)
        if not self.count:
            self.namespace, self.workflow_id, self.event_id = theirs
        elif theirs != ours:
            raise IntegrityError(
                f"entry {index} is about event {entry.event_id!r} of workflow {entry.workflow_id!r}, the entries before"
                f" it about {self.event_id!r} of {self.workflow_id!r}",
                remedy="a receipt is about one event: get it again",
            )

    def _count(self, index: int) -> None:
        if self.ranges and index <= self.ranges[-1][1]:
            raise IntegrityError(
                f"entry {index} comes after entry {self.ranges[-1][1]}", remedy="entries stand in the order of the log"
            )
        if self.ranges and index == self.ranges[-1][1] + 1:
            self.ranges[-1] = (self.ranges[-1][0], index)
        else:
            self.ranges.append((index, index))
        self.count += 1

    def _receive(self, index: int, entry: Entry) -> None:
        if self._received is not None:
            raise IntegrityError(
                f"the event is received twice, in the entries {self._received.index} and {index}",
                remedy="whoever wrote this log did not follow the format",
            )
        data = _read(index, entry, ReceivedData)
        if workflow_id(data.event_type, data.source, entry.event_id) != entry.workflow_id:
            raise IntegrityError(
                f"entry {index} is of workflow {entry.workflow_id!r}, which is not that of its event",
                remedy="whoever wrote this log did not follow the format",
            )
        self._received = Received(index, entry.time, entry.utids, data)
        self._build(data.build)

    def _conclude(self, index: int, entry: Entry, body: bytes) -> None:
        data = _read(index, entry, ConclusionData)
        self._build(data.build)
        self._named += [(index, named) for named in data.entries]
        if entry.step == CONCLUDE:
            self.conclusion = Conclusion(index, entry.time, sha256(body), data)
        else:
            self.conflicts.append(index)

    def _build(self, build: str) -> None:
        if build:
            self.builds.add(build)


_CONCLUDING = (EntryType.EVENT_PROCESSED, EntryType.EVENT_REJECTED, EntryType.EVENT_DEAD_LETTERED)


def _read(index: int, entry: Entry, model: type[Data]) -> Data:
    try:
        return model.model_validate(entry.data)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "/".join(str(part) for part in first["loc"])
        raise IntegrityError(
            f"entry {index}, {entry.type}: data/{where}: {first['msg']}",
            remedy="a newer version wrote it, or whoever wrote it did not follow the format",
        ) from None


def _first_missing(named: RangeData, ranges: list[tuple[int, int]]) -> int | None:
    """The first index of ``named`` that lies in none of the ascending ``ranges``."""
    wanted = named.first
    for first, last in ranges:
        if wanted > named.last:
            return None
        if first <= wanted <= last:
            wanted = last + 1
    return wanted if wanted <= named.last else None


def _incomplete(problem: str) -> IntegrityError:
    return IntegrityError(problem, remedy="the receipt is not whole: get it again from whoever made it")
