"""How a command ends."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.starters.support import Home, Up


@pytest.mark.soak
def test_commands_that_talked_to_temporal_end_cleanly_on_a_busy_machine(service: tuple[Home, Up]) -> None:
    home, _ = service
    with ThreadPoolExecutor(4) as pool:
        ends = list(pool.map(lambda _: home.coafi_process("dead-letters", "list", "--json"), range(60)))
    assert {(end.returncode, end.stderr) for end in ends} == {(0, "")}
    assert all(end.stdout.endswith("]\n") for end in ends)
