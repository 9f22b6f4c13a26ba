import json
import resource
import sys
import time
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coafi.canonical import canonical_json
from coafi.documents.check import FileReport, check_file
from coafi.documents.context import CheckContext
from coafi.documents.limits import DocumentLimits
from coafi.documents.rules import RULES
from coafi.findings import Severity
from tests.coafi.documents.samples import BUILTIN, GOOD, check, rules
from tests.coafi.documents.trees import MemoryTree

PATHS = st.sampled_from(
    [
        *["a.md", "README.md", "a.yaml", "a.json", "a.schema.json", "a.txt", "a.png", "a", "/", ".."],
        "",
        "\udcff.md",
        "a\x00.md",
    ]
)
FRAGMENT = st.sampled_from(
    [
        *(b"---\n", b"title: x\n", b"infoCode: INFO-SPEC\n", b"a: &x [*x]\n", b"tags: [a, {b: c}]\n", b"\xff", b"\x00"),
        *(b"\xef\xbb\xbf", b"\r\n", b"\r", b"{", b"}", b"[", b'"', b"a", b":", b",", b"\\ud800", b"1e999", b"# x\n"),
        *("\u2028\x85é😀".encode(), b"```\n", b"date: 2025-04-27\n", b"no", b"<<: x\n", b"status: [\n", b"? ", b"- "),
    ]
)
FRAGMENTS = st.lists(FRAGMENT, max_size=12).map(b"".join)


@given(PATHS, st.one_of(st.binary(max_size=60), FRAGMENTS))
@example("a.md", b"---\ntitle: \xc2\x85x\n---\n")
def test_every_file_gets_a_verdict_whatever_its_bytes(path: str, content: bytes) -> None:
    report = check_file(path, content, BUILTIN)
    assert (report.verdict == "invalid") == any(f.severity is Severity.ERROR for f in report.findings)
    assert all(finding.rule in RULES and finding.path == report.path for finding in report.findings)
    places = [(finding.line or 0, finding.column or 0) for finding in report.findings]
    assert places == sorted(places)
    lines = content.count(b"\n") + content.count(b"\r") + 1
    assert all(line <= lines for line, _ in places)
    wire = canonical_json(report)
    again = FileReport.model_validate_json(wire)
    assert again.verdict is report.verdict
    assert canonical_json(again) == wire
    assert check_file(path, content, BUILTIN) == report


def test_the_wire_form_has_the_names_of_the_interface() -> None:
    wire = json.loads(canonical_json(check("docs/a.md", GOOD)))
    assert wire["path"] == "docs/a.md"
    assert wire["kind"] == "markdown"
    assert wire["schema"]["schemaId"] == "frontmatter.INFO-SPEC"
    assert wire["metadata"]["infoCode"] == "INFO-SPEC"


def test_what_is_not_there_is_deleted_or_skipped() -> None:
    deleted = check_file("a.md", None, BUILTIN, change="deleted")
    assert (deleted.verdict, deleted.kind, deleted.findings) == ("deleted", "markdown", ())
    omitted = check_file("a.yaml", None, BUILTIN, omitted="it is a symbolic link")
    assert (omitted.verdict, omitted.kind) == ("skipped", "yaml")
    assert omitted.findings[0].message == "the content was not looked at: it is a symbolic link"
    assert check_file("a", None, BUILTIN).verdict == "skipped"


def test_files_beyond_the_size_limit_are_not_looked_into() -> None:
    report = check_file("a.json", b"[" * 50_000_000, BUILTIN)
    assert (report.verdict, rules(report)) == ("skipped", ["file/too-large"])


def test_text_and_binary_files_have_verdicts_too() -> None:
    assert check("a.py", "print()").verdict == "valid"
    assert check("a.tiff", b"II*\x00").verdict == "skipped"
    assert check("nothing", b"").verdict == "skipped"


def test_a_json_file_that_names_a_meta_schema_is_a_json_schema() -> None:
    assert check("a.json", '{"$schema": "https://json-schema.org/draft/2020-12/schema"}').kind == "json-schema"
    assert check("a.json", '{"$schema": "./mine.json"}').kind == "json"
    assert check("a.schema.json", "{}").kind == "json-schema"


def test_of_too_many_findings_the_worst_are_kept_and_it_is_said() -> None:
    text = "a: no\n" + "".join(f"k{n}: no\n" for n in range(300)) + "a: 1\n"
    report = check("a.yaml", text, max_findings=400)
    assert len(report.findings) == 302
    capped = check_file("a.yaml", text.encode(), BUILTIN, DocumentLimits(max_findings=301))
    assert len(capped.findings) == 301
    assert capped.findings[-1].rule == "file/more-findings"
    assert capped.findings[-2].rule == "yaml/duplicate-key"
    assert capped.verdict == "invalid"


NUMBERS = ",".join(["9007199254740993"] * 300)


@pytest.mark.parametrize(
    ("path", "text", "rule"),
    [
        ("a.yaml", "list:\n" + "- no\n" * 300 + "x: [\n", "yaml/syntax"),
        ("a.yaml", "list:\n" + "- no\n" * 300 + "x: &a 1\ny: *a\n", "yaml/alias"),
        ("a.yaml", "list:\n" + "- no\n" * 300 + "? [k]\n: v\n", "yaml/key"),
        ("a.yaml", "list:\n" + "- no\n" * 300 + "x: " + "[" * 101 + "]" * 101, "data/too-deep"),
        ("a.yaml", "list:\n" + "- no\n" * 300 + "x: 1\nx: 2\n", "yaml/duplicate-key"),
        ("a.md", "---\ntitle: A\nlist:\n" + "- no\n" * 300 + "x: [\n---\n# A\n", "yaml/syntax"),
        ("a.json", f'{{"l": [{NUMBERS}],}}', "json/syntax"),
        ("a.json", f'{{"l": [{NUMBERS}], "role": "reader", "role": "admin"}}', "json/duplicate-key"),
    ],
)
def test_no_number_of_warnings_hides_an_error(path: str, text: str, rule: str) -> None:
    report = check(path, text)
    assert report.verdict == "invalid"
    assert rule in rules(report)
    assert len(report.findings) <= 200


@pytest.mark.parametrize(
    ("path", "text", "off", "error"),
    [
        ("a.yaml", "list:\n" + "- no\n" * 300 + "x: !Ref y\n", "yaml/ambiguous", "yaml/tag"),
        (
            "a.json",
            '[{"a":1,"a":2}' + ',{"a":1,"a":2}' * 300 + ",9007199254740993]",
            "json/duplicate-key",
            "data/number",
        ),
    ],
)
def test_what_a_repository_switched_off_hides_nothing_that_it_calls_an_error(
    path: str, text: str, off: str, error: str
) -> None:
    context = CheckContext(MemoryTree({path: text}), {off: None, error: Severity.ERROR})
    report = check_file(path, text.encode(), BUILTIN, context=context)
    assert (report.verdict, rules(report)) == ("invalid", [error])


@pytest.mark.parametrize(("path", "text"), [("a.yaml", "- no\n" * 300 + "- [\n"), ("a.json", f"[{NUMBERS},]")])
def test_what_cannot_be_read_is_not_valid_even_if_its_repository_does_not_mind(path: str, text: str) -> None:
    severities = {"yaml/syntax": None, "json/syntax": None}
    report = check_file(path, text.encode(), BUILTIN, context=CheckContext(MemoryTree({path: text}), severities))
    assert report.verdict == "skipped"
    assert report.count(Severity.WARNING) > 100


def test_a_key_of_megabytes_is_not_repeated_in_every_finding() -> None:
    report = check("a.json", '{"' + "k" * 100_000 + f'": [{NUMBERS}]}}')
    assert report.count(Severity.WARNING) == 199
    assert len(canonical_json(report)) < 200_000


def test_integers_that_json_rounds_are_reported_as_inexact() -> None:
    report = check("a.json", "[12345678901234567890]")
    assert report.verdict == "valid"
    assert report.inexact == "line 1: 12345678901234567890 is beyond ±(2^53-1)"
    assert report.count(Severity.WARNING) == 1


MEGABYTE = 1024 * 1024
MOST_SECONDS = 60
"""Of processor time, on a slow machine; the worst that was found takes 13. What has no bound takes minutes or hours."""
HOSTILE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "deep JSON": ("a.json", lambda: b"[" * (9 * MEGABYTE)),
    "wide JSON": ("a.json", lambda: b"[" + b"[]," * (3 * MEGABYTE) + b"[]]"),
    "quotes in JSON": ("a.json", lambda: b'"\\"' * (3 * MEGABYTE)),
    "long number": ("a.json", lambda: b"9" * (9 * MEGABYTE)),
    "long fraction": ("a.json", lambda: b"0." + b"9" * (9 * MEGABYTE)),
    "wide YAML": ("a.yaml", lambda: b"[" + b"1," * (4 * MEGABYTE) + b"1]"),
    "deep YAML": ("a.yaml", lambda: b"[" * (9 * MEGABYTE)),
    "YAML indents": ("a.yaml", lambda: b"".join(b" " * n + b"a:\n" for n in range(4000))),
    "YAML sequence in line": ("a.yaml", lambda: b"- " * (4 * MEGABYTE)),
    "YAML question marks": ("a.yaml", lambda: b"? " * (4 * MEGABYTE)),
    "YAML flow questions": ("a.yaml", lambda: b"{" + b"?," * (4 * MEGABYTE)),
    "YAML long plain": ("a.yaml", lambda: b"a " * (4 * MEGABYTE)),
    "YAML long digits": ("a.yaml", lambda: b"9" * (9 * MEGABYTE)),
    "YAML long sexagesimal": ("a.yaml", lambda: b"1" + b":1" * (4 * MEGABYTE)),
    "YAML documents": ("a.yaml", lambda: b"---\n" * (2 * MEGABYTE)),
    "YAML comments": ("a.yaml", lambda: b"#\n" * (4 * MEGABYTE)),
    "YAML duplicates": ("a.yaml", lambda: b"a: 1\n" * 400_000),
    "YAML line breaks": ("a.yaml", lambda: b"a:\n" + b"\n" * (9 * MEGABYTE)),
    "YAML tags": ("a.yaml", lambda: b"- !a b\n" * 400_000),
    "breaks in Markdown": ("a.md", lambda: b"\n" * (9 * MEGABYTE)),
    "rules in Markdown": ("a.md", lambda: b"# x\n" + b"---\n" * (2 * MEGABYTE)),
    "unclosed front matter": ("a.md", lambda: b"---\na: b\n" + b"x\n" * (4 * MEGABYTE)),
    "wide front matter": ("a.md", lambda: b"---\n" + b"a: [" + b"1," * 30_000 + b"]\n---\n"),
    "keys in front matter": ("a.md", lambda: b"---\n" + b"".join(b"k%d: no\n" % n for n in range(5000)) + b"---\n"),
    "key without end": ("a.md", lambda: b"---\n" + b"a -" * (3 * MEGABYTE)),
    "code fences": ("a.md", lambda: b"# x\n" + b"`" * (9 * MEGABYTE)),
    "one heading": ("a.md", lambda: b"# " + b"*a*b" * (2 * MEGABYTE)),
    "punctuation in a heading": ("a.md", lambda: b"# " + b"!" * (9 * MEGABYTE)),
    "links in one block of HTML": ("a.md", lambda: b"<div>\n" + "ü<a href=b>".encode() * 800_000),
    "damaged lines": ("a.md", lambda: "Ã¼\n".encode() * 2_000_000),
    "damaged code": ("a.md", lambda: "`â€“`".encode() * 1_000_000),
    "YAML tags below long keys": (
        "a.yaml",
        lambda: (
            b"".join(b" " * n + b"k" * 1_000 + b":\n" for n in range(95))
            + b" " * 96
            + b"["
            + b"!!int a," * 400_000
            + b"]"
        ),
    ),
    "JSON below long keys": (
        "a.json",
        lambda: (b'{"' + b"k" * 80_000 + b'":') * 95 + b"[" + b"1," * 400_000 + b'{"a":1,"a":2}]' + b"}" * 95,
    ),
    "violation below long keys": (
        "a.json",
        lambda: (
            b'{"$schema":"b.schema.json","x":'
            + (b'{"' + b"k" * 50_000 + b'":') * 90
            + b"["
            + b"1," * 400_000
            + b"1]"
            + b"}" * 91
        ),
    ),
}


@pytest.mark.soak  # seconds each, and several times that while coverage looks on
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_files_get_a_verdict_in_bounded_time_and_memory(name: str) -> None:
    path, make = HOSTILE[name]
    content = make()
    assert len(content) < 10 * MEGABYTE
    context = CheckContext.of(MemoryTree({path: content, "b.schema.json": '{"maxProperties": 0}'}))
    start = time.process_time()
    report = check_file(path, content, BUILTIN, context=context)
    assert time.process_time() - start < MOST_SECONDS
    assert report.verdict in ("valid", "invalid")
    assert len(report.findings) <= 200
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1 if sys.platform == "darwin" else 1024)
    assert peak < 1500, f"{peak} MB"
