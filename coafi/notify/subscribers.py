"""Who is notified of what: a file that an operator writes, checked in full when the service starts.

A list, in YAML or JSON, of subscribers::

    - name: portal
      url: https://portal.example.org/hooks/coafi
      secret: {file: /etc/coafi/portal.secret}
      repositories: [https://github.com/acme/*]
      branches: [main, release/*]
      registries: [AERO, schemas]
      topics: [compliance, peers]

``secret`` is a key after Standard Webhooks, ``whsec_`` and 24 to 64 bytes in Base64: the text itself, or where it is:
``{file: path}`` or ``{env: NAME}``. ``repositories``, ``branches`` and ``registries`` are patterns (``*``, ``?``,
``[…]``; ``*`` also stands for slashes). ``topics`` are what events are notified under, as the subscriptions to them
say; under ``peers`` the messages of peers are, under ``alarms`` what scheduled tasks found wrong. Who names none of
them hears of all repositories and branches, of no registry and of no topic; who names registries or topics alone hears
of no repository.
"""

import os
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, model_validator

from coafi.errors import ResourceNotFoundError, ValidationError
from coafi.notify.keys import check_key
from coafi.registry.entry import RegistryId
from coafi.secret_files import permissions

_Pattern = Annotated[str, StringConstraints(min_length=1, max_length=2_048)]
_MAX_FILE = 2**20

MAX_ADDRESSEES = 1_000
"""Most subscribers that may want to know of registries, or of topics: one run tells them all."""

Topic = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
"""What events are notified under, such as ``compliance``."""

PEERS = "peers"
"""The topic of peers' messages."""

ALARMS = "alarms"
"""The topic of what scheduled tasks found wrong."""


class _SecretPlace(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Path | None = None
    env: str | None = None

    @model_validator(mode="after")
    def _one(self) -> "_SecretPlace":
        if (self.file is None) == (self.env is None):
            raise ValueError("give either file or env")
        return self


class _Written(BaseModel):
    """A subscriber as it is written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    url: Annotated[SecretStr, Field(max_length=2_048)]
    secret: _SecretPlace | SecretStr
    repositories: Annotated[tuple[_Pattern, ...], Field(min_length=1)] = ("*",)
    branches: Annotated[tuple[_Pattern, ...], Field(min_length=1)] = ("*",)
    registries: tuple[_Pattern, ...] = ()
    topics: tuple[Topic, ...] = ()

    @model_validator(mode="after")
    def _known(self) -> "_Written":
        for pattern in self.registries:
            if not any(fnmatchcase(registry, pattern) for registry in RegistryId):
                raise ValueError(f"registries: {pattern!r} is none of {', '.join(RegistryId)}")
        return self

    @property
    def wanted_repositories(self) -> tuple[str, ...]:
        """The patterns of repositories; none for who names registries or topics alone."""
        only_others = (self.registries or self.topics) and not self.model_fields_set & {"repositories", "branches"}
        return () if only_others else self.repositories


@dataclass(frozen=True)
class Subscriber:
    """Somebody who is told.

    Attributes:
        name: for people, metrics and workflow ids.
        url: where messages go; it may hold a token, so it is shown to nobody.
        host, port: of the URL.
        key: what messages are signed with.
        repositories, branches, registries: patterns.
        topics: of events.
    """

    name: str
    url: SecretStr
    host: str
    port: int
    key: SecretStr
    repositories: tuple[str, ...] = ("*",)
    branches: tuple[str, ...] = ("*",)
    registries: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()

    def wants(self, repository: str, branch: str) -> bool:
        """Whether it wants to know of this branch."""
        return any(fnmatchcase(repository, one) for one in self.repositories) and any(
            fnmatchcase(branch, one) for one in self.branches
        )

    def wants_registry(self, registry: str) -> bool:
        """Whether it wants to know of changes in this registry."""
        return any(fnmatchcase(registry, one) for one in self.registries)


@dataclass(frozen=True)
class Subscribers:
    """Everybody who is told."""

    all: tuple[Subscriber, ...] = ()

    def of(self, repository: str, branch: str) -> tuple[Subscriber, ...]:
        """Those who want to know of this branch."""
        return tuple(one for one in self.all if one.wants(repository, branch))

    def of_registry(self, registry: str) -> tuple[Subscriber, ...]:
        """Those who want to know of changes in this registry."""
        return tuple(one for one in self.all if one.wants_registry(registry))

    def of_topics(self, topics: Collection[str]) -> tuple[Subscriber, ...]:
        """Those who want to know of events under one of these topics."""
        return tuple(one for one in self.all if not set(topics).isdisjoint(one.topics))

    def named(self, name: str) -> Subscriber:
        """The subscriber of this name.

        Raises:
            ResourceNotFoundError: there is none any more.
        """
        for one in self.all:
            if one.name == name:
                return one
        raise ResourceNotFoundError(
            f"there is no subscriber {name}", remedy="nothing, if it was taken out of the file COAFI_SUBSCRIBERS"
        )


def load_subscribers(path: Path | None, *, allow_private: bool = False) -> Subscribers:
    """The subscribers in a file; nobody without one.

    Args:
        allow_private: whether plain http is allowed.

    Raises:
        ValidationError: the file cannot be read, or a subscriber in it is wrong; every wrong one is named.
    """
    if path is None:
        return Subscribers()
    listed = _listed(path)
    problems: list[str] = []
    found: dict[str, Subscriber] = {}
    for number, one in enumerate(listed, 1):
        name = one.get("name") if isinstance(one, dict) else None
        where = f"subscriber {number}" + (f" ({name})" if isinstance(name, str) else "")
        try:
            subscriber = _subscriber(_Written.model_validate(one), path, allow_private)
            if subscriber.name in found:
                raise ValueError("name: another subscriber has it")
        except pydantic.ValidationError as error:
            problems += [
                f"{where}: {'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
                for problem in error.errors(include_url=False, include_input=False)
            ]
        except ValueError as error:
            problems.append(f"{where}: {error}")
        else:
            found[subscriber.name] = subscriber
    for what, addressees in (
        ("registries", sum(bool(one.registries) for one in found.values())),
        ("topics", sum(bool(one.topics) for one in found.values())),
    ):
        if addressees > MAX_ADDRESSEES:
            problems.append(f"{addressees} of them name {what}, and {MAX_ADDRESSEES} may")
    if problems:
        raise ValidationError(
            f"the subscribers in {path} are not right: {'; '.join(problems)}",
            remedy="correct the file; see docs/operations.md",
        )
    return Subscribers(tuple(found.values()))


def _listed(path: Path) -> list[Any]:
    remedy = "correct COAFI_SUBSCRIBERS, or the file; see docs/operations.md"
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE + 1)
        if len(text) > _MAX_FILE:
            raise ValidationError(f"the file of subscribers {path} is larger than {_MAX_FILE} bytes", remedy=remedy)
        listed = yaml.safe_load(text)
    except OSError as error:
        raise ValidationError(
            f"the file of subscribers {path} cannot be read: {error.strerror}", remedy=remedy
        ) from error
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark is not None else ""
        # What the file says there is not quoted: it may be a secret.
        raise ValidationError(f"the file of subscribers {path} is no YAML{place}", remedy=remedy) from None
    if not isinstance(listed, list):
        raise ValidationError(f"the file of subscribers {path} holds no list", remedy=remedy)
    return listed


def _subscriber(written: _Written, path: Path, allow_private: bool) -> Subscriber:
    host, port = _address(written.url.get_secret_value(), allow_private)
    if isinstance(written.secret, SecretStr):
        if permissions(path.stat()) & 0o077:
            raise ValueError(f"secret: others may read {path}; chmod 600, or give the secret by file or env")
        key = written.secret
    else:
        key = _secret_at(written.secret)
    try:
        check_key(key)
    except ValueError as error:
        raise ValueError(f"secret: {error}") from None
    return Subscriber(
        name=written.name,
        url=written.url,
        host=host,
        port=port,
        key=key,
        repositories=written.wanted_repositories,
        branches=written.branches,
        registries=written.registries,
        topics=written.topics,
    )


def _secret_at(place: _SecretPlace) -> SecretStr:
    if place.env is not None:
        value = os.environ.get(place.env, "")
        if not value:
            raise ValueError(f"secret: the environment has no {place.env}")
        return SecretStr(value.strip())
    assert place.file is not None  # noqa: S101  # validated: one of them is given
    try:
        if permissions(place.file.stat()) & 0o077:
            raise ValueError(f"secret: others may read {place.file}; chmod 600")
        return SecretStr(place.file.read_text().strip())
    except (OSError, UnicodeError) as error:
        raise ValueError(f"secret: {place.file} cannot be read") from error


def _address(url: str, allow_private: bool) -> tuple[str, int]:
    """Host and port of a URL that messages may go to."""
    import httpx

    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise ValueError("url: is no URL") from error
    if parsed.scheme != "https" and not (allow_private and parsed.scheme == "http"):
        raise ValueError("url: does not start with https://")
    if not parsed.host or parsed.userinfo or parsed.fragment:
        raise ValueError("url: needs a host, and has neither a user, nor a password, nor a fragment")
    return parsed.host, parsed.port or (443 if parsed.scheme == "https" else 80)
