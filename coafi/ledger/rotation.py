"""Gives a log a new key. Every step may be the last before a crash; the same call again goes on from there.

::

    1  make the new key beside the old one        nothing has happened yet: the old key signs on
    2  append LEDGER_KEY_CHANGED, signed by both  whoever signs next has both keys, and uses both
    3  sign a checkpoint with both, keep it       the hand-over: from here on the old key counts no more
    4  publish it                                 the one that is kept: it is not signed again
    5  let the new key take the old one's place   whoever finds both keys and the hand-over does this first

Processes that have their key from a file look at it each time they sign, so they need no restart, and whichever comes
first does the steps that are left. Those that were given the key itself sign nothing after step 3 and say so; appending
needs no key and goes on.
"""

from coafi.errors import IntegrityError, Unavailable, ValidationError
from coafi.ledger.handover import HandOver, key_change, read_change
from coafi.ledger.keys import Signer
from coafi.ledger.log import Ledger


def rotate(ledger: Ledger, successor: Signer) -> HandOver:
    """Let ``successor``, which the ledger's key source has for its successor, sign from now on.

    Raises:
        ValidationError: the key was in use before, or is another log's.
        IntegrityError: somebody else has recorded a change to this key, without both keys.
        Unavailable: database or state directory are out of reach, or somebody else changed the key meanwhile.
    """
    signer = ledger.signer()
    old, new = signer.key, successor.key
    if new.name != old.name:
        raise ValidationError(f"{new} is the key of another log", remedy=f"make one for {old.name}")
    if old == new or any(new == one.old for one in ledger.hand_overs()):
        raise ValidationError(f"{new} was in use before", remedy="make a new key; none comes back")
    (recorded,) = ledger.append([key_change(old, signer.sign, successor)])
    try:
        read_change(recorded.entry)
    except ValidationError as error:
        raise IntegrityError(f"entry {recorded.index}: {error.message}", remedy=_NOT_OURS) from error
    ledger.checkpoint(force=True)
    for one in ledger.hand_overs():
        if one.new == new:
            return one
    raise Unavailable(f"no checkpoint was signed by {new}", remedy="the key was changed meanwhile: see which one it is")


_NOT_OURS = (
    "somebody wrote it into the database before this key was in use, and had not got both keys: find out who, and make"
    " another new key"
)
