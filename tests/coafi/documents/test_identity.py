import pytest

from coafi.documents.check import check_file
from coafi.documents.context import CheckContext
from tests.coafi.documents.samples import BUILTIN, GOOD, check
from tests.coafi.documents.trees import MemoryTree

ID = "COAFI-SCHEMA-0001-SPEC-A"


@pytest.mark.parametrize(
    ("name", "agrees"),
    [
        *((name, True) for name in (f"{ID}.md", "coafi-schema-0001-spec-a.md", f"{ID}-UTidS.md", f"x/{ID}.v1.md")),
        *(
            (name, True)
            for name in ("COAFI-SCHEMA-0001.md", "coafi_schema_0001.md", f"plan {ID}.md", "schema.md", "COAFI.md")
        ),
        *((name, True) for name in ("MYCOAFI-X-0001.md", "GPX-1.md", ".md", "")),
        *((name, False) for name in ("COAFI-SCHEMA-0002-SPEC-A.md", "COAFI-SCHEMA-0001-SPEC-B.md", "gp-docs-0001.md")),
        *((name, False) for name in ("COAFI-SCHEMA-00012.md", f"{ID}X.md", "2025 COAFI_POL_0001.md")),
    ],
)
def test_the_name_of_a_file_agrees_with_the_id_or_says_nothing_of_it(name: str, agrees: bool) -> None:
    content = GOOD.encode()
    report = check_file(name if name.endswith(".md") else "x.md", content, BUILTIN)
    found = [(one.rule, one.line, one.column, one.pointer) for one in report.findings]
    assert found == ([] if agrees else [("document/file-name", 3, 14, "/document_id")])


@pytest.mark.parametrize("value", ["TBD", "todo", "[x]", "''", "N/A"])
def test_a_placeholder_is_no_id(value: str) -> None:
    content = GOOD.replace(ID, value)
    tree = MemoryTree({"a.md": content, "b.md": content})
    report = check_file("COAFI-X-0001.md", content.encode(), BUILTIN, context=CheckContext.of(tree))
    assert not [one for one in report.findings if one.rule.startswith("document/")]


def test_the_other_documents_with_an_id_are_named() -> None:
    tree = MemoryTree({f"{name}.md": GOOD for name in "abcdef"})
    report = check_file("c.md", GOOD.encode(), BUILTIN, context=CheckContext.of(tree))
    assert [one.message for one in report.findings] == [f"{ID} is also the id of a.md, b.md, d.md and 2 more"]
    assert report.verdict == "invalid"


def test_without_a_tree_no_other_document_is_known() -> None:
    assert check("a.md", GOOD).findings == ()
