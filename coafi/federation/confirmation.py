"""What a peer's receipt proves: that it has concluded a message, and how."""

from coafi.errors import ValidationError
from coafi.federation.messages import Message
from coafi.federation.outbox import Confirmed, OutgoingRef
from coafi.federation.peers import Peer


def confirm(peer: Peer, ref: OutgoingRef, message: Message, content: bytes) -> Confirmed:
    """What a receipt says of a message.

    Raises:
        ValidationError, IntegrityError: it is none of this peer for this message.
    """
    raise ValidationError(f"the receipt of {ref.id} cannot be read")
