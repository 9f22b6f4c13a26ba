"""Everything that derives from one valid document: pure, and the same bytes wherever and whenever it runs.

An artifact depends on the file's bytes, its kind, the generator's version and its configuration, on nothing else: no
path, time, event or repository is in it, so that the same blob in another place, or a year later, is the same page.
"""

from pydantic import JsonValue

from coafi.artifacts.markdown import TooCostly, render
from coafi.artifacts.model import Artifact, ArtifactKind, Generation, GeneratorConfig, Skipped
from coafi.artifacts.page import Entry, page
from coafi.artifacts.tree import SchemaTables, Tree
from coafi.canonical import JsonObject, canonical_json
from coafi.documents.check import FileReport, Verdict
from coafi.documents.frontmatter import split
from coafi.documents.images import format_of_content
from coafi.documents.json_syntax import parse_json
from coafi.documents.kinds import SHOWN, FileKind
from coafi.documents.limits import DocumentLimits, in_turn
from coafi.documents.parsed import Parsed
from coafi.documents.source import Source
from coafi.documents.svg import clean_svg
from coafi.documents.yaml_syntax import parse_yaml
from coafi.errors import ValidationError

_NAMES = {
    ArtifactKind.PAGE: ("page.html", "text/html; charset=utf-8"),
    ArtifactKind.METADATA: ("metadata.json", "application/json"),
    ArtifactKind.CANONICAL: ("canonical.json", "application/json"),
}
_KIND_WORDS = {FileKind.YAML: "YAML data", FileKind.JSON: "JSON data", FileKind.JSON_SCHEMA: "JSON Schema"}
_TITLE_LIMIT = 300
# The check held the limits already; here they only have to be wide enough for all that passed.
_LIMITS = DocumentLimits(max_depth=400, max_nodes=10_000_000, max_findings=2)


def generate(kind: FileKind, content: bytes, report: FileReport, config: GeneratorConfig) -> Generation:
    """The artifacts of one document. The same content gives the same bytes.

    Markdown gives a page and its metadata; YAML, JSON and JSON Schema give canonical JSON (one line per document when
    a YAML file holds several) and a page. An image gives itself; an SVG, what of it only draws. Other kinds, and files
    that are not valid, give nothing.

    Args:
        kind: of the file, as the report says.
        content: the bytes that were checked.
        report: the outcome of ``check_file`` for these bytes; only its verdict counts.
        config: limits and the default language.
    """
    if report.verdict is not Verdict.VALID or kind not in SHOWN:
        return Generation()
    if kind is FileKind.IMAGE:
        with in_turn(len(content)):
            return Generation(artifacts=(_of_image(content),))
    # Valid documents are UTF-8: the check said so.
    with in_turn(len(content)):
        text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
        return _of_markdown(text, config) if kind is FileKind.MARKDOWN else _of_data(kind, text, config)


def _artifact(kind: ArtifactKind, content: bytes, *, lines: bool = False) -> Artifact:
    name, media_type = ("canonical.jsonl", "application/jsonl") if lines else _NAMES[kind]
    return Artifact(kind=kind, name=name, media_type=media_type, content=content)


def _of_image(content: bytes) -> Artifact:
    found = format_of_content(content)
    if found is None:  # The check let no other image through that has no signature.
        content, name, media_type = clean_svg(content).content, "image.svg", "image/svg+xml"
    else:
        name, media_type = f"image.{found}", f"image/{found}"
    return Artifact(kind=ArtifactKind.IMAGE, name=name, media_type=media_type, content=content)


def _of_markdown(text: str, config: GeneratorConfig) -> Generation:
    parts = split(text)
    # Read again rather than taken from the report: a report that was stored writes 1.0 as 1.
    read = parse_yaml(Source(text, parts.yaml_start, parts.yaml_end), _LIMITS).values
    metadata = read[0] if read and isinstance(read[0], dict) else None
    given = metadata.get("title") if metadata else None
    title = " ".join(given.split())[:_TITLE_LIMIT] if isinstance(given, str) else ""
    language = _language(metadata, config)
    artifacts: list[Artifact] = []
    skipped: list[Skipped] = []
    headings: tuple[Entry, ...] = ()
    try:
        rendered = render(text[parts.body_start :], title, config)
        title, headings = rendered.title[:_TITLE_LIMIT], rendered.headings
        html = page(
            title=title,
            language=language,
            kind="Document",
            body=rendered.html,
            metadata=metadata,
            contents=headings,
        )
        if len(html) > config.max_page_bytes:
            raise TooCostly(f"the page would have {len(html)} bytes")
        artifacts.append(_artifact(ArtifactKind.PAGE, html))
    except TooCostly as error:
        skipped.append(Skipped(kind=ArtifactKind.PAGE, reason=str(error)))
    described: JsonObject = {
        "title": title,
        "language": language,
        "frontMatter": metadata,
        "headings": [{"level": entry.level, "anchor": entry.anchor, "text": entry.text} for entry in headings],
    }
    artifacts.append(_artifact(ArtifactKind.METADATA, canonical_json(described)))
    return Generation(artifacts=tuple(artifacts), skipped=tuple(skipped))


def _language(metadata: JsonObject | None, config: GeneratorConfig) -> str:
    named = metadata.get("lang") if metadata else None
    try:
        return GeneratorConfig(language=named).language if isinstance(named, str) else config.language
    except ValueError:
        return config.language


def _of_data(kind: FileKind, text: str, config: GeneratorConfig) -> Generation:
    parsed = (parse_yaml if kind is FileKind.YAML else parse_json)(Source.of(text), _LIMITS)
    artifacts: list[Artifact] = []
    skipped: list[Skipped] = []
    canonical = _canonical(parsed)
    if isinstance(canonical, bytes):
        artifacts.append(_artifact(ArtifactKind.CANONICAL, canonical, lines=len(parsed.values) > 1))
    else:
        skipped.append(Skipped(kind=ArtifactKind.CANONICAL, reason=canonical))
    html = _data_page(kind, parsed.values, config)
    if len(html) <= config.max_page_bytes:
        artifacts.append(_artifact(ArtifactKind.PAGE, html))
    else:
        skipped.append(Skipped(kind=ArtifactKind.PAGE, reason=f"the page would have {len(html)} bytes"))
    return Generation(artifacts=tuple(artifacts), skipped=tuple(skipped))


def _canonical(parsed: Parsed) -> bytes | str:
    """Canonical JSON, or why there is none."""
    if parsed.inexact:
        return f"the data has no canonical JSON: {parsed.inexact}"
    if not parsed.values:
        return "the file holds no data"
    try:
        if len(parsed.values) == 1:
            return canonical_json(parsed.values[0])
        return b"".join(canonical_json(value) + b"\n" for value in parsed.values)
    except ValidationError as error:
        return error.message


def _data_page(kind: FileKind, values: tuple[JsonValue, ...], config: GeneratorConfig) -> bytes:
    words = _KIND_WORDS[kind]
    tree = Tree(config.max_shown_values)
    parts: list[str] = []
    contents: list[Entry] = []
    title = ""
    if not values:
        parts.append('<p class="note">This file holds no data: it is empty, or has only comments.</p>')
    elif len(values) == 1:
        value = values[0]
        if isinstance(value, dict):
            title = _named(value)
            if kind is FileKind.JSON_SCHEMA:
                sections, contents = SchemaTables(value, config.max_shown_values).sections()
                parts.append(sections)
                parts.append('<h2 id="schema">Schema</h2>')
                contents.append(Entry(2, "schema", "Schema"))
        parts.append(tree.document(value))
    else:
        for number, value in enumerate(values, 1):
            if number > config.max_shown_values:
                parts.append(f'<p class="note">{len(values) - number + 1} more documents are not shown here.</p>')
                break
            heading = f"Document {number} of {len(values)}"
            contents.append(Entry(2, f"document-{number}", heading))
            parts.append(f'<h2 id="document-{number}">{heading}</h2>')
            parts.append(tree.document(value))
    return page(title=title or words, language=config.language, kind=words, body="\n".join(parts), contents=contents)


def _named(value: JsonObject) -> str:
    """What the data calls itself, if it does."""
    for key in ("title", "name", "$id"):
        name = value.get(key)
        if isinstance(name, str) and name.strip():
            return " ".join(name.split())[:_TITLE_LIMIT]
    return ""
