"""The tree against the definition in RFC 6962 section 2.1, by brute force, and against published vectors."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.errors import IntegrityError
from coafi.ledger import merkle, tiles
from coafi.ledger.merkle import EMPTY_ROOT, Frontier, Node, Range, leaf_hash, node_hash

# The reference data of Certificate Transparency (google/certificate-transparency, merkletree tests; RFC 6962 era).
INPUTS = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
# (index from 0, size, proof)
INCLUSIONS = [
    (0, 1, []),
    (
        0,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
]
CONSISTENCIES = [
    (
        6,
        8,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]

Leaves = tuple[bytes, ...]


def _power_below(size: int) -> int:
    power = 1
    while power * 2 < size:
        power *= 2
    return power


@cache
def mth(leaves: Leaves) -> bytes:
    """Merkle Tree Hash, as RFC 6962 section 2.1 defines it."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    k = _power_below(len(leaves))
    return node_hash(mth(leaves[:k]), mth(leaves[k:]))


def path(index: int, leaves: Leaves) -> list[bytes]:
    """PATH, as RFC 6962 section 2.1.1 defines it."""
    if len(leaves) == 1:
        return []
    k = _power_below(len(leaves))
    if index < k:
        return [*path(index, leaves[:k]), mth(leaves[k:])]
    return [*path(index - k, leaves[k:]), mth(leaves[:k])]


def subproof(old: int, leaves: Leaves, whole: bool) -> list[bytes]:
    """SUBPROOF, as RFC 6962 section 2.1.2 defines it."""
    if old == len(leaves):
        return [] if whole else [mth(leaves)]
    k = _power_below(len(leaves))
    if old <= k:
        return [*subproof(old, leaves[:k], whole), mth(leaves[k:])]
    return [*subproof(old - k, leaves[k:], whole=False), mth(leaves[:k])]


def some_leaves(count: int) -> Leaves:
    return tuple(leaf_hash(str(number).encode()) for number in range(count))


def reader(leaves: Leaves) -> Callable[[Sequence[Node]], list[bytes]]:
    return lambda nodes: [mth(leaves[n.number << n.level : (n.number + 1) << n.level]) for n in nodes]


def hexes(hashes: Sequence[bytes]) -> list[str]:
    return [hash_.hex() for hash_ in hashes]


@pytest.mark.parametrize("size", range(1, 9))
def test_the_reference_tree_has_its_published_roots(size: int) -> None:
    frontier = Frontier()
    for data in INPUTS[:size]:
        frontier.add(leaf_hash(data))
    assert frontier.root().hex() == ROOTS[size - 1]


@pytest.mark.parametrize(("index", "size", "proof"), INCLUSIONS)
def test_published_inclusion_proofs_are_made_and_verified(index: int, size: int, proof: list[str]) -> None:
    leaves = tuple(leaf_hash(data) for data in INPUTS[:size])
    made = merkle.inclusion_proof(index, size, reader(leaves))
    assert hexes(made) == proof
    merkle.verify_inclusion(leaves[index], index, size, made, bytes.fromhex(ROOTS[size - 1]))


@pytest.mark.parametrize(("old", "new", "proof"), CONSISTENCIES)
def test_published_consistency_proofs_are_made_and_verified(old: int, new: int, proof: list[str]) -> None:
    leaves = tuple(leaf_hash(data) for data in INPUTS[:new])
    made = merkle.consistency_proof(old, new, reader(leaves))
    assert hexes(made) == proof
    merkle.verify_consistency(old, new, made, bytes.fromhex(ROOTS[old - 1]), bytes.fromhex(ROOTS[new - 1]))


def test_the_empty_tree_has_the_hash_of_nothing() -> None:
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert Frontier().root() == merkle.fold([]) == tiles.root({}) == EMPTY_ROOT


def test_all_roots_and_proofs_up_to_size_70_are_those_of_the_definition() -> None:
    leaves = some_leaves(70)
    for size in range(1, 71):
        read = reader(leaves[:size])
        root = mth(leaves[:size])
        for index in range(size):
            made = merkle.inclusion_proof(index, size, read)
            assert made == path(index, leaves[:size])
            merkle.verify_inclusion(leaves[index], index, size, made, root)
        for old in range(1, size + 1):
            made = merkle.consistency_proof(old, size, read)
            assert made == subproof(old, leaves[:size], whole=True)
            merkle.verify_consistency(old, size, made, mth(leaves[:old]), root)
        assert merkle.consistency_proof(0, size, read) == []
        merkle.verify_consistency(0, size, [], EMPTY_ROOT, root)


def check_all(sizes: Iterable[int]) -> int:
    """Every inclusion and consistency proof of trees of these sizes, against the definition; how many that were."""
    leaves = some_leaves(600)

    @cache
    def root(start: int, stop: int) -> bytes:
        if stop - start == 1:
            return leaves[start]
        k = start + _power_below(stop - start)
        return node_hash(root(start, k), root(k, stop))

    def path_in(index: int, start: int, stop: int) -> list[bytes]:
        if stop - start == 1:
            return []
        k = start + _power_below(stop - start)
        if index < k:
            return [*path_in(index, start, k), root(k, stop)]
        return [*path_in(index, k, stop), root(start, k)]

    def subproof_in(old: int, start: int, stop: int, whole: bool) -> list[bytes]:
        if old == stop:
            return [] if whole else [root(start, stop)]
        k = start + _power_below(stop - start)
        if old <= k:
            return [*subproof_in(old, start, k, whole), root(k, stop)]
        return [*subproof_in(old, k, stop, whole=False), root(start, k)]

    def read(nodes: Sequence[Node]) -> list[bytes]:
        return [root(n.number << n.level, (n.number + 1) << n.level) for n in nodes]

    count = 0
    for size in sizes:
        for index in range(size):
            made = merkle.inclusion_proof(index, size, read)
            assert made == path_in(index, 0, size), (index, size)
            merkle.verify_inclusion(leaves[index], index, size, made, root(0, size))
            made = merkle.consistency_proof(index + 1, size, read)
            assert made == subproof_in(index + 1, 0, size, whole=True), (index + 1, size)
            merkle.verify_consistency(index + 1, size, made, root(0, index + 1), root(0, size))
            count += 2
    return count


def test_all_proofs_of_chosen_sizes_up_to_600_are_those_of_the_definition() -> None:
    assert check_all([127, 128, 129, 255, 256, 257, 511, 512, 513, 600]) == 2 * 3_288


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_all_proofs_of_all_sizes_up_to_600_are_those_of_the_definition() -> None:
    assert check_all(range(1, 601)) == 600 * 601


@given(st.integers(1, 600), st.data())
def test_proofs_of_any_tree_up_to_600_are_those_of_the_definition(size: int, data: st.DataObject) -> None:
    leaves = some_leaves(size)
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(1, size))
    assert merkle.inclusion_proof(index, size, reader(leaves)) == path(index, leaves)
    assert merkle.consistency_proof(old, size, reader(leaves)) == subproof(old, leaves, whole=True)


@given(st.integers(1, 2**62), st.data())
def test_a_proof_costs_the_logarithm_of_the_size(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(0, size))
    depth = (size - 1).bit_length()
    read: list[Node] = []

    def reader(nodes: Sequence[Node]) -> list[bytes]:
        read.extend(nodes)
        return [b""] * len(nodes)

    assert len(merkle.inclusion_proof(index, size, reader)) <= depth
    assert len(merkle.consistency_proof(old, size, reader)) <= depth + 1
    assert len(set(read)) <= 4 * depth + 2


@given(st.integers(0, 2**40), st.integers(0, 20), st.data())
def test_nodes_cover_their_range_without_gap(base: int, level: int, data: st.DataObject) -> None:
    start = base << level
    stop = start + data.draw(st.integers(0, 1 << level))
    at = start
    for node in merkle.nodes(Range(start, stop)):
        assert node.number << node.level == at
        at += 1 << node.level
    assert at == stop


@given(st.integers(1, 40), st.data())
def test_no_inclusion_proof_survives_a_change(size: int, data: st.DataObject) -> None:
    leaves = some_leaves(size)
    index = data.draw(st.integers(0, size - 1))
    proof, root = path(index, leaves), mth(leaves)
    other = leaf_hash(b"other")
    merkle.verify_inclusion(leaves[index], index, size, proof, root)
    changed: list[tuple[bytes, int, int, list[bytes], bytes]] = [
        (other, index, size, proof, root),
        (leaves[index], index, size, proof, other),
        (b"", index, size, proof, b""),
        (leaves[index], index, size, [*proof, b""], root),
        (leaves[index], index, size, [*proof, other], root),
        (leaves[index], index, size, [other, *proof], root),
        (leaves[index], -1, size, proof, root),
        (leaves[index], size, size, proof, root),
        (leaves[index], index, 0, proof, root),
        *((leaves[index], wrong, size, proof, root) for wrong in range(size) if wrong != index),
        *((leaves[index], index, size, [*proof[:at], other, *proof[at + 1 :]], root) for at in range(len(proof))),
        *((leaves[index], index, size, proof[:at] + proof[at + 1 :], root) for at in range(len(proof))),
    ]
    for case in changed:
        with pytest.raises(IntegrityError):
            merkle.verify_inclusion(*case)


@given(st.integers(1, 40), st.data())
def test_no_consistency_proof_survives_a_change(new: int, data: st.DataObject) -> None:
    leaves = some_leaves(new)
    old = data.draw(st.integers(1, new))
    proof, old_root, new_root = subproof(old, leaves, whole=True), mth(leaves[:old]), mth(leaves)
    other = leaf_hash(b"other")
    merkle.verify_consistency(old, new, proof, old_root, new_root)
    changed: list[tuple[int, int, list[bytes], bytes, bytes]] = [
        (old, new, proof, other, new_root),
        (old, new, proof, old_root, other),
        (old, new, proof, b"", b""),
        (old, new, [*proof, other], old_root, new_root),
        (old, new, [other, *proof], old_root, new_root),
        (-1, new, proof, old_root, new_root),
        (new + 1, new, proof, old_root, new_root),
        (0, new, [other], EMPTY_ROOT, new_root),
        (0, new, [], other, new_root),
        *((old, new, [*proof[:at], other, *proof[at + 1 :]], old_root, new_root) for at in range(len(proof))),
        *((old, new, proof[:at] + proof[at + 1 :], old_root, new_root) for at in range(len(proof))),
        *((wrong, new, proof, old_root, new_root) for wrong in range(1, new) if wrong != old),
    ]
    for case in changed:
        with pytest.raises(IntegrityError):
            merkle.verify_consistency(*case)


def test_a_fork_of_the_same_size_is_called_one() -> None:
    with pytest.raises(IntegrityError, match="two different logs of 3 entries"):
        merkle.verify_consistency(3, 3, [], leaf_hash(b"a"), leaf_hash(b"b"))


@given(st.integers(0, 300))
def test_the_peaks_of_a_row_fold_to_its_root(size: int) -> None:
    leaves = some_leaves(size)
    assert merkle.fold(merkle.peaks(b"".join(leaves))) == mth(leaves)


@given(st.lists(st.integers(0, 400), max_size=5))
def test_growing_in_any_steps_gives_the_same_tiles_and_roots(steps: list[int]) -> None:
    leaves = some_leaves(sum(steps))
    kept: dict[tiles.TileId, bytes] = {}
    edge: dict[int, bytes] = {}
    size = 0
    for step in steps:
        growth = tiles.grow(size, edge, leaves[size : size + step])
        assert growth.grown.keys() <= kept.keys()
        assert not growth.fresh.keys() & kept.keys()
        touched = {tile.id: tile.width for tile in tiles.touched(size, size + step)}
        assert {id_: len(hashes) // 32 for id_, hashes in (growth.grown | growth.fresh).items()} == touched
        kept |= growth.grown | growth.fresh
        edge = growth.edge
        size += step
        assert [(tile.level, tile.width) for tile in tiles.edge(size)] == [
            (level, len(hashes) // 32) for level, hashes in sorted(edge.items())
        ]
        assert tiles.root(edge) == mth(leaves[:size])
    assert {tile.id: tile.width for tile in tiles.all_tiles(size)} == {
        id_: len(hashes) // 32 for id_, hashes in kept.items()
    }
    for (level, n), hashes in kept.items():
        for at in range(0, len(hashes) // 32, 37):
            first = (n * 256 + at) << (8 * level)
            assert hashes[32 * at : 32 * at + 32] == mth(leaves[first : first + (1 << (8 * level))])


def test_rows_that_go_on_where_others_ended_are_those_made_at_once() -> None:
    leaves = [leaf_hash(b"%d" % number) for number in range(256)]
    fresh = []
    for size in range(1, 257):
        merkle._begun.clear()
        fresh.append(merkle.perfect_rows.__wrapped__(b"".join(leaves[:size])))
    merkle._begun.clear()
    for size in [*range(1, 257), 7, 100, 3]:
        assert merkle.perfect_rows.__wrapped__(b"".join(leaves[:size])) == fresh[size - 1]
    other = b"".join([leaves[0], *reversed(leaves[1:])])
    expected = merkle.perfect_rows.__wrapped__(other)
    merkle._begun.clear()
    assert merkle.perfect_rows.__wrapped__(other) == expected != fresh[-1]
