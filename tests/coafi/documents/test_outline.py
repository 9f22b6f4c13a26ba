"""The outline of Markdown: links with their places, and anchors that are those of the generated page."""

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coafi.artifacts.markdown import TooCostly, render
from coafi.artifacts.model import GeneratorConfig
from coafi.documents.anchors import LONGEST
from coafi.documents.outline import MAX_ANCHORS, Link, read_outline

CONFIG = GeneratorConfig()
PIECES = st.sampled_from(
    [
        *(
            "# ",
            "## ",
            "### ",
            "A",
            "b c",
            "é",
            "🚀 ",
            "e\u0301",
            "coafi-x",
            "\n",
            "\n\n",
            "***",
            "`co de`",
            "&amp;",
            "\\*",
        ),
        *("[x](y.md)", "![pic *one*](p.png)", "![]( )", "<https://a.example>", "\n===\n", "\n---\n", "- ", "> ", "1. "),
        *(
            "[^1]",
            "\n\n[^1]: note\n\n",
            "[ref]",
            "\n\n[ref]: z.md\n\n",
            "|a|b|\n|-|-|\n|c|d|\n",
            "- [x] ",
            "  \n",
            "\t",
        ),
        *(
            "```\n# no\n```\n",
            "    # no\n",
            "  ",
            "-",
            "_",
            "(",
            "!",
            "@a.example",
            "&lt;",
            "\r\n",
            "~~",
            "²",
            "①",
            "‿",
        ),
    ]
)
HTML = st.sampled_from(
    [
        *(
            '<a id="one"></a>',
            "<a id='two'>x</a>",
            "<div id=three>\n\ny\n\n</div>\n\n",
            "\n\n<h2>Raw &amp; <b>bold</b></h2>\n\n",
        ),
        *(
            "\n\n<!-- # no -->\n\n",
            "<br>",
            "<kbd>K</kbd>",
            "\n\n<details><summary>s</summary>\n\n## In\n\n</details>\n\n",
        ),
        *(
            '<img src="p.png" alt="">',
            "<custom>",
            "\n\n## Same\n\n",
            "\n\n## Same\n\n",
            '<a id="same"></a>',
            '<span id="no">z</span>',
        ),
    ]
)


def page_anchors(text: str, title: str = "") -> set[str]:
    """The anchors that the generated page has."""
    rendered = render(text, title, CONFIG)
    given = re.findall(r'<(?:a|div)\b[^>]* id="([^"]+)"', rendered.html)
    return {entry.anchor for entry in rendered.headings} | set(given)


@given(st.lists(PIECES, max_size=25).map("".join), st.sampled_from(["", "A", "T"]))
@example("# A\n\n## A\n\n# A", "A")
@example("x[^1] [^2]\n\n# h[^2]\n\n[^1]: a\n[^2]: b", "")
def test_anchors_are_those_of_the_page(text: str, title: str) -> None:
    ours = set(read_outline(text, title).anchors)
    theirs = page_anchors(text, title)
    assert theirs <= ours
    assert len(ours - theirs) <= 1  # the title's


@given(st.lists(st.one_of(PIECES.filter(lambda p: p[0] not in "`|~"), HTML), max_size=12).map("".join))
def test_every_anchor_of_a_page_with_tidy_html_is_known(text: str) -> None:
    try:
        theirs = page_anchors("# T\n\n" + text, "T")
    except TooCostly:
        return
    assert theirs <= set(read_outline("# T\n\n" + text, "T").anchors)


@pytest.mark.parametrize(
    ("text", "title", "anchors"),
    [
        ("# A b, c!\n\n## A b, c!\n\n## Überblick", "", ["a-b-c", "überblick"]),
        ("## 🚀 Go\n\n## Go\n\n## Go", "", ["-go", "go", "go-1"]),
        ("## e\u0301t\u00e9 ‿ ² ①", "", ["e\u0301t\u00e9-‿-²-①"]),
        ("## coafi-content\n\n## !", "", ["section-coafi-content", "section"]),
        (f"## {'x' * 400}", "", ["x" * LONGEST]),
        ("# T\n\n# T", "T", ["t"]),
        ("# T\n\n# U", "Other", ["t", "u"]),
        ("text\n\n# T\n\n# T", "T", ["t", "t-1"]),
        ("<!-- c -->\n\n# T\n\n# T", "T", ["t"]),
        ("Two\nlines\n===", "x", ["two-lines"]),
        ("## a<br>b <kbd>c</kbd> &amp; ![d](e)", "", ["ab-c--d"]),
        ("<h2 class=x>Raw\n<b>bold</b></h2>", "", ["raw-bold"]),
        ("<h2>never closed", "", []),
        ("## a\n\n<script>\n# no\n<h1>x</h1>\n</script>\n\n<a id='coafi-x'></a><a ID=y></a><p id=z>", "", ["y", "a"]),
    ],
)
def test_anchors(text: str, title: str, anchors: list[str]) -> None:
    assert sorted(read_outline(text, title).anchors) == sorted(anchors)


def test_links_have_their_places_in_bytes() -> None:
    text = (
        'é [a](b.md "t") ![c](<d e.png>)\n\n[r][Ref] <https://x.example> <a href=q.md>z</a> ![i][]\n\n'
        "[ref]: x.md\n[i]: i.png\n"
    )
    outline = read_outline(text)
    assert outline.links == (
        Link("b.md", 3),
        Link("d e.png", 17, image=True),
        Link("x.md", 34, reference="Ref"),
        Link("q.md", 63),
        Link("i.png", 82, image=True, reference="i"),
    )
    data = text.encode()
    assert [data[link.start : link.start + 1] for link in outline.links] == [b"[", b"!", b"[", b"<", b"!"]
    assert outline.complete


def test_the_number_of_anchors_is_limited() -> None:
    text = "".join(f"# h{number}\n" for number in range(MAX_ANCHORS + 10)) + '<a id="x"></a>\n'
    assert len(read_outline(text).anchors) == MAX_ANCHORS
    ids = "".join(f'<a id="i{number}"></a>\n' for number in range(MAX_ANCHORS + 10))
    assert len(read_outline(f"# T\n\n{ids}\n\n## U", "T").anchors) == MAX_ANCHORS


@given(st.text(max_size=80))
@example("[a]: \ud800")
@example("<a \x00 href=\x00>")
def test_every_text_has_an_outline(text: str) -> None:
    outline = read_outline(text.encode("utf-8", "replace").decode())
    assert all(0 <= link.start < len(text.encode("utf-8", "replace")) for link in outline.links)


def test_a_text_with_too_many_events_is_read_in_part() -> None:
    start = time.process_time()
    outline = read_outline("*a* " * 400_000)
    assert not outline.complete
    assert time.process_time() - start < 20


def test_references_without_a_definition_are_found_and_nothing_that_only_looks_alike() -> None:
    text = (
        "é [a][nope], [b][], ![x][img]\nand [l](#x)[y][z], but neither arr[i][j] nor é[i][j], `[c][d]`, \\[e\\][f],"
        " [ok][def], [t][^1] or [one]\n\n    [g][h]\n\n```\n[i][k]\n```\n\n- [ ] [m][n]\n\n[def]: x.md\n"
    )
    found = read_outline(text).undefined
    assert [label for _, label in found] == ["nope", "b", "img", "z", "n"]
    source = text.encode()
    assert [source[start : start + 3] for start, _ in found] == [b"[a]", b"[b]", b"![x", b"[y]", b"[m]"]
