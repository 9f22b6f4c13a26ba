"""Logs in memory, which may fork."""

from collections.abc import Sequence
from dataclasses import dataclass

from coafi.errors import ResourceNotFoundError
from coafi.ledger import merkle
from coafi.ledger.checkpoint import Checkpoint, SignedCheckpoint, sign_checkpoint
from coafi.ledger.keys import Signer
from coafi.ledger.merkle import Node
from coafi.ledger.proof import Proof

SIGNER = Signer("log.example", bytes(32))
MOST = 40


@dataclass(frozen=True)
class Tree:
    """A log in memory: its entries are numbers, from ``forked`` on with another sign."""

    size: int
    forked: int = MOST

    def leaf(self, index: int) -> bytes:
        """The hash of an entry."""
        return merkle.leaf_hash(str(index if index < self.forked else -index - 1).encode())

    def read(self, nodes: Sequence[Node]) -> list[bytes]:
        """See :data:`coafi.ledger.merkle.NodeReader`."""
        return [self.node(*node) for node in nodes]

    def node(self, level: int, number: int) -> bytes:
        """The hash of a node."""
        if level == 0:
            return self.leaf(number)
        return merkle.node_hash(self.node(level - 1, 2 * number), self.node(level - 1, 2 * number + 1))

    def signed(self, size: int | None = None, signer: Signer = SIGNER) -> SignedCheckpoint:
        """A checkpoint of all entries, or of the first ones."""
        size = self.size if size is None else size
        root = merkle.fold(self.read(merkle.nodes(merkle.Range(0, size))))
        return sign_checkpoint(Checkpoint(signer.name, size, root), signer)

    def consistency(self, old: int, new: int) -> Sequence[bytes]:
        """See :class:`coafi.ledger.fork.LogProofs`."""
        if new > self.size:
            raise ResourceNotFoundError("there is no such tree")
        return merkle.consistency_proof(old, new, self.read)

    def inclusion(self, index: int, size: int) -> Sequence[bytes]:
        """See :class:`coafi.ledger.fork.LogProofs`."""
        if size > self.size:
            raise ResourceNotFoundError("there is no such tree")
        return merkle.inclusion_proof(index, size, self.read)

    def hand_overs(self) -> Sequence[Proof]:
        """It keeps its key."""
        return ()
