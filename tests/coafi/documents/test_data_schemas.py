"""Data against the schemas of its repository, however hostile these are."""

import io
import json
import os
import re
import signal
import threading
import time
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coafi.documents import schema_process
from coafi.documents.check import FileReport, check_file
from coafi.documents.context import CheckContext
from coafi.documents.schema_engine import ENGINE, SchemaEngine, Unusable, UsableSchema
from coafi.documents.schemas import DRAFTS, MAX_SCHEMA_BYTES
from coafi.errors import Unavailable
from tests.coafi.documents.samples import BUILTIN, check
from tests.coafi.documents.trees import MemoryTree
from tests.strength import examples

ENTRY = '{"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}, "n": {"type": "integer"}}}'


def look(path: str, content: str, **around: str) -> FileReport:
    """Check a file beside schemas whose names are written ``directory__name_json``."""
    names = {name: re.sub("_(json|yaml)$", r".schema.\1", name.replace("__", "/")) for name in around}
    files = {names[name]: schema for name, schema in around.items()}
    tree = MemoryTree({**files, path: content}, links=["lib"])
    return check_file(path, content.encode(), BUILTIN, context=CheckContext.of(tree))


def told(report: FileReport) -> list[tuple[str, int | None, int | None]]:
    return [(one.rule, one.line, one.column) for one in report.findings]


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("data/a.json", '{"$schema": "../s.schema.json",\n "id": 5}'),
        ("data/a.json", '{"$schema": "/s.schema.json#",\n "id": 5}'),
        ("data/a.yaml", "$schema: ../s.schema.json\nid: 5\n"),
        ("data/a.yaml", "# yaml-language-server: $schema=../s.schema.json\nid: 5\n"),
        ("data/a.yaml", "%YAML 1.2\n# x\n\n#yaml-language-server: $schema=/s.schema.json\n---\nid: 5\n"),
        ("bound/a.yaml", "\nid: 5\n"),
        ("bound/x/a.json", '{\n"id": 5}'),
        ("bound/a.json", '{"$schema": "https://example.org/x.json",\n "id": 5}'),
    ],
)
def test_data_is_held_against_the_schema_that_it_names_or_is_bound_to(path: str, content: str) -> None:
    bindings = "schemas:\n  - {schema: s.schema.json, files: ['bound/**', '!bound/not*']}\n"
    tree = MemoryTree({path: content, "s.schema.json": ENTRY, "schemas.yaml": bindings})
    report = check_file(path, content.encode(), BUILTIN, context=CheckContext.of(tree))
    (found,) = [one for one in report.findings if one.rule == "schema/violation"]
    assert found.pointer == "/id"
    assert content.split("\n")[(found.line or 0) - 1][(found.column or 0) - 1] == "5"
    assert found.message == '/id: 5 is not of type "string" (type by s.schema.json)'
    assert report.verdict == "invalid"
    assert check_file("bound/not.yaml", b"id: 5", BUILTIN, context=CheckContext.of(tree)).findings == ()


def test_without_a_tree_data_is_not_held_against_anything() -> None:
    assert check("a.json", '{"$schema": "s.schema.json"}').findings == ()


def test_every_document_of_a_file_is_checked() -> None:
    report = look(
        "a.yaml", "# yaml-language-server: $schema=s.schema.json\nid: a\n---\nid: b\n---\nid: 5\nn: x\n", s_json=ENTRY
    )
    assert told(report) == [("schema/violation", 6, 5), ("schema/violation", 7, 4)]


@pytest.mark.parametrize(
    ("target", "rule", "said", "remedy"),
    [
        ("https://example.org/x.json", "schema/remote", "nothing is fetched", "copy the schema"),
        ("//example.org/x.json", "schema/remote", "", ""),
        ("urn:x:y", "schema/remote", "", ""),
        ("../x.schema.json", "schema/missing", "outside of the repository", ""),
        ("s.shema.json", "schema/missing", "does not exist", "did you mean s.schema.json?"),
        ("none.json", "schema/missing", "does not exist", "correct its path"),
        ("plain.json", "schema/unusable", "call it *.schema.json", "mend the schema"),
        ("syntax.schema.json", "schema/unusable", "no readable JSON Schema", ""),
        ("large.schema.json", "schema/unusable", "schemas up to", ""),
        ("list.schema.json", "schema/unusable", "no readable JSON Schema", ""),
        ("pattern.schema.json", "schema/unusable", "cannot be used", ""),
        ("meta.schema.json", "schema/unusable", "cannot be used", ""),
        ("remote.schema.json", "schema/unusable", "nothing is fetched", ""),
        ("dangling.schema.json", "schema/unusable", "cannot be used", ""),
        ("lost.schema.json", "schema/unusable", "it refers to 'gone.schema.json': it is not in the repository", ""),
        ("unnamed.schema.json", "schema/unusable", "it refers to 'plain.json': it cannot be read", ""),
        ("lib", "schema/unusable", "not named as a schema", ""),
    ],
)
def test_a_schema_that_cannot_be_used_is_said_to_be_so(target: str, rule: str, said: str, remedy: str) -> None:
    content = f'{{\n "$schema": "{target}"}}'
    files = {
        "a.json": content,
        "s.schema.json": ENTRY,
        "plain.json": "{}",
        "syntax.schema.json": "{",
        "large.schema.json": '{"x": "' + "x" * MAX_SCHEMA_BYTES + '"}',
        "list.schema.json": "[]",
        "pattern.schema.json": '{"pattern": "("}',
        "meta.schema.json": '{"$schema": "https://example.org/meta"}',
        "remote.schema.json": '{"$ref": "https://example.org/x.json"}',
        "dangling.schema.json": '{"$ref": "#/$defs/x"}',
        "lost.schema.json": '{"$ref": "gone.schema.json"}',
        "unnamed.schema.json": '{"$ref": "plain.json#/x"}',
    }
    tree = MemoryTree(files, links=["lib"])
    report = check_file("a.json", content.encode(), BUILTIN, context=CheckContext.of(tree))
    assert told(report) == [(rule, 2, 13)]
    assert said in report.findings[0].message
    assert report.findings[0].remedy.startswith(remedy)


def test_a_binding_to_nothing_is_a_finding() -> None:
    tree = MemoryTree({"a.json": "{}", "schemas.yaml": "schemas: [{schema: s/x.schema.json, files: [a.json]}]"})
    report = check_file("a.json", b"{}", BUILTIN, context=CheckContext.of(tree))
    assert told(report) == [("schema/missing", 1, 1)]
    assert "by schemas.yaml" in report.findings[0].message


def test_schemas_refer_to_each_other_by_path_and_by_id() -> None:
    around = {
        "schemas__a_json": '{"properties": {"x": {"$ref": "sub/b.schema.json#/$defs/t"},'
        ' "y": {"$ref": "c.schema.yaml"}}}',
        "schemas__sub__b_json": '{"$defs": {"t": {"$ref": "../c.schema.yaml"}}}',
        "schemas__c_yaml": "$id: https://example.org/schemas/c\ntype: integer\n",
        "schemas__i_json": '{"$id": "https://example.org/z/i", "properties": {"x": {"$ref": "c.schema.yaml"}}}',
    }
    content = '{"$schema": "schemas/a.schema.json", "x": "1", "y": "2"}'
    assert [one.pointer for one in look("d.json", content, **around).findings] == ["/x", "/y"]
    content = '{"$schema": "schemas/i.schema.json", "x": "1"}'
    assert [one.pointer for one in look("d.json", content, **around).findings] == ["/x"]


def test_another_tree_with_other_schemas_gets_other_answers() -> None:
    content = '{"$schema": "a.schema.json", "x": "1"}'
    refers = '{"properties": {"x": {"$ref": "b.schema.json"}}}'
    assert told(look("d.json", content, a_json=refers, b_json='{"type": "string"}')) == []
    assert told(look("d.json", content, a_json=refers, b_json='{"type": "integer"}')) == [("schema/violation", 1, 35)]


def test_of_several_forms_the_nearest_says_what_is_wrong() -> None:
    schema = '{"anyOf": [{"type": "string"}, {"properties": {"a": {"properties": {"b": {"type": "integer"}}}}}]}'
    (found,) = look("d.yaml", "$schema: s.schema.json\na:\n  b: x\n", s_json=schema).findings
    assert (found.line, found.pointer) == (3, "/a/b")


# ---------------------------------------------------------------------- meta-schemas


@pytest.mark.parametrize("draft", DRAFTS)
def test_schemas_of_every_draft_are_held_against_its_meta_schema(draft: str) -> None:
    uri = f"http{'s' if '/20' in draft else ''}://json-schema.org/{draft}#"
    schema = {"$schema": uri, "properties": {"a": {"minLength": "x"}}}
    (found,) = check("a.json", json.dumps(schema)).findings
    assert (found.rule, found.pointer) == ("schema/invalid", "/properties/a/minLength")
    assert f"in JSON Schema {DRAFTS[draft]}" in found.message
    assert check("a.json", json.dumps({**schema, "properties": {"a": {"minLength": 1}}})).findings == ()


def test_a_schema_is_known_by_its_name_too() -> None:
    assert [one.rule for one in check("a.schema.json", '{"pattern": "("}').findings] == ["schema/invalid"]
    assert [one.rule for one in check("a.schema.yaml", "type: text\n").findings] == ["schema/invalid"]
    assert [one.rule for one in check("a.schema.json", "[]").findings] == ["schema/invalid"]
    assert check("a.schema.json", "true").findings == ()
    assert told(look("a.schema.json", '{"$schema": "m.schema.json", "type": "text"}', m_json="{}")) == []
    assert [one.rule for one in check("a.json", '{"$schema": "http://json-schema.org/schema"}').findings] == [
        "schema/unknown-draft"
    ]


def test_data_is_held_against_a_schema_of_draft_3() -> None:
    properties = '{"a": {"required": true}, "b": {"divisibleBy": 2}}'
    schema = f'{{"$schema": "http://json-schema.org/draft-03/schema#", "properties": {properties}}}'
    report = look("d.json", '{"$schema": "s.schema.json", "b": 3}', s_json=schema)
    assert [one.pointer for one in report.findings] == ["/a", "/b"]


@pytest.mark.parametrize("draft", DRAFTS)
def test_nothing_is_ever_fetched(draft: str) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/x.json"
        uri = f"http{'s' if '/20' in draft else ''}://json-schema.org/{draft}#"
        schema = json.dumps({"$schema": uri, "properties": {"a": {"$ref": url}}})
        assert check("a.schema.json", schema).findings == ()
        (found,) = look("d.json", '{"$schema": "s.schema.json", "a": {}}', s_json=schema).findings
        assert found.rule == "schema/unusable"
        assert [one.rule for one in look("d.json", f'{{"$schema": "{url}"}}').findings] == ["schema/remote"]
        server.shutdown()
    assert asked == []


# ---------------------------------------------------------------------- hostile schemas


def doubling(depth: int) -> str:
    definitions: dict[str, Any] = {
        f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}, {"$ref": f"#/$defs/a{n + 1}"}]} for n in range(depth)
    }
    return json.dumps({"$defs": {**definitions, f"a{depth}": {"type": "object"}}, "$ref": "#/$defs/a0"})


def test_a_schema_that_takes_too_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = SchemaEngine(cpu_seconds=0.3)
    monkeypatch.setattr("coafi.documents.schemas.ENGINE", engine)
    files = {f"{number}.schema.json": doubling(60) for number in range(7)}
    context = CheckContext.of(MemoryTree({**files, "s.schema.json": ENTRY}))

    def ask(schema: str) -> list[str]:
        content = json.dumps({"$schema": schema, "id": "x"}).encode()
        return [one.message for one in check_file("d.json", content, BUILTIN, context=context).findings]

    (message,) = ask("0.schema.json")
    assert message.endswith("cannot be used: it takes more than 0.3 seconds to hold data against it")
    assert ask("s.schema.json") == []
    start = time.monotonic()
    assert all(ask("0.schema.json") == [message] for _ in range(100))
    assert time.monotonic() - start < 5
    told = [ask(f"{number}.schema.json")[0] for number in range(1, 7)]
    assert ["too many schemas" in one for one in told] == [False] * 4 + [True] * 2
    assert ask("s.schema.json") == []
    engine.close()


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ("^(a+)+$", "a" * 50_000 + "b"),
        ("^(?=a)(a|aa)+$(?<!c)", "a" * 5_000 + "b"),
        ("(x{1000}){1000}", "x"),
        ("^(([a-z])+.)+[A-Z]([a-z])+$", "a" * 50_000),
    ],
)
def test_hostile_patterns_end_in_a_finding(pattern: str, value: str) -> None:
    start = time.monotonic()
    schema = json.dumps({"properties": {"x": {"pattern": pattern}}})
    report = look("d.json", json.dumps({"$schema": "s.schema.json", "x": value}), s_json=schema)
    assert {one.rule for one in report.findings} <= {"schema/violation", "schema/unusable"}
    assert report.findings
    assert time.monotonic() - start < 60


@pytest.mark.parametrize(
    "schema",
    [
        '{"$ref": "#"}',
        '{"allOf": [{"$ref": "#"}]}',
        '{"$ref": "s.schema.json"}',
        '{"anyOf": [' * 90 + "{}" + "]}" * 90,
        '{"properties": {"$schema": {"enum": [' + "1," * 50_000 + "1]}}}",
    ],
    ids=["self", "self in all", "own file", "deep", "wide"],
)
def test_odd_schemas_are_survived(schema: str) -> None:
    report = look("d.json", '{"$schema": "s.schema.json"}', s_json=schema)
    assert report.verdict in ("valid", "invalid")
    assert len(json.dumps([one.message for one in report.findings])) < 2_000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "$ref",
                    "$id",
                    "type",
                    "allOf",
                    "properties",
                    "a",
                    "pattern",
                    "$schema",
                    "items",
                    "$defs",
                    "$dynamicRef",
                ]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=examples(200))
@given(schema=JSON, data=st.dictionaries(st.sampled_from("ab"), JSON, max_size=2))
def test_every_schema_gets_an_answer(schema: Any, data: dict[str, Any]) -> None:
    content = json.dumps({**data, "$schema": "s.schema.json"})
    report = look("d.json", content, s_json=json.dumps(schema))
    assert report.verdict in ("valid", "invalid")
    assert check("s.schema.json", json.dumps(schema)).verdict in ("valid", "invalid")


# ---------------------------------------------------------------------- the process


def schema_of(key: str, document: Any) -> UsableSchema:
    return UsableSchema(key, document, "https://repository.invalid/x")


def test_a_process_that_was_ended_is_started_again() -> None:
    engine = SchemaEngine()
    one = schema_of("1", {"type": "string"})
    assert [found.keyword for found in engine.violations(one, [1, "x"])] == ["type"]
    assert engine._process is not None
    engine._process.kill()
    assert engine.violations(one, ["x"]) == ()
    first = engine._process
    os.kill(first.pid, signal.SIGSTOP)
    threading.Timer(0.3, lambda: os.kill(first.pid, signal.SIGKILL)).start()
    assert engine.violations(one, ["x"]) == ()
    engine.close()
    engine.close()


def test_a_process_that_breaks_makes_the_schema_unusable(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    program = tmp_path / "broken.py"
    program.write_text("import os, signal, sys\nsys.stdin.readline()\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setattr("coafi.documents.schema_engine._PROGRAM", program)
    with pytest.raises(Unusable, match="breaks the validator"):
        SchemaEngine().violations(schema_of("1", {}), [1])
    monkeypatch.setattr("coafi.documents.schema_engine.sys.executable", str(tmp_path / "none"))
    with pytest.raises(Unavailable, match="no process"):
        SchemaEngine().violations(schema_of("1", {}), [1])


def test_a_process_of_a_parent_is_left_to_it() -> None:
    engine = SchemaEngine()
    one = schema_of("1", {"type": "string"})
    engine.violations(one, [])
    theirs = engine._process
    assert theirs is not None
    engine._owner = -1
    assert engine.violations(one, ["x"]) == ()
    assert engine._process is not theirs
    assert theirs.poll() is None
    theirs.kill()
    theirs.communicate()
    engine.close()


def test_threads_share_a_process() -> None:
    results: list[int] = []

    def ask(number: int) -> None:
        one = schema_of(f"thread {number % 3}", {"maximum": number % 3})
        results.extend(len(ENGINE.violations(one, [0, 1, 2])) - (2 - number % 3) for _ in range(20))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [0] * 120


def test_the_program_remembers_some_schemas_and_limits_what_it_says() -> None:
    compiled: OrderedDict[str, Any] = OrderedDict()
    for number in range(schema_process.REMEMBERED + 1):
        request = {"key": str(number), "schema": {"type": "string"}, "base": "", "resources": {}, "instances": []}
        assert schema_process.answer_to(request, compiled) == {"violations": []}
    assert schema_process.answer_to({"key": "0", "instances": []}, compiled) == {"unknown": True}
    answer = schema_process.answer_to({"key": "1", "instances": [["x"], *range(100)]}, compiled)
    assert len(answer["violations"]) == schema_process.MAX_VIOLATIONS
    long = schema_process.answer_to({"key": "1", "instances": [["x" * 10_000]]}, compiled)
    assert len(long["violations"][0][3]) < 400


@pytest.mark.parametrize(
    ("schema", "more", "expected"),
    [
        ({"$ref": "b.json"}, {"resources": {"https://r.invalid/b.json": {"type": "string"}}}, "type"),
        ({"$ref": "b.json"}, {}, "is not in the repository, and nothing is fetched"),
        ({"pattern": "("}, {}, "regex"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {}, "type"),
        ({"properties": {"a": {"required": True}}}, {"draft3": True}, "required"),
        (True, {"draft3": True, "base": ""}, "type"),
    ],
)
def test_the_program_answers(schema: Any, more: dict[str, Any], expected: str) -> None:
    asked = {"key": "x", "schema": schema, "base": "https://r.invalid/a.json", "resources": {}, "instances": [{}]}
    answer = schema_process.answer_to({**asked, **more}, OrderedDict())
    said = str(answer.get("unusable", [found[2] for found in answer.get("violations", [])]))
    if schema is True:
        assert answer == {"violations": []}
    else:
        assert expected in said


def test_back_tracking_has_an_end() -> None:
    schema = {"pattern": "^(?=a)(a|aa)+$(?<!c)"}
    request = {"key": "x", "schema": schema, "base": "", "resources": {}, "instances": ["a" * 200 + "b"]}
    assert "back-tracking" in schema_process.answer_to(request, OrderedDict())["unusable"]


def test_the_program_reads_lines_and_sets_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[Any] = []
    monkeypatch.setattr("resource.setrlimit", lambda *arguments: limits.append(arguments))
    monkeypatch.setattr("signal.signal", lambda *arguments: limits.append(arguments))
    monkeypatch.setattr("signal.setitimer", lambda *arguments: limits.append(arguments[1:]))
    request = {"key": "x", "schema": {"type": "string"}, "base": "", "resources": {}, "instances": [1]}
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(json.dumps(request).encode() + b"\n")))
    output = io.StringIO()
    monkeypatch.setattr("sys.stdout", output)
    schema_process.main(1.5)
    assert json.loads(output.getvalue()) == {"violations": [[0, "", "type", '1 is not of type "string"']]}
    assert limits[-2:] == [(1.5,), (0,)]
    assert (signal.SIGPROF, signal.SIG_DFL) in limits
