from urllib.parse import urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.artifacts import links


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (" a.md\n", "a.md"),
        ("a\t/b\r\n.md", "a/b.md"),
        ("a\\b?c\\d#e\\f", "a/b?c\\d#e\\f"),
        ("\\\\evil.example/x", "//evil.example/x"),
        ("/\\evil.example", "//evil.example"),
        ("/\t/evil.example", "//evil.example"),
        ("ht\ntps://a\\b", "https://a\\b"),
        ("\x00\x1f a", "a"),
        ("", ""),
    ],
)
def test_a_url_is_read_as_a_browser_reads_it(url: str, expected: str) -> None:
    assert links.tidy(url) == expected


@pytest.mark.parametrize("url", ["a.md", "./a", "../a#b", "/a?b", ".", "/", "a b", "ü", "1:2", "é:x", "a/b:c"])
def test_what_lies_within_the_repository(url: str) -> None:
    assert links.is_within(url)
    assert not links.is_elsewhere(url)


@pytest.mark.parametrize(
    "url", ["", "#a", "?a", "//a", "a:b", "mailto:a@b", "https://a/b", "javascript:x", "A+b.c-1:d"]
)
def test_what_does_not(url: str) -> None:
    assert not links.is_within(url)
    assert links.is_elsewhere(url) is url.startswith(("//", "https:"))


@pytest.mark.parametrize(
    ("url", "host"),
    [("https://a.example/b?c", "a.example"), ("//a?b/c", "a"), ("http:a", ""), ("HTTPS://u@a:1#/b", "u@a:1")],
)
def test_the_host(url: str, host: str) -> None:
    assert links.host(url) == host


@pytest.mark.parametrize(
    ("url", "path", "rest", "climbs"),
    [
        ("b.md", "docs/b.md", "", False),
        ("b.md#c?d", "docs/b.md", "#c?d", False),
        ("./b.md?c#d", "docs/b.md", "?c#d", False),
        ("../b.md", "b.md", "", False),
        ("../../b.md", "b.md", "", True),
        ("x/../../../b.md", "b.md", "", True),
        ("%2E%2e/b.md", "b.md", "", False),
        ("%2e%2E/.%2e/b.md", "b.md", "", True),
        ("..%2fb.md", "docs/..%2fb.md", "", False),
        ("...", "docs/...", "", False),
        ("/b.md", "b.md", "", True),
        ("/../b.md", "b.md", "", True),
        ("/", "", "", True),
        (".", "docs/", "", False),
        ("..", "", "", False),
        ("x/", "docs/x/", "", False),
        ("x/..", "docs/", "", False),
        ("x//y", "docs/x//y", "", False),
    ],
)
def test_paths_from_the_root(url: str, path: str, rest: str, climbs: bool) -> None:
    assert links.from_root(url, "docs/a.md") == (path, rest)
    assert links.climbs(url, "docs/a.md") is climbs


def test_paths_from_a_page() -> None:
    assert links.from_page("x/y.md", "a.md") == "./x/y.md"
    assert links.from_page("x/y.md", "a/b/c.md") == "../../x/y.md"
    assert links.from_page("x:y", "a.md") == "./x:y"
    assert links.plain("a%20b%C3%BC%FF") == "a bü\ufffd"


SEGMENT = st.sampled_from(["a", "b.md", ".", "..", "%2e", ".%2E", "...", "x y", "ü", "%20", ""])
PATH = st.lists(st.sampled_from(["a", "b", "c.d"]), min_size=1, max_size=4).map("/".join)


@given(st.lists(SEGMENT, min_size=1, max_size=6).map("/".join), PATH, st.booleans())
def test_no_path_leaves_the_repository(path: str, page: str, absolute: bool) -> None:
    """What another resolver makes of our relative URL lies below the root, and is what it was meant to be."""
    url = links.tidy(("/" if absolute else "") + path)
    if not links.is_within(url):
        return
    base = "https://host.example/docs/repository/main/"
    target, _ = links.from_root(url, page)
    resolved = urljoin(base + page, links.from_page(target, page))
    assert resolved.startswith(base)
    # urllib knows no encoded dots, and leaves out segments without a name.
    if not links.climbs(url, page) and "%2" not in url.lower() and "//" not in url:
        assert urljoin(base + page, url).rstrip("/") == resolved.rstrip("/")


@given(st.text())
def test_any_text_is_read(url: str) -> None:
    tidy = links.tidy(url)
    assert links.tidy(tidy) == tidy
    assert links.is_within(tidy) + links.is_elsewhere(tidy) <= 1
