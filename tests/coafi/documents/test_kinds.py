import pytest

from coafi.documents.kinds import FileKind, identify, is_json_schema, kind_of_name
from tests.coafi.documents.samples import check


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("docs/Plan.MD", FileKind.MARKDOWN),
        ("a/b.yaml", FileKind.YAML),
        ("a/b.yml", FileKind.YAML),
        ("a/b.json", FileKind.JSON),
        ("a/event.schema.json", FileKind.JSON_SCHEMA),
        ("a/b.py", FileKind.TEXT),
        ("LICENSE", FileKind.TEXT),
        ("a/.gitignore", FileKind.TEXT),
        ("a/photo.png", FileKind.IMAGE),
        ("a/Photo.JPG", FileKind.IMAGE),
        ("a/drawing.svg", FileKind.IMAGE),
        ("a/scan.tiff", FileKind.UNKNOWN),
        (".png", FileKind.UNKNOWN),
        ("a.md/noname", FileKind.UNKNOWN),
        ("", FileKind.UNKNOWN),
    ],
)
def test_a_name_claims_a_kind(path: str, kind: FileKind) -> None:
    assert kind_of_name(path) is kind


@pytest.mark.parametrize(
    ("path", "content", "kind"),
    [
        ("photo.png", b"\x89PNG\r\n\x1a\n\x00", FileKind.IMAGE),
        ("photo.png", b"no photo at all\n", FileKind.IMAGE),
        ("photo", b"\x89PNG\r\n\x1a\n\x00", FileKind.IMAGE),
        ("photo", b"RIFF\0\0\0\0WEBPVP8 ", FileKind.IMAGE),
        ("sound", b"RIFF\0\0\0\0WAVEfmt ", FileKind.BINARY),
        ("noname", b"<svg xmlns='http://www.w3.org/2000/svg'/>", FileKind.TEXT),
        ("a.txt", b"GIF89a", FileKind.TEXT),
        ("noname", b"\xff\xfe\x00", FileKind.BINARY),
        ("noname", b"a\x01b", FileKind.BINARY),
        ("noname", b"plain\n", FileKind.TEXT),
        ("noname", b"", FileKind.UNKNOWN),
        ("noname", b"\xef\xbb\xbf", FileKind.UNKNOWN),
        ("empty.md", b"", FileKind.MARKDOWN),
        ("a.yaml", b"\x00", FileKind.YAML),
    ],
)
def test_the_content_decides_where_the_name_does_not(path: str, content: bytes, kind: FileKind) -> None:
    assert identify(path, content).kind is kind


@pytest.mark.parametrize(
    ("content", "line", "column"),
    [
        (b"ab\ncd\xff", 2, 3),
        ("é\r\né".encode() + b"\xe9x", 2, 2),
        (b"\xef\xbb\xbfa\x00", 1, 2),
        (b"a\nb\nc\x00\xff", 3, 2),
        ("x".encode("utf-16"), 1, 1),
        ("x".encode("utf-32"), 1, 1),
    ],
)
def test_what_claims_to_be_text_and_is_none_is_told_where(content: bytes, line: int, column: int) -> None:
    report = check("a.md", content)
    (finding,) = report.findings
    assert (finding.rule, finding.line, finding.column) == ("file/encoding", line, column)
    assert report.verdict == "invalid"


def test_the_encoding_is_named_where_it_is_known() -> None:
    assert "UTF-16" in check("a.json", "{}".encode("utf-16")).findings[0].message
    assert "0xe9" in check("a.json", b'"caf\xe9"').findings[0].message
    assert "NUL" in check("a.json", b'"\x00"').findings[0].message


def test_a_program_in_an_old_encoding_is_only_warned_about() -> None:
    report = check("old.py", "# café".encode("latin-1"))
    assert (report.verdict, report.findings[0].severity) == ("valid", "warning")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"$schema": "https://json-schema.org/draft/2020-12/schema"}, True),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, True),
        ({"$schema": "https://json.schemastore.org/package.json"}, False),
        ({"$schema": "https://example.org/json-schema.org/schema"}, False),
        ({"$schema": 7}, False),
        ({}, False),
        (["$schema"], False),
    ],
)
def test_a_schema_is_known_by_its_meta_schema(value: object, expected: bool) -> None:
    assert is_json_schema(value) is expected  # type: ignore[arg-type]  # wrong types on purpose
