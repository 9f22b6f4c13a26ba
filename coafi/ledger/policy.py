"""Which witnesses must have cosigned a checkpoint before it counts: k of n, or a policy file.

The file is that of https://c2sp.org/tlog-policy::

    log <vkey> [<url>]
    witness <name> <vkey> [<url>]
    group <name> all|any|<k> <member>…
    quorum <name>|none

Its logs, if there are any, are those whose checkpoints are accepted. A key of a type that this software does not know
is no error: such a witness never counts as one that has cosigned, so nothing is accepted because of it.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

from coafi.errors import IntegrityError, ValidationError
from coafi.ledger.cosignature import Cosignature
from coafi.ledger.keys import CosignerKey, VerifierKey, decode_base64

MAX_POLICY = 2**20
"""Bytes of a policy file at most."""

MAX_LINES = 1_000
"""Logs, witnesses and groups of a policy at most, of each."""

NONE = "none"
"""The quorum of a policy that asks for no witness."""

_NAME = 200

_K = TypeVar("_K", VerifierKey, CosignerKey)


@dataclass(frozen=True, slots=True)
class Log:
    """A log that a policy accepts; ``url`` is empty where the policy names none."""

    key: VerifierKey
    url: str = ""


@dataclass(frozen=True, slots=True)
class WitnessLine:
    """A witness of a policy.

    Attributes:
        name: within the policy.
        key: ``None`` if it is of a type that is not known here.
        vkey: as it was written.
        url: its submission prefix; empty where the policy names none.
    """

    name: str
    key: CosignerKey | None
    vkey: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Members, of which ``threshold`` must have cosigned: witnesses and groups, by name."""

    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True)
class Policy:
    """Which checkpoints count.

    Attributes:
        quorum: name of a witness or group, or ``none``.
        witnesses, groups: by which the quorum is made up; a group knows only those before it.
        logs: those that are accepted; none, if it is said elsewhere.
        unknown_logs: how many logs have keys of a type that is not known here.
    """

    quorum: str
    witnesses: tuple[WitnessLine, ...] = ()
    groups: tuple[Group, ...] = ()
    logs: tuple[Log, ...] = ()
    unknown_logs: int = 0

    @property
    def keys(self) -> tuple[CosignerKey, ...]:
        """The witnesses that can be verified here."""
        return tuple(one.key for one in self.witnesses if one.key is not None)

    def is_met(self, cosigned: Collection[CosignerKey]) -> bool:
        """Whether these witnesses together are enough."""
        met = {one.name: one.key is not None and one.key in cosigned for one in self.witnesses}
        met[NONE] = True
        for group in self.groups:
            met[group.name] = sum(met[name] for name in group.members) >= group.threshold
        return met[self.quorum]

    def check(self, cosignatures: Sequence[Cosignature]) -> None:
        """Check that a checkpoint with these cosignatures counts.

        Raises:
            IntegrityError: witnesses are missing; the message names them.
        """
        present = {one.key for one in cosignatures}
        if self.is_met(present):
            return
        missing = [one.name if one.key is None else one.key.name for one in self.witnesses if one.key not in present]
        raise IntegrityError(
            f"too few witnesses have cosigned the checkpoint: {len(present)} of {len(self.witnesses)} did, and"
            f" {self.wanted()}; missing are {', '.join(missing[:20])}{' and more' if len(missing) > 20 else ''}",
            remedy="ask for a receipt that they have cosigned; the log may have shown somebody else another history",
        )

    def wanted(self) -> str:
        """What the quorum asks for, for a person."""
        for group in self.groups:
            if group.name == self.quorum:
                return f"{group.threshold} of {', '.join(group.members[:20])} must"
        return "none has to" if self.quorum == NONE else f"{self.quorum} must"


def quorum_of(keys: Sequence[CosignerKey], threshold: int | None = None) -> Policy:
    """The policy that asks for ``threshold`` of these witnesses, by default for all of them.

    Raises:
        ValidationError: there are fewer witnesses, the threshold is negative, or a witness stands there twice.
    """
    wanted = len(keys) if threshold is None else threshold
    if not 0 <= wanted <= len(keys):
        raise ValidationError(
            f"a quorum of {wanted} of {len(keys)} witnesses cannot be", remedy="ask for as many as there are, or fewer"
        )
    _check_distinct([key.public for key in keys], "witness")
    names = [key.name for key in keys]
    witnesses = tuple(WitnessLine(key.name if names.count(key.name) == 1 else str(key), key, str(key)) for key in keys)
    if wanted == 0:
        return Policy(NONE, witnesses)
    members = tuple(one.name for one in witnesses)
    return Policy("+", witnesses, (Group("+", wanted, members),))  # no key has this name


def parse_policy(data: bytes) -> Policy:
    """The policy in a file.

    Raises:
        ValidationError: it is none; the message names the line.
    """
    if len(data) > MAX_POLICY:
        raise ValidationError(f"a policy of {len(data):,} bytes is too long", remedy=f"at most {MAX_POLICY:,}")
    # Octets beyond ASCII are opaque: a name is equal to another one when its octets are.
    text = data.decode("utf-8", "surrogateescape")
    if (found := re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text)) is not None:
        raise _wrong(text.count("\n", 0, found.start()) + 1, "it holds a control character")
    parser = _Parser()
    for number, line in enumerate(text.split("\n"), 1):
        words = [word for word in re.split(r"[ \t]+", line) if word]
        if words and not words[0].startswith("#"):
            parser.take(number, words)
    return parser.policy()


class _Parser:
    """Takes a policy line by line."""

    def __init__(self) -> None:
        self._logs: list[Log] = []
        self._unknown_logs = 0
        self._log_keys: set[bytes] = set()
        self._witnesses: list[WitnessLine] = []
        self._witness_keys: set[bytes] = set()
        self._groups: list[Group] = []
        self._names: set[str] = set()
        self._members: set[str] = set()
        self._quorum: str | None = None

    def take(self, number: int, words: Sequence[str]) -> None:
        """Take a line."""
        kinds = {"log": self._log, "witness": self._witness, "group": self._group, "quorum": self._take_quorum}
        kind = kinds.get(words[0])
        if kind is None:
            raise _wrong(number, f"{_shown(words[0])} is none of log, witness, group, quorum")
        kind(number, words[1:])
        if max(len(self._logs) + self._unknown_logs, len(self._witnesses), len(self._groups)) > MAX_LINES:
            raise _wrong(number, f"there are more than {MAX_LINES} of them")

    def policy(self) -> Policy:
        """What was taken."""
        if self._quorum is None:
            raise ValidationError("the policy has no line “quorum”", remedy="say which witnesses must have cosigned")
        return Policy(self._quorum, tuple(self._witnesses), tuple(self._groups), tuple(self._logs), self._unknown_logs)

    def _log(self, number: int, words: Sequence[str]) -> None:
        if not 1 <= len(words) <= 2:
            raise _wrong(number, "it is not “log <vkey> [<url>]”")
        key = self._key(number, words[0], VerifierKey, self._log_keys)
        if key is None:
            self._unknown_logs += 1
        else:
            self._logs.append(Log(key, *words[1:]))

    def _witness(self, number: int, words: Sequence[str]) -> None:
        if not 2 <= len(words) <= 3:
            raise _wrong(number, "it is not “witness <name> <vkey> [<url>]”")
        self._define(number, words[0])
        key = self._key(number, words[1], CosignerKey, self._witness_keys)
        self._witnesses.append(WitnessLine(words[0], key, *words[1:]))

    def _group(self, number: int, words: Sequence[str]) -> None:
        if len(words) < 3:
            raise _wrong(number, "it is not “group <name> all|any|<k> <member>…”")
        name, count, *members = words
        for member in members:
            if member not in self._names:
                raise _wrong(number, f"{_shown(member)} is not defined on a line before")
            if member in self._members:
                raise _wrong(number, f"{_shown(member)} is a member already, here or of another group")
            self._members.add(member)
        threshold = {"all": len(members), "any": 1}.get(count)
        if threshold is None:
            threshold = int(count) if re.fullmatch(r"[1-9][0-9]{0,5}", count, flags=re.ASCII) else 0
        if not 1 <= threshold <= len(members):
            raise _wrong(number, f"{_shown(count)} is neither all, nor any, nor 1 to {len(members)}")
        self._define(number, name)
        self._groups.append(Group(name, threshold, tuple(members)))

    def _take_quorum(self, number: int, words: Sequence[str]) -> None:
        if len(words) != 1:
            raise _wrong(number, "it is not “quorum <name>”")
        if self._quorum is not None:
            raise _wrong(number, "there is a quorum already")
        if words[0] != NONE and words[0] not in self._names:
            raise _wrong(number, f"{_shown(words[0])} is not defined on a line before")
        self._quorum = words[0]

    def _define(self, number: int, name: str) -> None:
        if name == NONE or name in self._names or len(name) > _NAME:
            raise _wrong(number, f"{_shown(name)} is taken, or cannot be a name")
        self._names.add(name)

    def _key(self, number: int, vkey: str, kind: type[_K], seen: set[bytes]) -> _K | None:
        material = _material(number, vkey)
        if material[1:] in seen:
            raise _wrong(number, "the same key stands on a line before")
        seen.add(material[1:])
        if material[:1] != kind.TYPE:
            return None
        try:
            return kind.parse(vkey)
        except ValidationError as error:
            raise _wrong(number, error.message) from error


def _material(number: int, vkey: str) -> bytes:
    """Type and public key in a vkey of any type."""
    parts = vkey.split("+", 2)
    try:
        if len(parts) == 3 and parts[0] and re.fullmatch(r"[0-9a-f]{8}", parts[1]):
            material = decode_base64(parts[2])
            if len(material) > 1:
                return material
    except ValueError:
        pass
    raise _wrong(number, "its key is no vkey: <name>+<8 hex digits>+<base64>")


def _check_distinct(keys: Sequence[bytes], what: str) -> None:
    if len(set(keys)) < len(keys):
        raise ValidationError(f"a {what} is given twice", remedy="give each key once, under one name")


def _shown(word: str) -> str:
    return repr(word.encode("utf-8", "replace").decode()[:60])


def _wrong(number: int, problem: str) -> ValidationError:
    return ValidationError(
        f"line {number} of the policy: {problem}", remedy="correct it; the format is https://c2sp.org/tlog-policy"
    )
