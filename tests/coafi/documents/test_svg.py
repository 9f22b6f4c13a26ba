import contextlib
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.documents.svg import CleanSvg, NotSvg, clean_svg
from tests.coafi.documents.samples import SVG

XLINK = "{http://www.w3.org/1999/xlink}"


def clean(inner: str) -> str:
    """What is left of the content of an SVG."""
    text = clean_svg((SVG % inner).encode()).content.decode()
    return text.removeprefix('<svg xmlns="http://www.w3.org/2000/svg">').removesuffix("</svg>")


def removed(inner: str) -> tuple[str, ...]:
    return clean_svg((SVG % inner).encode()).removed


def assert_only_draws(result: CleanSvg) -> None:
    """Nothing is left that runs, loads or leads anywhere; read with another parser's eyes."""
    text = result.content.decode()
    assert "<!" not in text
    assert "<?" not in text
    root = ElementTree.fromstring(text)  # noqa: S314  # our own output
    for element in root.iter():
        name = element.tag.removeprefix("{http://www.w3.org/2000/svg}")
        assert re.fullmatch(r"[A-Za-z]+", name), name
        assert name.lower() not in ("script", "foreignobject", "a", "iframe", "set", "handler", "feimage")
        assert not name.startswith("animate")
        for key, value in element.attrib.items():
            assert not key.lower().startswith("on"), key
            assert not key.startswith(XLINK)
            if key == "href":
                assert re.match(r"\s*#|data:image/(png|jpeg|gif|webp);base64,", value), value
            elif key not in ("id", "class", "d", "points", "aria-label", "lang", "role"):
                assert_css_stays_within(value)
        if name == "style":
            assert_css_stays_within(element.text or "")


def assert_css_stays_within(text: str) -> None:
    assert not re.search(r"url\(\s*['\"]?\s*[^#'\"\s]", text, re.IGNORECASE), text
    assert not re.search(r"image-set|@import|@font-face|expression|src\(|\\", text, re.IGNORECASE), text


def test_a_drawing_stays_as_it_is() -> None:
    drawing = (
        '<title>A &amp; B</title><defs><linearGradient id="g"><stop offset="0" stop-color="#fff"/></linearGradient>'
        '<path id="p" d="M0 0h10z"/></defs><style>.a &gt; path{fill:url(#g);transform:rotate(3deg)}</style>'
        '<g class="a" transform="translate(1 2)" style="fill: rgb(1,2,3)"><use href="#p" x="3"/></g>'
        '<text x="1" font-family="sans-serif">a<tspan dy="1em">b</tspan></text>'
    )
    result = clean_svg((SVG % drawing).encode())
    assert result.removed == ()
    assert_only_draws(result)
    seen = ElementTree.canonicalize(result.content.decode())
    assert seen == ElementTree.canonicalize(f'<svg xmlns="http://www.w3.org/2000/svg">{drawing}</svg>')


ATTACKS = {
    "<script>alert(1)</script>": "script",
    "<script href='https://evil.example/x.js'/>": "script",
    "<g onload='alert(1)'/>": "g onload",
    "<g ONCLICK='alert(1)'/>": None,
    "<foreignObject><b xmlns='http://www.w3.org/1999/xhtml'><script>1</script></b></foreignObject>": "foreignObject",
    "<a xlink:href='javascript:alert(1)'><path d='M0 0'/></a>": "a",
    "<use href='https://evil.example/x.svg#a'/>": "use href",
    "<use xlink:href='data:image/svg+xml;base64,PHN2Zy8+#a'/>": "use href",
    "<image href='https://evil.example/x.png'/>": "image href",
    "<image xlink:href='//evil.example/x.png'/>": "image href",
    "<image href='data:image/svg+xml;base64,PHN2Zy8+'/>": "image href",
    "<image href='data:image/png;base64,AA==#\" onload=\"x'/>": "image href",
    "<feImage href='https://evil.example/x'/>": "feImage",
    "<animate attributeName='href' values='javascript:alert(1)'/>": "animate",
    "<set attributeName='onmouseover' to='alert(1)'/>": "set",
    "<style>@import 'https://evil.example/x.css';</style>": "style",
    "<style>@font-face{src:url(https://evil.example/f)}</style>": "style",
    "<style>a{fill:url(https://evil.example/f)}</style>": "style",
    "<style>a{fill:u\\72l(https://evil.example/f)}</style>": "style",
    "<style>a{fill:url/**/(//evil.example/f)}</style>": None,
    "<style>a{background:image-set('https://evil.example/f' 1x)}</style>": "style",
    "<style>/* <![CDATA[ */ a{fill:url(x)} /* ]]> */</style>": "style",
    "<style>a{} /* </style>": None,
    "<path fill='url(https://evil.example/x#a)'/>": "path fill",
    "<path filter='URL( &quot;//evil.example/x#a&quot; )'/>": "path filter",
    "<path style='fill:url(#a);mask:url(x.svg#m)'/>": "path style",
    "<path style='fill:\\75rl(x)'/>": "path style",
    "<g xml:base='https://evil.example/'><use href='#a'/></g>": None,
    "<x:script xmlns:x='http://www.w3.org/2000/svg'>alert(1)</x:script>": "script",
    "<script xmlns='http://www.w3.org/1999/xhtml'>alert(1)</script>": None,
    "<?xml-stylesheet href='https://evil.example/x.css'?>": "xml-stylesheet",
    "<metadata><rdf xmlns='urn:x'>notes</rdf></metadata>": None,
    "<sodipodi:namedview xmlns:sodipodi='urn:x' onload='x'/>": None,
    "<style><script>x</script></style>": None,
    "<g id='&lt;script&gt;&quot;' class=\"'&#10;&quot;\"/>": None,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_does_more_than_draw_is_left_out_and_named(attack: str) -> None:
    result = clean_svg((SVG % f"<g>{attack}<path d='M1 1'/></g>").encode())
    assert_only_draws(result)
    assert b'<path d="M1 1">' in result.content
    assert b"alert" not in result.content
    named = ATTACKS[attack]
    assert result.removed == (() if named is None else (named,))


def test_what_is_in_a_link_is_still_drawn() -> None:
    assert clean("<a href='x'><g/></a>") == "<g></g>"


def test_embedded_raster_images_stay() -> None:
    image = '<image href="data:image/png;base64,iVBORw0KGgo=" width="1"></image>'
    assert clean(image.replace("href", "xlink:href")) == image
    assert clean('<use href="#a" xlink:href="#b"/>') == '<use href="#a"></use>'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no element found"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'>", "no element found"),
        (b"<html/>", "its outermost element is not svg"),
        (b"<svg/>", "its outermost element is not svg"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><g></svg>", "mismatched tag"),
        (
            b"<!DOCTYPE svg [<!ENTITY a 'b'>]><svg xmlns='http://www.w3.org/2000/svg'>&a;</svg>",
            "it defines the entity a",
        ),
        (
            b"<!DOCTYPE svg [<!ENTITY % a SYSTEM 'file:///etc/passwd'>%a;]><svg xmlns='http://www.w3.org/2000/svg'/>",
            "it defines the entity a",
        ),
        (
            b"<!DOCTYPE svg SYSTEM 'https://evil.example/x.dtd'><svg xmlns='http://www.w3.org/2000/svg'>&a;</svg>",
            "it uses the entity a",
        ),
        ((SVG % ("<g>" * 64 + "</g>" * 64)).encode(), "nested deeper than 64"),
        ((SVG % ("<a>" * 64 + "</a>" * 64)).encode(), "nested deeper than 64"),
        ((SVG % ("<b>" * 64 + "</b>" * 64)).encode(), "nested deeper than 64"),
        ((SVG % ("<g/>" * 50_000)).encode(), "more than 50000 elements"),
        (b"<?xml version='1.0' encoding='x-unknown'?><svg/>", "encoding"),
        (b"<?xml version='1.0' encoding='shift_jis'?><svg/>", "encoding"),
        (
            b"<!DOCTYPE svg [" + b"".join(b"<!ATTLIST g a%d CDATA 'x'>" % n for n in range(5_000)) + b"]>"
            b"<svg xmlns='http://www.w3.org/2000/svg'>" + b"<g/>" * 40_000 + b"</svg>",
            "declares more than 50 attributes",
        ),
        (b"\x89PNG\r\n\x1a\n", "not well-formed"),
        (b"\xff\xfe<\x00", "not well-formed"),
    ],
)
def test_what_cannot_be_drawn_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(NotSvg, match=reason):
        clean_svg(content)


def test_the_place_of_what_is_wrong_is_told() -> None:
    with pytest.raises(NotSvg) as caught:
        clean_svg(b"<svg xmlns='http://www.w3.org/2000/svg'>\n  <g></svg>")
    assert (caught.value.line, caught.value.column) == (2, 8)


def test_a_few_declared_attributes_do_no_harm() -> None:
    head = b"<!DOCTYPE svg [<!ATTLIST svg fill CDATA 'red' onload CDATA 'x'>]>"
    result = clean_svg(head + (SVG % "<g/>").encode())
    assert b'fill="red"' in result.content
    assert result.removed == ("svg onload",)


def test_a_document_type_alone_does_no_harm() -> None:
    head = (
        b'<?xml version="1.0" encoding="ISO-8859-1"?><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://x/svg.dtd">'
    )
    result = clean_svg(head + (SVG % "<title>caf\xe9</title>").encode("latin-1"))
    assert "<title>café</title>" in result.content.decode()


def bomb(levels: int, reference: str) -> str:
    parts = [f'<g id="g0">{"<path/>" * 10}</g>']
    parts += [f'<g id="g{n}">{(reference % (n - 1)) * 10}</g>' for n in range(1, levels)]
    return "".join(parts)


@pytest.mark.parametrize(
    "reference", ['<use href="#g%d"/>', '<path fill="url(#g%d)"/>', "<path style='fill:url(\"#g%d\")'/>"]
)
def test_parts_that_repeat_each_other_without_end_are_refused(reference: str) -> None:
    assert removed(bomb(3, reference)) == ()
    with pytest.raises(NotSvg, match="by repeating its parts"):
        removed(bomb(8, reference))


def test_parts_that_hold_themselves_are_no_bomb() -> None:
    assert (
        removed('<g id="a"><use href="#b"/><g id="a"/></g><g id="b"><use href="#a"/><use href="#nowhere"/></g>') == ()
    )


PIECES = st.sampled_from(
    [
        *(attack[at : at + 12] for attack in ATTACKS for at in range(0, len(attack), 9)),
        *ATTACKS,
        "<g>",
        "</g>",
        "<path d='M0 0'/>",
        "&lt;",
        "&#1;",
        "<![CDATA[",
        "]]>",
        "<!--",
        "-->",
    ]
)


@given(st.lists(PIECES, max_size=20).map("".join))
def test_any_mixture_only_draws_or_is_refused(inner: str) -> None:
    try:
        result = clean_svg((SVG % inner).encode())
    except NotSvg:
        return
    assert_only_draws(result)
    assert clean_svg(result.content) == CleanSvg(result.content, ())


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_drawn(content: bytes) -> None:
    with contextlib.suppress(NotSvg):
        assert_only_draws(clean_svg(content))


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "inner",
    [
        "<path d='" + "M0 0" * 1_000_000 + "'/>",
        "<style>" + "url(" * 500_000 + "</style>",
        "<style>" + "/*" * 500_000 + "</style>",
        "<style>(" + "/* x" * 2_000_000 + "</style>",
        "<style>(" + "a" * 9_000_000 + "</style>",
        "<path fill='(" + "a-" * 4_000_000 + "'/>",
        "<path style='" + "url(#a)" * 300_000 + "'/>",
        "<path style='" + "url(  " * 300_000 + "'/>",
        "<image href='data:image/png;base64," + "A" * 2_000_000 + "!'/>",
        "".join(f"<g id='n{n}'>" for n in range(60)) + "<g id='x'/>" * 40_000 + "</g>" * 60,
        "<g " + " ".join(f"a{n}='x'" for n in range(20_000)) + "/>",
        "x" * 5_000_000,
        "&amp;" * 1_000_000,
    ],
    ids=range(13),
)
def test_heavy_drawings_take_bounded_time(inner: str) -> None:
    with contextlib.suppress(NotSvg):
        clean_svg((SVG % inner).encode())
