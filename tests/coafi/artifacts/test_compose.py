import json
import re
import time
from collections import Counter
from html import escape, unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.artifacts.compose import IMAGE, LINK, ORIGIN, PLACE, PageLocation, Provenance, compose, restore
from coafi.errors import ValidationError
from tests.coafi.artifacts import test_markdown
from tests.coafi.artifacts.test_markdown import ATTACKS, page_of


class Page(test_markdown.Page):
    """A composed page: it also tells what was filled in."""

    attributes = test_markdown.Page.attributes | {"data-coafi-was", "data-coafi-facts"}


PROVENANCE = Provenance(
    repository="https://example.org/acme/docs",
    branch="main",
    commit="8f1d6c0b5a4e39281706f5e4d3c2b1a098765432",
    path="docs/a.md",
    blob="3b18e512dba79e4c8300dd08aeb37f8e728b8dad",
    event="056c637c-5d9b-4b18-93de-f048bc117858",
    utids="UTIDS-P-4RKJ23CX2G5FMG3NHYFE67Q9JM",
    artifact="ab" * 32,
    generator="2",
    file_entry=1207,
    artifact_entry=1213,
    receipt=1220,
)
SERVED = PageLocation("docs/a.md")
EXPORTED = PageLocation("docs/a.md", frozenset({"docs/b.md", "docs/b c.md", "docs/x/README.md", "README.md", "ü.md"}))


def composed(text: str, location: PageLocation = SERVED, provenance: Provenance | None = PROVENANCE) -> str:
    return compose(page_of(text).encode(), location=location, provenance=provenance).decode()


def target(url: str, location: PageLocation) -> str:
    """Where a link of a document leads on its composed page."""
    html = composed(f"[x](<{url}>)", location, None)
    found = re.search(r'<p><a data-coafi="link" (?:data-coafi-was="[^"]*" )?href="([^"]*)"', html)
    assert found, html
    return unescape(found[1])


@pytest.mark.parametrize(
    ("url", "served", "exported"),
    [
        ("b.md", "b.md", "../docs/b.md.html"),
        ("b.md#part", "b.md#part", "../docs/b.md.html#part"),
        ("b.md?plain=1#part", "b.md?plain=1#part", "../docs/b.md.html?plain=1#part"),
        ("b%20c.md", "b%20c.md", "../docs/b%20c.md.html"),
        ("gone.md", "gone.md", "gone.md"),
        ("data.csv", "data.csv", "data.csv"),
        ("/docs/b.md", "../docs/b.md", "../docs/b.md.html"),
        ("/other/d.md", "../other/d.md", "../other/d.md"),
        ("../ü.md", "../%C3%BC.md", "../%C3%BC.md.html"),
        ("../../../b.md", "../b.md", "../b.md"),
        ("x", "x", "../docs/x/README.md.html"),
        ("x/", "x/", "../docs/x/README.md.html"),
        ("../", "../", "../README.md.html"),
        ("/", "../", "../README.md.html"),
        ("x/y/", "x/y/", "x/y/"),
    ],
)
def test_links_fit_where_the_page_stands(url: str, served: str, exported: str) -> None:
    assert target(url, SERVED) == served
    assert target(url, EXPORTED) == exported


def test_a_page_at_the_root_of_its_repository_has_relative_links_too() -> None:
    assert target("/b.md", PageLocation("a.md")) == "./b.md"
    assert target("/b.md", PageLocation("a.md", frozenset({"b.md"}))) == "./b.md.html"


def test_images_lie_where_the_repository_has_them() -> None:
    text = "![a](/assets/b.png) ![c](d.png) ![e](../../../f.png)"
    for location in (SERVED, EXPORTED):
        html = composed(text, location)
        assert re.findall(r'<img [^>]*\bsrc="([^"]*)" alt', html) == ["../assets/b.png", "d.png", "../f.png"]


def test_what_leads_elsewhere_stays() -> None:
    text = "[a](https://x.example/docs/b.md) [b](#c) [d](//y.example) [e](mailto:f@g.example)"
    assert (
        composed(text, EXPORTED).split("<main")[1].split("</main>")[0]
        == page_of(text).split("<main")[1].split("</main>")[0]
    )


def test_the_panel_says_where_the_page_comes_from_and_how_to_prove_it() -> None:
    html = composed("# T\n\n## One")
    for value in PROVENANCE.model_dump().values():
        assert str(value) in html.split("<footer")[1]
    for index in (1207, 1213, 1220):
        assert f'<td class="right">{index}</td>' in html
    assert f"<code>coafi receipt {PROVENANCE.utids} -o receipt.json</code>" in html
    place = '<span class="path">docs/a.md</span> on <b>main</b> at <code>8f1d6c0b5a4e</code>'
    assert f'<p class="place" data-coafi="place"><a href="../">All documents</a> · {place} · ' in html
    assert '<a href="?findings">Findings</a></p>' in html
    exported = composed("# T", EXPORTED)
    assert f'<p class="place" data-coafi="place">{place} · ' in exported
    assert "All documents" not in exported
    assert "?findings" not in exported
    Page(html)


def test_a_panel_without_branch_and_receipt() -> None:
    html = composed("x", provenance=PROVENANCE.model_copy(update={"branch": None, "receipt": None}))
    assert "<dt>Branch" not in html
    assert html.count('<td class="right">') == 2
    Page(html)


def test_without_provenance_its_places_vanish() -> None:
    html = composed("x", provenance=None)
    assert "data-coafi" not in html
    assert "coafi-origin" not in html
    Page(html)


def test_a_page_reads_as_well_when_its_marks_are_not_filled() -> None:
    html = page_of("[a](b.md) ![c](/d.png)")
    assert PLACE in html
    assert ORIGIN in html
    assert f'{LINK}b.md">a</a>' in html
    assert f'{IMAGE}/d.png" alt="c"' in html
    assert ">Where" not in html


HOSTILE = '"><script>alert(1)</script><b x="\'&\ud800\x00'


def test_whatever_is_filled_in_is_escaped() -> None:
    update = dict.fromkeys(("repository", "branch", "commit", "path", "blob", "event", "utids", "generator"), HOSTILE)
    html = composed("[a](b.md)", PageLocation(HOSTILE + "/a.md"), PROVENANCE.model_copy(update=update))
    assert "<script" not in html
    Page(html)


def test_what_is_no_page_comes_back_as_it_is() -> None:
    for other in (b"", b"\xff\x00", b"<p>x</p>", b'<a href="/x">'):
        assert compose(other, location=EXPORTED, provenance=PROVENANCE) == other


def marks(html: str) -> list[str]:
    return re.findall(r'data-coafi="(\w+)"', html)


FORGERIES = [
    PLACE,
    ORIGIN,
    LINK,
    IMAGE,
    LINK + '/x">',
    *(mark.replace('"', "'") for mark in (PLACE, ORIGIN)),
    *(f"{quote}{mark}{quote}" for mark in (PLACE, LINK) for quote in ("`", "'", '"')),
    f"![{IMAGE}]({LINK} '{ORIGIN}')",
    f'<a title="{LINK[:-2]}" href="b.md">x</a>',
    '<a title="<a data-coafi=" href="b.md">x</a>',
    '<td title=\'<img data-coafi="image" src="x">\'>',
    f"---\ntitle: '{ORIGIN}'\nstatus: '{PLACE}'\ntags: ['{LINK}']\n---\n",
    f"```html\n{ORIGIN}\n```",
    f"```python\n'{ORIGIN}' {PLACE}\n```",
]


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_mark_cannot_be_forged(forgery: str) -> None:
    html = page_of(forgery)
    assert sorted(set(marks(html)) & {"place", "origin"}) == ["origin", "place"]
    assert html.count(PLACE) == html.count(ORIGIN) == 1
    assert html.count(LINK) == sum(tag == "a" and "data-coafi" in attributes for tag, attributes in Page(html).seen)
    assert html.count(IMAGE) == sum(tag == "img" for tag, _ in Page(html).seen)
    done = compose(html.encode(), location=EXPORTED, provenance=PROVENANCE).decode()
    assert [tag for tag, attributes in Page(done).seen if attributes.get("id") == "coafi-origin"] == ["footer"]


PIECES = st.sampled_from(
    [piece[at : at + size] for piece in (*FORGERIES, *ATTACKS) for size in (11, 23) for at in range(0, len(piece), 7)]
)


@given(st.lists(PIECES, max_size=20).map("".join), st.sampled_from([SERVED, EXPORTED]))
def test_no_document_breaks_its_composed_page(text: str, location: PageLocation) -> None:
    page = page_of("## x\n\n" + text).encode()
    done = compose(page, location=location, provenance=PROVENANCE)
    filled = [attributes.get("data-coafi") for _, attributes in Page(done.decode()).seen]
    assert filled.count("place") == filled.count("origin") == 1
    assert restore(done).page == page
    assert compose(done, location=location, provenance=PROVENANCE) == done
    assert compose(page, location=location, provenance=PROVENANCE) == done
    assert added(page.decode(), done.decode()) == added(page_of("x"), composed("x", location))


def added(page: str, done: str) -> Counter[str]:
    """The tags that a page got."""
    return Counter(tag for tag, _ in Page(done).seen) - Counter(tag for tag, _ in Page(page).seen)


@given(st.text(max_size=60), st.text(min_size=1, max_size=30))
def test_any_link_on_any_page_stays_in_the_repository(url: str, path: str) -> None:
    page = f'{LINK}{url.replace("&", "&amp;").replace(chr(34), "&quot;")}">'.encode("utf-8", "replace")
    for location in (PageLocation(path), PageLocation(path, frozenset({path}))):
        assert re.match(rb'<a data-coafi="link" (data-coafi-was="[^"]*" )?href="', compose(page, location=location))


def test_composing_is_fast() -> None:
    page = page_of(
        "# T\n\n" + "".join(f"Text [a](b{n}.md#c) and ![d](/e{n}.png).\n\n## H{n}\n\n" for n in range(40))
    ).encode()
    best = 1.0
    for _ in range(20):
        start = time.perf_counter()
        compose(page, location=EXPORTED, provenance=PROVENANCE)
        best = min(best, time.perf_counter() - start)
    assert best < 0.01  # about 0.3 ms; the margin is for a busy machine


@pytest.mark.soak
@pytest.mark.timeout(120)
def test_composing_a_page_full_of_links_takes_bounded_time() -> None:
    compose((f'{LINK}{"../" * 30}b.md">' * 60_000).encode(), location=EXPORTED, provenance=PROVENANCE)
    compose((LINK * 200_000).encode(), location=EXPORTED)


@given(st.text(max_size=60), st.sampled_from([SERVED, EXPORTED]))
def test_the_page_as_it_was_generated_can_be_had_back(url: str, location: PageLocation) -> None:
    value = escape(url).encode("utf-8", "replace").decode()
    page = f'<main>{PLACE}{LINK}{value}">x</a>{IMAGE}{value}">{ORIGIN}</main>'.encode()
    restored = restore(compose(page, location=location, provenance=PROVENANCE))
    assert restored.page == page
    assert restored.provenance == PROVENANCE


def test_a_panel_without_branch_and_receipt_is_restored_too() -> None:
    page = page_of("# T").encode()
    less = PROVENANCE.model_copy(update={"branch": None, "receipt": None})
    assert restore(compose(page, location=SERVED, provenance=less)) == (page, less)


WHOLE = composed("# T\n\n[a](/docs/b.md) ![c](/d.png) [e](f.md)", EXPORTED)
(FACTS,) = re.findall(r'data-coafi-facts="([^"]*)"', WHOLE)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('href="../docs/b.md.html"', 'href="https://evil.example/"', "a link in it was '/docs/b.md' and leads to"),
        ('src="../d.png"', 'src="../d.png.html"', "a link in it was '/d.png'"),
        ('<td class="right">1213</td>', '<td class="right">1214</td>', "the panel at its end is not"),
        ("<b>main</b>", "<b>other</b>", "the line above its title is not"),
        ("<b>main</b>", "<b>main</b><script>x</script>", "the line above its title is not"),
        ("</footer>", "<p>and it is free of charge</p></footer>", "the panel at its end is not"),
        (FACTS, "{}", "cannot be read"),
        (FACTS, "[" * 100_000, "cannot be read"),
        (FACTS, FACTS.replace("1207", "-1"), "cannot be read"),
        (FACTS, FACTS.replace("{", "{ ", 1), "the panel at its end is not"),
        ('<p class="place" data-coafi="place">', "<p>", "does not say where it comes from"),
        ("</main>", f"{PLACE}</main>", "does not say where it comes from"),
        ("<footer id", "<footer  id", "does not say where it comes from"),
        ("</footer>", "", "does not say where it comes from"),
    ],
)
def test_what_was_changed_after_composing_is_refused(old: str, new: str, problem: str) -> None:
    assert WHOLE.count(old) >= 1
    with pytest.raises(ValidationError, match=re.escape(problem)):
        restore(WHOLE.replace(old, new, 1).encode())


def test_a_panel_before_the_title_is_refused() -> None:
    page = compose(f"{ORIGIN}{PLACE}".encode(), location=SERVED, provenance=PROVENANCE)
    with pytest.raises(ValidationError, match="before its title"):
        restore(page)


def test_the_facts_are_json() -> None:
    assert json.loads(unescape(FACTS)) == PROVENANCE.model_dump()


@pytest.mark.timeout(30)
def test_restoring_a_hostile_page_takes_bounded_time() -> None:
    moved = b'<a data-coafi="link" data-coafi-was="/x" href="../x"'
    restore(WHOLE.encode() + moved * 60_000)
    for piece in (b'<p class="place" data-coafi="place">', b'<a data-coafi="link" data-coafi-was="', b"</footer>"):
        with pytest.raises(ValidationError):
            restore(piece * 100_000)
