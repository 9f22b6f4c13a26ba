"""What the tests of the registry share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.coafi.registry.making import Registers, registers


@pytest.fixture
def books(place: Path) -> Iterator[Registers]:
    """Registries on each of the databases."""
    with registers(place) as made:
        yield made
