"""What a peer's receipt proves: that it has concluded a message, and how.

A receipt is the file that the peer hands out for every event (``coafi.receipts``): the entries that it has written
about our message, proved up to a checkpoint that the key of its ledger signs. We verify it with the key that we know,
offline, and keep the file as it came.
"""

import io
from collections.abc import Mapping

from coafi.canonical import sha256
from coafi.errors import IntegrityError
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


class OtherBody(IntegrityError):
    """A receipt proves that the peer has handled another body under the id of a message than any that was sent.

    Args:
        digest: SHA-256 of that body.
    """

    def __init__(self, peer: str, message: str, digest: str) -> None:
        super().__init__(
            f"{peer} has handled another body under {message} than was sent: {digest}", remedy="ask whoever runs it"
        )
        self.digest = digest


def confirm(peer: Peer, ref: OutgoingRef, source: str, bodies: Mapping[str, str], content: bytes) -> Confirmed:
    """What a receipt says of a message.

    Args:
        source: of our messages.
        bodies: under which it was sent: digests of the objects that hold it, by digest of the body.

    Raises:
        ValidationError: it is no receipt, or signed by another key than that of the peer's ledger.
        OtherBody: it is about a body that is none of these.
        IntegrityError: it proves nothing, or not about this message.
    """
    receipt = sha256(content)
    if peer.ledger_key is None:
        return Confirmed(ref, DeliveryOutcome.UNCONFIRMED, receipt=receipt, problem=NO_KEY)
    verified = verify_receipt(io.BytesIO(content), [VerifierKey.parse(peer.ledger_key)])
    sent = ref.model_copy(update={"body": _sent(verified, peer, ref, source, bodies)})
    conclusion = verified.story.conclusion
    outcome = None if conclusion is None else _OUTCOMES.get(Phase(conclusion.data.phase))
    if conclusion is None or outcome is None:
        raise IntegrityError(f"it does not say how {ref.id} ended", remedy="ask whoever runs the peer")
    findings = "; ".join(one.message for one in conclusion.data.findings)
    return Confirmed(sent, outcome, receipt=receipt, peer_entry=conclusion.index, problem=findings)


def _sent(verified: VerifiedReceipt, peer: Peer, ref: OutgoingRef, source: str, bodies: Mapping[str, str]) -> str:
    """The object that holds what the peer has handled, if the receipt is about a message of ours, and as it was sent.

    Raises:
        OtherBody: it was not sent like that.
        IntegrityError: it is about another message, or somebody else's.
    """
    received = verified.story.received.data
    said = {"message": verified.story.event_id, "sender": received.source}
    expected = {"message": ref.id, "sender": source}
    for what, value in expected.items():
        if said[what] != value:
            raise IntegrityError(f"it is about another {what}", remedy="ask whoever runs the peer")
    if received.body_digest not in bodies:
        raise OtherBody(peer.id, ref.id, received.body_digest)
    return bodies[received.body_digest]
