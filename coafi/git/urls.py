"""Which repositories may be contacted: a parser of their URLs, stricter than git's, and a check of where hosts are.

Syntax follows RFC 3986, narrowed: ``https://host[:port]/path``; ``http`` for tests, ``ssh`` and ``file`` only where
the policy says so. Never accepted: user information, query, fragment, a backslash, white space, control characters,
anything outside ASCII, ``.`` and ``..`` segments, segments that start with ``-``, git's ``helper::address`` and
scp-like ``host:path`` forms.
"""

import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote, unquote, unquote_to_bytes

from coafi.addresses import resolve
from coafi.errors import PolicyDenied, ValidationError

MAX_URL_LENGTH: Final = 2_048
"""Characters of a URL that we read at all."""

Scheme = Literal["https", "http", "ssh", "file"]

_DEFAULT_PORTS: Final[dict[str, int]] = {"https": 443, "http": 80, "ssh": 22}
_UNSAFE = re.compile(r"[^!-~]|\\")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+")
_UNRESERVED = re.compile(rb"[A-Za-z0-9._~-]")


@dataclass(frozen=True)
class UrlPolicy:
    """What this installation lets repositories be.

    Attributes:
        hosts: the only hosts that https and http may name, in lower case; empty allows every one.
        ssh_hosts: the only hosts that ssh may name, in lower case.
        file_roots: directories below which ``file://`` repositories may be; none by default.
        allow_http: whether unencrypted http is allowed; for tests.
        allow_private_addresses: whether a host may resolve to an address that is not public.
    """

    hosts: frozenset[str] = frozenset()
    ssh_hosts: frozenset[str] = frozenset()
    file_roots: tuple[Path, ...] = ()
    allow_http: bool = False
    allow_private_addresses: bool = False


@dataclass(frozen=True)
class RepositoryUrl:
    """A repository URL that passed :func:`parse_repository_url`.

    Attributes:
        scheme: one of ``https``, ``http``, ``ssh``, ``file``.
        host: in lower case, an IPv6 address without its brackets; empty for ``file``.
        port: always given; 0 for ``file``.
        path: percent-encoded, with its leading ``/``; for ``file`` after resolving every symbolic link.
    """

    scheme: Scheme
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """``host`` or ``host:port``, the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port in (0, _DEFAULT_PORTS.get(self.scheme)) else f"{host}:{self.port}"

    @property
    def address(self) -> str:
        """What git is given: the path as it was written, but for a trailing ``/``."""
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def canonical(self) -> str:
        """The repository's identity: host in lower case, no default port, no trailing ``/``, no trailing ``.git``.

        For ``file`` the suffix stays, since there ``x`` and ``x.git`` are two directories; ``x/.git`` stays as well.
        """
        keep = self.scheme == "file" or self.path.endswith("/.git")
        return self.address if keep else self.address.removesuffix(".git")

    @property
    def names(self) -> tuple[str, ...]:
        """How it may stand in git's messages: its address, and where git decodes the path, that as well."""
        decoded = (unquote(self.path),) if self.scheme in ("file", "ssh") else ()
        return (self.address, self.canonical, *decoded)

    def __str__(self) -> str:
        return self.canonical


def parse_repository_url(text: str, policy: UrlPolicy) -> RepositoryUrl:
    """Read ``text`` as the URL of a repository that ``policy`` lets us contact.

    Nothing is contacted; see :func:`resolve_addresses` for where the host is.

    Raises:
        ValidationError: it is no repository URL, or one of a kind that is never accepted.
        PolicyDenied: it is one, but this installation does not allow its host, scheme or directory.
    """
    if not text or len(text) > MAX_URL_LENGTH:
        raise _invalid(text, f"it has {len(text)} characters", f"give one of 1 to {MAX_URL_LENGTH} characters")
    if match := _UNSAFE.search(text):
        raise _invalid(
            text, f"it has the character {match.group()!a} at position {match.start()}", "percent-encode it or drop it"
        )
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in ("https", "http", "ssh", "file"):
        raise _invalid(text, "it does not start with a scheme that is accepted", "write https://host/path")
    if "?" in rest or "#" in rest:
        raise _invalid(text, "it has a query or a fragment", "give the address of the repository alone")
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        raise _invalid(text, "it names a user or a password", "drop it; tokens belong into the settings, per host")
    segments = _segments(text, path) if slash else []
    if not segments:
        raise _invalid(text, "it has no path", "name the repository after the host")
    if scheme == "file":
        return _file_url(text, authority, segments, policy)
    host, port = _authority(text, authority, scheme)
    url = RepositoryUrl(scheme, host, port, "/" + "/".join(segments))  # type: ignore[arg-type]  # checked above
    _check_policy(url, policy)
    return url


def resolve_addresses(url: RepositoryUrl, policy: UrlPolicy) -> tuple[str, ...]:
    """The addresses of the host of ``url``, sorted; none for ``file``.

    Whoever connects must connect to one of these and not resolve again: the next answer may be another one.

    Raises:
        PolicyDenied: one of them is not public, and ``policy`` wants public ones.
        Unavailable: the name cannot be resolved.
    """
    if url.scheme == "file":
        return ()
    return resolve(
        url.host,
        url.port,
        what=f"repository {_shown(url.canonical)}",
        allow_private=policy.allow_private_addresses,
    )


def _authority(text: str, authority: str, scheme: str) -> tuple[str, int]:
    if authority.startswith("["):
        host, bracket, port = authority[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise _invalid(text, "its IPv6 address has no closing bracket", "write https://[address]:port/path")
        port = port.removeprefix(":") if port != ":" else ":"
    else:
        host, colon, port = authority.partition(":")
        port = port if port or not colon else ":"
    if port and not (port.isdigit() and len(port) <= 5 and 0 < int(port) < 65_536):
        raise _invalid(text, "its port is not a number between 1 and 65535", "correct the port or drop it")
    checked = _ipv6(text, host) if authority.startswith("[") else _host(text, host.lower())
    return checked, int(port) if port else _DEFAULT_PORTS[scheme]


def _ipv6(text: str, host: str) -> str:
    try:
        if "%" in host:
            raise ValueError(host)
        return str(ipaddress.IPv6Address(host))
    except ValueError as error:
        raise _invalid(text, "what stands in brackets is no IPv6 address", "give the host's name") from error


def _host(text: str, host: str) -> str:
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _invalid(text, "its host is no host name", "give the name in ASCII, an international one as xn--…")
    if _NUMBER.fullmatch(labels[-1]):  # what resolvers read as an IPv4 address: 127.1, 0x7f.1, 2130706433
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError as error:
            raise _invalid(
                text, "its host is an IPv4 address in an unusual form", "write four decimal numbers"
            ) from error
    return host


def _segments(text: str, path: str) -> list[str]:
    path = path.removesuffix("/")
    return [_segment(text, segment) for segment in path.split("/")] if path else []


def _segment(text: str, segment: str) -> str:
    if not _SEGMENT.fullmatch(segment):
        raise _invalid(
            text, f"its path has the segment {segment[:80]!a}", "percent-encode it, and drop doubled slashes"
        )
    raw = unquote_to_bytes(segment)
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _invalid(text, "its path is not UTF-8 once percent-decoded", "encode it as UTF-8") from error
    if raw in (b".", b"..") or raw.startswith(b"-"):
        raise _invalid(text, f"its path has the segment {segment[:80]!a}", "give the plain path of the repository")
    if any(byte < 0x20 or byte in b"\x7f/\\" for byte in raw):
        raise _invalid(text, "its path hides a control character or a slash by percent-encoding", "drop it")
    return re.sub(r"%[0-9A-Fa-f]{2}", _recoded, segment)


def _recoded(match: re.Match[str]) -> str:
    raw = unquote_to_bytes(match.group())
    return raw.decode("ascii") if _UNRESERVED.fullmatch(raw) else match.group().upper()


def _file_url(text: str, authority: str, segments: list[str], policy: UrlPolicy) -> RepositoryUrl:
    if authority:
        raise _invalid(text, "a file URL with a host", "write file:///path")
    path = Path(os.path.realpath(unquote_to_bytes("/" + "/".join(segments)).decode("utf-8")))
    if not any(path.is_relative_to(os.path.realpath(root)) for root in policy.file_roots):
        raise PolicyDenied(
            f"repository {_shown(text)} is not below a directory that may hold file:// repositories",
            remedy="give an https:// URL, or add its directory to the file roots in the settings",
        )
    return RepositoryUrl("file", "", 0, quote(str(path)))


def _check_policy(url: RepositoryUrl, policy: UrlPolicy) -> None:
    if url.scheme == "ssh":
        if url.host not in policy.ssh_hosts:
            raise PolicyDenied(
                f"repository {_shown(url.canonical)} is reached by ssh, which {_shown(url.host)} is not listed for",
                remedy="give its https:// URL, or add the host to the ssh hosts in the settings",
            )
        return
    if url.scheme == "http" and not policy.allow_http:
        raise PolicyDenied(
            f"repository {_shown(url.canonical)} is reached by unencrypted http", remedy="give its https:// URL"
        )
    if policy.hosts and url.host not in policy.hosts:
        raise PolicyDenied(
            f"repository {_shown(url.canonical)} is on {_shown(url.host)}, a host that is not on the list",
            remedy="add the host to the git hosts in the settings",
        )


def _invalid(text: str, problem: str, remedy: str) -> ValidationError:
    return ValidationError(f"repository URL {_shown(text)} is refused: {problem}", remedy=remedy)


def _shown(text: str) -> str:
    """``text`` for a message: printable, short, and without a password that somebody wrote into a URL."""
    without_user = re.sub(r"(?<=://)[^/]*@", "***@", text[:400])
    short = without_user if len(without_user) <= 200 else without_user[:200] + "…"
    return short.encode("unicode_escape").decode("ascii") if not short.isprintable() else short
