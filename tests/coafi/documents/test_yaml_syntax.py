import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from coafi.documents.limits import DocumentLimits
from coafi.documents.parsed import Parsed
from coafi.documents.source import Source
from coafi.documents.yaml_syntax import parse_yaml

LIMITS = DocumentLimits()


def parse(text: str, **limits: int) -> Parsed:
    return parse_yaml(Source.of(text), DocumentLimits(**limits))


def found(parsed: Parsed) -> list[tuple[str, int | None, int | None]]:
    return [(finding.rule, finding.line, finding.column) for finding in parsed.findings]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2025-04-27", "2025-04-27"),
        ("2025-04-27T10:00:00Z", "2025-04-27T10:00:00Z"),
        ("v1.0", "v1.0"),
        ("null", None),
        ("~", None),
        ("true", True),
        ("False", False),
        ("12", 12),
        ("-3", -3),
        ("0x1F", 31),
        ("1.5", 1.5),
        ("1.5e+3", 1500.0),
        ('"12"', "12"),
        ("'no'", "no"),
        ("!!str 12", "12"),
        ("! 12", "12"),
        ("!!int 12", 12),
        ("!!float 1.5", 1.5),
        ("!!bool true", True),
        ("!!null null", None),
        ("!!timestamp 2025-04-27", "2025-04-27"),
        ("|\n  a\n  b\n", "a\nb\n"),
        ("{a: [1, {b: }]}", {"a": [1, {"b": None}]}),
        ("{1: a, true: b, null: c}", {"1": "a", "true": "b", "null": "c"}),
    ],
)
def test_values_are_those_of_json(text: str, value: JsonValue) -> None:
    parsed = parse(text)
    assert parsed.values == (value,)
    assert parsed.findings == ()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("On", "On"),
        ("12:30:45", "12:30:45"),
        ("010", 10),
        ("0o17", 15),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("1e3", 1000.0),
        ("089", 89),
    ],
)
def test_what_yaml_1_1_reads_differently_keeps_its_text_or_number_and_is_warned_about(
    text: str, value: JsonValue
) -> None:
    parsed = parse(f"key: {text}")
    assert parsed.values == ({"key": value},)
    assert found(parsed) == [("yaml/ambiguous", 1, 6)]
    assert parsed.findings[0].pointer == "/key"


@given(st.text("0123456789_:.-+eExobnNfyYaAtTrRuUlLsS~<>=", max_size=8).filter(lambda text: text.strip()))
def test_no_scalar_differs_from_yaml_1_1_without_a_warning(text: str) -> None:
    document = f"k: {text}"
    try:
        older = yaml.safe_load(document)
    except (yaml.YAMLError, ValueError):
        return
    parsed = parse(document)
    if not isinstance(older, dict) or set(older) != {"k"} or parsed.findings:
        return
    value = older["k"]
    if hasattr(value, "isoformat"):
        assert parsed.values == ({"k": text},)
    else:
        assert parsed.values == ({"k": value},)
        assert [type(item) for item in parsed.values[0].values()] == [type(value)]


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53) + 1, 2**53 - 1),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=8),
)
KEYS = st.text("abc/~ é-", min_size=1, max_size=4).filter(lambda key: key.strip() == key and key != "-")
DATA = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


@given(DATA, st.booleans())
def test_what_pyyaml_writes_is_read_back(value: JsonValue, flow: bool) -> None:
    parsed = parse(yaml.safe_dump(value, default_flow_style=flow, allow_unicode=True))
    if not parsed.findings:  # PyYAML leaves some text unquoted that only YAML 1.2 takes for numbers.
        assert parsed.values == (value,)


@given(DATA, st.booleans())
def test_pointers_are_found_where_the_composer_of_pyyaml_has_its_nodes(value: JsonValue, flow: bool) -> None:
    text = yaml.safe_dump(value, default_flow_style=flow, allow_unicode=True, width=30)
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
    parsed = parse(text)
    if parsed.values and not any(character in text for character in "\x85\u2028\u2029"):
        assert parsed.locate(set(expected)) == expected
        assert parsed.locate({"/no/such/thing"}) == {}
    assert parsed.locate(()) == {}


def test_positions_count_from_the_start_of_the_file() -> None:
    text = "---\r\na: 1\r\nb: [x,\r\n  {c: d}]\r\n---\r\n"
    parsed = parse_yaml(Source(text, 5, text.index("---", 5)), LIMITS)
    assert parsed.values == ({"a": 1, "b": ["x", {"c": "d"}]},)
    assert parsed.locate({"/a", "/b/1/c"}) == {"/a": (2, 4), "/b/1/c": (4, 7)}


def test_a_stream_of_documents_is_read_one_by_one() -> None:
    parsed = parse("# only a comment\n--- 1\n---\na: x\n...\n--- [b]\n")
    assert parsed.values == (1, {"a": "x"}, ["b"])
    assert parsed.locate({"/a"}, 1) == {"/a": (4, 4)}
    assert parsed.locate({"/0"}, 2) == {"/0": (6, 6)}
    assert parse("").values == parse("# nothing\n").values == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1,\n b: c: d", [("yaml/syntax", 2, 6)]),
        ("a: b\n\tc: d", [("yaml/syntax", 2, 1)]),
        ("a: 'x", [("yaml/syntax", 1, 6)]),
        ('a: "\\ud800"', [("yaml/syntax", 1, 7)]),
        ("a: 1\nb: \x07", [("yaml/control-character", 2, 4)]),
        ("a: b\ufeff", [("yaml/control-character", 1, 5)]),
        ("a: \ufffe", [("yaml/control-character", 1, 4)]),
        ("a: 1\nb: 2\na: 3", [("yaml/duplicate-key", 3, 1)]),
        ("x: [{a: {}, a: {b: 1}}]", [("yaml/duplicate-key", 1, 13)]),
        ("a: &x 1", [("yaml/alias", 1, 4)]),
        ("a: *x", [("yaml/alias", 1, 4)]),
        ("a: &x 1\nb: *x", [("yaml/alias", 1, 4), ("yaml/alias", 2, 4)]),
        ("? [a]\n: 1", [("yaml/key", 1, 3)]),
        ("{{a: 1}: 1}", [("yaml/key", 1, 2)]),
        ("a: !Ref x", [("yaml/tag", 1, 4)]),
        ("a: !!set {x}", [("yaml/tag", 1, 4)]),
        ("a: !!int x", [("yaml/tag", 1, 4)]),
        ("a: !!int 99999999999999999999", [("yaml/tag", 1, 4)]),
        ("<<: {a: 1}", [("yaml/ambiguous", 1, 1)]),
        ("a: 9007199254740992", [("data/number", 1, 4)]),
        ("a: .inf", [("data/number", 1, 4)]),
        ("a: -.INF", [("data/number", 1, 4)]),
        ("a: .nan", [("data/number", 1, 4)]),
        (
            "a: 1e400",
            [
                ("data/number", 1, 4),
            ],
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, expected: list[tuple[str, int, int]]) -> None:
    assert found(parse(text)) == expected


def test_duplicates_name_the_first_and_keep_it() -> None:
    parsed = parse("a: {b: 1}\na: {b: 2}\n")
    assert parsed.values == ({"a": {"b": 1}},)
    assert "first on line 1" in parsed.findings[0].message
    assert parsed.findings[0].pointer == "/a"


def test_pointers_within_a_dropped_duplicate_do_not_fail() -> None:
    assert [finding.pointer for finding in parse("a: 1\na: [{x: no}]\n").findings] == ["/a", "/a/0/x"]


@pytest.mark.parametrize("text", ["9" * 5000, "-" + "9" * 400, "1" * 70, "0x" + "f" * 100])
def test_numbers_that_json_rounds_keep_their_text(text: str) -> None:
    parsed = parse(f"a: {text}")
    assert parsed.values == ({"a": text},)
    assert "line 1" in parsed.inexact


def test_the_largest_exact_integer_is_a_number() -> None:
    assert parse("9007199254740991").values == (2**53 - 1,)
    assert parse("-9007199254740991").findings == ()


def test_depth_and_number_of_values_are_limited() -> None:
    assert parse("[" * 100 + "]" * 100).findings == ()
    assert found(parse("[" * 101 + "]" * 101)) == [("data/too-deep", 1, 101)]
    assert found(parse("[" * 100_000))[0][0] == "data/too-deep"
    assert found(parse("- 1\n" * 10, max_nodes=5)) == [("data/too-many-values", 5, 3)]


def test_a_bomb_of_aliases_is_refused_before_it_expands() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
    parsed = parse(bomb)
    assert parsed.values == ()
    assert {finding.rule for finding in parsed.findings} == {"yaml/alias"}


def test_no_more_findings_of_a_rule_are_kept_than_asked_for() -> None:
    kept = [finding.rule for finding in parse("a: no\n" * 500, max_findings=10).findings]
    assert sorted(kept) == ["yaml/ambiguous"] * 11 + ["yaml/duplicate-key"] * 11


@given(st.text(st.sampled_from("ab:-?[]{},&*!|>'\"%@#~ \n\t\r.0\x85é"), max_size=60))
def test_any_text_gives_a_result_or_a_finding(text: str) -> None:
    parsed = parse(text)
    for finding in parsed.findings:
        assert finding.line is not None
        assert 1 <= finding.line <= 1 + text.count("\n") + text.count("\r")
    try:
        count = sum(1 for _ in yaml.compose_all(text, Loader=yaml.CSafeLoader))
    except yaml.YAMLError:
        assert parsed.findings
    else:
        assert parsed.findings or len(parsed.values) == count


def test_floats_are_finite() -> None:
    (value,) = parse("[1.5, .5, 5., 1.0e-400]").values
    assert isinstance(value, list)
    assert all(isinstance(item, float) and math.isfinite(item) for item in value)
