"""Where the links of a document lead: elsewhere, within its page, or to another place of its repository.

Read as browsers read them (WHATWG URL standard): tabs and line ends do not count, a backslash is a slash, ``%2e`` is a
dot, and nothing climbs out of the root, which is here that of the repository.
"""

import re
from urllib.parse import unquote

_IGNORED = re.compile("[\t\n\r]")
_AROUND = "".join(map(chr, range(33)))
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_PARTS = re.compile(r"([^?#]*)(.*)", re.DOTALL)
_ENCODED_DOT = re.compile("%2e", re.IGNORECASE)
_UP = {".": 1, "..": 2}

MAX_LENGTH = 4096
"""The longest URL within a repository that is a link: browsers and servers take no longer ones."""


def tidy(url: str) -> str:
    """A URL as a browser reads it: without what it leaves out, and with slashes for backslashes in the path."""
    url = _IGNORED.sub("", url.strip(_AROUND))
    if _SCHEME.match(url):
        return url
    path, rest = _split(url)
    return path.replace("\\", "/") + rest


def is_within(url: str) -> bool:
    """Whether a tidy URL names a place in the document's repository, other than one within the document itself."""
    return bool(url) and url[0] not in "?#" and not url.startswith("//") and not _SCHEME.match(url)


def is_elsewhere(url: str) -> bool:
    """Whether a tidy URL leads to a web server."""
    return url.startswith("//") or bool(re.match(r"https?:", url, re.IGNORECASE))


def host(url: str) -> str:
    """The host of a tidy URL that leads to a web server, as it is written."""
    return _PARTS.split(url.partition("//")[2])[1].partition("/")[0]


def climbs(url: str, page: str) -> bool:
    """Whether a tidy URL within the repository cannot stay as it is on the page of the file ``page``.

    It cannot when it begins at the repository's root, or would climb out of it.
    """
    if url.startswith("/"):
        return True
    depth = page.count("/")
    for segment in _split(url)[0].split("/"):
        dots = _dots(segment)
        if dots == 2:
            depth -= 1
            if depth < 0:
                return True
        elif not dots:
            depth += 1
    return False


def from_root(url: str, page: str) -> tuple[str, str]:
    """Path from the repository's root and the rest (query, fragment) of a tidy URL on the page of the file ``page``.

    The path keeps its percent-encoding and has no dots left.
    """
    path, rest = _split(url)
    segments = [] if url.startswith("/") else page.split("/")[:-1]
    parts = path.removeprefix("/").split("/")
    for segment in parts:
        dots = _dots(segment)
        if dots == 2:
            del segments[-1:]
        elif not dots:
            segments.append(segment)
    # Like browsers: "a/.." names the directory, "a/../" too.
    if _dots(parts[-1]) and segments:
        segments.append("")
    return "/".join(segments), rest


def from_page(path: str, page: str) -> str:
    """A relative URL, from the page of the file ``page``, of a path from the repository's root."""
    return ("../" * page.count("/") or "./") + path


def plain(path: str) -> str:
    """A URL's path as the name of a file."""
    return unquote(path, errors="replace")


def _split(url: str) -> tuple[str, str]:
    found = _PARTS.match(url)
    return (found[1], found[2]) if found else (url, "")


def _dots(segment: str) -> int:
    """1 for a segment that means here, 2 for one that means up, 0 for a name."""
    return _UP.get(_ENCODED_DOT.sub(".", segment) if "%" in segment else segment, 0)
