"""The runner: what git is given, what it may do, how it ends, and what its failures mean."""

import base64
import itertools
import os
import sys
import threading
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from coafi.errors import (
    CoafiError,
    PolicyDenied,
    ResourceNotFoundError,
    Unavailable,
    ValidationError,
)
from coafi.git.failures import AccessRefused, CommitNotFound, GitCancelled, GitFailed, MirrorDamaged
from coafi.git.limits import GitLimits
from coafi.git.runner import HEARTBEAT_SECONDS, GitRunner, Remote, SshAccess, Watch
from coafi.git.urls import RepositoryUrl
from tests.coafi.git.repositories import Repository

HTTPS = Remote(RepositoryUrl("https", "git.example.org", 443, "/docs"), ("192.0.2.7", "2001:db8::7"))


def run(
    directory: Path, script: Path, body: str, remote: Remote | None = None, runner: GitRunner | None = None
) -> bytes:
    script.write_text(f"#!/bin/sh\n{body}\n")
    return (runner or GitRunner(GitLimits(local_timeout=30, fetch_timeout=30))).run(
        ["cmd"], git_dir=directory, watch=Watch(), what="testing", remote=remote
    )


def test_git_sees_nothing_of_our_environment(tmp_path: Path, fake_git: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = {
        "COAFI_SECRET": "hunter2",
        "GIT_DIR": "/elsewhere",
        "GIT_SSH_COMMAND": "touch /tmp/pwned",
        "GIT_CONFIG_PARAMETERS": "'core.hooksPath=/x'",
        "GIT_TRACE": "1",
        "HTTPS_PROXY": "http://proxy",
        "LD_PRELOAD": "",
        "HOME": "/root",
        "GIT_EXEC_PATH": "/x",
        "odd-name%%": "x",
    }
    for name, value in hostile.items():
        monkeypatch.setenv(name, value)
    seen = dict(line.split("=", 1) for line in run(tmp_path, fake_git, "env").decode().splitlines())
    assert not (hostile.keys() - {"HOME"}) & seen.keys()
    assert seen["HOME"] == "/nonexistent"
    assert seen["GIT_CONFIG_NOSYSTEM"] == "1"
    assert seen["GIT_CONFIG_GLOBAL"] == "/dev/null"
    assert seen["GIT_TERMINAL_PROMPT"] == "0"
    assert seen["GIT_ALLOW_PROTOCOL"] == "none"
    assert seen["LC_ALL"] == "C"
    assert seen["GIT_CONFIG_COUNT"] == "0"


def test_a_command_that_contacts_nobody_has_every_transport_forbidden(tmp_path: Path, fake_git: Path) -> None:
    words = run(tmp_path, fake_git, 'printf "%s\\n" "$@"').decode().splitlines()
    assert f"--git-dir={tmp_path}" in words
    for setting in (
        "protocol.allow=never",
        "core.hooksPath=/dev/null",
        "core.fsmonitor=false",
        "http.followRedirects=false",
        "transfer.fsckObjects=true",
        "gc.auto=0",
        "credential.helper=",
        "submodule.recurse=false",
    ):
        assert setting in words
    assert not [word for word in words if "allow=always" in word or "remote.origin" in word]


def test_a_remote_is_pinned_to_its_addresses_and_its_one_transport(tmp_path: Path, fake_git: Path) -> None:
    body = 'printf "%s\\n" "$@" "protocols $GIT_ALLOW_PROTOCOL"'
    words = run(tmp_path, fake_git, body, HTTPS).decode().splitlines()
    assert "http.curloptResolve=git.example.org:443:192.0.2.7,[2001:db8::7]" in words
    assert [word for word in words if "allow=always" in word] == ["protocol.https.allow=always"]
    assert words[-1] == "protocols https"


def test_a_token_goes_by_environment_and_to_its_host_only(tmp_path: Path, fake_git: Path) -> None:
    runner = GitRunner(tokens={"git.example.org": SecretStr("s3cr3t"), "other.example.org": SecretStr("x")})
    header = "Basic " + base64.b64encode(b"x-access-token:s3cr3t").decode()
    seen = run(tmp_path, fake_git, 'env; tr "\\0" " " < /proc/$$/cmdline; printf "%s " "$@"', HTTPS, runner).decode()
    assert "GIT_CONFIG_KEY_0=http.https://git.example.org/.extraHeader" in seen
    assert f"GIT_CONFIG_VALUE_0=Authorization: {header}\n" in seen
    assert seen.count(header) == 1
    assert "s3cr3t" not in seen
    elsewhere = Remote(RepositoryUrl("https", "third.example.org", 443, "/docs"), ("192.0.2.7",))
    assert "Authorization" not in run(tmp_path, fake_git, "env", elsewhere, runner).decode()
    assert "Authorization" not in run(tmp_path, fake_git, "env", None, runner).decode()


def test_a_user_with_a_password_is_sent_as_it_is(tmp_path: Path, fake_git: Path) -> None:
    runner = GitRunner(tokens={"git.example.org:443": SecretStr("ada:hunter2")}, ca_bundle=Path("/etc/ca.pem"))
    seen = run(tmp_path, fake_git, 'env; printf "%s\\n" "$@"', HTTPS, runner).decode()
    assert base64.b64encode(b"ada:hunter2").decode() in seen
    assert "http.sslCAInfo=/etc/ca.pem" in seen


def test_a_secret_never_stands_in_a_message(tmp_path: Path, fake_git: Path) -> None:
    runner = GitRunner(tokens={"git.example.org": SecretStr("user:s3cr3t")})
    with pytest.raises(CoafiError) as failed:
        run(tmp_path, fake_git, 'env >&2; echo "s3cr3t https://u:p@host/" >&2; exit 128', HTTPS, runner)
    text = str(failed.value) + repr(failed.value)
    assert "s3cr3t" not in text
    assert base64.b64encode(b"user:s3cr3t").decode() not in text
    assert "u:p@" not in text


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("fatal: remote error: upload-pack: not our ref 1111", CommitNotFound),
        ("error: Server does not allow request for unadvertised object 1111", CommitNotFound),
        ("fatal: repository 'https://x/' not found", ResourceNotFoundError),
        ("fatal: '/x' does not appear to be a git repository", ResourceNotFoundError),
        ("fatal: https://x/info/refs not valid: is this a git repository?", ResourceNotFoundError),
        ("fatal: Authentication failed for 'https://x/'", AccessRefused),
        ("fatal: could not read Username for 'https://x': terminal prompts disabled", AccessRefused),
        ("The requested URL returned error: 403", AccessRefused),
        ("git@x: Permission denied (publickey).", AccessRefused),
        ("Host key verification failed.", AccessRefused),
        ("fatal: detected dubious ownership in repository at '/x'", AccessRefused),
        ("The requested URL returned error: 301", PolicyDenied),
        ("fatal: transport 'ext' not allowed", PolicyDenied),
        ("The requested URL returned error: 429", Unavailable),
        ("The requested URL returned error: 503", Unavailable),
        ("fatal: unable to access 'https://x/': Could not resolve host: x", Unavailable),
        ("Failed to connect to x port 443: Connection refused", Unavailable),
        ("error: RPC failed; curl 56 GnuTLS recv error", Unavailable),
        ("fatal: early EOF", Unavailable),
        ("fatal: the remote end hung up unexpectedly", Unavailable),
        ("Operation too slow. Less than 1000 bytes/sec transferred the last 30 seconds", Unavailable),
        ("SSL certificate problem: certificate has expired", Unavailable),
        ("error: unable to write file: No space left on device\nfatal: early EOF", Unavailable),
        ("fatal: write error: File too large\nfatal: fetch-pack: invalid index-pack output", ValidationError),
        ("error: object 11: hasDotgit: contains '.git'\nfatal: fsck error in packed object", ValidationError),
        ("The requested URL returned error: 400", ValidationError),
        ("error: object file ./objects/11/11 is empty", MirrorDamaged),
        ("fatal: not a git repository: '/mirrors/x'", MirrorDamaged),
        ("fatal: something nobody has seen", GitFailed),
    ],
)
def test_failures_of_a_fetch_are_translated(
    tmp_path: Path, fake_git: Path, message: str, error: type[CoafiError]
) -> None:
    (tmp_path / "message").write_text(message)
    with pytest.raises(CoafiError) as failed:
        run(tmp_path, fake_git, f"cat {tmp_path / 'message'} >&2; exit 128", HTTPS)
    assert type(failed.value) is error
    assert failed.value.remedy
    assert "testing" in failed.value.message
    assert str(failed.value).isprintable()


def test_a_local_failure_is_the_mirrors(tmp_path: Path, fake_git: Path) -> None:
    for message, error in (("fatal: repository not found", MirrorDamaged), ("No space left on device", Unavailable)):
        with pytest.raises(error):
            run(tmp_path, fake_git, f"echo '{message}' >&2; exit 128")


def test_a_killed_git_is_tried_again(tmp_path: Path, fake_git: Path) -> None:
    with pytest.raises(Unavailable, match="was killed"):
        run(tmp_path, fake_git, "kill -9 $$", HTTPS)


def test_messages_are_bounded(tmp_path: Path, fake_git: Path) -> None:
    with pytest.raises(GitFailed) as failed:
        run(tmp_path, fake_git, "printf 'first %01000000d last' 0 >&2; exit 1", HTTPS)
    assert len(str(failed.value)) < 1_000
    assert "first" in str(failed.value)
    assert "last" in str(failed.value)


def test_output_is_bounded(tmp_path: Path, fake_git: Path) -> None:
    runner = GitRunner(GitLimits(max_output_bytes=1_000))
    with pytest.raises(ValidationError, match="1000 bytes"):
        run(tmp_path, fake_git, "printf '%01001d' 0; sleep 100", None, runner)
    assert len(run(tmp_path, fake_git, "printf '%01000d' 0", None, runner)) == 1_000


def test_what_git_may_write_is_bounded(tmp_path: Path, fake_git: Path) -> None:
    runner = GitRunner(GitLimits(max_file_bytes=4_096))
    target = tmp_path / "large"
    with pytest.raises(ValidationError, match="4096 bytes"):
        run(tmp_path, fake_git, f'{sys.executable} -Sc \'open("{target}", "wb").write(bytes(10000))\'', None, runner)
    assert target.stat().st_size <= 4_096


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ended(pids: list[int]) -> bool:
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(alive(pid) for pid in pids)


STUBBORN = 'trap "" TERM INT HUP; sh -c \'trap "" TERM; echo $$ >> "{0}"; sleep 100\' & echo $$ >> "{0}"; sleep 100'


def test_a_timeout_kills_git_and_all_its_children(tmp_path: Path, fake_git: Path) -> None:
    pids = tmp_path / "pids"
    with pytest.raises(Unavailable, match="longer than allowed"):
        run(tmp_path, fake_git, STUBBORN.format(pids), HTTPS, GitRunner(GitLimits(fetch_timeout=3)))
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) == 2
    assert ended(started)


@pytest.mark.parametrize("kind", ["event", "function"])
def test_cancelling_kills_git_and_all_its_children(tmp_path: Path, fake_git: Path, kind: str) -> None:
    pids = tmp_path / "pids"
    fake_git.write_text("#!/bin/sh\n" + STUBBORN.format(pids))
    stop = threading.Event()

    def heartbeat(_text: str) -> None:
        if pids.exists() and len(pids.read_text().split()) == 2:
            stop.set()

    watch = Watch(heartbeat, stop if kind == "event" else stop.is_set)
    with pytest.raises(GitCancelled):
        GitRunner().run(["x"], git_dir=tmp_path, watch=watch, what="testing")
    assert ended([int(pid) for pid in pids.read_text().split()])


def test_a_heartbeat_that_raises_leaves_no_process(tmp_path: Path, fake_git: Path) -> None:
    pids = tmp_path / "pids"
    fake_git.write_text("#!/bin/sh\n" + STUBBORN.format(pids))

    def heartbeat(_text: str) -> None:
        if pids.exists() and len(pids.read_text().split()) == 2:
            raise RuntimeError("the worker is gone")

    with pytest.raises(RuntimeError):
        GitRunner().run(["x"], git_dir=tmp_path, watch=Watch(heartbeat), what="testing")
    assert ended([int(pid) for pid in pids.read_text().split()])


def test_a_child_that_keeps_the_pipe_does_not_keep_us(tmp_path: Path, fake_git: Path) -> None:
    pids = tmp_path / "pids"
    assert run(tmp_path, fake_git, f"sleep 100 & echo $! > {pids}; echo done") == b"done\n"
    assert ended([int(pids.read_text())])


def test_heartbeats_come_while_git_is_silent(tmp_path: Path, fake_git: Path) -> None:
    fake_git.write_text("#!/bin/sh\nsleep 3\n")
    beats: list[float] = []
    GitRunner().run(["x"], git_dir=tmp_path, watch=Watch(lambda _: beats.append(time.monotonic())), what="testing")
    assert len(beats) >= 3
    assert max(b - a for a, b in itertools.pairwise(beats)) < HEARTBEAT_SECONDS + 5


def test_without_timeout_on_the_machine_git_still_runs(
    tmp_path: Path, fake_git: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coafi.git.runner.shutil.which", lambda _name: None)
    assert run(tmp_path, fake_git, "echo fine", None, GitRunner()) == b"fine\n"


def test_ssh_needs_a_key(tmp_path: Path) -> None:
    remote = Remote(RepositoryUrl("ssh", "git.example.org", 22, "/docs"), ("192.0.2.7",))
    with pytest.raises(PolicyDenied, match="no key"):
        GitRunner().run(["x"], git_dir=tmp_path, watch=Watch(), what="testing", remote=remote)


def test_ssh_is_given_everything_and_reads_no_configuration(tmp_path: Path, fake_git: Path) -> None:
    remote = Remote(RepositoryUrl("ssh", "git.example.org", 22, "/docs"), ("192.0.2.7",))
    runner = GitRunner(ssh=SshAccess(Path("/keys/my key"), Path("/keys/known_hosts")))
    words = run(tmp_path, fake_git, 'printf "%s\\n" "$@"', remote, runner).decode().splitlines()
    command = next(word for word in words if word.startswith("core.sshCommand="))
    for part in (
        "-F /dev/null",
        "-i '/keys/my key'",
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        "HostName=192.0.2.7",
    ):
        assert part in command


def test_fetching_by_ssh(tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for ssh that runs the command here: git's own side of the transport is real."""
    commit = repository.commit({"a.md": "a"})
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text('#!/bin/sh\nfor last; do :; done\nexec sh -c "$last"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}{os.pathsep}{os.environ['PATH']}")
    mirror = Repository.make(tmp_path / "mirror", "--bare")
    remote = Remote(RepositoryUrl("ssh", "git.example.org", 22, str(repository.path)), ("192.0.2.7",))
    GitRunner(ssh=SshAccess(Path("/key"), Path("/known"))).run(
        ["fetch", "origin", f"{commit}:refs/heads/x"], git_dir=mirror.path, watch=Watch(), what="testing", remote=remote
    )
    assert mirror.git("rev-parse", "refs/heads/x") == commit


def test_a_machine_without_git_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "git.cmd", None)
    with pytest.raises(Unavailable, match="git cannot be run"):
        GitRunner().run(["version"], git_dir=tmp_path, watch=Watch(), what="testing")
