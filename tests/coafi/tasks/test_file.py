"""The file of schedules: what it may say, and how exactly it is told what is wrong."""

import contextlib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from coafi.errors import ValidationError
from coafi.names import TaskName
from coafi.registry.builtin import BuiltinSchemas
from coafi.tasks.file import MAX_FILE, load_schedules, parse_schedules

GOOD = """\
timeZone: Europe/Madrid
schedules:
  nightly:
    task: verify-ledger
    cron: ["17 3 * * *", "17 15 * * sun"]
    jitter: 10m
  often:
    task: reconcile
    every: 15m
    offset: 90s
    overlap: buffer-one
    pauseOnFailure: true
    giveUpAfter: 0s
    parameters: {grace: 5}
"""


SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
WORDS = st.sampled_from(["schedules", "task", "cron", "every", "a", "parameters", "timeZone"])


def containers(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4)


def wrong(text: str) -> str:
    with pytest.raises(ValidationError) as refused:
        parse_schedules(text.encode(), "schedules.yaml")
    return refused.value.message


def test_the_schedules_of_the_package_are_right_and_start_every_task() -> None:
    schedules = load_schedules(None).schedules
    assert {one.task for one in schedules.values()} == set(TaskName)
    assert all(one.description for one in schedules.values())


def test_the_schema_of_the_payload_knows_every_task() -> None:
    schema = BuiltinSchemas().find("ScheduledTaskEventPayload")
    assert schema is not None
    properties = schema.document["properties"]
    assert isinstance(properties, dict)
    assert properties["task"] == {"description": "What is done.", "enum": [str(one) for one in TaskName]}


def test_what_is_written_is_read() -> None:
    nightly, often = parse_schedules(GOOD.encode(), "x").schedules.values()
    assert (nightly.time_zone, nightly.jitter, nightly.overlap, nightly.catch_up) == (
        "Europe/Madrid",
        600,
        "skip",
        3600,
    )
    assert len(nightly.calendars) == 2
    assert (often.every, often.offset, often.give_up_after, often.pause_on_failure) == (900, 90, 0, True)
    assert often.digest != nightly.digest
    assert (
        parse_schedules(GOOD.replace("{grace: 5}", "{grace: 6}").encode(), "x").schedules["often"].digest
        != often.digest
    )


@pytest.mark.parametrize(
    ("before", "after", "place"),
    [
        ("verify-ledger", "verify-everything", "4:5: schedules.nightly.task"),
        ("17 15 * * sun", "17 25 * * sun", "5:26: schedules.nightly.cron.1: hour: '25'"),
        ("jitter: 10m", "jitter: 10 minutes", "6:5: schedules.nightly.jitter: '10 minutes' is no duration"),
        ("jitter: 10m", "jitters: 10m", "6:5: schedules.nightly.jitters: Extra inputs"),
        ("Europe/Madrid", "Europe/Atlantis", "1:1: timeZone: 'Europe/Atlantis' is no time zone"),
        ("every: 15m", "every: 3s", "9:5: schedules.often.every"),
        ("    every: 15m\n    offset", "    offset", "7:3: schedules.often: give either cron or every"),
        ("{grace: 5}", "{grace: -1}", "14:18: schedules.often.parameters.grace"),
        ("{grace: 5}", "{grease: 5}", "14:18: schedules.often.parameters.grease"),
        ("overlap: buffer-one", "overlap: maybe", "11:5: schedules.often.overlap"),
        ("  often:", "  nightly:", "7:3: schedules.nightly: comes twice"),
        ("  often:", "  Often!:", "7:3: schedules.Often!"),
        ("schedules:\n", "schedules: [\n", ":"),
    ],
)
def test_what_is_wrong_is_named_with_line_and_column(before: str, after: str, place: str) -> None:
    assert before in GOOD
    assert place in wrong(GOOD.replace(before, after, 1))


def test_every_wrong_place_is_named_at_once() -> None:
    said = wrong(GOOD.replace("10m", "ten").replace("buffer-one", "maybe"))
    assert "6:5:" in said
    assert "11:5:" in said


@pytest.mark.parametrize(
    "text", ["", "[]", "schedules: 5", "schedules: {a: 5}", "a: &x [*x]", "\t", "\0", "? [a]\n: b"]
)
def test_what_is_no_file_of_schedules_is_refused(text: str) -> None:
    assert wrong(text)


def test_a_file_that_is_too_large_or_not_there_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "schedules.yaml"
    with pytest.raises(ValidationError, match="cannot be read"):
        load_schedules(file)
    file.write_bytes(b"#" * (MAX_FILE + 1))
    with pytest.raises(ValidationError, match="larger than"):
        load_schedules(file)


@given(st.recursive(SCALARS, containers, max_leaves=12))
def test_any_yaml_is_a_file_of_schedules_or_refused(value: object) -> None:
    with contextlib.suppress(ValidationError):
        parse_schedules(yaml.safe_dump(value).encode(), "x")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_file_of_schedules_or_refused(data: bytes) -> None:
    with contextlib.suppress(ValidationError):
        parse_schedules(data, "x")
