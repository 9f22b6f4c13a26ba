from collections.abc import Iterator
from pathlib import Path

import pytest

from coafi.ledger.port import Ledger
from tests.coafi.ledger.making import opened
from tests.coafi.ledger.serving import remote, served
from tests.postgresql import use_postgresql


@pytest.fixture(params=["sqlite", "postgresql", "remote"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger: what the port promises holds for every kind of it."""
    if request.param == "remote":
        with served(tmp_path / "served") as other, remote(other, tmp_path / "here") as made:
            yield made
        return
    if request.param == "postgresql":
        use_postgresql(tmp_path, request.getfixturevalue("postgresql").create())
    with opened(tmp_path) as made:
        yield made
