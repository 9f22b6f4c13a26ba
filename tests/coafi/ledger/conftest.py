from collections.abc import Iterator
from pathlib import Path

import pytest

from coafi.ledger.log import Ledger
from tests.coafi.ledger.making import opened


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with opened(tmp_path) as made:
        yield made
