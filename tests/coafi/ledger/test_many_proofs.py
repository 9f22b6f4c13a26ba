"""The proofs of many entries at once: the same as one by one, and checked against the checkpoint."""

from pathlib import Path

import pytest

from coafi.errors import ResourceNotFoundError
from coafi.ledger import merkle
from coafi.ledger.nodes import CACHED_TILES, NodeCache
from tests.coafi.ledger.making import draft, opened


@pytest.mark.parametrize("kept", [CACHED_TILES, 1])
def test_many_proofs_are_those_of_each(tmp_path: Path, kept: int) -> None:
    with opened(tmp_path) as ledger:
        ledger._reader._nodes = NodeCache(kept)
        recorded = ledger.append([draft(number) for number in range(700)])
        checkpoint = ledger.checkpoint(force=True).checkpoint
        for size in (1, 255, 256, 257, 699, 700):
            wanted = [*range(0, size, 7), size - 1, 0]
            proofs = list(ledger.inclusion_proofs(wanted, size))
            assert proofs == [ledger.inclusion_proof(index, size) for index in wanted]
        for index, proof in enumerate(ledger.inclusion_proofs(range(700), 700)):
            leaf = merkle.leaf_hash(recorded[index].body)
            merkle.verify_inclusion(leaf, index, 700, proof, checkpoint.root)


def test_an_entry_that_is_not_there_has_no_proof(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger.append([draft(number) for number in range(3)])
        for index, size in ((3, 3), (-1, 3), (0, 4)):
            with pytest.raises(ResourceNotFoundError):
                list(ledger.inclusion_proofs([index], size))
