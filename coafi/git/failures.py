"""What can go wrong with git, and the table that says which of its messages means what.

Git quotes what others chose: addresses, hosts, names of branches, paths, the words of the remote. None of that may
decide what a message means, or the outage of a host would refuse the pushes to a repository called ``redirects`` for
good. So names are put aside before the table is looked at (:func:`_own_words`), and a pattern of the table is never a
single word that a name could be, unless it only has us try again.
"""

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from coafi.errors import (
    CoafiError,
    IntegrityError,
    PolicyDenied,
    ResourceNotFoundError,
    Unavailable,
    ValidationError,
)
from coafi.git.limits import GitLimits


class GitCancelled(Unavailable):
    """The caller asked to stop. The work can be done again, here or elsewhere."""


class GitFailed(CoafiError):
    """Git failed for a reason that is not in our table: a defect of ours, or a new message of git's."""


class AccessRefused(CoafiError):
    """The remote refuses our credentials, or wants some: the event is right, and an operator has to act."""


class CommitNotFound(ResourceNotFoundError):
    """The repository is there, the commit is not."""


class MirrorDamaged(IntegrityError):
    """The local mirror is broken. It is only a cache: delete it and fetch again."""


@dataclass(frozen=True)
class _Rule:
    """One line of the table: a pattern in git's messages, and the error that it means."""

    pattern: re.Pattern[str]
    error: type[CoafiError]
    problem: str
    remedy: str


def _rule(pattern: str, error: type[CoafiError], problem: str, remedy: str) -> _Rule:
    return _Rule(re.compile(pattern, re.IGNORECASE), error, problem, remedy)


_RETRY = "nothing to do: it is tried again"
_REMAKE = "nothing to do: the mirror is only a cache and is made anew"

_NAME: Final = "<name>"
"""What stands for a name, in what the table is held against."""

_LOCAL_RULES: Final = (
    _rule(
        r"No space left on device|Disk quota exceeded|Read-only file system|Cannot allocate memory|out of memory",
        Unavailable,
        "the disk or the memory of this machine is used up",
        "make room, or lower the quota of the mirrors",
    ),
    _rule(
        r"File too large",
        ValidationError,
        "it is larger than one fetch may download",
        "make the repository or the commit smaller, or raise the limits for git in the settings",
    ),
)
"""What can go wrong with any command."""

_REMOTE_RULES: Final = (
    *_LOCAL_RULES,  # first: the remote's side of the story follows from them
    _rule(
        r"not our ref|unadvertised object|couldn't find remote ref|upload-pack: not our",
        CommitNotFound,
        "the repository does not have this commit, or does not give it out",
        "check the SHA; a commit that was force-pushed away and collected is gone for good",
    ),
    _rule(
        r"Authentication failed|could not read (?:Username|Password)|returned error: (?:401|403|407)"
        r"|Permission denied \(|Host key verification failed|access denied|not authorized",
        AccessRefused,
        "the remote does not let us read it",
        "give a token that may read the repository in the settings for this host",
    ),
    _rule(
        r"detected dubious ownership",
        AccessRefused,
        "it belongs to another user of this machine",
        "give it to the user that runs the service",
    ),
    _rule(
        r"returned error: 3\d\d|unable to update url base from redirection",
        PolicyDenied,
        "the remote redirects elsewhere, and redirects are not followed",
        "give the address that it redirects to",
    ),
    _rule(
        rf"transport {_NAME} not allowed",
        PolicyDenied,
        "the remote asks for another transport",
        "give its https:// URL",
    ),
    _rule(
        rf"repository {_NAME} not found|(?:ERROR|remote error): repository not found|returned error: (?:404|410)"
        r"|does not appear to be a git repository|not valid: is this a git repository|does not exist"
        r"|no such repository|dumb http transport",
        ResourceNotFoundError,
        "there is no such repository, or we may not see it",
        "check the URL; for a private repository give a token in the settings for this host",
    ),
    _rule(
        r"fsck error|fsck failed|error in object|malformed object|error: object [0-9a-f]+: \w+:",
        ValidationError,
        "the repository holds malformed or hostile objects",
        "repair its history; `git fsck --strict` there names them",
    ),
    _rule(
        r"returned error: (?:408|425|429|5\d\d)|Could not resolve host|Connection (?:refused|reset|timed out|closed)"
        r"|Failed to connect|Couldn't connect|Operation (?:timed out|too slow)|timed? ?out|Network is unreachable"
        r"|No route to host|Empty reply|Recv failure|Send failure|SSL|TLS|certificate|GnuTLS|schannel"
        r"|transfer closed|unexpected disconnect|early EOF|hung up|RPC failed|stream \d+ was|curl \d+"
        r"|Temporary failure|expected (?:flush|packfile)|protocol error|bad line length|invalid index-pack output",
        Unavailable,
        "the remote is out of reach",
        _RETRY,
    ),
    _rule(
        r"The requested URL returned error: 4\d\d", ValidationError, "the remote refuses the request", "check the URL"
    ),
    _rule(
        r"not a git repository|object file|packfile|index file|loose object|bad object|unable to read"
        r"|missing (?:blob|tree|commit)|inflate|is corrupt|garbage|bad config|could not open"
        r"|unable to (?:create|open|parse)|invalid object|not a tree object|not a valid object|shallow file"
        r"|did not send all necessary objects|unresolved deltas|bad signature|cannot lock ref|unknown revision"
        r"|ambiguous argument",
        MirrorDamaged,
        "the local mirror is damaged",
        _REMAKE,
    ),
)


def failure(
    status: int, stderr: str, what: str, *, contacts: bool, limits: GitLimits, names: Sequence[str] = ()
) -> CoafiError:
    """The error that a failed command means: the first rule that git's own words match.

    Args:
        status: that it ended with; negative for a signal.
        stderr: what it said, without secrets.
        what: it did.
        contacts: whether it talked to a remote.
        names: addresses and paths that it was given, as git writes them; other names are known by where they stand.
    """
    reason, words = _shortened(stderr), _own_words(stderr, names)
    for rule in _REMOTE_RULES if contacts else _LOCAL_RULES:
        if rule.pattern.search(words):
            limit = f" ({limits.max_file_bytes} bytes)" if "larger than" in rule.problem else ""
            return rule.error(f"{what} failed: {rule.problem}{limit}{reason}", remedy=rule.remedy)
    if status in (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGKILL, 128 + signal.SIGTERM, 124):
        return Unavailable(f"{what} was killed{reason}", remedy="check this machine's memory; it is tried again")
    if not contacts:
        return MirrorDamaged(f"{what} failed with status {status}{reason}", remedy=_REMAKE)
    return GitFailed(f"{what} failed with status {status}{reason}", remedy="report this message: it is not known to us")


_CHOSEN_BY_OTHERS: Final = (
    # What the remote says after this is its own text, but for what git's own servers say and what we act upon.
    (
        re.compile(r"(remote error: (?:(?:upload-pack: )?not our ref|access denied|[Rr]epository not found)?).*"),
        r"\1",
    ),
    # The rule that an object breaks; then perhaps what stands in it.
    (re.compile(r"(object [0-9a-f]+: \w+:).*"), r"\1"),
    (
        re.compile(
            r"(connect(?:ion)? to (?:host )?|resolve host(?:name)?:? |(?:closed|reset) by |known for |remote ref )\S+"
        ),
        r"\1",
    ),
    # Addresses, paths and refs, which may hold quotes; then what else is quoted.
    (re.compile(r"(?<!\S)\S*[/@]\S*|(?<!\w)'.*?'(?=[:;,.)]*(?:\s|$))"), _NAME),
)
"""Where names stand in git's messages, and what stands there instead; one after the other, line by line."""


def _own_words(stderr: str, names: Sequence[str]) -> str:
    """What git itself says, without the names that it quotes, and without the lines that it passes on from the remote.

    Over ssh, the words of the server come without a mark. It is one that this installation lists.
    """
    for name in sorted(filter(None, names), key=len, reverse=True):
        stderr = stderr.replace(name, _NAME)
    lines = [line for line in re.split(r"[\r\n]+", stderr) if not line.startswith("remote:")]
    for pattern, instead in _CHOSEN_BY_OTHERS:
        lines = [pattern.sub(instead, line) for line in lines]
    return "\n".join(lines)


def _shortened(stderr: str) -> str:
    """What git itself says, on one line, printable and bounded, for the end of a message."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", stderr) if line.strip()]
    text = "; ".join([line for line in lines if not line.startswith("warning:")] or lines)
    text = "".join(character if character.isprintable() else "?" for character in text)
    if len(text) > 500:
        text = f"{text[:250]} … {text[-250:]}"
    return f"; git says: {text}" if text else ""
