"""Who subscribes to which events of ledgers, and what is done about them: a file that an operator writes.

A list, in YAML or JSON, of subscriptions::

    - name: compliance-failures
      events: [GAIA:COMPLIANCE:FAILURE]
      sources: [https://ledger.example.org/*]
      where: {severity: [critical, warning]}
      open-findings: true
      severity: critical
      notify: [compliance]
      tell-peers: subscribed

``events`` are patterns of event types. A type consists of segments that colons separate, and so does a pattern; ``*``
stands for exactly one segment, and ``**``, as the last one, for one or more. A pattern has as many segments as what it
matches, upper and lower case differ, and there are no other signs: ``FAIL*`` is refused. ``sources`` are patterns as
in the file of subscribers. ``where`` names members of the details, deeper ones with dots, and the values that each may
have. An event can match several subscriptions; what they ask for is done once.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from coafi.auth.watched import WatchedFile
from coafi.bitt.event import LEDGER_PREFIX, BittEvent
from coafi.canonical import JsonObject
from coafi.compliance.findings import Peers, Weight
from coafi.errors import Unavailable, ValidationError
from coafi.names import EntryType
from coafi.notify.subscribers import Topic

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_MAX_FILE: Final = 2**20
_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ANY, _REST = "*", "**"

_Text = Annotated[str, StringConstraints(min_length=1, max_length=512)]


class WrittenSubscription(BaseModel):
    """A subscription as it is written."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=lambda name: name.replace("_", "-"))

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    events: Annotated[tuple[_Text, ...], Field(min_length=1, max_length=100)]
    sources: Annotated[tuple[_Text, ...], Field(min_length=1, max_length=100)] = ("*",)
    where: dict[_Text, Annotated[tuple[str | int | bool, ...], Field(min_length=1, max_length=100)]] = {}
    open_findings: bool = False
    severity: Weight = Weight.WARNING
    close_findings: bool = False
    notify: tuple[Topic, ...] = ()
    tell_peers: Literal["subscribed", "none"] | Annotated[tuple[_Text, ...], Field(min_length=1)] = "none"

    @model_validator(mode="after")
    def _sensible(self) -> "WrittenSubscription":
        for pattern in self.events:
            check_pattern(pattern)
        if self.open_findings and self.close_findings:
            raise ValueError("open-findings and close-findings: an event does one of them")
        if self.tell_peers != "none" and not self.open_findings:
            raise ValueError("tell-peers: peers are told of findings, and open-findings is not set")
        if not (self.open_findings or self.close_findings or self.notify):
            raise ValueError("it asks for nothing: give open-findings, close-findings or notify")
        return self


@dataclass(frozen=True)
class Subscription:
    """What is done about which events.

    Attributes:
        events, sources: patterns.
        where: values that members of the details may have, by path.
        severity: of findings, where the event names none.
        notify: topics of subscribers.
        peers: who is told of findings.
    """

    name: str
    events: tuple[str, ...]
    sources: tuple[str, ...] = ("*",)
    where: tuple[tuple[str, tuple[str | int | bool, ...]], ...] = ()
    open_findings: bool = False
    severity: Weight = Weight.WARNING
    close_findings: bool = False
    notify: tuple[str, ...] = ()
    peers: Peers = "none"

    def matches(self, told: BittEvent) -> bool:
        """Whether this is one of its events."""
        return (
            any(matches(pattern, told.event_type) for pattern in self.events)
            and any(fnmatchcase(told.source, pattern) for pattern in self.sources)
            and all(_is_one_of(_member(told.details, path), values) for path, values in self.where)
        )


@dataclass(frozen=True)
class Asked:
    """What the subscriptions that an event matches ask for together."""

    subscriptions: tuple[Subscription, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Which ones they are."""
        return tuple(one.name for one in self.subscriptions)

    @property
    def opens_findings(self) -> bool:
        """Whether one of them opens findings."""
        return any(one.open_findings for one in self.subscriptions)

    @property
    def closes_findings(self) -> bool:
        """Whether one of them closes findings, and none opens any."""
        return any(one.close_findings for one in self.subscriptions) and not self.opens_findings

    @property
    def severity(self) -> Weight:
        """The highest that one of them gives to findings."""
        order = list(Weight)
        return max((one.severity for one in self.subscriptions if one.open_findings), key=order.index)

    @property
    def topics(self) -> frozenset[str]:
        """Everything that subscribers are notified under."""
        return frozenset(topic for one in self.subscriptions for topic in one.notify)

    @property
    def peers(self) -> Peers:
        """Who is told: as many as they ask for together."""
        asked = [one.peers for one in self.subscriptions if one.peers != "none"]
        named = sorted({peer for one in asked if not isinstance(one, str) for peer in one})
        if "subscribed" in asked:
            return "subscribed"
        return tuple(named) if named else "none"


@dataclass(frozen=True)
class Subscriptions:
    """Every subscription there is, in the order of the file."""

    all: tuple[Subscription, ...] = ()

    def asked(self, told: BittEvent) -> Asked:
        """What is asked for about an event; nothing, where nobody subscribes to it."""
        return Asked(tuple(one for one in self.all if one.matches(told)))

    def wants_entries(self, entry_type: str) -> bool:
        """Whether entries of a type can match at all; quick, for each entry of the ledger."""
        return any(matches(pattern, LEDGER_PREFIX + entry_type) for one in self.all for pattern in one.events)


BUILT_IN = Subscriptions(
    (
        Subscription(
            name="compliance-failures",
            events=("GAIA:COMPLIANCE:FAILURE",),
            open_findings=True,
            severity=Weight.CRITICAL,
            peers="subscribed",
        ),
        Subscription(name="compliance", events=("GAIA:COMPLIANCE:*",), notify=("compliance",)),
        Subscription(name="split-views", events=(LEDGER_PREFIX + EntryType.PEER_SPLIT_VIEW,), notify=("peers",)),
    )
)
"""What counts while the settings name no file."""


class SubscriptionFile:
    """The subscriptions as the file has them now; the built-in ones without a file.

    Args:
        path: of the file, if the settings name one.
    """

    def __init__(self, path: Path | None) -> None:
        self.path: Final = path
        self._watched: WatchedFile[Subscriptions | None] | None = None
        if path is not None:
            self._watched = WatchedFile(
                path, lambda content, _mode: parse(content, path), missing=None, limit=_MAX_FILE
            )

    def load(self) -> Subscriptions:
        """The subscriptions, for whoever starts with them.

        Raises:
            ValidationError: the file is missing, or something in it is wrong; all of it is named.
            Unavailable: it cannot be read.
        """
        if self._watched is None:
            return BUILT_IN
        found = self._watched.current()
        if found is None:
            raise ValidationError(f"there is no file {self.path}", remedy="correct COAFI_BITT_SUBSCRIPTIONS")
        return found

    def current(self) -> Subscriptions:
        """The subscriptions, for whoever is at work.

        Raises:
            Unavailable: the file cannot be used as it is. Events wait until it can.
        """
        try:
            return self.load()
        except ValidationError as error:
            raise Unavailable(error.message, remedy=error.remedy) from error


def matches(pattern: str, event_type: str) -> bool:
    """Whether a pattern of segments matches an event type; see the module."""
    wanted, given = pattern.split(":"), event_type.split(":")
    if wanted[-1] == _REST:
        wanted = wanted[:-1]
        if len(given) <= len(wanted):
            return False
        given = given[: len(wanted)]
    return len(wanted) == len(given) and all(one in (_ANY, other) for one, other in zip(wanted, given, strict=True))


def check_pattern(pattern: str) -> None:
    """Refuse what is no pattern of event types, or can match nothing.

    Raises:
        ValueError: it is none.
    """
    segments = pattern.split(":")
    for number, segment in enumerate(segments, 1):
        if segment == _REST and number < len(segments):
            raise ValueError(f"events: {pattern!r}: ** is allowed as the last segment only")
        if segment not in (_ANY, _REST) and not _SEGMENT.fullmatch(segment):
            raise ValueError(
                f"events: {pattern!r}: segment {number} is neither letters, digits, dots, dashes and underscores,"
                " nor * or **"
            )
    if pattern.startswith(LEDGER_PREFIX) and len(segments) == 3 and segments[2] not in (_ANY, _REST, *EntryType):
        raise ValueError(f"events: {pattern!r}: there is no type of entry {segments[2]}")


def parse(content: bytes, path: Path) -> Subscriptions:
    """The subscriptions in a file.

    Raises:
        ValidationError: something is wrong; all of it is named.
    """
    remedy = "correct COAFI_BITT_SUBSCRIPTIONS, or the file; see docs/ledger-events.md"
    try:
        listed = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark is not None else ""
        raise ValidationError(f"the file of subscriptions {path} is no YAML{place}", remedy=remedy) from None
    if not isinstance(listed, list):
        raise ValidationError(f"the file of subscriptions {path} holds no list", remedy=remedy)
    problems: list[str] = []
    found: dict[str, Subscription] = {}
    for number, one in enumerate(listed, 1):
        name = one.get("name") if isinstance(one, dict) else None
        where = f"subscription {number}" + (f" ({name})" if isinstance(name, str) else "")
        try:
            written = WrittenSubscription.model_validate(one)
        except pydantic.ValidationError as error:
            problems += [f"{where}: {_said(problem)}" for problem in error.errors(include_url=False)]
            continue
        if written.name in found:
            problems.append(f"{where}: name: another subscription has it")
        found[written.name] = _subscription(written)
    if problems:
        raise ValidationError(f"the subscriptions in {path} are not right: {'; '.join(problems)}", remedy=remedy)
    return Subscriptions(tuple(found.values()))


def _said(problem: "ErrorDetails") -> str:
    place = ".".join(str(part) for part in problem["loc"] if not str(part).startswith(("literal", "tuple", "function")))
    message = problem["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def _subscription(written: WrittenSubscription) -> Subscription:
    return Subscription(
        name=written.name,
        events=written.events,
        sources=written.sources,
        where=tuple(written.where.items()),
        open_findings=written.open_findings,
        severity=written.severity,
        close_findings=written.close_findings,
        notify=written.notify,
        peers=written.tell_peers,
    )


def _member(details: JsonObject, path: str) -> JsonValue:
    """A member of the details, by its names, with dots between them; ``None`` where there is none."""
    value: JsonValue = details
    for name in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def _is_one_of(value: JsonValue, values: Iterable[str | int | bool]) -> bool:
    """Whether a member has one of some values; a text is no number, and ``true`` is not 1."""
    return any(type(value) is type(one) and value == one for one in values)
