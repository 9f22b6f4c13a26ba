"""No parser lets anything out but the errors that it promises, for whatever bytes it gets."""

import contextlib
import json
import subprocess
import sys

import pytest

from coafi.errors import CoafiError, ValidationError
from tests.fuzz import __main__ as command
from tests.fuzz.__main__ import fuzz, harm_of
from tests.fuzz.mutate import LARGEST, mutant
from tests.fuzz.targets import TARGETS, Target

FEW = 50
"""Inputs per parser in every run of the suite."""

MANY = 5_000
"""And in a soak, which takes others. More of them, from any seed: ``python -m tests.fuzz NAME --seed N``."""

every_parser = pytest.mark.parametrize("name", TARGETS)


def test_damaged_input_does_no_harm() -> None:
    assert [str(harm) for harm in fuzz(list(TARGETS), 0, FEW)] == []


@pytest.mark.soak
@pytest.mark.timeout(900)
@every_parser
def test_much_damaged_input_does_no_harm(name: str) -> None:
    assert [str(harm) for harm in fuzz([name], FEW, MANY, timeout=800)] == []


@every_parser
def test_every_parser_has_examples_and_takes_one(name: str) -> None:
    target = TARGETS[name]
    seeds = target.seeds()
    assert seeds
    taken = 0
    for seed in seeds:
        with contextlib.suppress(CoafiError, *target.raises):
            target.run(seed)
            taken += 1
    assert taken or name == "note", "no seed is good: the inner parts are never reached"


def test_an_input_is_made_from_its_seed_alone() -> None:
    seeds = [b"one two\nthree\n", b'{"a": [1, 2]}']
    made = [mutant(seeds, f"x:{number}") for number in range(2_000)]
    assert made == [mutant(seeds, f"x:{number}") for number in range(2_000)]
    assert len(set(made)) > 1_000
    assert max(map(len, made)) <= LARGEST
    assert set(seeds) < set(made), "some stay as they are"


def _fails(data: bytes) -> None:
    if b"[[" in data:
        raise KeyError("planted")
    if b"#" in data:
        raise ValidationError("it is refused")


def test_a_planted_defect_is_found_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    planted = {"planted": Target(_fails, lambda: [b"[a]"])}
    seeds = [str(number) for number in range(300)]
    found = {seed: what for seed in seeds if (what := harm_of("planted", seed, planted))}
    assert found
    assert len(found) < len(seeds)
    assert all("KeyError: 'planted'" in what for what in found.values())
    monkeypatch.setattr(command, "TARGETS", planted)
    shown = str(command._harm("planted", next(iter(found)), "KeyError"))
    assert "[[" in shown
    assert f"python -m tests.fuzz planted --seed {next(iter(found))}" in shown


CHILD = """
import sys
import typer
from tests.fuzz import __main__ as command
from tests.fuzz.targets import TARGETS, Target

def run(data):
    {body}

TARGETS["planted"] = Target(run, lambda: [b"a"])
command.CPU_SECONDS = 0.2
command.MEMORY = 2**30
try:
    command.main(["planted"], seed=5, count=3)
except typer.Exit as end:
    sys.exit(end.exit_code)
"""


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ("bytes(10**5).hex(); sum(range(10**10))", -26, ""),  # in C, where no handler of Python runs
        ("bytes(2**31)", 1, "MemoryError"),
        pytest.param("pass", 0, "", marks=pytest.mark.soak),
    ],
)
def test_time_and_memory_of_an_input_are_bounded(body: str, status: int, told: str) -> None:
    child = CHILD.format(body=body)
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == status, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(told in line["what"] for line in lines)
    assert len(lines) == (3 if told else 0)
