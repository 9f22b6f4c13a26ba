"""Writes the receipt of an event, out of a ledger.

The same event and the same state of the log give the same bytes: the checkpoint is that of all entries there are, and
an Ed25519 signature depends on key and message alone.
"""

from collections.abc import Callable, Sequence
from typing import BinaryIO

from coafi.ledger.checkpoint import SignedCheckpoint
from coafi.ledger.entry import Recorded
from coafi.ledger.log import Ledger
from coafi.receipts.dsse import seal
from coafi.receipts.layout import Item, ReceiptWriter
from coafi.receipts.statement import statement_of
from coafi.receipts.story import Story
from coafi.receipts.tlog_proof import format_tlog_proof

_STEP = 1_000


def write_receipt(
    ledger: Ledger,
    entries: Sequence[Recorded],
    file: BinaryIO,
    *,
    signed: SignedCheckpoint | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Story:
    """Write the receipt of an event to ``file``, entry by entry; what it tells.

    Args:
        ledger: where the entries are.
        entries: all entries of the event, in the order of the log.
        file: where to write.
        signed: a checkpoint of the ledger that covers the entries, with the cosignatures that it shall have; by default
            that of all entries there are.
        on_progress: is told every thousand entries how many are written.

    Raises:
        IntegrityError: the entries are not those of one event, or not all that its conclusion names; or the database
            was changed.
        Unavailable: a checkpoint is needed and cannot be published.
    """
    signed = signed or ledger.checkpoint(force=True)
    story = Story()
    writer = ReceiptWriter(file)
    indices = [one.index for one in entries]
    proofs = ledger.inclusion_proofs(indices, signed.size)
    for number, (recorded, hashes) in enumerate(zip(entries, proofs, strict=True), 1):
        story.add(recorded.index, recorded.body)
        writer.add(Item(recorded.body, format_tlog_proof(recorded.index, hashes, signed.note)))
        if on_progress is not None and number % _STEP == 0:
            on_progress(number)
    story.end()
    signer = ledger.signer()
    writer.end(seal(statement_of(story, signed), signer.key, signer.sign))
    return story
