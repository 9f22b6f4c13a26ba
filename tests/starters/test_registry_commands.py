"""The ``coafi registry`` commands, as a person at a terminal and as a program has them."""

import json
import os
from pathlib import Path
from unittest.mock import patch

import pytest

from coafi.registry.store import PublishedSchemas
from coafi.settings import load_settings
from tests.coafi.registry.making import Registers, schema
from tests.starters.support import Home
from workers.resources import open_resources

SPAN = {"span": {"type": "number"}}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with some entries, in which nothing runs."""
    made = Home(tmp_path_factory.mktemp("registry"))
    with patch.dict(os.environ, made.environment(), clear=True), open_resources(load_settings()) as resources:
        _fill(Registers(resources.database, resources.ledger, PublishedSchemas(resources.database)))
    return made


def _fill(books: Registers) -> None:
    books.integrate("wing", {"span": 12})
    books.put("wing", {"span": "wide", "note": "\x1b[31mred"}, tags=["left"], reason="resized")
    books.put("tail", {"span": 3}, owner="team-b")
    books.publish("part", "1.0.0", type="object")


def test_entries_are_listed_and_selected(home: Home) -> None:
    page = home.json("registry", "list", "--registry", "AERO")
    assert [(one["entryId"], one["version"], one["status"]) for one in page["entries"]] == [
        ("tail", 1, "Submission"),
        ("wing", 5, "Submission"),
    ]
    assert page["cursor"] is None
    assert [one["entryId"] for one in home.json("registry", "list", "--owner", "team-b")["entries"]] == ["tail"]
    assert [one["entryId"] for one in home.json("registry", "list", "--tag", "left")["entries"]] == ["wing"]
    assert [one["entryId"] for one in home.json("registry", "search", "WIDE", "left")["entries"]] == ["wing"]
    printed = home.coafi("registry", "list", "--registry", "AERO", "--class", "Application")
    assert (printed.returncode, printed.stderr) == (0, "")
    assert [line.split()[:4] for line in printed.stdout.splitlines()[1:]] == [
        ["AERO", "tail", "1", "Submission"],
        ["AERO", "wing", "5", "Submission"],
    ]
    assert "No entry is like that." in home.coafi("registry", "search", "nowhere").stdout


def test_a_long_list_goes_on_with_its_cursor(home: Home) -> None:
    first = home.coafi("registry", "list", "--limit", "1")
    cursor = first.stderr.split("--cursor ")[1].strip()
    assert "tail" in first.stdout
    second = home.json("registry", "list", "--limit", "1", "--cursor", cursor)
    assert [one["entryId"] for one in second["entries"]] == ["wing"]


def test_an_entry_is_shown_in_any_version(home: Home) -> None:
    assert home.json("registry", "show", "AERO", "wing")["data"]["span"] == "wide"
    assert home.json("registry", "show", "AERO", "wing", "--version", "4")["status"] == "Integration"
    assert home.json("registry", "show", "schemas", "frontmatter.general")["version"] == 0
    printed = home.coafi("registry", "show", "AERO", "wing").stdout
    for text in ("AERO/wing", "Submission", "resized", "UTIDS-P-", "key:ci"):
        assert text in printed
    assert "\x1b" not in printed


def test_history_and_differences_are_told(home: Home) -> None:
    versions = home.json("registry", "history", "AERO", "wing")
    assert [one["version"] for one in versions] == [5, 4, 3, 2, 1]
    assert [one["version"] for one in home.json("registry", "history", "AERO", "wing", "--before", "3")] == [2, 1]
    assert "resized" in home.coafi("registry", "history", "AERO", "wing").stdout
    found = home.json("registry", "diff", "AERO", "wing", "4", "5")
    assert {"op": "replace", "path": "/data/span", "value": "wide"} in found["patch"]
    assert 'replace /data/span "wide"' in home.coafi("registry", "diff", "AERO", "wing", "4", "5").stdout
    assert "They are the same." in home.coafi("registry", "diff", "AERO", "wing", "1", "1").stdout


def test_the_impact_of_a_schema_fails_if_it_breaks_anything(home: Home) -> None:
    file = home.root / "new.json"
    file.write_text(json.dumps(schema("registry.AERO", properties=SPAN)))
    report = home.json("registry", "impact", "registry.AERO", str(file), code=1)
    assert (report["breaks"], report["entries"], report["brokenEntries"]) == (True, 3, 1)
    assert [one["entryId"] for one in report["firstEntries"]] == ["wing"]
    printed = home.coafi("registry", "impact", "registry.AERO", str(file))
    assert (printed.returncode, printed.stderr.strip()) == (1, "")
    assert "AERO/wing version 5" in printed.stdout
    assert "/data/span" in printed.stdout
    assert "1 entry would become invalid" in printed.stdout
    file.write_text(json.dumps(schema("registry.AERO")))
    assert home.json("registry", "impact", "registry.AERO", str(file))["breaks"] is False


def test_what_cannot_be_published_is_said_before(home: Home) -> None:
    file = home.root / "new.json"
    for document, said in [
        (schema("part", "1.0.0", title="other"), "published with other content"),
        (schema("part", "0.9.0"), "comes after 1.0.0"),
        (schema("part", "2.0.0", type="x"), "not accepted"),
        (schema("other", "2.0.0"), "not accepted"),
    ]:
        file.write_text(json.dumps(document))
        done = home.coafi("registry", "impact", "part", str(file))
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr
    for content in (b"", b"[]", b"\xff", b"[" * 100_000, b" " * 600_000, b'{"a":' * 5_000 + b"1" + b"}" * 5_000):
        file.write_bytes(content)
        done = home.coafi("registry", "impact", "part", str(file))
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("error: ")
    assert "cannot be read" in home.coafi("registry", "impact", "part", str(home.root / "none")).stderr


def test_a_utids_is_resolved(home: Home) -> None:
    utids = home.json("registry", "show", "AERO", "tail")["utids"]
    found = home.json("registry", "resolve", utids)
    assert (found["kind"], found["names"]["entryId"]) == ("entry", "tail")
    assert found["entries"] == [{"first": 5, "last": 5}]
    printed = home.coafi("registry", "resolve", utids).stdout
    for text in ("tail", "AERO", utids, "key:ci"):
        assert text in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "MARS", "x"), "no registry MARS"),
        (("show", "AERO", "none"), "no entry AERO/none"),
        (("show", "AERO", "wing", "--version", "9"), "in version 9"),
        (("history", "AERO", "none"), "no entry AERO/none"),
        (("diff", "AERO", "wing", "1", "9"), "in version 9"),
        (("list", "--status", "Done"), "status"),
        (("list", "--cursor", "x"), "cursor"),
        (("resolve", "UTIDS-P-1"), "no UTidS"),
        (("resolve", "UTIDS-P-" + "0" * 26), "names nothing here"),
    ],
)
def test_what_is_wrong_is_said_on_standard_error(home: Home, arguments: tuple[str, ...], said: str) -> None:
    done = home.coafi("registry", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert "→" in done.stderr


def test_where_nothing_has_run_nothing_is_made(tmp_path: Path) -> None:
    empty = Home(tmp_path)
    done = empty.coafi("registry", "list")
    assert done.returncode == 1
    assert "no database" in done.stderr
    assert not empty.path.exists()
