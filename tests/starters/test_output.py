"""What commands print."""

import io
import json

import pytest
from rich.console import Console

from coafi.errors import Unavailable
from coafi.findings import Finding, Severity
from coafi.names import Phase
from coafi.recording import Failure, Range
from starters import output
from starters.output import clean, facts, print_error, print_findings, print_json, print_link, safe, styled, table
from starters.runs import print_receipt
from workflows.lifecycle import Receipt

HOSTILE = "[red]\x1b]0;title\x07 \u202etxt.exe\n[/blue]"


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Standard output as a terminal of 100 columns, without colours."""
    written = io.StringIO()
    console = Console(file=written, width=100, force_terminal=False)
    for module in ("starters.output", "starters.records", "starters.runs"):
        monkeypatch.setattr(f"{module}.out", console)
    return written


def test_hostile_text_is_printed_harmlessly(screen: io.StringIO) -> None:
    output.out.print(safe(HOSTILE))
    print_link(HOSTILE)
    assert screen.getvalue().splitlines() == [r"[red]\x1b]0;title\x07 \u202etxt.exe\n[/blue]"] * 2
    output.out.print(f"[bold]{safe(HOSTILE + chr(92))}[/bold]")
    assert clean("plain – text é") == "plain – text é"


def test_a_receipt_with_hostile_texts_prints(screen: io.StringIO) -> None:
    receipt = Receipt(
        phase=Phase.REJECTED,
        event_id="e",
        source="s",
        workflow_id="w",
        utids="u",
        counts={"artifacts": 2, "files": 1},
        entries=(Range(first=1, last=1), Range(first=3, last=5)),
        findings=(Finding(severity=Severity.ERROR, rule="r", message=HOSTILE, remedy=HOSTILE, pointer="/a"),),
        failure=Failure(step="git.fetch", sequence=1, error="Unavailable", message=HOSTILE),
    )
    print_receipt(receipt)
    text = screen.getvalue()
    assert "\x1b" not in text
    assert text.index("Files") < text.index("Artifacts")
    assert "1, 3–5" in text
    assert "payload /a error r" in text
    assert "[red]" in text


def test_findings_name_the_place_as_compilers_do(screen: io.StringIO) -> None:
    print_findings(
        [
            Finding(severity=Severity.ERROR, rule="r", message="m " * 80, remedy="x", path="a.md", line=3, column=7),
            Finding(severity=Severity.WARNING, rule="r", message="m", remedy="x", path="a.md"),
            Finding(severity=Severity.ERROR, rule="r", message="m", remedy="x"),
        ]
    )
    lines = screen.getvalue().splitlines()
    assert "a.md:3:7 error r" in lines
    assert "a.md warning r" in lines
    assert "event error r" in lines
    assert all(line.startswith("  ") for line in lines if line.startswith(" "))
    assert all(len(line) <= 100 for line in lines)


def test_json_is_one_document_that_no_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"a": "é \x9b31m\u202e\x1b\n", "b": [1, None]}
    print_json(value)
    text = capsys.readouterr().out
    assert json.loads(text) == value
    assert "é" in text
    assert not set("\x9b\u202e\x1b") & set(text)


def test_json_of_a_model_leaves_out_what_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    print_json(Receipt(phase=Phase.PROCESSED, event_id="e", source="s", workflow_id="w", utids="u"))
    assert "failure" not in json.loads(capsys.readouterr().out)
    with pytest.raises(TypeError):
        print_json(object())


def test_an_error_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(Unavailable("the [disk] is\x1b full", remedy="make room"))
    assert capsys.readouterr().err == "error: the [disk] is\\x1b full\n  → make room\n"


def test_numbers_stand_right_and_the_last_column_gives_way(screen: io.StringIO) -> None:
    rows = table("#Index", "Word", "Text")
    rows.add_row("1", "a-word-that-stays-whole", "x" * 90)
    rows.add_row("100", "b", "y")
    output.out.print(rows)
    lines = [line.rstrip() for line in screen.getvalue().splitlines()]
    assert lines[0].split() == ["Index", "Word", "Text"]
    assert lines[1].startswith("    1  a-word-that-stays-whole  xxx")
    assert lines[2].strip() == "x" * (90 - (100 - 32))
    assert lines[3].startswith("  100  b")


def test_facts_have_no_head(screen: io.StringIO) -> None:
    rows = facts()
    rows.add_row("Name", styled("PROCESSED"))
    rows.add_row("Other", styled("unknown word"))
    output.out.print(rows)
    assert screen.getvalue().splitlines()[0].split(None, 1) == ["Name", "PROCESSED   "]
