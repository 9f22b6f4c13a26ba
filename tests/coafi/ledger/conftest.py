from collections.abc import Iterator
from pathlib import Path

import pytest

from coafi.ledger.log import Ledger
from tests.coafi.ledger.making import opened


@pytest.fixture
def ledger(place: Path) -> Iterator[Ledger]:
    with opened(place) as made:
        yield made
