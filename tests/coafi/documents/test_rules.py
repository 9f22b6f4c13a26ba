"""Every rule has an example that breaks it and one that does not."""

import pytest

from coafi.documents.check import FileReport, check_file
from coafi.documents.context import CheckContext
from coafi.documents.limits import DocumentLimits
from coafi.documents.rules import MESSAGE_LIMIT, RULES, Example
from coafi.findings import Severity
from coafi.registry.validation import Schema
from tests.coafi.documents.samples import BUILTIN, Builtin, NoSchemas, rules
from tests.coafi.documents.trees import MemoryTree

BROKEN = Builtin(Schema("frontmatter.general", "9.0.0", {"type": "nonsense"}))


def checked(example: Example, settings: str = "") -> FileReport:
    content = example.content.encode() if isinstance(example.content, str) else example.content
    around: dict[str, bytes | str] = {**example.around, example.path: content or b""}
    if settings:
        around[".coafi.yaml"] = settings
    return check_file(
        example.path,
        content,
        NoSchemas() if example.without_schemas else BROKEN if example.broken_schema else BUILTIN,
        DocumentLimits(**example.limits),
        context=CheckContext.of(MemoryTree(around)),
    )


@pytest.mark.parametrize("rule", RULES)
def test_the_examples_of_a_rule_break_it_and_keep_it(rule: str) -> None:
    assert rule in rules(checked(RULES[rule].breaks))
    assert rule not in rules(checked(RULES[rule].keeps))


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_says_what_is_wrong_and_what_to_do(rule: str) -> None:
    entry = RULES[rule]
    assert entry.id == rule
    assert entry.meaning
    assert entry.remedy
    finding = next(finding for finding in checked(entry.breaks).findings if finding.rule == rule)
    assert finding.message
    assert finding.remedy


@pytest.mark.parametrize("rule", [rule for rule in RULES if not rule.startswith("settings/")])
def test_a_repository_decides_how_bad_a_breach_is(rule: str) -> None:
    breaks = RULES[rule].breaks
    for severity in Severity:
        report = checked(breaks, f"rules:\n  {rule}: {severity}\n")
        assert {finding.severity for finding in report.findings if finding.rule == rule} == {severity}
        if severity is Severity.ERROR:
            assert report.verdict in ("invalid", "skipped")
    assert rule not in rules(checked(breaks, f"rules:\n  {rule}: off\n"))


def test_messages_are_cut_and_printable() -> None:
    finding = RULES["yaml/tag"].finding("x\x00\ud800" * 1000, pointer="/\x1b")
    assert len(finding.message) < 2 * MESSAGE_LIMIT * 6
    assert finding.message.isprintable()
    assert finding.pointer == "/\\x1b"
