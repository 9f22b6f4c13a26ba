"""Every rule has an example that breaks it and one that does not."""

import pytest

from coafi.documents.check import FileReport, check_file
from coafi.documents.rules import MESSAGE_LIMIT, RULES
from coafi.registry.validation import Schema
from tests.coafi.documents.samples import BUILTIN, GOOD, PNG, SVG, Builtin, NoSchemas, check

BROKEN = Builtin(Schema("frontmatter.INFO-SPEC", "9.0.0", {"type": "nonsense"}))


def doc(text: str, path: str = "a.md") -> FileReport:
    return check(path, text)


EXAMPLES: dict[str, tuple[FileReport, FileReport]] = {
    "file/omitted": (check_file("a.md", None, BUILTIN, omitted="a symbolic link"), doc(GOOD)),
    "file/too-large": (check("a.md", "x" * 11, max_bytes=10), check("a.md", "x" * 10, max_bytes=10)),
    "file/not-checked": (check("a.bin", b"\x00"), check("a.txt", b"x")),
    "file/encoding": (check("a.md", b"\xff"), doc("é")),
    "file/bom": (check("a.json", b"\xef\xbb\xbf{}"), check("a.json", b"{}")),
    "file/more-findings": (
        check("a.yaml", "- no\n" * 3, max_findings=2),
        check("a.yaml", "- no\n" * 2, max_findings=2),
    ),
    "data/too-deep": (check("a.json", "[[[]]]", max_depth=2), check("a.json", "[[]]", max_depth=2)),
    "data/too-many-values": (check("a.json", "[1,2,3]", max_nodes=3), check("a.json", "[1,2,3]", max_nodes=4)),
    "data/number": (doc("9007199254740993", "a.json"), doc("9007199254740991", "a.json")),
    "yaml/syntax": (doc("a: [", "a.yaml"), doc("a: []", "a.yaml")),
    "yaml/control-character": (doc("a: \x01", "a.yaml"), doc('a: "\\x01"', "a.yaml")),
    "yaml/duplicate-key": (doc("a: 1\na: 2", "a.yaml"), doc("a: 1\nA: 2", "a.yaml")),
    "yaml/alias": (doc("a: &x 1", "a.yaml"), doc("a: '&x 1'", "a.yaml")),
    "yaml/key": (doc("? [a]\n: 1", "a.yaml"), doc("'[a]': 1", "a.yaml")),
    "yaml/tag": (doc("a: !Ref b", "a.yaml"), doc("a: !!str b", "a.yaml")),
    "yaml/ambiguous": (doc("a: no", "a.yaml"), doc("a: 'no'", "a.yaml")),
    "json/syntax": (doc("[1,]", "a.json"), doc("[1]", "a.json")),
    "json/duplicate-key": (doc('{"a":1,"a":1}', "a.json"), doc('{"a":1,"A":1}', "a.json")),
    "json/surrogate": (doc('"\\ud800"', "a.json"), doc('"\\ud83d\\ude00"', "a.json")),
    "image/mismatch": (check("a.jpg", PNG), check("a.png", PNG)),
    "image/damaged": (check("a.png", PNG[:20]), check("a.png", PNG)),
    "image/too-large": (check("a.png", PNG, max_image_pixels=11), check("a.png", PNG, max_image_pixels=12)),
    "image/active": (check("a.svg", SVG % "<script/>"), check("a.svg", SVG % "<g/>")),
    "frontmatter/missing": (doc("# x"), doc(GOOD)),
    "frontmatter/misplaced": (doc("# x\n" + GOOD), doc(GOOD)),
    "frontmatter/unclosed": (doc("---\ntitle: x\n"), doc("---\ntitle: x\n---\n")),
    "frontmatter/too-large": (
        check("a.md", GOOD, max_front_matter_bytes=20),
        check("a.md", GOOD, max_front_matter_bytes=2000),
    ),
    "frontmatter/not-a-mapping": (doc("---\n- x\n---\n"), doc("---\ntitle: x\n---\n")),
    "frontmatter/several": (doc("---\ntitle: x\n--- y\n---\n"), doc("---\ntitle: x\n---\n--- y\n---\n")),
    "frontmatter/required-key": (doc("---\nstatus: DRAFT\n---\n"), doc("---\ntitle: x\n---\n")),
    "frontmatter/recommended-key": (doc("---\ntitle: x\n---\n"), doc(GOOD)),
    "frontmatter/value": (doc(GOOD.replace("-SPEC-A", "-spec")), doc(GOOD)),
    "frontmatter/unusual-value": (doc(GOOD.replace("DRAFT", "ON HOLD")), doc(GOOD)),
    "frontmatter/no-schema": (check_file("a.md", GOOD.encode(), NoSchemas()), doc(GOOD)),
    "frontmatter/unusable-schema": (check_file("a.md", GOOD.encode(), BROKEN), doc(GOOD)),
}


def test_every_rule_has_examples() -> None:
    assert set(EXAMPLES) == set(RULES)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_the_examples_of_a_rule_break_it_and_keep_it(rule: str) -> None:
    breaks, keeps = EXAMPLES[rule]
    assert rule in {finding.rule for finding in breaks.findings}
    assert rule not in {finding.rule for finding in keeps.findings}


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_rule_says_what_is_wrong_and_what_to_do(rule: str) -> None:
    entry = RULES[rule]
    assert entry.id == rule
    assert entry.meaning
    assert entry.remedy
    finding = next(finding for finding in EXAMPLES[rule][0].findings if finding.rule == rule)
    assert finding.message
    assert finding.remedy


def test_messages_are_cut_and_printable() -> None:
    finding = RULES["yaml/tag"].finding("x\x00\ud800" * 1000, pointer="/\x1b")
    assert len(finding.message) < 2 * MESSAGE_LIMIT * 6
    assert finding.message.isprintable()
    assert finding.pointer == "/\\x1b"
