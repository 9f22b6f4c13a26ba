"""The outline of Markdown: links with their places, and anchors that are those of the generated page."""

import re

from hypothesis import example, given
from hypothesis import strategies as st

from coafi.artifacts.markdown import TooCostly, render
from coafi.artifacts.model import GeneratorConfig
from coafi.documents.outline import read_outline

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
