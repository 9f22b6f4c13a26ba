"""What other documents may need to know of a Markdown document: its id, and where it can be linked to."""

from pydantic import BaseModel, ConfigDict

from coafi.documents.frontmatter import Place, split
from coafi.documents.limits import DocumentLimits, in_turn
from coafi.documents.outline import read_outline
from coafi.documents.source import Source
from coafi.documents.yaml_syntax import parse_yaml

FACTS_VERSION = 1
"""Goes up whenever the same content would give other facts: what was stored under an older one is stale."""

LONGEST_ID = 200
"""Characters of a document's id; what is longer is none."""

_LIMITS = DocumentLimits()


class DocumentFacts(BaseModel):
    """Facts about one document.

    Attributes:
        document_id: as its front matter says; ``None`` when it says none, or cannot be read.
        anchors: what can stand behind ``#`` in a link to it, in no order that matters.
    """

    model_config = ConfigDict(frozen=True)

    document_id: str | None
    anchors: tuple[str, ...]


def document_facts(content: bytes) -> DocumentFacts:
    """The facts of a Markdown document. Never raises; takes seconds at most, and mostly a fraction of a millisecond.

    Args:
        content: the whole file. What is larger than files that are checked has no facts.
    """
    if len(content) > _LIMITS.max_bytes:
        return DocumentFacts(document_id=None, anchors=())
    with in_turn(len(content)):
        document_id, title, body = _read(content)
        return DocumentFacts(document_id=document_id, anchors=read_outline(body, title).anchors)


def id_of_document(content: bytes) -> str | None:
    """Only the id among the facts of a Markdown document, in a quarter of the time."""
    return None if len(content) > _LIMITS.max_bytes else _read(content)[0]


def _read(content: bytes) -> tuple[str | None, str, str]:
    """Id, title and body of a Markdown document."""
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    parts = split(text)
    document_id, title = None, ""
    if parts.place is Place.TOP and parts.yaml_end - parts.yaml_start <= _LIMITS.max_front_matter_bytes:
        values = parse_yaml(Source(text, parts.yaml_start, parts.yaml_end), _LIMITS).values
        metadata = values[0] if len(values) == 1 and isinstance(values[0], dict) else {}
        document_id = usable_id(metadata.get("document_id"))
        named = metadata.get("title")
        title = named if isinstance(named, str) else ""
    return document_id, title, text[parts.body_start :]


def usable_id(value: object) -> str | None:
    """``value`` when it can be the id of a document; what no id at all looks like is left to the schema."""
    return value if isinstance(value, str) and 0 < len(value) <= LONGEST_ID and value.strip() == value else None
