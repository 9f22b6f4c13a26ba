"""Repository URLs: what is accepted and how it is written, what is refused and as what."""

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.addresses import is_public
from coafi.errors import PolicyDenied, Unavailable, ValidationError
from coafi.git.urls import (
    MAX_URL_LENGTH,
    RepositoryUrl,
    UrlPolicy,
    parse_repository_url,
    resolve_addresses,
)

STRICT = UrlPolicy()
OPEN = UrlPolicy(ssh_hosts=frozenset({"git.example.org"}), file_roots=(Path("/"),), allow_http=True)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("https://github.com/acme/docs", "https://github.com/acme/docs"),
        ("https://github.com/acme/docs.git", "https://github.com/acme/docs"),
        ("https://github.com/acme/docs/", "https://github.com/acme/docs"),
        ("https://github.com/acme/docs.git/", "https://github.com/acme/docs"),
        ("HTTPS://GitHub.COM:443/Acme/Docs", "https://github.com/Acme/Docs"),
        ("https://git.example.org:8443/a", "https://git.example.org:8443/a"),
        ("https://xn--bcher-kva.example/a", "https://xn--bcher-kva.example/a"),
        ("https://example.org/%7Eada/d%c3%b6cs", "https://example.org/~ada/d%C3%B6cs"),
        ("https://example.org/a+b/@c/d,e", "https://example.org/a+b/@c/d,e"),
        ("https://8.8.8.8/a", "https://8.8.8.8/a"),
        ("https://[2001:DB8::0:1]:9000/a", "https://[2001:db8::1]:9000/a"),
        ("https://example.org/a/.git", "https://example.org/a/.git"),
        ("https://under_score.example.org/a", "https://under_score.example.org/a"),
    ],
)
def test_urls_have_one_canonical_form(text: str, canonical: str) -> None:
    assert parse_repository_url(text, STRICT).canonical == canonical


def test_git_is_given_the_path_as_it_was_written() -> None:
    assert parse_repository_url("https://Example.org/a.git/", STRICT).address == "https://example.org/a.git"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x" * (MAX_URL_LENGTH + 1),
        "https://example.org/" + "x" * MAX_URL_LENGTH,
        "ext::sh -c touch% /tmp/pwned",
        "ext::sh",
        "fd::17/foo",
        "--upload-pack=touch /tmp/pwned",
        "--upload-pack=x",
        "-u",
        "git@github.com:acme/docs.git",
        "github.com/acme/docs",
        "/srv/git/docs",
        "../docs",
        "git://example.org/a",
        "ftp://example.org/a",
        "javascript://example.org/a",
        "https::https://example.org/a",
        "https:/example.org/a",
        "https:example.org/a",
        "https://",
        "https://example.org",
        "https://example.org/",
        "https:///a",
        "https://user@example.org/a",
        "https://user:secret@example.org/a",
        "https://@example.org/a",
        "https://good.example@evil.example/a",
        "https://example.org/a?x=1",
        "https://example.org/a#x",
        "https://example.org/a b",
        "https://example.org/a\n",
        "https://example.org/a\x00b",
        "https://example.org/a\tb",
        "https://example.org\\@evil.example/a",
        "https://example.org/a\\b",
        "https://exämple.org/a",
        "https://example.org/ä",
        "https://example。org/a",
        "https://example.org/../a",
        "https://example.org/a/..",
        "https://example.org/a/%2e%2E/b",
        "https://example.org/./a",
        "https://example.org//a",
        "https://example.org/a//b",
        "https://example.org/-a",
        "https://example.org/%2da",
        "https://example.org/a%00b",
        "https://example.org/a%0ab",
        "https://example.org/a%2fb",
        "https://example.org/a%5cb",
        "https://example.org/a%ff",
        "https://example.org/a%",
        "https://example.org/a%g1",
        "https://example.org/a|b",
        'https://example.org/a"b',
        "https://example.org:0/a",
        "https://example.org:65536/a",
        "https://example.org:/a",
        "https://example.org:x/a",
        "https://example.org:80:80/a",
        "https://example.org:-1/a",
        "https://example.org:+1/a",
        "https://-example.org/a",
        "https://example-.org/a",
        "https://example..org/a",
        "https://example.org./a",
        "https://.example.org/a",
        "https://127.1/a",
        "https://2130706433/a",
        "https://0x7f000001/a",
        "https://0x7f.0.0.1/a",
        "https://0177.0.0.1/a",
        "https://1.2.3.4.5/a",
        "https://256.1.1.1/a",
        "https://example.0x1/a",
        "https://[::1/a",
        "https://[::1]x/a",
        "https://[::1]:/a",
        "https://[::g]/a",
        "https://[fe80::1%25eth0]/a",
        "https://[]/a",
        "https://a%2eb/a",
        "https://" + "a" * 64 + ".org/a",
        "https://" + ".".join(["a" * 60] * 5) + "/a",
        "file://host/a",
        "file:///",
        "file:///a/../b",
        "file://localhost/a",
    ],
)
def test_what_is_no_repository_url_is_a_validation_error(text: str) -> None:
    with pytest.raises(ValidationError) as refused:
        parse_repository_url(text, OPEN)
    assert refused.value.remedy
    assert len(str(refused.value)) < 600
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("http://example.org/a", STRICT),
        ("ssh://git.example.org/a", STRICT),
        ("ssh://other.example.org/a", OPEN),
        ("file:///srv/git/a", STRICT),
        ("file:///srv/git/a", UrlPolicy(file_roots=(Path("/srv/other"),))),
        ("file:///srv/gitother/a", UrlPolicy(file_roots=(Path("/srv/git"),))),
        ("https://evil.example/a", UrlPolicy(hosts=frozenset({"github.com"}))),
        ("https://github.com.evil.example/a", UrlPolicy(hosts=frozenset({"github.com"}))),
    ],
)
def test_what_this_installation_does_not_allow_is_denied_by_policy(text: str, policy: UrlPolicy) -> None:
    with pytest.raises(PolicyDenied) as denied:
        parse_repository_url(text, policy)
    assert denied.value.remedy


def test_allowed_hosts_and_ssh_hosts_are_accepted() -> None:
    only_github = UrlPolicy(hosts=frozenset({"github.com"}))
    assert parse_repository_url("https://GITHUB.com/a", only_github).host == "github.com"
    assert parse_repository_url("ssh://git.example.org/a", OPEN).port == 22
    assert parse_repository_url("http://example.org/a", OPEN).port == 80


def test_a_message_never_repeats_a_password() -> None:
    with pytest.raises(ValidationError) as refused:
        parse_repository_url("https://ada:hunter2@example.org/a", STRICT)
    assert "hunter2" not in str(refused.value)


def test_a_link_does_not_lead_out_of_the_file_roots(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    policy = UrlPolicy(file_roots=(inside,))
    with pytest.raises(PolicyDenied):
        parse_repository_url((inside / "link").as_uri(), policy)
    with pytest.raises(PolicyDenied):
        parse_repository_url((inside / "link" / "below").as_uri(), policy)
    assert parse_repository_url((inside / "a b%").as_uri(), policy).address == (inside.resolve() / "a b%").as_uri()
    assert parse_repository_url((inside / "a.git").as_uri(), policy).canonical.endswith("a.git")


def test_a_root_may_itself_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "real")
    policy = UrlPolicy(file_roots=(tmp_path / "root",))
    assert parse_repository_url((tmp_path / "root" / "a").as_uri(), policy).path.endswith("/real/a")


WORDS = (
    "https:// http:// file:// ssh:// ext:: / // .. %2e %00 %ff @ : [ ] ::1 - a example.org 127.0.0.1 .git ? # 443 % ~"
)
URL_PIECES = st.sampled_from([*WORDS.split(), "\\", " ", "\n", "\x00", "ä", "\ud800"])


@given(st.one_of(st.text(), st.lists(URL_PIECES, max_size=12).map("".join)))
def test_any_text_is_a_repository_url_or_refused(text: str) -> None:
    try:
        url = parse_repository_url(text, OPEN)
    except (ValidationError, PolicyDenied):
        pass
    else:
        assert url.address.isascii()
        assert url.address.startswith(("https://", "http://", "file:///", "ssh://"))
        assert "/../" not in f"{url.path}/"
        assert parse_repository_url(url.address, OPEN) == url
        assert parse_repository_url(url.canonical, OPEN).canonical == url.canonical or ".git" in url.canonical


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.3.4",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104  # nothing listens here
        "255.255.255.255",
        "224.0.0.1",
        "240.0.0.1",
        "::",
        "::1",
        "fe80::1",
        "fc00::1",
        "ff02::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ],
)
def test_private_and_special_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]", "10.1.2.3"])
def test_a_private_address_in_the_url_is_denied(host: str) -> None:
    url = parse_repository_url(f"https://{host}/a", STRICT)
    with pytest.raises(PolicyDenied, match="not a public address"):
        resolve_addresses(url, STRICT)
    assert resolve_addresses(url, UrlPolicy(allow_private_addresses=True)) == (url.host,)


def test_one_private_address_among_public_ones_is_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: answers)
    url = RepositoryUrl("https", "rebind.example", 443, "/a")
    with pytest.raises(PolicyDenied):
        resolve_addresses(url, STRICT)
    del answers[1]
    assert resolve_addresses(url, STRICT) == ("8.8.8.8",)


def test_a_name_that_does_not_resolve_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        resolve_addresses(RepositoryUrl("https", "nothing.invalid", 443, "/a"), STRICT)


def test_files_have_no_address() -> None:
    assert resolve_addresses(RepositoryUrl("file", "", 0, "/a"), STRICT) == ()
