"""What ``--key`` and ``--hand-overs`` mean to the commands that verify offline. No database, no settings, no home."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

from coafi.errors import IntegrityError, ResourceNotFoundError, ValidationError
from coafi.ledger.handover import HandOver, keyring, parse_hand_overs
from coafi.ledger.keys import CosignerKey, Keyring, VerifierKey
from coafi.ledger.policy import MAX_POLICY, Policy, parse_policy, quorum_of

MAX_KEYS = 100
"""Keys that may be trusted at once; those that hand-overs lead to are not counted."""

_MAX_KEY_FILE = 8 * 2**20
"""Bytes of a file of keys or hand-overs at most; a change of keys takes about 3 KiB."""


def trusted_keys(keys: Sequence[str], hand_overs: Path | None) -> list[Keyring]:
    """Each key that is given, with those that hand-overs lead to from it.

    Args:
        keys: vkeys, or files: of one vkey a line, or what ``ledger keys list --json`` or ``ledger checkpoint --json``
            prints. A list of keys brings its hand-overs along.
        hand_overs: what ``ledger keys list --json`` prints. It does not have to be trusted.

    Raises:
        ValidationError: a key is none, there are too many, or the file holds no hand-overs.
        ResourceNotFoundError: a file cannot be read.
        IntegrityError: hand-overs are no chain.
    """
    shown = [] if hand_overs is None else _hand_overs(hand_overs)
    found = [keyring(key, [*listed, *shown]) for text in keys for key, listed in _given(text)]
    if len(found) > MAX_KEYS:
        raise ValidationError(f"{len(found)} keys are given", remedy=f"give at most {MAX_KEYS}: those of one log")
    return found


def trusted_log(key: str, hand_overs: Path | None) -> Keyring:
    """The keys of one log, from one of them; see :func:`trusted_keys`.

    Raises:
        ValidationError: also when several are given that do not lead to each other.
    """
    found = list(dict.fromkeys(trusted_keys([key], hand_overs)))
    if len(found) > 1:
        raise ValidationError(f"{key} holds {len(found)} keys", remedy="give one, and --hand-overs to the others")
    return found[0]


def trusted_witnesses(keys: Sequence[str], quorum: int | None, policy: Path | None) -> Policy | None:
    """What ``--witness``, ``--quorum`` and ``--policy`` mean: which cosignatures there must be; ``None`` without them.

    Args:
        keys: vkeys of witnesses, or files: of one a line, or what ``witness key --json`` prints.
        quorum: how many of them must have cosigned; by default all.
        policy: a policy file (C2SP tlog-policy) instead.

    Raises:
        ValidationError: a key is none or stands there twice, the quorum cannot be, or the file is no policy.
        ResourceNotFoundError: a file cannot be read.
    """
    if policy is not None:
        if keys or quorum is not None:
            raise ValidationError(
                "a policy file says itself which witnesses there are, and how many must have cosigned",
                remedy="give --policy, or --witness and --quorum",
            )
        try:
            return parse_policy(read_file(policy, MAX_POLICY, "policy file"))
        except ValidationError as error:
            raise ValidationError(f"the policy file {policy}: {error.message}", remedy=error.remedy) from error
    if not keys:
        if quorum:
            raise ValidationError("a quorum of no witnesses cannot be", remedy="give the keys with --witness")
        return None
    return quorum_of([key for text in keys for key in _witnesses(text)], quorum)


def read_file(path: Path, limit: int, what: str) -> bytes:
    """The content of a file that a command was given.

    Raises:
        ResourceNotFoundError: it cannot be read.
        ValidationError: it has more than ``limit`` bytes.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(limit + 1)
    except OSError as error:
        raise unreadable(what, str(path), error) from error
    if len(content) > limit:
        raise ValidationError(f"the {what} {path} is longer than {limit:,} bytes", remedy=f"this is no {what}")
    return content


def unreadable(what: str, name: str, error: OSError) -> ResourceNotFoundError:
    """The error for a file that a command was given and cannot read."""
    return ResourceNotFoundError(f"the {what} {name} cannot be read: {error.strerror}", remedy="check its path")


def _given(text: str) -> list[tuple[VerifierKey, list[HandOver]]]:
    """The keys that an argument means, each with the hand-overs that came with it."""
    with contextlib.suppress(ValidationError):
        return [(VerifierKey.parse(text), [])]
    content = read_file(Path(text), _MAX_KEY_FILE, "key file")
    lines, listed = content.decode("utf-8", "replace"), False
    with contextlib.suppress(ValueError, RecursionError, LookupError, TypeError):
        said = json.loads(lines)
        listed = "keys" in said
        lines = "\n".join(str(one["key"]) for one in said["keys"]) if listed else str(said["key"])
    vkeys = [line for line in lines.splitlines() if line.strip()]
    if not vkeys:
        raise ValidationError(f"the key file {text} is empty", remedy="write the log's vkey into it")
    try:
        # What is in a list is trusted as far as its hand-overs say: a key that was replaced is no longer.
        shown = parse_hand_overs(content) if listed else []
        return [(VerifierKey.parse(line), shown) for line in vkeys]
    except (ValidationError, IntegrityError) as error:
        raise type(error)(f"the key file {text}: {error.message}", remedy=error.remedy) from error


def _witnesses(text: str) -> list[CosignerKey]:
    """The keys of witnesses that an argument means."""
    if "+" in text and not Path(text).exists():
        return [CosignerKey.parse(text)]
    lines = read_file(Path(text), _MAX_KEY_FILE, "key file").decode("utf-8", "replace")
    with contextlib.suppress(ValueError, RecursionError, LookupError, TypeError):
        lines = str(json.loads(lines)["key"])
    try:
        found = [CosignerKey.parse(line) for line in lines.splitlines() if line.strip()]
    except ValidationError as error:
        raise ValidationError(f"the key file {text}: {error.message}", remedy=error.remedy) from error
    if not 0 < len(found) <= MAX_KEYS:
        raise ValidationError(
            f"the key file {text} holds {len(found)} keys", remedy=f"give the vkeys of 1 to {MAX_KEYS} witnesses"
        )
    return found


def _hand_overs(path: Path) -> list[HandOver]:
    try:
        return parse_hand_overs(read_file(path, _MAX_KEY_FILE, "file of hand-overs"))
    except (ValidationError, IntegrityError) as error:
        raise type(error)(f"the file {path}: {error.message}", remedy=error.remedy) from error
