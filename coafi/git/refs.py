"""Names of branches, which come from outside: git's own rules for them, and none that git could take for an option."""

import re
from typing import Final

from coafi.errors import ValidationError

MAX_BRANCH: Final = 255
"""Characters of a branch's name at most, as in the schema of the events."""

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")


def check_branch(name: str) -> str:
    """``name`` itself, when git accepts it as the name of a branch (git-check-ref-format(1), with ``--branch``).

    Raises:
        ValidationError: git would refuse it, or read it as something else.
    """
    check_head(name)
    if name.startswith("-") or name in ("@", "HEAD"):
        raise _refused(name, "git reads it as something else")
    return name


def check_head(name: str) -> str:
    """``name`` itself, when there can be a ``refs/heads/<name>`` (git-check-ref-format(1)) that an event can name.

    Hosts have branches that :func:`check_branch` refuses, such as ``HEAD``, and tell of pushes to them.

    Raises:
        ValidationError: git would refuse it, or it is too long.
    """
    components = name.split("/")
    problem = ""
    if not 0 < len(name) <= MAX_BRANCH:
        problem = f"it has {len(name)} characters"
    elif match := _FORBIDDEN.search(name):
        problem = f"it holds {match.group()!a}"
    elif any(not part or part.startswith(".") or part.endswith(".lock") for part in components) or name.endswith("."):
        problem = "a part of it is empty, starts with a dot, or ends in .lock or a dot"
    else:
        try:
            name.encode()
        except UnicodeEncodeError:
            problem = "it is no text"
    if problem:
        raise _refused(name, problem)
    return name


def _refused(name: str, problem: str) -> ValidationError:
    return ValidationError(
        f"branch {name[:80]!a} has no name that git accepts: {problem}", remedy="give the name of a branch"
    )
