import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.errors import IntegrityError, ValidationError
from coafi.ledger import tiles
from coafi.ledger.merkle import Node
from coafi.ledger.tiles import Place, Tile, TileId


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 999, 1), "tile/0/999.p/1"),
        (Tile(1, 1000, 255), "tile/1/x001/000.p/255"),
        (Tile(0, 1234067), "tile/0/x001/x234/067"),  # the specification's example
        (Tile(63, 5), "tile/63/005"),
    ],
)
def test_paths_are_those_of_the_specification(tile: Tile, path: str) -> None:
    assert tile.path == path
    assert tiles.parse_path(path) == tile


@given(st.integers(0, 63), st.integers(0, 2**50), st.integers(1, 256))
def test_paths_read_back(level: int, n: int, width: int) -> None:
    assert tiles.parse_path(Tile(level, n, width).path) == Tile(level, n, width)


@pytest.mark.parametrize(
    "path",
    [
        *("", "tile/0", "tile/0/1", "tile/00/001", "tile/64/000", "tile/-1/000", "tile/0/0001", "tile/0/x000/001"),
        *("tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/000.p/", "tile/0/001/002", "/tile/0/000"),
        *("tile/0/٠٠١", "tile/0/000\n", "tile/0/" + "x001/" * 100 + "001", "tile/entries/000", "tile/0/../000"),
    ],
)
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(ValidationError, match="not the path of a tile"):
        tiles.parse_path(path)


@given(st.text(max_size=30))
def test_garbage_is_no_path(garbage: str) -> None:
    with pytest.raises(ValidationError):
        tiles.parse_path(garbage)


def test_a_tree_of_70000_has_the_tiles_that_the_specification_counts() -> None:
    found = list(tiles.all_tiles(70_000))
    assert sum(1 for tile in found if tile.level == 0 and tile.width == 256) == 273
    partial = [tile for tile in found if tile.width < 256]
    assert partial == tiles.edge(70_000) == [Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert [tile for tile in found if tile.level == 1] == [Tile(1, 0), Tile(1, 1, 17)]


def test_a_tree_of_256_has_a_full_tile_and_its_hash() -> None:
    assert list(tiles.all_tiles(256)) == [Tile(0, 0), Tile(1, 0, 1)]


def test_growth_touches_the_tiles_at_its_end() -> None:
    assert tiles.touched(5, 5) == []
    assert tiles.touched(5, 6) == [Tile(0, 0, 6)]
    assert tiles.touched(255, 257) == [Tile(0, 0), Tile(0, 1, 1), Tile(1, 0, 1)]
    assert tiles.touched(256, 512) == [Tile(0, 1), Tile(1, 0, 2)]


@pytest.mark.parametrize(
    ("node", "place"),
    [
        (Node(0, 0), Place(TileId(0, 0), 0, 0)),
        (Node(0, 257), Place(TileId(0, 1), 0, 1)),
        (Node(7, 3), Place(TileId(0, 1), 7, 1)),
        (Node(8, 300), Place(TileId(1, 1), 0, 44)),
        (Node(11, 1), Place(TileId(1, 0), 3, 1)),
    ],
)
def test_a_node_lies_in_the_lowest_tile_that_gives_it(node: Node, place: Place) -> None:
    assert tiles.place(node) == place


def test_a_tile_without_the_node_is_found_too_short() -> None:
    for hashes in (b"", b"\0" * 32 * 3):
        with pytest.raises(IntegrityError, match=r"tile/0/001 holds"):
            tiles.node_in(hashes, Place(TileId(0, 1), 2, 0))
    assert tiles.node_in(b"\1" * 32, Place(TileId(0, 1), 0, 0)) == b"\1" * 32
