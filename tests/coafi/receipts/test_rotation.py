"""Receipts from before and after a change of the log's key, for those who trust either key."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from coafi.errors import IntegrityError, ValidationError
from coafi.ledger.checkpoint import Checkpoint, sign_checkpoint
from coafi.ledger.handover import HandOver, keyring
from coafi.ledger.keyfile import HeldKey
from coafi.ledger.keys import Signer, Trusted
from coafi.ledger.rotation import rotate
from coafi.receipts.dsse import seal
from coafi.receipts.layout import Item
from coafi.receipts.make import write_receipt
from coafi.receipts.statement import statement_of
from tests.coafi.receipts.making import SIGNER, service, verified
from tests.coafi.receipts.test_verify import items, written

NEWER = Signer(SIGNER.name, b"\x07" * 32)


@dataclass(frozen=True)
class Receipts:
    """Receipts of one event."""

    before: bytes
    at: bytes
    """When the newest checkpoint was the one that both keys signed."""
    after: bytes
    hand_over: HandOver


@pytest.fixture(scope="module")
def receipts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receipts]:
    with service(tmp_path_factory.mktemp("rotated"), HeldKey(SIGNER, NEWER)) as running:
        ref = running.processed("whole")
        before = running.receipt(ref)
        done = rotate(running.ledger, NEWER)
        at = running.receipt(ref)
        running.rejected("later")
        yield Receipts(before, at, running.receipt(ref), done)


def refused(receipt: bytes, problem: str, *keys: Trusted) -> None:
    with pytest.raises((ValidationError, IntegrityError), match=problem) as caught:
        verified(receipt, *keys)
    assert caught.value.remedy


def test_each_verifies_by_either_key_where_the_hand_over_is_known(receipts: Receipts) -> None:
    for trusted in (SIGNER, NEWER):
        ring = keyring(trusted.key, [receipts.hand_over])
        before = verified(receipts.before, ring)
        assert (before.key, before.statement_key) == (SIGNER.key, SIGNER.key)
        after = verified(receipts.after, ring)
        assert (after.key, after.statement_key) == (NEWER.key, NEWER.key)
        assert verified(receipts.at, ring).statement_key == NEWER.key


def test_without_the_hand_over_each_verifies_by_its_own_key_alone(receipts: Receipts) -> None:
    assert verified(receipts.before, SIGNER.key).key == SIGNER.key
    assert verified(receipts.after, NEWER.key).key == NEWER.key
    refused(receipts.before, "not signed by", NEWER.key)
    refused(receipts.after, "not signed by", SIGNER.key)
    refused(receipts.at, "the envelope is signed by .* none of the given keys", SIGNER.key)


def test_a_statement_may_be_signed_by_a_later_key_and_not_by_one_that_was_replaced(receipts: Receipts) -> None:
    ring = keyring(SIGNER.key, [receipts.hand_over])
    later = seal(verified(receipts.before).statement, NEWER.key, NEWER.sign)
    assert verified(written(items(receipts.before), later), ring).statement_key == NEWER.key
    earlier = seal(verified(receipts.after, NEWER.key).statement, SIGNER.key, SIGNER.sign)
    refused(written(items(receipts.after), earlier), "which was replaced before there were so many", ring)
    # Both had a right to what was said of the checkpoint that both signed.
    both = seal(verified(receipts.at, ring).statement, SIGNER.key, SIGNER.sign)
    assert verified(written(items(receipts.at), both), ring).statement_key == SIGNER.key


def test_a_checkpoint_that_a_replaced_key_signed_proves_nothing(receipts: Receipts) -> None:
    after = verified(receipts.after, NEWER.key)
    shown = after.checkpoint.checkpoint
    forged = sign_checkpoint(Checkpoint(shown.origin, shown.size, shown.root), SIGNER)
    entries = [Item(one.body, one.proof.replace(after.checkpoint.note, forged.note)) for one in items(receipts.after)]
    receipt = written(entries, seal(statement_of(after.story, forged), SIGNER.key, SIGNER.sign))
    assert verified(receipt, SIGNER.key).key == SIGNER.key, "who does not know the hand-over cannot tell"
    for trusted in (SIGNER, NEWER):
        ring = keyring(trusted.key, [receipts.hand_over])
        refused(receipt, f"which signed from 0 to {receipts.hand_over.size} entries", ring)


class ChangingKey(HeldKey):
    """Another process puts the next key into its place as soon as this one has looked."""

    changes = False

    def current(self) -> Signer:
        """The key that signs, for the last time."""
        found = super().current()
        if self.changes:
            self.promote()
        return found


def test_a_statement_is_signed_by_the_key_that_it_names(tmp_path: Path) -> None:
    source = ChangingKey(SIGNER, NEWER)
    with service(tmp_path, source) as running:
        ref = running.processed("whole")
        signed = running.ledger.checkpoint(force=True)
        file = io.BytesIO()
        source.changes = True
        write_receipt(running.ledger, running.entries(ref), file, signed=signed)
        source.changes = False
        assert verified(file.getvalue(), SIGNER.key).statement_key == SIGNER.key
