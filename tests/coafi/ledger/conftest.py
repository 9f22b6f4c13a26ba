from collections.abc import Iterator
from pathlib import Path

import pytest

from coafi.ledger.port import Ledger
from tests.coafi.ledger.making import opened
from tests.coafi.ledger.serving import remote, served


@pytest.fixture(params=["local", "remote"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger: what the port promises holds for every kind of it."""
    if request.param == "local":
        with opened(tmp_path) as made:
            yield made
    else:
        with served(tmp_path / "served") as other, remote(other, tmp_path / "here") as made:
            yield made
