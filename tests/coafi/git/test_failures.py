"""What a failure means does not depend on names that git quotes, nor on what the remote says besides."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coafi.errors import CoafiError, PolicyDenied, ResourceNotFoundError, Unavailable, ValidationError
from coafi.git.failures import _REMOTE_RULES, AccessRefused, CommitNotFound, GitFailed, MirrorDamaged, failure
from coafi.git.limits import GitLimits
from coafi.git.runner import GitRunner, Remote, Watch
from coafi.git.urls import RepositoryUrl, UrlPolicy, parse_repository_url
from tests.coafi.git.repositories import Repository
from tests.coafi.git.server import GitServer, serve

NEUTRAL = "docs"
NAMES = [
    NEUTRAL,
    "redirects",
    "url-redirect-service",
    "hasDot-lint",
    "fullPathname",
    "openssl",
    "TLS",
    "gnutls-certificate",
    "File too large",
    "No space left on device",
    "repository x not found",
    "the requested URL returned error: 301",
    "it's moved, access denied",
    "it' returned error: 404",
    "early EOF",
    "x'y/'--SSL-'z'",
]

REFUSED = "The requested URL returned error:"
SAID: dict[str, type[CoafiError]] = {
    "fatal: unable to access '{url}/': Failed to connect to {host} port 443 after 0 ms: Couldn't connect": Unavailable,
    "fatal: unable to access '{url}/': Could not resolve host: {host}": Unavailable,
    "fatal: unable to access '{url}/': SSL: no certificate subject name matches target host name '{host}'": Unavailable,
    "fatal: unable to access '{url}/': HTTP/2 stream 5 was not closed cleanly": Unavailable,
    f"fatal: unable to access '{{url}}/': {REFUSED} 301": PolicyDenied,
    f"fatal: unable to access '{{url}}/': {REFUSED} 403": AccessRefused,
    f"fatal: unable to access '{{url}}/': {REFUSED} 410": ResourceNotFoundError,
    f"fatal: unable to access '{{url}}/': {REFUSED} 451": ValidationError,
    f"fatal: unable to access '{{url}}/': {REFUSED} 503": Unavailable,
    f"remote: {{text}}\nfatal: unable to access '{{url}}/': {REFUSED} 503": Unavailable,
    f"remote: {{text}}\r\nremote: {{text}}\r\nfatal: unable to access '{{url}}/': {REFUSED} 301": PolicyDenied,
    "remote: Repository not found.\nfatal: repository '{url}/' not found": ResourceNotFoundError,
    "fatal: Authentication failed for '{url}/'": AccessRefused,
    "fatal: could not read Username for 'https://{host}': terminal prompts disabled": AccessRefused,
    "fatal: {url}/info/refs not valid: is this a git repository?": ResourceNotFoundError,
    "fatal: '{path}' does not appear to be a git repository": ResourceNotFoundError,
    "ERROR: Repository not found.\nfatal: Could not read from remote repository.": ResourceNotFoundError,
    "fatal: detected dubious ownership in repository at '{path}/.git'": AccessRefused,
    "git@{host}: Permission denied (publickey).": AccessRefused,
    "ssh: connect to host {host} port 22: Connection refused": Unavailable,
    "ssh: Could not resolve hostname {host}: Temporary failure in name resolution": Unavailable,
    "No ED25519 host key is known for {host} and it is strict.\nHost key verification failed.": AccessRefused,
    "fatal: couldn't find remote ref {ref}": CommitNotFound,
    "fatal: remote error: upload-pack: not our ref {ref}": CommitNotFound,
    "fatal: remote error: access denied or repository not exported: {path}": AccessRefused,
    "fatal: remote error: project {text} is gone": GitFailed,
    "remote: {text}\nfatal: something nobody has seen": GitFailed,
    "fatal: invalid server response; got '{ref}'": GitFailed,
    "error: object {sha}: gitmodulesUrl: disallowed submodule url: {text}\nfatal: fsck failed": ValidationError,
    "error: object {sha}: hasDotgit: contains '.git'": ValidationError,
    "error: {url} did not send all necessary objects": MirrorDamaged,
    "error: {path} did not send all necessary objects": MirrorDamaged,
    "error: object file /mirrors/{ref}-0123/objects/11/11 is empty": MirrorDamaged,
    "error: cannot lock ref 'refs/heads/{ref}': is at {sha}": MirrorDamaged,
    "error: refs/heads/{ref} does not point to a valid object!\nfatal: early EOF": Unavailable,
    "remote: {text}\rremote: {text}\rfatal: the remote end hung up unexpectedly": Unavailable,
}
"""What git says, with the places of names in it, and what it means."""


def meant(said: str, name: str, scheme: str = "https") -> type[CoafiError]:
    """The class of the failure when everything that others choose is called ``name``."""
    word = re.sub(r"[\x00-\x20\x7f~^:?*\[\\]+", "-", name)  # as git wants names of branches
    host = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "x"
    path = f"/srv/{name}" if scheme in ("file", "ssh") else f"/srv/{quote(name)}"
    url = RepositoryUrl(scheme, "" if scheme == "file" else host, 0, f"/srv/{quote(name)}")  # type: ignore[arg-type]
    stderr = said.format(url=url.address, host=host, path=path, ref=word, text=name, sha="a" * 40)
    return type(failure(128, stderr, "testing", contacts=True, limits=GitLimits(), names=url.names))


@pytest.mark.parametrize("said", SAID)
def test_names_do_not_change_what_a_failure_means(said: str) -> None:
    for scheme in ("https", "file", "ssh"):
        for name in NAMES:
            assert meant(said, name, scheme) is SAID[said], (name, scheme)


WORDS = sorted({re.sub(r"[^\w :']", "", word) for rule in _REMOTE_RULES for word in rule.pattern.pattern.split("|")})
CHOSEN = st.lists(
    st.sampled_from([*WORDS, *SAID, "remote error: ", "fatal: ", "'", "/", "://", "@", " "])
    | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=6),
    min_size=1,
    max_size=3,
).map(lambda parts: re.sub(r"[{}\n\r]", "", "".join(parts)).strip("/ ") or "x")


@given(CHOSEN, st.sampled_from(sorted(SAID)), st.sampled_from(["https", "file", "ssh"]))
@example("redirects", next(iter(SAID)), "https")
@example("'url/'--SSL-'host'", "error: cannot lock ref 'refs/heads/{ref}': is at {sha}", "https")
def test_no_name_changes_what_a_failure_means(name: str, said: str, scheme: str) -> None:
    assert meant(said, name, scheme) is meant(said, NEUTRAL, scheme)


def asked(url: str, directory: Path, *arguments: str) -> CoafiError:
    """The failure of a real git that is asked for something of ``url``."""
    policy = UrlPolicy(file_roots=(directory,), allow_http=True, allow_private_addresses=True)
    remote = Remote(parse_repository_url(url, policy), ("127.0.0.1",))
    mirror = directory / "mirror"
    if not mirror.exists():
        Repository.make(mirror, "--bare")
    with pytest.raises(CoafiError) as failed:
        GitRunner(GitLimits(fetch_timeout=60)).run(
            arguments or ["ls-remote", "origin"], git_dir=mirror, watch=Watch(), what="asking", remote=remote
        )
    return failed.value


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    with serve(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.mark.parametrize("name", NAMES)
def test_a_host_that_is_down_is_out_of_reach_whatever_the_repository_is_called(tmp_path: Path, name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        failed = asked(f"http://127.0.0.1:{taken.getsockname()[1]}/acme/{quote(name)}", tmp_path)
    assert type(failed) is Unavailable
    assert quote(name) in failed.message  # people still see it


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (301, PolicyDenied),
        (401, AccessRefused),
        (403, AccessRefused),
        (404, ResourceNotFoundError),
        (451, ValidationError),
        (503, Unavailable),
    ],
)
def test_what_a_server_answers_decides_and_not_what_it_says(
    tmp_path: Path, answers: GitServer, status: int, error: type[CoafiError]
) -> None:
    answers.status, answers.location = status, "http://127.0.0.1:1/redirect" if status == 301 else ""
    for name in NAMES:
        answers.body = f"{REFUSED} 301\nfatal: {name}\r\nFile too large: repository {name} not found\n"
        failed = asked(answers.url(f"acme/{quote(name)}"), tmp_path)
        assert type(failed) is error, failed


@pytest.mark.parametrize("name", NAMES)
def test_repositories_of_this_machine(tmp_path: Path, name: str) -> None:
    place = tmp_path / "repositories" / name
    assert type(asked(place.as_uri(), tmp_path)) is ResourceNotFoundError
    repository = Repository.make(place)
    repository.commit({"a.md": "a"})
    assert type(asked(repository.url, tmp_path, "fetch", "origin", "1" * 40)) is CommitNotFound
    repository.commit({".gitmodules": f'[submodule "x"]\n\tpath = x\n\turl = "-{name}"\n'})
    assert type(asked(repository.url, tmp_path, "fetch", "origin", "main")) is ValidationError


def test_a_branch_that_is_missing(tmp_path: Path) -> None:
    repository = Repository.make(tmp_path / "docs")
    repository.commit({"a.md": "a"})
    for name in ("redirect", "openssl", "returned-error"):
        assert type(asked(repository.url, tmp_path, "fetch", "origin", name)) is CommitNotFound


@pytest.mark.parametrize("end", ["\n", "\r"])
def test_what_a_remote_says_at_length_stays_its_own(tmp_path: Path, fake_git: Path, end: str) -> None:
    """Of a very long output the middle is left out; what is left of a line is not taken for git's own."""
    line = "remote: " + f"{REFUSED} 301 " * 20
    said = tmp_path / "said"
    said.write_text(f"{line}{end}" * 500 + f"fatal: {REFUSED} 503\n", newline="")
    fake_git.write_text(f"#!/bin/sh\ncat {said} >&2\nexit 128\n")
    remote = Remote(RepositoryUrl("https", "git.example.org", 443, "/docs"), ("192.0.2.7",))
    with pytest.raises(Unavailable):
        GitRunner(GitLimits(fetch_timeout=60)).run(
            ["x"], git_dir=tmp_path, watch=Watch(), what="testing", remote=remote
        )
