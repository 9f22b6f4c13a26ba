import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.canonical import JsonObject
from coafi.documents.check import check_file
from coafi.documents.frontmatter import Place, metadata_findings, split
from coafi.registry.validation import Schema
from tests.coafi.documents.samples import BUILTIN, GOOD, Builtin, NoSchemas, check, rules


def edited(line: str, replacement: str) -> str:
    assert line in GOOD
    return GOOD.replace(line, replacement)


def test_a_document_as_the_domain_describes_it_is_valid_without_findings() -> None:
    report = check("COAFI-SCHEMA-0001-SPEC-A.md", GOOD)
    assert (report.verdict, report.findings) == ("valid", ())
    assert report.schema_used is not None
    assert report.schema_used.schema_id == "frontmatter.INFO-SPEC"
    assert report.metadata is not None
    assert report.metadata["date"] == "2025-04-27"
    assert report.metadata["tags"] == ["COAFI", "Schema", "UTidS"]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("end", ["---", "...", "---  ", "---\t"])
def test_every_line_end_and_closing_line_is_understood(newline: str, end: str) -> None:
    text = f"---\ntitle: x\n{end}\nbody\n".replace("\n", newline)
    parts = split(text)
    assert parts.place is Place.TOP
    assert text[parts.yaml_start : parts.yaml_end] == f"title: x{newline}"
    assert text[parts.body_start :] == f"body{newline}"


def test_a_trailing_comment_in_yaml_is_fine() -> None:
    assert check("a.md", edited("date: 2025-04-27", "date: 2025-04-27   # the day of the draft")).findings == ()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", Place.MISSING),
        ("# Title\n", Place.MISSING),
        ("---\n\nA thematic break, then text.\n", Place.MISSING),
        ("---", Place.MISSING),
        ("----\ntitle: x\n---\n", Place.MISSING),
        (" ---\ntitle: x\n---\n", Place.MISSING),
        ("---\n---\n", Place.TOP),
        ("---\ntitle: x\n", Place.UNCLOSED),
        ("---\n\ntitle: x\n\n# Heading\n", Place.UNCLOSED),
        ("\n---\ntitle: x\nstatus: DRAFT\n---\n", Place.MISPLACED),
        ("# Title\n\n---\ntitle: x\nstatus: DRAFT\n---\nText\n", Place.MISPLACED),
        ("# T\n\n```yaml\n---\ntitle: x\nstatus: DRAFT\n---\n```\n", Place.MISSING),
        ("# T\n\n~~~~\n~~~\n---\ntitle: x\nstatus: DRAFT\n---\n~~~~\n", Place.MISSING),
        ("# T\n\n```\n```\n\n---\ntitle: x\nstatus: DRAFT\n---\n", Place.MISPLACED),
        ("# T\n\n---\n\nOne section.\n\n---\n\nAnother.\n", Place.MISSING),
        ("# T\n\n---\ntitle: only one key\n---\n", Place.MISSING),
        ("# T\n\n---\ntitle: x\nstatus: never closed\n", Place.MISSING),
    ],
)
def test_where_front_matter_is(text: str, place: Place) -> None:
    assert split(text).place is place


@pytest.mark.parametrize(
    ("text", "rule", "line", "severity"),
    [
        ("# Title\n", "frontmatter/missing", 1, "warning"),
        ("# T\n\n---\ntitle: x\nstatus: DRAFT\n---\n", "frontmatter/misplaced", 3, "error"),
        ("---\ntitle: x\n", "frontmatter/unclosed", 1, "error"),
        ("---\njust text\n---\n", "frontmatter/not-a-mapping", 2, "error"),
        ("---\n- a\n- b\n---\n", "frontmatter/not-a-mapping", 2, "error"),
        ("---\ntitle: a: b\n---\n", "yaml/syntax", 2, "error"),
        ("---\ntitle: x\ntitle: y\n---\n", "yaml/duplicate-key", 3, "error"),
        ("---\ntitle: &a x\nauthor: *a\n---\n", "yaml/alias", 2, "error"),
        ("---\ntitle: x\n--- \n", "frontmatter/recommended-key", 1, "warning"),
        ("---\ntitle: x\n--- 1\n---\n", "frontmatter/several", 1, "error"),
    ],
)
def test_defects_of_front_matter(text: str, rule: str, line: int, severity: str) -> None:
    report = check("a.md", text)
    finding = next(finding for finding in report.findings if finding.rule == rule)
    assert (finding.line, finding.severity) == (line, severity)
    assert report.verdict == ("invalid" if severity == "error" else "valid")


@pytest.mark.parametrize("name", ["README.md", "docs/CHANGELOG.md", "CONTRIBUTING.markdown", "security.md"])
def test_files_that_never_have_front_matter_are_not_warned_about(name: str) -> None:
    (finding,) = check(name, "# Read me\n").findings
    assert (finding.rule, finding.severity) == ("frontmatter/missing", "info")


@pytest.mark.parametrize(
    ("line", "replacement", "rule", "severity", "at", "pointer"),
    [
        ("status: DRAFT", "status: On hold", "frontmatter/unusual-value", "warning", (5, 9), "/status"),
        ("version: v0.9-PRELIMINARY", "version: 0.9", "frontmatter/unusual-value", "warning", (4, 10), "/version"),
        ("date: 2025-04-27", "date: April 2025", "frontmatter/unusual-value", "warning", (7, 7), "/date"),
        ("date: 2025-04-27", "date: 2025-02-30", "frontmatter/unusual-value", "warning", (7, 7), "/date"),
        ("[COAFI, Schema, UTidS]", "[COAFI, 7]", "frontmatter/unusual-value", "warning", (8, 15), "/tags/1"),
        ("COAFI-SCHEMA-0001-SPEC-A", "Schema 1", "frontmatter/value", "error", (3, 14), "/document_id"),
        ('title: "UTidS Management Schema"', "title: [a]", "frontmatter/value", "error", (2, 8), "/title"),
        ('title: "UTidS Management Schema"\n', "", "frontmatter/required-key", "error", (1, 1), ""),
        ("utids: TBD\n", "", "frontmatter/recommended-key", "warning", (1, 1), ""),
    ],
)
def test_values_are_held_against_the_schema_of_the_info_code(
    line: str, replacement: str, rule: str, severity: str, at: tuple[int, int], pointer: str
) -> None:
    (finding,) = check("a.md", edited(line, replacement)).findings
    assert (finding.rule, finding.severity, (finding.line, finding.column), finding.pointer) == (
        rule,
        severity,
        at,
        pointer,
    )
    assert finding.remedy


def test_messages_are_for_people() -> None:
    (finding,) = check("a.md", edited("status: DRAFT", "status: On hold")).findings
    assert finding.message == "status is 'On hold', which is not in the list of known values"
    assert finding.remedy.startswith("use DRAFT, PROPOSAL, ACTIVE or RELEASE")
    (finding,) = check("a.md", edited("utids: TBD\n", "")).findings
    assert finding.message.startswith("the key 'utids' is missing: The traceable id")


@pytest.mark.parametrize(
    ("code", "schema"),
    [
        ("infoCode: INFO-RPT", "frontmatter.INFO-RPT"),
        ("infoCode: INFO-FED", "frontmatter.general"),
        ("infoCode: INFO-NEW", "frontmatter.general"),
        ("infoCode: ../../etc", "frontmatter.general"),
        ("infoCode: [INFO-SPEC]", "frontmatter.general"),
        ("kind: none", "frontmatter.general"),
    ],
)
def test_the_schema_is_chosen_by_the_info_code_with_a_general_fallback(code: str, schema: str) -> None:
    report = check("a.md", edited("infoCode: INFO-SPEC", code))
    assert report.schema_used is not None
    assert report.schema_used.schema_id == schema
    assert report.schema_used.version == "1.0.0"
    assert report.schema_used.digest == BUILTIN.find(schema).digest  # type: ignore[union-attr]  # it is there


def test_an_unknown_info_code_is_a_warning_since_the_list_is_open() -> None:
    report = check("a.md", edited("infoCode: INFO-SPEC", "infoCode: INFO-NEW"))
    assert (report.verdict, rules(report)) == ("valid", ["frontmatter/unusual-value"])


def test_kinds_of_documents_without_info_code_and_utids_are_not_reproached() -> None:
    text = edited("infoCode: INFO-SPEC\nutids: TBD\n", "")
    assert check("a.md", text).findings == ()


def test_without_a_schema_the_values_are_not_checked_and_that_is_said() -> None:
    report = check_file("a.md", GOOD.encode(), NoSchemas())
    assert rules(report) == ["frontmatter/no-schema"]
    assert report.schema_used is None


def test_a_schema_that_does_not_compile_is_the_finding_not_a_crash() -> None:
    broken = Schema("frontmatter.INFO-SPEC", "9.0.0", {"properties": {"title": {"pattern": "(?=x)"}}})
    report = check_file("a.md", GOOD.encode(), Builtin(broken))
    assert (report.verdict, rules(report)) == ("invalid", ["frontmatter/unusable-schema"])


def test_schemas_of_others_need_no_annotations() -> None:
    odd = Schema(
        "frontmatter.INFO-SPEC",
        "9.0.0",
        {
            "required": ["gone"],
            "x-recommended": "not a list",
            "properties": {"title": False, "tags": {"contains": {"const": 7}}, "a/b~": {"const": 1}},
            "additionalProperties": False,
            "maxProperties": 2,
        },
    )
    text = edited("utids: TBD", "a/b~: 2")
    report = check_file("a.md", text.encode(), Builtin(odd))
    assert report.verdict == "invalid"
    pointers = {finding.pointer: (finding.line, finding.column) for finding in report.findings}
    assert pointers["/a~1b~0"] == (10, 7)
    assert "" in pointers


def test_no_number_of_unusual_values_hides_a_wrong_one() -> None:
    tags: JsonObject = {"items": {"enum": ["a"]}, "x-severity": "warning"}
    schema = Schema("x", "1.0.0", {"properties": {"tags": tags, "version": {"type": "string"}}})
    found = metadata_findings({"tags": ["b"] * 300, "version": 1}, schema)
    assert {(one.pointer.split("/")[1], one.severity) for one in found if one.pointer} == {
        ("tags", "warning"),
        ("version", "error"),
    }


def test_front_matter_has_a_size_limit() -> None:
    assert rules(check("a.md", GOOD, max_front_matter_bytes=50)) == ["frontmatter/too-large"]


def test_an_empty_front_matter_lacks_its_keys() -> None:
    report = check("a.md", "---\n---\n# x\n")
    assert report.metadata == {}
    assert rules(report).count("frontmatter/required-key") == 1
    assert check("a.md", "---\n# only a comment\n---\n").metadata == {}


@given(st.text(st.sampled_from("-.\n\r `~#:ta"), max_size=60))
def test_the_parts_of_any_text_are_in_order(text: str) -> None:
    parts = split(text)
    assert 0 <= parts.yaml_start <= parts.yaml_end <= len(text)
    assert parts.body_start == 0 or parts.place is Place.TOP
    if parts.place is Place.TOP:
        assert parts.yaml_end < parts.body_start <= len(text)
