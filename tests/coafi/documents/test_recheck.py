"""A report that is made again for another schema says what a check with that schema would have said."""

from dataclasses import dataclass

from hypothesis import example, given
from hypothesis import strategies as st

from coafi.documents.check import Verdict, check_file, recheck_front_matter
from coafi.documents.context import CheckContext
from coafi.documents.frontmatter import schema_for
from coafi.documents.limits import DocumentLimits
from coafi.findings import Severity
from coafi.registry.validation import Schema
from tests.coafi.documents.samples import BUILTIN
from tests.coafi.documents.trees import MemoryTree

TEXT = {"type": "string"}
SCHEMAS = [
    {},
    {"required": ["title", "reviewer"]},
    {"properties": {"title": {"type": "string", "maxLength": 3, "x-remedy": "shorten it"}}},
    {"properties": {"status": {"enum": ["ACTIVE"], "x-severity": "warning"}}, "x-recommended": ["date"]},
    {"additionalProperties": False, "properties": {"title": TEXT, "status": TEXT}},
    {"properties": {"tags": {"type": "array", "items": {"type": "string", "pattern": "^[A-Z]+$"}}}},
]
LINES = st.lists(
    st.sampled_from(
        [
            *(
                "title: A title",
                "title: 5",
                "status: ACTIVE",
                "status: odd",
                "tags: [COAFI, small]",
                "date: 2025-04-27",
            ),
            *("infoCode: INFO-SPEC", "version: v1.0-RELEASE", "document_id: COAFI-ENG-0001-SPEC-A", "reviewer: Ada"),
            *("utids: TBD", "author: Ada", "a: &x 1", "title: twice", "date: 2025-04-27"),
        ]
    ),
    max_size=8,
)
BODIES = st.sampled_from(["", "# A title\n", "[nowhere](nothing.md)\n", "<script>\n", "# A\n\n### B\n\u200b\n"])
SETTINGS = st.sampled_from([{}, {"frontmatter/required-key": Severity.WARNING}, {"frontmatter/value": None}])


@dataclass(frozen=True)
class Only:
    """One schema for every document."""

    schema: Schema

    def find(self, schema_id: str) -> Schema | None:
        """What ``SchemaLookup`` asks for."""
        return self.schema if schema_id == self.schema.schema_id else None


def said(report: object) -> list[tuple[str, str, str | None, str]]:
    """What a report says, but for places."""
    findings = getattr(report, "findings", ())
    return sorted((one.rule, one.severity, one.pointer or "", one.message) for one in findings)


@given(LINES, BODIES, st.sampled_from(SCHEMAS), SETTINGS)
@example(["title: A title"], "# A title\n", {"required": ["reviewer"]}, {})
def test_it_says_what_the_check_would_say(
    lines: list[str], body: str, document: dict[str, object], severities: dict[str, Severity | None]
) -> None:
    content = "\n".join(["---", *lines, "---", body]).encode()
    context = CheckContext(MemoryTree({"a.md": content}), severities)
    before = check_file("a.md", content, BUILTIN, context=context)
    if before.metadata is None:
        return
    schema = Schema("frontmatter.general", "9.0.0", document)  # type: ignore[arg-type]  # JSON
    wanted = check_file("a.md", content, Only(schema), context=context)
    assert schema_for(before.metadata, Only(schema)) is schema
    again = recheck_front_matter(before, schema, context)
    assert again is not None
    assert again.verdict == wanted.verdict
    assert said(again) == said(wanted)
    assert (again.schema_used, again.metadata, again.kind) == (wanted.schema_used, wanted.metadata, wanted.kind)


def test_places_that_were_known_stay_known() -> None:
    content = b"---\ntitle: A title\nstatus: 5\n---\n# A title\n"
    context = CheckContext(MemoryTree({"a.md": content}))
    first = Schema("frontmatter.general", "1.0.0", {"properties": {"status": {"type": "string"}}})
    second = Schema("frontmatter.general", "2.0.0", {"properties": {"status": {"type": "string", "maxLength": 3}}})
    before = check_file("a.md", content, Only(first), context=context)
    again = recheck_front_matter(before, second, context)
    assert again is not None
    assert [one.line for one in again.findings if one.pointer == "/status"] == [3]


def test_what_was_left_out_matters_only_if_it_may_hold_errors() -> None:
    """Of too many findings the worst are kept, so where a lesser one is shown all errors are."""
    keys = "".join(f"k{number}: 1\n" for number in range(30))
    content = f"---\ntitle: A title\n{keys}---\n# A title\n".encode()
    context = CheckContext(MemoryTree({"a.md": content}))
    limits = DocumentLimits(max_findings=5)
    properties = {f"k{number}": {"type": "string"} for number in range(30)}
    strict = Schema("frontmatter.general", "1.0.0", {"properties": properties})  # type: ignore[dict-item]  # JSON
    before = check_file("a.md", content, Only(strict), limits, context=context)
    assert before.verdict is Verdict.INVALID
    assert recheck_front_matter(before, Schema("frontmatter.general", "2.0.0", {}), context, limits) is None
    lenient = Schema(
        "frontmatter.general",
        "1.0.0",
        {"properties": {name: {"type": "string", "x-severity": "info"} for name in properties}},
    )
    shown = check_file("a.md", content, Only(lenient), limits, context=context)
    again = recheck_front_matter(shown, Schema("frontmatter.general", "2.0.0", {}), context, limits)
    assert again is not None
    assert again.verdict is Verdict.VALID
