"""The settings of a repository: what is wrong in them is said, and stops nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.artifacts.generate import generate
from coafi.artifacts.model import GeneratorConfig
from coafi.documents.check import check_file
from coafi.documents.context import CheckContext
from coafi.documents.repository import Binding, bindings_of, severities_of
from coafi.documents.rules import RULES
from coafi.findings import Severity
from tests.coafi.documents.samples import BUILTIN, check
from tests.coafi.documents.test_check import FRAGMENTS
from tests.coafi.documents.trees import MemoryTree

MIXED = b"""rules:
  link/empty: off
  link/outsid: error
  frontmatter/missing: never
  yaml/tag: [info]
  text/mojibake: error
  12: off
more: 1
"""


def test_what_makes_sense_in_wrong_settings_holds() -> None:
    assert severities_of(MIXED) == {"link/empty": None, "text/mojibake": Severity.ERROR}


def test_what_is_wrong_in_settings_is_said_where_it_is() -> None:
    report = check(".coafi.yaml", MIXED)
    assert [(one.rule, one.line, one.column, one.pointer) for one in report.findings] == [
        ("settings/value", 1, 1, ""),
        ("settings/unknown-rule", 3, 16, "/rules/link~1outsid"),
        ("settings/value", 4, 24, "/rules/frontmatter~1missing"),
        ("settings/value", 5, 13, "/rules/yaml~1tag"),
        ("settings/unknown-rule", 7, 7, "/rules/12"),
    ]
    assert report.findings[1].remedy == "did you mean link/outside?"
    (near,) = check(".coafi.yaml", "rules: {link/missing-heding: info}").findings
    assert near.remedy == "did you mean link/missing-heading?"
    (far,) = check(".coafi.yaml", "rules: {xyz: info}").findings
    assert far.remedy == "use an id from the table of rules"
    assert report.verdict == "invalid"


@pytest.mark.parametrize("content", ["", "# nothing yet\n", "rules: {}", "{}"])
def test_settings_may_be_empty(content: str) -> None:
    assert [one.rule for one in check(".coafi.yaml", content).findings] == []


def test_only_the_files_at_the_root_are_settings() -> None:
    assert check("docs/.coafi.yaml", "rules: 1").findings == ()
    assert check("docs/schemas.yaml", "- 1").findings == ()
    assert [one.rule for one in check("schemas.yaml", "- 1").findings] == ["bindings/value"]
    assert [one.rule for one in check(".coafi.yaml", "rules: [").findings] == ["yaml/syntax"]


@given(st.one_of(st.none(), st.binary(max_size=60), FRAGMENTS))
def test_every_content_is_understood_as_far_as_it_goes(content: bytes | None) -> None:
    assert isinstance(severities_of(content), dict)
    assert isinstance(bindings_of(content), tuple)


def test_bindings_that_make_sense_hold() -> None:
    content = b"""schemas:
  - schema: /a.schema.json
    files: [x/*, 7, '!x/y']
  - schema: 7
    files: [x]
  - nonsense
  - schema: b.schema.json
    files: x
"""
    assert bindings_of(content) == (Binding("a.schema.json", ("x/*", "!x/y")),)
    many = b"schemas:\n" + b"  - {schema: s, files: [" + b"a," * 1999 + b"a, b]}\n  - {schema: t, files: [c]}\n"
    first, second = bindings_of(many)
    assert (len(first.files), second.files) == (2000, ())
    assert bindings_of(b"#" * 300_000) == ()


SOFTENED = [rule for rule, one in RULES.items() if one.severity is Severity.ERROR and rule != "settings/value"]


@pytest.mark.parametrize("rule", SOFTENED)
def test_what_a_repository_does_not_mind_breaks_nothing_further_on(rule: str) -> None:
    example = RULES[rule].breaks
    content = example.content.encode() if isinstance(example.content, str) else example.content or b""
    off = "".join(f"  {one}: off\n" for one in SOFTENED)
    tree = MemoryTree({**example.around, example.path: content, ".coafi.yaml": f"rules:\n{off}"})
    report = check_file(example.path, content, BUILTIN, context=CheckContext.of(tree))
    assert report.verdict in ("valid", "skipped")
    generation = generate(report.kind, content, report, GeneratorConfig())
    assert bool(generation.artifacts) == (report.verdict == "valid")


@pytest.mark.parametrize(
    ("path", "content"),
    [("a.yaml", b"{{ x }}: ["), ("a.json", b"{{"), ("a.md", b"\xff"), ("a.yaml", b"a: &x 1\nb: *x")],
)
def test_what_cannot_be_read_is_skipped_when_its_repository_does_not_mind(path: str, content: bytes) -> None:
    off = "".join(f"  {one}: info\n" for one in SOFTENED)
    tree = MemoryTree({path: content, ".coafi.yaml": f"rules:\n{off}"})
    report = check_file(path, content, BUILTIN, context=CheckContext.of(tree))
    assert report.verdict == "skipped"
    assert {one.severity for one in report.findings} == {Severity.INFO}
