"""Here migrations are what is tested: they run each time."""

from collections.abc import Iterator

import pytest

from tests.tables import with_alembic


@pytest.fixture(scope="package", autouse=True)
def _migrations() -> Iterator[None]:
    with with_alembic():
        yield
