"""What a peer's receipt proves: that it has concluded a message, and how.

A receipt is the file that the peer hands out for every event (``coafi.receipts``): the entries that it has written
about our message, proved up to a checkpoint that the key of its ledger signs. We verify it with the key that we know,
offline, and keep the file as it came.
"""

import io

from coafi.canonical import sha256
from coafi.errors import IntegrityError
from coafi.federation.messages import Message
from coafi.federation.outbox import Confirmed, DeliveryOutcome, OutgoingRef
from coafi.federation.peers import Peer
from coafi.ledger.keys import VerifierKey
from coafi.names import Phase
from coafi.receipts.verify import VerifiedReceipt, verify_receipt

NO_KEY = "the key of its ledger is not known here, so its receipt is kept unverified"

_OUTCOMES = {
    Phase.PROCESSED: DeliveryOutcome.ACCEPTED,
    Phase.REJECTED: DeliveryOutcome.REJECTED,
    Phase.FAILED: DeliveryOutcome.FAILED,
}


def confirm(peer: Peer, ref: OutgoingRef, message: Message, content: bytes) -> Confirmed:
    """What a receipt says of a message.

    Raises:
        ValidationError: it is no receipt, or signed by another key than that of the peer's ledger.
        IntegrityError: it proves nothing, or not about this message.
    """
    receipt = sha256(content)
    if peer.ledger_key is None:
        return Confirmed(ref, DeliveryOutcome.UNCONFIRMED, receipt=receipt, problem=NO_KEY)
    verified = verify_receipt(io.BytesIO(content), [VerifierKey.parse(peer.ledger_key)])
    _check_about(verified, message)
    conclusion = verified.story.conclusion
    outcome = None if conclusion is None else _OUTCOMES.get(Phase(conclusion.data.phase))
    if conclusion is None or outcome is None:
        raise IntegrityError(f"it does not say how {message.id} ended", remedy="ask whoever runs the peer")
    findings = "; ".join(one.message for one in conclusion.data.findings)
    return Confirmed(ref, outcome, receipt=receipt, peer_entry=conclusion.index, problem=findings)


def _check_about(verified: VerifiedReceipt, message: Message) -> None:
    """Check that a receipt is about this very message of ours, and not about another one, or somebody else's.

    Raises:
        IntegrityError: it is not.
    """
    story = verified.story
    found = (story.event_id, story.received.data.source, story.received.data.body_digest)
    expected = (message.id, message.source, sha256(message.body))
    for what, said, ours in zip(("message", "sender", "body"), found, expected, strict=True):
        if said != ours:
            raise IntegrityError(f"it is about another {what}", remedy="ask whoever runs the peer")
