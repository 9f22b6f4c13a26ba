"""How one key of a log follows another, so that who trusts either can trust the other.

The change is an entry of the log, ``LEDGER_KEY_CHANGED``, which names both vkeys, and a checkpoint that covers the
entry is signed by both keys. Together, as an ordinary proof, they are a *hand-over*: the old key vouches for the new
one, and the new one for the old. It needs no guarding, wherever it is kept: who has not got both private keys cannot
make one, and the old one is destroyed.

The old key counts for the checkpoints up to that one, the new key from that one on. So a copy of the old key, found
in a backup years later, can sign nothing that anybody would believe who knows the hand-over.
"""

import json
from collections.abc import Iterable
from typing import NamedTuple

from coafi.errors import IntegrityError, ValidationError
from coafi.ledger.entry import Draft, Entry
from coafi.ledger.keys import Keyring, Term, VerifierKey
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


def key_change(old: VerifierKey, new: VerifierKey) -> Draft:
    """The entry that says that ``new`` is to follow ``old``."""
    return Draft(
        namespace=KEY_CHANGES,
        workflow_id=KEY_CHANGES,
        step=f"key/{new.public.hex()}",
        type=EntryType.LEDGER_KEY_CHANGED,
        event_id=KEY_CHANGES,
        utids="",
        inputs={"old": str(old), "new": str(new)},
        data={"old": str(old), "new": str(new)},
    )


def open_hand_over(proof: Proof) -> HandOver:
    """The hand-over in a proof, once both signatures and the entry are checked.

    Raises:
        ValidationError: it is about something else, or not signed by both keys.
        IntegrityError: the entry is not in the log.
    """
    found = verify_inclusion(proof, _named(proof, "old"))
    verify_inclusion(proof, _named(proof, "new"))
    return HandOver(_named(proof, "old"), _named(proof, "new"), found.checkpoint.size, proof)


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


def _named(proof: Proof, which: str) -> VerifierKey:
    entry = Entry.parse(proof.entry.encode("utf-8", "replace"))
    if entry.type != EntryType.LEDGER_KEY_CHANGED or entry.workflow_id != KEY_CHANGES:
        raise ValidationError(
            f"entry {proof.index} is {entry.type}, and no change of keys", remedy="give the hand-overs of the log"
        )
    return VerifierKey.parse(str(entry.data.get(which, "")))
