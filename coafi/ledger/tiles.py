"""Where the hashes of a tree lie: C2SP tlog-tiles, https://c2sp.org/tlog-tiles.

A tile is up to 256 hashes side by side. On level 0 these are leaf hashes; on level ``L`` each is the hash of a full
tile of level ``L - 1``, which is the perfect subtree of height ``8 * L``. Pure: no tile is read or written here.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from coafi.errors import IntegrityError, ValidationError
from coafi.ledger.merkle import HASH_SIZE, Node, fold, peaks, perfect_rows

HEIGHT = 8
WIDTH = 256
MAX_LEVEL = 63

_MAX_PATH = 64
_PATH = re.compile(r"tile/(0|[1-9][0-9]?)/((?:x[0-9]{3}/)*)([0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", flags=re.ASCII)


class TileId(NamedTuple):
    """A tile whatever its width: the ``n``-th of its level, both from 0."""

    level: int
    n: int


class Tile(NamedTuple):
    """A tile of a certain width: 256 when it is full, 1 to 255 when it is partial."""

    level: int
    n: int
    width: int = WIDTH

    @property
    def id(self) -> TileId:
        """The tile, whatever its width."""
        return TileId(self.level, self.n)

    @property
    def path(self) -> str:
        """``tile/<L>/<N>[.p/<W>]``."""
        return f"tile/{self.level}/{_number(self.n)}{_partial(self.width)}"


class Place(NamedTuple):
    """Where a node lies: ``height`` rows above the hashes of a tile, ``offset`` nodes from its left."""

    tile: TileId
    height: int
    offset: int


class Growth(NamedTuple):
    """What an append changes.

    Attributes:
        grown: tiles that existed and are wider now, with all their hashes.
        fresh: tiles that did not exist.
        edge: the partial tiles of the new tree, by level.
    """

    grown: dict[TileId, bytes]
    fresh: dict[TileId, bytes]
    edge: dict[int, bytes]


def parse_path(path: str) -> Tile:
    """The inverse of ``Tile.path``.

    Raises:
        ValidationError: the path is not a tile's.
    """
    match = _PATH.fullmatch(path) if len(path) <= _MAX_PATH else None
    if match is None or match[2].startswith("x000/"):
        raise _bad_path(path)
    level, upper, last, width = match.groups()
    tile = Tile(int(level), int(upper.replace("x", "").replace("/", "") + last), int(width or WIDTH))
    if tile.level > MAX_LEVEL or (width is not None and tile.width >= WIDTH):
        raise _bad_path(path)
    return tile


def place(node: Node) -> Place:
    """The lowest tile from which a node's hash follows, and where."""
    level, height = divmod(node.level, HEIGHT)
    n, offset = divmod(node.number << height, WIDTH)
    return Place(TileId(level, n), height, offset >> height)


def node_in(hashes: bytes, where: Place) -> bytes:
    """The hash of a node, from those of its tile.

    Raises:
        IntegrityError: the tile is too short.
    """
    rows = perfect_rows(hashes)
    found = rows[where.height][where.offset * HASH_SIZE :][:HASH_SIZE] if where.height < len(rows) else b""
    if len(found) != HASH_SIZE:
        raise wrong_width(where.tile, hashes)
    return found


def edge(size: int) -> list[Tile]:
    """The partial tiles of a tree of ``size``, lowest first. The root follows from them alone."""
    result = []
    level = 0
    while size >> (HEIGHT * level):
        n, width = divmod(size >> (HEIGHT * level), WIDTH)
        if width:
            result.append(Tile(level, n, width))
        level += 1
    return result


def width(tile: TileId, size: int) -> int:
    """How many hashes a tile has in a tree of ``size``: 256, fewer at the right edge, and 0 beyond it."""
    return max(0, min(WIDTH, (size >> (HEIGHT * tile.level)) - tile.n * WIDTH))


def all_tiles(size: int) -> Iterator[Tile]:
    """Every tile of a tree of ``size``, level by level."""
    yield from touched(0, size)


def touched(old: int, new: int) -> list[Tile]:
    """The tiles that growing from ``old`` to ``new`` entries makes or widens, with their new widths."""
    result = []
    level = 0
    while new >> (HEIGHT * level) > old >> (HEIGHT * level):
        first, count = old >> (HEIGHT * level), new >> (HEIGHT * level)
        result += [Tile(level, n, min(WIDTH, count - n * WIDTH)) for n in range(first // WIDTH, -(-count // WIDTH))]
        level += 1
    return result


def root(edge_hashes: Mapping[int, bytes]) -> bytes:
    """The root of a tree, from the hashes of its partial tiles by level."""
    return fold([peak for level in sorted(edge_hashes, reverse=True) for peak in peaks(edge_hashes[level])])


def grow(size: int, edge_hashes: Mapping[int, bytes], leaves: Sequence[bytes]) -> Growth:
    """Append leaf hashes to a tree.

    Args:
        size: entries before.
        edge_hashes: the hashes of the partial tiles before, by level, as :func:`edge` lists them.
        leaves: the leaf hashes to append.
    """
    grown: dict[TileId, bytes] = {}
    fresh: dict[TileId, bytes] = {}
    new_edge = dict(edge_hashes)
    level = 0
    added = b"".join(leaves)
    while added:
        n, width = divmod(size >> (HEIGHT * level), WIDTH)
        row = new_edge.pop(level, b"") + added
        tiles = [row[at : at + WIDTH * HASH_SIZE] for at in range(0, len(row), WIDTH * HASH_SIZE)]
        for number, hashes in enumerate(tiles):
            (grown if width and number == 0 else fresh)[TileId(level, n + number)] = hashes
        if len(tiles[-1]) < WIDTH * HASH_SIZE:
            new_edge[level] = tiles.pop()
        added = b"".join(perfect_rows(hashes)[HEIGHT] for hashes in tiles)
        level += 1
    return Growth(grown, fresh, new_edge)


def wrong_width(tile: TileId, hashes: bytes) -> IntegrityError:
    """The error to raise when a stored tile does not hold the hashes that it should."""
    return IntegrityError(
        f"{Tile(*tile).path} holds {len(hashes)} bytes, and the size of the log asks for another number",
        remedy="the database is damaged or was changed: verify the whole ledger, and restore a backup",
    )


def _number(n: int) -> str:
    parts = [f"{n % 1000:03d}"]
    while n := n // 1000:
        parts.append(f"x{n % 1000:03d}")
    return "/".join(reversed(parts))


def _partial(width: int) -> str:
    return "" if width == WIDTH else f".p/{width}"


def _bad_path(path: str) -> ValidationError:
    return ValidationError(
        f"{path[:100]!r} is not the path of a tile",
        remedy="write tile/<level>/<number> with the number in groups of three digits, such as tile/0/x001/234.p/17",
    )
