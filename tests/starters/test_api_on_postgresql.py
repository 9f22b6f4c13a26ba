"""The essentials of the API on PostgreSQL: the same tests as on SQLite, on a service of their own."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from pydantic import SecretStr

from tests.harness import Stack, running_stack
from tests.postgresql import PostgresqlServer
from tests.starters.test_api import (  # noqa: F401  # what pytest finds here it runs here, with the fixture below
    http,
    test_a_missing_permission_is_named_and_the_run_records_the_refusal,
    test_a_refusal_is_stored_too,
    test_an_entry_goes_through_its_life_step_by_step,
    test_an_update_is_a_run_with_its_entries_and_answers_at_once,
    test_many_requests_with_one_key_at_once_are_one,
    test_of_two_writers_who_saw_the_same_version_one_wins,
    test_reads_start_no_run_and_record_nothing,
    test_work_is_started_once_and_its_event_names_the_request_as_its_cause,
)


@pytest_asyncio.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory, postgresql: PostgresqlServer) -> AsyncIterator[Stack]:
    """A service whose record is on PostgreSQL."""
    url = SecretStr(postgresql.create())
    home = tmp_path_factory.mktemp("api")
    async with running_stack(home, database_url=url, api_rate=10_000.0, api_burst=10_000) as running:
        yield running
        assert running.resources.database.dialect == "postgresql"
        running.verify()
