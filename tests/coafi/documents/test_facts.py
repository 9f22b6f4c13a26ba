import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.documents.check import check_file
from coafi.documents.context import CheckContext
from coafi.documents.facts import DocumentFacts, document_facts, id_of_document, usable_id
from coafi.documents.limits import DocumentLimits
from tests.coafi.documents.samples import BUILTIN, GOOD
from tests.coafi.documents.test_check import FRAGMENTS
from tests.coafi.documents.trees import MemoryTree


def test_facts_are_the_id_and_the_anchors() -> None:
    facts = document_facts(b"\xef\xbb\xbf" + GOOD.encode() + b"\n## Caf\xc3\xa9\n")
    assert facts.document_id == "COAFI-SCHEMA-0001-SPEC-A"
    assert set(facts.anchors) == {"utids-management-schema", "café"}
    assert DocumentFacts.model_validate(json.loads(facts.model_dump_json())) == facts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# T\n",
        "document_id: X\n",
        "---\ndocument_id: X\n",
        "---\ndocument_id: [X]\n---\n",
        "---\ndocument_id: &a X\n---\n" + "---\n",
        "---\n- document_id\n---\n",
        "---\ndocument_id: a: b\n---\n",
        "---\ndocument_id: ''\n---\n",
        f"---\ndocument_id: {'x' * 300}\n---\n",
        f"---\ndocument_id: X\nmore: {'x' * 70_000}\n---\n",
        "---\ndocument_id: X\n--- y\n---\n",
    ],
)
def test_without_readable_front_matter_there_is_no_id(text: str) -> None:
    facts = document_facts(text.encode())
    assert facts.document_id is None or "&a" in text
    assert id_of_document(text.encode()) == facts.document_id


def test_what_is_too_large_to_be_checked_has_no_facts() -> None:
    large = b"# x\n" * (DocumentLimits().max_bytes // 4 + 1)
    assert document_facts(large) == DocumentFacts(document_id=None, anchors=())
    assert id_of_document(large) is None


@given(st.one_of(st.binary(max_size=80), FRAGMENTS))
def test_every_content_has_facts_and_the_check_agrees(content: bytes) -> None:
    facts = document_facts(content)
    assert id_of_document(content) == facts.document_id
    report = check_file("a.md", content, BUILTIN, context=CheckContext.of(MemoryTree({"a.md": content})))
    if report.metadata is not None:
        assert usable_id(report.metadata.get("document_id")) == facts.document_id
