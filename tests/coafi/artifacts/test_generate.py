import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from coafi.artifacts.generate import generate
from coafi.artifacts.model import Artifact, ArtifactKind, Generation, GeneratorConfig
from coafi.canonical import canonical_json, sha256
from coafi.documents.check import FileReport, Verdict, check_file
from coafi.documents.kinds import FileKind
from tests.coafi.artifacts.test_markdown import Page, assert_harmless
from tests.coafi.documents.samples import BUILTIN, GOOD, PNG, SVG, check
from tests.coafi.documents.test_yaml_syntax import DATA

CONFIG = GeneratorConfig()
GOLDEN = Path(__file__).parent / "golden"


def made(path: str, content: str | bytes, config: GeneratorConfig = CONFIG) -> Generation:
    data = content.encode() if isinstance(content, str) else content
    report = check(path, data)
    return generate(report.kind, data, report, config)


def one(generation: Generation, kind: ArtifactKind) -> Artifact:
    (artifact,) = (artifact for artifact in generation.artifacts if artifact.kind is kind)
    return artifact


def page(path: str, content: str, config: GeneratorConfig = CONFIG) -> str:
    return one(made(path, content, config), ArtifactKind.PAGE).content.decode()


def test_a_document_gives_a_page_and_its_metadata() -> None:
    generation = made("a.md", GOOD + "\nText.\n\n## One\n\n## Two\n")
    assert [(a.kind, a.name, a.media_type) for a in generation.artifacts] == [
        ("page", "page.html", "text/html; charset=utf-8"),
        ("metadata", "metadata.json", "application/json"),
    ]
    described = json.loads(one(generation, ArtifactKind.METADATA).content)
    assert described["title"] == "UTidS Management Schema"
    assert described["frontMatter"]["date"] == "2025-04-27"
    assert [heading["anchor"] for heading in described["headings"]] == ["one", "two"]
    assert canonical_json(described) == one(generation, ArtifactKind.METADATA).content


def test_the_page_is_accessible() -> None:
    html = page("a.md", GOOD + "\n## One\n\n### Deep\n\n## Two\n")
    seen = Page(html).seen
    names = [tag for tag, _ in seen]
    assert dict(seen[0][1]) == {"lang": "en"}
    assert names.count("h1") == names.count("main") == names.count("header") == names.count("title") == 1
    assert ("nav", {"class": "toc", "aria-label": "Table of contents"}) in seen
    links = [attributes["href"] for tag, attributes in seen if tag == "a"]
    ids = {attributes["id"] for _, attributes in seen if "id" in attributes}
    assert links[0] == "#coafi-content"
    assert {str(link).removeprefix("#") for link in links} == ids - {"coafi-origin"}
    levels = [int(tag[1]) for tag in names if tag in ("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels == [1, 2, 3, 2]


@pytest.mark.parametrize(
    ("front", "expected"),
    [
        ("lang: de", '<html lang="de">'),
        ("lang: pt-BR", '<html lang="pt-BR">'),
        ("lang: [x]", '<html lang="en">'),
        ("lang: not a language", '<html lang="en">'),
        ("status: ACTIVE", '<span class="status active"><span class="vh">Status: </span>ACTIVE</span>'),
        ("status: On hold", '<span class="status other">'),
        ("status: [a, b]", "<dt>status</dt><dd>a, b</dd>"),
        ("tags: COAFI", '<ul class="tags" aria-label="Tags"><li>COAFI</li></ul>'),
        ("owner: {name: A, role: }", "<dt>owner</dt><dd>name: A, role: –</dd>"),
        ("reviewed: true", "<dt>reviewed</dt><dd>yes</dd>"),
        ("version: 1.0", "<dt>Version</dt><dd>1.0</dd>"),
        ("note: " + "x" * 1000, "x" * 400 + "…"),
        ("empty: []", "<dt>empty</dt><dd>–</dd>"),
    ],
)
def test_the_title_block_shows_the_metadata(front: str, expected: str) -> None:
    assert expected in page("a.md", f"---\ntitle: T\n{front}\n---\n")


def test_a_document_without_front_matter_has_a_page_too() -> None:
    generation = made("README.md", "# Read *me*\n\nText.\n")
    assert b"<title>Read me</title>" in one(generation, ArtifactKind.PAGE).content
    assert json.loads(one(generation, ArtifactKind.METADATA).content)["frontMatter"] is None


@pytest.mark.parametrize(
    ("headings", "has"), [("## A\n## B\n", False), ("## A\n## B\n### C\n#### D\n", True), ("### A\n## B\n## C\n", True)]
)
def test_a_table_of_contents_appears_from_three_headings_on(headings: str, has: bool) -> None:
    html = page("a.md", headings.replace("\n", "\n\n"))
    assert ("Table of contents" in html) is has
    assert_harmless(html)


@pytest.mark.parametrize(
    ("path", "text"), [("a.json", '{"b": 1.0, "a": [true, null, "é"]}'), ("a.yaml", "b: 1\na: [true, null, é]")]
)
def test_data_gives_canonical_json_and_a_page(path: str, text: str) -> None:
    generation = made(path, text)
    assert one(generation, ArtifactKind.CANONICAL).content == '{"a":[true,null,"é"],"b":1}'.encode()
    assert one(generation, ArtifactKind.CANONICAL).media_type == "application/json"
    assert_harmless(one(generation, ArtifactKind.PAGE).content.decode())


def test_several_yaml_documents_are_a_line_each() -> None:
    generation = made("a.yaml", "a: 1\n---\n[x]\n---\ny\n")
    canonical = one(generation, ArtifactKind.CANONICAL)
    assert (canonical.name, canonical.media_type) == ("canonical.jsonl", "application/jsonl")
    assert canonical.content == b'{"a":1}\n["x"]\n"y"\n'
    html = one(generation, ArtifactKind.PAGE).content.decode()
    assert "Document 3 of 3" in html
    assert "Table of contents" in html


@pytest.mark.parametrize(
    ("path", "text", "reason"),
    [
        ("a.json", "[12345678901234567890]", "line 1: 12345678901234567890 is beyond"),
        ("a.json", '\n"\\ud800"', "line 2: the text has the half"),
        ("a.yaml", "a: .inf", "line 1: .inf is no number"),
        ("a.yaml", "# nothing\n", "the file holds no data"),
    ],
)
def test_data_without_canonical_form_has_a_page_and_a_reason(path: str, text: str, reason: str) -> None:
    generation = made(path, text)
    assert [artifact.kind for artifact in generation.artifacts] == ["page"]
    (skipped,) = generation.skipped
    assert skipped.kind == "canonical"
    assert reason in skipped.reason


def test_lists_of_alike_objects_become_tables() -> None:
    html = page("a.json", '[{"a": 1, "b": "x"}, {"b": null, "c": 1.5}]')
    assert '<th scope="col">a</th><th scope="col">b</th><th scope="col">c</th>' in html
    assert '<td></td><td><span class="lit">null</span></td><td><span class="num">1.5</span></td>' in html
    nested = page("a.yaml", "rows:\n- {a: 1}\n- {a: 2}\n")
    assert "<table>" in nested
    for other in (
        '[{"a": 1}]',
        '[{"a": [1]}, {"a": 2}]',
        "[1, 2]",
        "[{}, {}]",
        json.dumps([{str(n): n} for n in range(9)]),
    ):
        assert "<table>" not in page("a.json", other)


def test_values_are_shown_as_they_are_written() -> None:
    html = page(
        "a.json", '{"title": "T", "": "", "e": {}, "l": [], "m": "a\\nb", "i": 3.0, "f": 1e300, "<k>": "<v>", "z": 0.1}'
    )
    for part in (
        "<h1>T</h1>",
        '<span class="key">&quot;&quot;</span><span class="str">&quot;&quot;</span>',
        '<span class="count">0 keys</span>',
        '<span class="count">0 items</span>',
        '<span class="str lines">a\nb</span>',
        '<span class="num">3</span>',
        '<span class="num">1e+300</span>',
        '<span class="key">&lt;k&gt;</span><span class="str">&lt;v&gt;</span>',
    ):
        assert part in html, part
    assert '<span class="num">7</span>' in page("a.yaml", "7")


def test_a_schema_is_shown_as_a_table_of_its_properties() -> None:
    schema: JsonValue = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Thing",
        "description": "What a <thing> is.",
        "required": ["id"],
        "properties": {
            "id": {"type": "string", "pattern": "^a", "minLength": 1, "description": "Its id."},
            "n": {"type": ["integer", "null"], "minimum": 1, "maximum": 9.5},
            "k": {"const": "x"},
            "e": {"enum": list(range(40))},
            "d": {"format": "date", "maxItems": 3},
            "r": {"$ref": "#/$defs/r"},
            "any": True,
            "none": False,
        },
    }
    html = page("a.json", json.dumps(schema))
    for part in (
        "JSON Schema",
        '<p class="lede">What a &lt;thing&gt; is.</p>',
        '<code>id</code> <span class="req">required</span>',
        "string, <code>^a</code>, 1 or more characters",
        "integer or null, 1 to 9.5",
        'always <span class="str">x</span>',
        "</span> …",
        "format date, up to 3 items",
        "as <code>#/$defs/r</code>",
        "<td>anything</td>",
        "<td>not allowed</td>",
    ):
        assert part in html, part
    assert_harmless(html)
    small = page("a.json", json.dumps(schema), GeneratorConfig(max_shown_values=3))
    assert "5 more, not shown here" in small
    assert_harmless(page("b.schema.json", "true"))
    wrong = b'{"properties": [], "description": 7}'  # As a repository gets it that does not mind.
    valid = FileReport(path="b.schema.json", kind=FileKind.JSON_SCHEMA, verdict=Verdict.VALID)
    generation = generate(FileKind.JSON_SCHEMA, wrong, valid, GeneratorConfig())
    assert_harmless(one(generation, ArtifactKind.PAGE).content.decode())


def test_pages_of_large_data_show_a_part_and_say_so() -> None:
    config = GeneratorConfig(max_shown_values=10)
    assert "90 more, not shown here" in page("a.json", json.dumps(list(range(100))), config)
    rows = json.dumps([{"a": n, "b": n} for n in range(100)])
    assert "95 more rows, not shown here" in page("a.json", rows, config)
    assert "90 more documents are not shown here" in page("a.yaml", "--- x\n" * 100, config)
    assert "(6000 more characters)" in page("a.json", json.dumps("x" * 10_000))
    assert "<details>" in page("a.json", json.dumps({"a": {"b": {"c": {"d": list(range(400))}}}}))


def test_a_page_beyond_the_limit_is_skipped() -> None:
    generation = made("a.json", "[1]", GeneratorConfig(max_page_bytes=100))
    assert [skipped.kind for skipped in generation.skipped] == ["page"]


@pytest.mark.parametrize(
    ("path", "content"), [("a.json", b"[1,]"), ("a.txt", b"x"), ("a.png", b"\x00"), ("a", b""), ("a.md", b"\xff")]
)
def test_what_is_not_valid_or_no_document_gives_nothing(path: str, content: bytes) -> None:
    assert made(path, content) == Generation()


@given(DATA)
def test_any_data_gives_a_harmless_page(value: JsonValue) -> None:
    assert_harmless(page("a.json", json.dumps(value)))


@given(DATA)
def test_canonical_json_keeps_the_value(value: JsonValue) -> None:
    content = one(made("a.json", json.dumps(value)), ArtifactKind.CANONICAL).content
    assert json.loads(content, parse_int=float) == value


def test_the_path_and_the_way_of_the_report_have_no_influence() -> None:
    text = GOOD.replace("v0.9-PRELIMINARY", "1.0").encode()
    report = check_file("docs/one.md", text, BUILTIN)
    stored = FileReport.model_validate_json(canonical_json(check_file("other/two.md", text, BUILTIN)))
    assert generate(report.kind, text, report, CONFIG) == generate(stored.kind, text, stored, CONFIG)
    assert b"one.md" not in b"".join(a.content for a in generate(report.kind, text, report, CONFIG).artifacts)


def test_a_byte_order_mark_and_line_ends_are_no_part_of_the_data() -> None:
    assert one(made("a.json", b"\xef\xbb\xbf[1]"), ArtifactKind.CANONICAL).content == b"[1]"
    assert one(made("a.yaml", "a: 1\r\nb: x\r\n"), ArtifactKind.CANONICAL).content == b'{"a":1,"b":"x"}'


SCRIPT = """
from pathlib import Path
from coafi.artifacts.generate import generate
from coafi.artifacts.model import GeneratorConfig
from coafi.canonical import sha256
from tests.coafi.documents.samples import check
for path in sorted(Path(%r).glob("*.*")):
    content = path.read_bytes()
    report = check(path.name, content)
    print(path.name, *(sha256(a.content) for a in generate(report.kind, content, report, GeneratorConfig()).artifacts))
"""


def test_other_processes_make_the_same_bytes() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT % str(GOLDEN)],
            env={"PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": "C"},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed, zone in (("0", "UTC"), ("1", "Asia/Tokyo"), ("4242", "America/Lima"))
    }
    (output,) = outputs
    for line in output.splitlines():
        name, *digests = line.split(" ")
        content = (GOLDEN / name).read_bytes()
        report = check(name, content)
        assert [sha256(a.content) for a in generate(report.kind, content, report, CONFIG).artifacts] == digests


def test_the_configuration_has_a_digest_of_all_its_fields() -> None:
    digests = {
        GeneratorConfig(**{name: value}).digest
        for name, value in {
            "language": "de",
            "max_ratio": 7,
            "max_page_bytes": 7,
            "max_markup_bytes": 7,
            "max_highlighted": 7,
            "max_shown_values": 7,
        }.items()
    }
    assert len(digests | {CONFIG.digest}) == len(GeneratorConfig.model_fields) + 1


def test_kinds_without_artifacts_give_none() -> None:
    assert generate(FileKind.TEXT, b"x", check("a.md", "x"), CONFIG) == Generation()


DEEP = st.integers(1, 100)


@given(DEEP)
def test_nesting_up_to_the_limit_is_shown(depth: int) -> None:
    assert_harmless(page("a.json", "[" * depth + "1" + "]" * depth))


def test_a_schema_with_everything() -> None:
    schema: JsonValue = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "additionalProperties": False,
        "properties": {
            "owner": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
            "tags": {"type": "array", "items": {"type": "object", "properties": {"tag": {"$ref": "#/$defs/a~1b"}}}},
            "either": {"anyOf": [{"type": "string"}, {"minimum": 1}, {}], "default": "x"},
            "many": {"oneOf": [{"const": n} for n in range(10)]},
            "far": {"$ref": "#/$defs/missing", "exclusiveMaximum": 4},
        },
        "$defs": {
            "a/b": {"description": "A <tag>.", "type": "string"},
            "c": {"properties": {"d": True}},
            "e": True,
            "f": {},
        },
    }
    html = page("a.json", json.dumps(schema))
    for part in (
        '<code>owner.name</code> <span class="req">required</span>',
        '<code>tags[].tag</code></td><td>as <a href="#definition-1"><code>#/$defs/a~1b</code></a>',
        "any of: string; 1 or more; a form below, by default",
        "exactly one of: always",
        " …</td>",
        "as <code>#/$defs/missing</code>, up to 4, bounds excluded",
        "<p>No other properties are allowed.</p>",
        '<h3 id="definition-1"><code>a/b</code></h3><p>A &lt;tag&gt;.</p><p>string</p>',
        '<h3 id="definition-2"><code>c</code></h3><div class="scroll"',
        '<h3 id="definition-4"><code>f</code></h3><p>anything</p>',
        '<a href="#definition-1">a/b</a>',
        "Table of contents",
    ):
        assert part in html, part
    assert_harmless(html)
    assert "2 more are not shown here" in page("a.json", json.dumps(schema), GeneratorConfig(max_shown_values=9))


def test_deep_and_wide_schemas_take_bounded_room() -> None:
    deep: JsonValue = {"type": "string"}
    for _ in range(40):
        deep = (
            {"properties": {"a": deep}, "anyOf": [deep, True], "items": deep}
            if len(json.dumps(deep)) < 50_000
            else {"properties": {"a": deep}}
        )
    html = page("a.schema.json", json.dumps({"properties": {f"p{n}": deep for n in range(5)}}))
    assert len(html) < 2_000_000
    assert_harmless(html)


def test_long_texts_fold_and_short_lists_stand_side_by_side() -> None:
    html = page("a.json", json.dumps({"text": "word " * 100, "list": ["a", 1, None], "words": ["a, b"]}))
    assert '<details class="long"><summary><span class="str">word word' in html
    assert '<span class="count">500 characters</span></summary><span class="str">word ' in html
    assert '[</span><span class="str">a</span>, <span class="num">1</span>, <span class="lit">null</span><span' in html
    assert '<summary><span class="key">words</span><span class="count">1 item</span>' in html


@pytest.mark.parametrize(
    ("path", "name", "media_type"),
    [("a.png", "image.png", "image/png"), ("a.svg", "image.svg", "image/svg+xml")],
)
def test_an_image_gives_itself(path: str, name: str, media_type: str) -> None:
    content = PNG if path == "a.png" else (SVG % "<g><script/></g>").encode()
    artifact = one(made(path, content), ArtifactKind.IMAGE)
    assert (artifact.name, artifact.media_type) == (name, media_type)
    assert artifact.content == (PNG if path == "a.png" else b'<svg xmlns="http://www.w3.org/2000/svg"><g></g></svg>')


def test_a_markdown_page_beyond_the_limit_is_skipped() -> None:
    generation = made("a.md", "# x\n", GeneratorConfig(max_page_bytes=1000))
    assert [artifact.kind for artifact in generation.artifacts] == ["metadata"]
    assert "the page would have" in generation.skipped[0].reason
