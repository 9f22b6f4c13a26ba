"""The nodes of a stored tree, read through a cache of its tiles."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock
from typing import cast

from coafi.ledger import merkle, tiles
from coafi.ledger.merkle import HASH_SIZE, Node
from coafi.ledger.tiles import TileId

CACHED_TILES = 4_096
"""Tiles that are kept: 16 KiB each, 64 MiB at most, which is enough for all tiles of a million entries."""

TileReader = Callable[[Iterable[TileId]], Mapping[TileId, bytes]]
"""Gives the hashes of those of the tiles that are stored."""


class NodeCache:
    """Keeps the rows over tiles that were read.

    What a tile holds never changes, it only gets wider: a hash that is here is right, and for one that is not, the
    tile is read again.
    """

    def __init__(self, capacity: int = CACHED_TILES) -> None:
        self._capacity = capacity
        self._rows: dict[tuple[int, int], tuple[bytes, ...]] = {}  # by TileId
        self._lock = Lock()

    def read(self, nodes: Sequence[Node], read: TileReader) -> list[bytes]:
        """The hashes of nodes.

        Raises:
            IntegrityError: a tile is missing or too short.
        """
        found = [self._kept(node) for node in nodes]
        if None not in found:
            return cast("list[bytes]", found)
        places = [tiles.place(node) for node in nodes]
        missing = {place.tile for place, hash_ in zip(places, found, strict=True) if hash_ is None}
        stored = read(missing)
        for id_ in missing:
            self._keep(id_, merkle.perfect_rows.__wrapped__(stored.get(id_, b"")))
        return [
            tiles.node_in(stored.get(place.tile, b""), place) if hash_ is None else hash_
            for place, hash_ in zip(places, found, strict=True)
        ]

    def _kept(self, node: Node) -> bytes | None:
        """What :func:`tiles.place` and :func:`tiles.node_in` give, in half the time: most of a proof is this."""
        level, number = node
        height = level % tiles.HEIGHT
        rows = self._rows.get((level // tiles.HEIGHT, (number << height) // tiles.WIDTH), ())
        if height >= len(rows):
            return None
        at = number % (tiles.WIDTH >> height) * HASH_SIZE
        return rows[height][at : at + HASH_SIZE] or None

    def _keep(self, id_: TileId, rows: tuple[bytes, ...]) -> None:
        with self._lock:
            self._rows.pop(id_, None)
            while len(self._rows) >= self._capacity:
                del self._rows[next(iter(self._rows))]
            self._rows[id_] = rows
