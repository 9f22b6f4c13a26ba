"""How one key of a log follows another, so that who trusts either can trust the other.

The change is an entry of the log, ``LEDGER_KEY_CHANGED``, which names both vkeys and holds a signature of each over the
change, and a checkpoint that covers the entry is signed by both keys. Together, as an ordinary proof, they are a
*hand-over*: the old key vouches for the new one, and the new one for the old. It needs no guarding, wherever it is
kept: who has not got both private keys cannot make one, and the old one is destroyed.

The signatures in the entry are what says that both keys mean it. Under the checkpoint alone they would say less: who
can write to the database, and has no key of the log, can write an entry that names a key of theirs, wait until the log
signs a checkpoint that covers it, as it does for all entries, and add their own signature to that one.

The old key counts for the checkpoints up to that one, the new key from that one on. So a copy of the old key, found
in a backup years later, can sign nothing that anybody would believe who knows the hand-over.
"""

import base64
import json
from collections.abc import Callable, Iterable
from typing import NamedTuple

from coafi.canonical import JsonObject
from coafi.errors import IntegrityError, ValidationError
from coafi.ledger.entry import Draft, Entry, entry_key
from coafi.ledger.keys import Keyring, Signer, Term, VerifierKey, decode_base64
from coafi.ledger.proof import Proof
from coafi.ledger.verifier import verify_inclusion
from coafi.names import KEY_CHANGES, EntryType


class HandOver(NamedTuple):
    """A change of keys that both keys vouch for.

    Attributes:
        size: entries of the checkpoint that both signed.
        proof: the entry, and that checkpoint.
    """

    old: VerifierKey
    new: VerifierKey
    size: int
    proof: Proof


class KeyChange(NamedTuple):
    """What an entry says that both keys have signed: ``new`` is to follow ``old``."""

    old: VerifierKey
    new: VerifierKey


def key_change(old: VerifierKey, sign: Callable[[bytes], bytes], new: Signer) -> Draft:
    """The entry that says that ``new`` is to follow ``old``.

    Args:
        old: the key that signs the log.
        sign: gives its signature.
        new: the key that follows.
    """
    message = _consent(KeyChange(old, new.key))
    named: JsonObject = {"old": str(old), "new": str(new.key)}
    return Draft(
        namespace=KEY_CHANGES,
        workflow_id=KEY_CHANGES,
        step=_step(new.key),
        type=EntryType.LEDGER_KEY_CHANGED,
        event_id=KEY_CHANGES,
        utids="",
        inputs=named,
        data={**named, "signedByOld": _base64(sign(message)), "signedByNew": _base64(new.sign(message))},
    )


def change_key(new: VerifierKey) -> str:
    """The key of the entry that says that ``new`` is to follow another one."""
    return entry_key(KEY_CHANGES, KEY_CHANGES, _step(new), EntryType.LEDGER_KEY_CHANGED)


def read_change(entry: Entry) -> KeyChange:
    """The change that an entry made by :func:`key_change` says, once both signatures in it are checked.

    Raises:
        ValidationError: it says something else, or not both keys have signed it.
    """
    if entry.type != EntryType.LEDGER_KEY_CHANGED or entry.workflow_id != KEY_CHANGES:
        raise ValidationError(f"an entry {entry.type} is no change of keys", remedy="give the hand-overs of the log")
    said = [str(entry.data.get(name, "")) for name in ("old", "new", "signedByOld", "signedByNew")]
    change = KeyChange(VerifierKey.parse(said[0]), VerifierKey.parse(said[1]))
    message = _consent(change)
    for key, text in zip(change, said[2:], strict=True):
        try:
            signature = decode_base64(text)
        except ValueError:
            signature = b""
        if not key.verifies(signature, message):
            raise ValidationError(
                f"the entry says that the key {change.new} follows {change.old}, and {key} did not sign that",
                remedy="whoever wrote it had not got both keys: believe nothing that the other one signed",
            )
    return change


def open_hand_over(proof: Proof) -> HandOver:
    """The hand-over in a proof, once all signatures and the entry are checked.

    Raises:
        ValidationError: it is about something else, or not signed by both keys.
        IntegrityError: the entry is not in the log.
    """
    try:
        change = read_change(Entry.parse(proof.entry.encode("utf-8", "replace")))
    except ValidationError as error:
        raise ValidationError(f"entry {proof.index}: {error.message}", remedy=error.remedy) from error
    found = verify_inclusion(proof, change.old)
    verify_inclusion(proof, change.new)
    return HandOver(*change, found.checkpoint.size, proof)


def parse_hand_overs(data: bytes) -> list[HandOver]:
    """The hand-overs in what ``coafi ledger keys list --json`` prints, and ``/bitt/keys`` answers, each checked.

    Raises:
        ValidationError: there are none in it, or one is about something else, or not signed by both keys.
        IntegrityError: an entry is not in the log.
    """
    try:
        proofs = json.loads(data)["handOvers"]
        said = [json.dumps(one) for one in proofs]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise ValidationError(
            "there are no hand-overs in this", remedy="make it with: coafi ledger keys list --json"
        ) from None
    return [open_hand_over(Proof.parse(one)) for one in said]


def keyring(trusted: VerifierKey, hand_overs: Iterable[HandOver]) -> Keyring:
    """All keys of a log, as far as hand-overs lead from the one that is trusted, back and forth.

    Raises:
        IntegrityError: they are no chain, or not in the order of the log.
    """
    known = list(hand_overs)
    before, after = {one.new: one for one in known}, {one.old: one for one in known}
    if min(len(before), len(after)) < len(known):
        raise IntegrityError(
            f"a key of {trusted.name} handed over to two others, or two handed over to one",
            remedy="somebody used a key that was replaced: keep the hand-overs as evidence, and trust no key of them",
        )
    first = trusted
    for _ in known:  # so many steps at most, should they lead in a circle
        first = before[first].old if first in before else first
    terms: list[Term] = []
    key, since = first, 0
    while (step := after.get(key)) is not None and len(terms) < len(known):
        if step.size <= since:
            raise IntegrityError(
                f"the key {key} handed over at {step.size} entries, and was handed over to at {since}",
                remedy="they are of two logs: keep the hand-overs as evidence, and trust no key of them",
            )
        terms.append(Term(key, since, step.size))
        key, since = step.new, step.size
    return Keyring((*terms, Term(key, since)))


def _consent(change: KeyChange) -> bytes:
    """What both keys sign. Its first line has spaces, unlike that of a checkpoint, and it is no DSSE envelope."""
    return f"BITT key change\n{change.old}\n{change.new}\n".encode()


def _step(new: VerifierKey) -> str:
    return f"key/{new.public.hex()}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
