import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from coafi.documents.json_syntax import parse_json
from coafi.documents.limits import DocumentLimits
from coafi.documents.parsed import Parsed
from coafi.documents.source import Source
from tests.coafi.documents.test_yaml_syntax import DATA


def parse(text: str, **limits: int) -> Parsed:
    return parse_json(Source.of(text), DocumentLimits(**limits))


def found(parsed: Parsed) -> list[tuple[str, int | None, int | None]]:
    return [(finding.rule, finding.line, finding.column) for finding in parsed.findings]


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("", 1, 1, "empty"),
        (" \n ", 1, 1, "empty"),
        ('{"a": [1, 2,]}', 1, 12, "followed by a comma"),
        ('{"a": 1,\n}', 1, 8, "followed by a comma"),
        ('{"a": 1 "b": 2}', 1, 9, "comma or }"),
        ("[1 2]", 1, 4, "comma or ]"),
        ("{'a': 1}", 1, 2, "double quotes"),
        ("['a']", 1, 2, "double quotes"),
        ('{"a" 1}', 1, 6, "colon"),
        ('{"a":}', 1, 6, "starts no value"),
        ("[1, // two\n 2]", 1, 5, "comments"),
        ("[NaN]", 1, 2, "NaN"),
        ("-Infinity", 1, 1, "minus sign"),
        ("[Infinity]", 1, 2, "Infinity"),
        ("[True]", 1, 2, "True"),
        ("[undefined]", 1, 2, "undefined"),
        ("[01]", 1, 2, "no number"),
        ("[1.]", 1, 2, "no number"),
        ("[.5]", 1, 2, "starts no value"),
        ("[+1]", 1, 2, "starts no value"),
        ("[1e]", 1, 2, "no number"),
        ("[0x1F]", 1, 2, "no number"),
        ('["a\\q"]', 1, 4, "escape"),
        ('["a\\u12g4"]', 1, 4, "escape"),
        ('["a\nb"]', 1, 2, "closing quote on its line"),
        ('["a\tb"]', 1, 4, "U+0009"),
        ('["a\\"', 1, 2, "closing quote"),
        ('["a\\', 1, 4, "escape"),
        ("[1]\n[2]", 2, 1, "behind the end"),
        ("[1", 1, 3, "ends too early"),
        ('{"a"', 1, 5, "ends too early"),
        ('{"a":', 1, 6, "ends too early"),
        ("[1,", 1, 4, "ends too early"),
        ("\x0b[]", 1, 1, "starts no value"),
        ("[1]]", 1, 4, "behind the end"),
        ("nul", 1, 1, "nul is no value"),
    ],
)
def test_syntax_errors_are_told_with_their_place(text: str, line: int, column: int, words: str) -> None:
    parsed = parse(text)
    assert parsed.values == ()
    assert found(parsed) == [("json/syntax", line, column)]
    assert words in parsed.findings[0].message


def test_the_first_value_of_a_key_counts_and_the_others_are_told() -> None:
    parsed = parse('{"a": 1,\n "b": {"c": 2, "c": [3]},\n "a": 4}')
    assert parsed.values == ({"a": 1, "b": {"c": 2}},)
    assert found(parsed) == [("json/duplicate-key", 2, 16), ("json/duplicate-key", 3, 2)]
    assert [finding.pointer for finding in parsed.findings] == ["/b/c", "/a"]
    assert parsed.inexact == ""


def test_numbers_that_others_round_keep_their_text() -> None:
    parsed = parse('{"a": [9007199254740991, 9007199254740992, -1e999, 1e-999]}')
    assert parsed.values == ({"a": [2**53 - 1, "9007199254740992", "-1e999", 0.0]},)
    assert [(finding.rule, finding.pointer) for finding in parsed.findings] == [
        ("data/number", "/a/1"),
        ("data/number", "/a/2"),
    ]
    assert "line 1" in parsed.inexact
    assert parse("9" * 10_000).values == ("9" * 10_000,)


def test_half_a_surrogate_pair_becomes_the_replacement_character() -> None:
    parsed = parse('{"\\ud800": ["\\uDC00", "\\ud83d\\ude00", 1, null]}')
    assert parsed.values == ({"\ufffd": ["\ufffd", "😀", 1, None]},)
    assert [finding.rule for finding in parsed.findings] == ["json/surrogate", "json/surrogate"]
    assert parsed.inexact
    assert parse('"\\ud83d\\ude00"').findings == ()


def test_depth_and_number_of_values_are_limited_before_the_parser_runs() -> None:
    assert parse("[" * 100 + "]" * 100).findings == ()
    assert found(parse("[" * 101 + "]" * 101)) == [("data/too-deep", 1, 101)]
    assert found(parse("[" * 1_000_000)) == [("data/too-deep", 1, 101)]
    assert found(parse('{"a":' * 1_000)) == [("data/too-deep", 1, 501)]
    assert found(parse("[1,2,3,4]", max_nodes=3)) == [("data/too-many-values", 1, 5)]
    assert parse("[1,2,3]", max_nodes=4).findings == ()
    assert parse('["' + "[" * 1000 + '\\"' + "{,:" * 1000 + '"]', max_nodes=5).findings == ()


@given(DATA, st.sampled_from([None, 1, 4]), st.booleans())
def test_values_are_those_of_the_standard_library(value: JsonValue, indent: int | None, ascii_only: bool) -> None:
    parsed = parse(json.dumps(value, indent=indent, ensure_ascii=ascii_only))
    assert parsed.values == (value,)
    assert parsed.findings == ()


@given(DATA, st.sampled_from([None, 2]))
def test_pointers_are_found_where_a_yaml_parser_has_its_nodes(value: JsonValue, indent: int | None) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=True)
    expected: dict[str, tuple[int, int]] = {}

    def walk(node: yaml.Node, pointer: str) -> None:
        expected[pointer] = (node.start_mark.line + 1, node.start_mark.column + 1)
        if isinstance(node, yaml.SequenceNode):
            for number, item in enumerate(node.value):
                walk(item, f"{pointer}/{number}")
        elif isinstance(node, yaml.MappingNode):
            for key, item in node.value:
                walk(item, f"{pointer}/{key.value.replace('~', '~0').replace('/', '~1')}")

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert root is not None
    walk(root, "")
    assert parse(text).locate(set(expected)) == expected


TOKENS = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    '"a"',
    '"',
    "\\",
    "\\u00e9",
    "\\ud83d",
    "1",
    "-",
    "0",
    ".5",
    "e3",
    "true",
    "null",
    "NaN",
    "'",
    "é",
    "\x01",
]
JSON_LIKE = st.lists(st.sampled_from([*TOKENS, " ", "\n"]), max_size=12).map("".join)


@given(st.one_of(JSON_LIKE, st.text(max_size=20)))
def test_what_the_standard_library_refuses_is_refused_with_a_place_and_nothing_else_is(text: str) -> None:
    parsed = parse(text)

    def refuse(word: str) -> None:
        raise ValueError(word)

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError:
        assert parsed.values == ()
        assert [finding.rule for finding in parsed.findings][-1] == "json/syntax"
        assert not parsed.findings[-1].message.startswith("this is not JSON:"), "our scanner has missed it"
    else:
        assert len(parsed.values) == 1


def test_a_schema_violation_in_the_second_half_of_a_file_is_found_quickly() -> None:
    text = json.dumps({"rows": [{"id": number} for number in range(20_000)]}, indent=1)
    (place,) = parse(text).locate({"/rows/19999/id"}).values()
    assert text.splitlines()[place.line - 1][place.column - 1 :] == "19999"
