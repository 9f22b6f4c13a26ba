"""The one hardened runner of the git binary: nothing else in the service spawns git.

Every command gets an empty environment but for what stands here, configuration that no file of the machine, of the
user or of a repository can add to, one allowed transport (or none), a bound on time, on output and on what it may
write, and its own process group, which dies with it. GitPython does the spawning.

A command runs to its end (:meth:`GitRunner.run`), or is started to be asked again and again (:meth:`GitRunner.start`).

The command line is ``sh → timeout → env → git``, each replacing itself by or waiting for the next: ``sh`` sets the
limits that only a shell can set without running Python between fork and exec, ``timeout`` (where it is installed)
ends a git whose worker was killed, and ``env`` removes what GitPython takes over from our own environment. The last
one is told names only, so that no value ever stands in an argument list.
"""

import base64
import contextlib
import os
import re
import selectors
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Final, cast

from pydantic import SecretStr

from coafi.errors import CoafiError, PolicyDenied, Unavailable, ValidationError
from coafi.git.failures import GitCancelled, failure
from coafi.git.limits import GitLimits
from coafi.git.urls import RepositoryUrl

HEARTBEAT_SECONDS: Final = 1.0
"""The longest pause between two calls of ``Watch.heartbeat`` while something is waited for."""

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 2.0
"""How long output may still come after git itself has ended; a descendant that holds the pipe longer is killed."""
_CLOSE_SECONDS = HEARTBEAT_SECONDS / 2
"""How long a git that is not asked any more may take to end by itself."""
_MAX_STDERR = 16_384
_LINE_END = re.compile(rb"[\r\n]")
_CHUNK = 1 << 18
_ULIMIT_BLOCK = 512  # POSIX: ``ulimit -f`` counts in blocks of 512 bytes
# The signal is ignored so that the write fails with a reason instead of killing a helper of git's without one.
_SHELL = 'trap "" XFSZ; ulimit -c 0; ulimit -f "$0" || exit 125; exec "$@"'


def _nothing(_text: str) -> None:
    return None


def _never() -> bool:
    return False


@dataclass
class Watch:
    """How a caller follows blocking work, and how it stops it.

    Attributes:
        heartbeat: called at least every ``HEARTBEAT_SECONDS`` while we wait, with what we are waiting for.
        cancelled: an event, or a function that says whether to stop.
    """

    heartbeat: Callable[[str], None] = _nothing
    cancelled: threading.Event | Callable[[], bool] = _never
    _last: float = field(default_factory=time.monotonic, init=False, repr=False)

    def beat(self, text: str) -> None:
        """Report ``text``, unless something was reported less than a heartbeat ago.

        Raises:
            GitCancelled: the caller asked to stop.
        """
        stop = self.cancelled.is_set() if isinstance(self.cancelled, threading.Event) else self.cancelled()
        if stop:
            raise GitCancelled(f"stopped while {text}", remedy="nothing to do: it will be tried again")
        now = time.monotonic()
        if now - self._last >= HEARTBEAT_SECONDS / 2:
            self._last = now
            self.heartbeat(text)


@dataclass(frozen=True)
class Remote:
    """A repository together with the addresses that its host was checked at; git connects to no other ones."""

    url: RepositoryUrl
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class SshAccess:
    """How repositories are reached by ssh, where the URL policy lists a host for it.

    Attributes:
        identity: the private key.
        known_hosts: the host keys that are accepted; no other ones are.
    """

    identity: Path
    known_hosts: Path
    user: str = "git"


@dataclass(frozen=True)
class GitRunner:
    """Runs git.

    Attributes:
        tokens: a secret per host (``host`` or ``host:port``). ``user:password`` is sent as it is; a token alone goes
            with the user ``x-access-token``, which GitHub, GitLab and Gitea accept.
        ca_bundle: certificate authorities to trust instead of the system's.
    """

    limits: GitLimits = field(default_factory=GitLimits)
    tokens: Mapping[str, SecretStr] = field(default_factory=dict)
    ssh: SshAccess | None = None
    ca_bundle: Path | None = None

    def run(
        self,
        arguments: Sequence[str],
        *,
        git_dir: Path,
        watch: Watch,
        what: str,
        remote: Remote | None = None,
        settings: Sequence[str] = (),
        stdin: bytes | None = None,
        inherit: tuple[int, ...] = (),
    ) -> bytes:
        """Run ``git <arguments>`` in the bare repository ``git_dir`` and return what it wrote to its output.

        Args:
            arguments: the subcommand and its arguments; what comes from outside must stand after ``--end-of-options``.
            watch: heartbeats and cancellation.
            what: what this does, for heartbeats and messages: "fetching commit … of …".
            remote: the one repository that may be contacted, known to git as ``origin``; none may without it.
            settings: more ``name=value`` pairs of configuration; no secrets.
            stdin: what git reads.
            inherit: file descriptors that stay open until git and all its descendants have ended: locks.

        Raises:
            AccessRefused, ResourceNotFoundError, PolicyDenied, ValidationError: the remote refuses, or sends
                what we refuse.
            Unavailable: remote or disk are out of reach, or the time was used up.
            GitCancelled: the caller asked to stop.
            MirrorDamaged: ``git_dir`` is broken.
            GitFailed: anything else.
        """
        timeout = self.limits.fetch_timeout if remote else self.limits.local_timeout
        git = self._start(arguments, git_dir, timeout, remote, settings, inherit, reads=stdin is not None)
        collector = _Collector(self.limits.max_output_bytes, what)
        try:
            git.communicate(stdin or b"", collector.take, watch=watch, what=what, timeout=timeout)
        finally:
            status = git.end()
        if status != 0:
            raise git.failure(what)
        return collector.output()

    def start(
        self, arguments: Sequence[str], *, git_dir: Path, lifetime: float, inherit: tuple[int, ...] = ()
    ) -> "GitProcess":
        """Start a ``git <arguments>`` that contacts nobody and reads requests, until the caller ends it.

        Args:
            lifetime: seconds that it is needed at most; should we be killed and git hang, it is killed soon after them.
            arguments, git_dir, inherit: as for :meth:`run`.
        """
        return self._start(arguments, git_dir, lifetime, None, (), inherit, reads=True)

    def _start(
        self,
        arguments: Sequence[str],
        git_dir: Path,
        lifetime: float,
        remote: Remote | None,
        settings: Sequence[str],
        inherit: tuple[int, ...],
        *,
        reads: bool,
    ) -> "GitProcess":
        secrets = self._secrets(remote)
        command = self._command(arguments, git_dir, remote, settings, lifetime)
        process = self._spawn(command, self._environment(remote, secrets), git_dir, inherit, reads=reads)
        return GitProcess(process, self.limits, remote, secrets)

    def _command(
        self, arguments: Sequence[str], git_dir: Path, remote: Remote | None, settings: Sequence[str], lifetime: float
    ) -> list[str]:
        options = [*_CONFIGURATION, *self._transport(remote), *settings]
        return [
            "/bin/sh",
            "-c",
            _SHELL,
            str(max(1, self.limits.max_file_bytes // _ULIMIT_BLOCK)),
            *self._deadman(lifetime),
            *self._without_our_environment(),
            "git",
            f"--git-dir={git_dir}",
            "--no-pager",
            "--literal-pathspecs",
            *(word for option in options for word in ("-c", option)),
            *arguments,
        ]

    def _deadman(self, lifetime: float) -> list[str]:
        # Ends git even when this process is killed and cannot; it comes later than our own limit does.
        return ["timeout", "-s", "KILL", str(int(lifetime + 60))] if self._has_timeout else []

    @cached_property
    def _has_timeout(self) -> bool:
        return shutil.which("timeout") is not None

    @staticmethod
    def _without_our_environment() -> list[str]:
        # GitPython adds to os.environ and cannot be told not to.
        foreign = sorted(name for name in os.environ if name not in _ENVIRONMENT)
        return ["env", *(word for name in foreign for word in ("-u", name))]

    def _transport(self, remote: Remote | None) -> list[str]:
        if remote is None:
            return []
        url = remote.url
        options = [
            f"protocol.{url.scheme}.allow=always",
            f"remote.origin.url={url.address}",
            # Named on the command line, these are not written into the mirror: a local command that misses an object
            # then says so, instead of fetching it behind our back.
            "remote.origin.promisor=true",
            "remote.origin.partialclonefilter=blob:none",
            f"http.lowSpeedLimit={self.limits.low_speed_bytes}",
            f"http.lowSpeedTime={self.limits.low_speed_seconds}",
        ]
        if url.scheme in ("https", "http") and url.host not in remote.addresses:
            addresses = ",".join(f"[{address}]" if ":" in address else address for address in remote.addresses)
            options.append(f"http.curloptResolve={url.host}:{url.port}:{addresses}")
        if url.scheme == "ssh":
            options.append(f"core.sshCommand={self._ssh_command(remote)}")
        if self.ca_bundle is not None:
            options.append(f"http.sslCAInfo={self.ca_bundle}")
        return options

    def _ssh_command(self, remote: Remote) -> str:
        if self.ssh is None:
            raise PolicyDenied(
                f"repository {remote.url} is reached by ssh, and there is no key for it",
                remedy="set the ssh key and the known hosts in the settings, or give its https:// URL",
            )
        options = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(self.ssh.known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "ConnectTimeout": "30",
            "ServerAliveInterval": "15",
            "HostKeyAlias": remote.url.host,
            "HostName": remote.addresses[0] if remote.addresses else remote.url.host,
        }
        words = ["ssh", "-F", "/dev/null", "-T", "-l", self.ssh.user, "-i", str(self.ssh.identity)]
        return shlex.join(words + [word for name, value in options.items() for word in ("-o", f"{name}={value}")])

    def _secrets(self, remote: Remote | None) -> tuple[str, ...]:
        """The header value to send and every text that must not appear in a message; empty without a token."""
        if remote is None or remote.url.scheme not in ("https", "http"):
            return ()
        url = remote.url
        token = self.tokens.get(f"{url.host}:{url.port}") or self.tokens.get(url.authority) or self.tokens.get(url.host)
        if token is None or not token.get_secret_value():
            return ()
        secret = token.get_secret_value()
        basic = base64.b64encode((secret if ":" in secret else f"x-access-token:{secret}").encode()).decode()
        return (basic, secret, secret.partition(":")[2] or secret)

    @staticmethod
    def _environment(remote: Remote | None, secrets: tuple[str, ...]) -> dict[str, str]:
        environment = _ENVIRONMENT | {"PATH": os.environ.get("PATH", os.defpath)}
        environment["GIT_ALLOW_PROTOCOL"] = remote.url.scheme if remote else "none"
        if remote and secrets:
            environment |= {
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": f"http.{remote.url.scheme}://{remote.url.authority}/.extraHeader",
                "GIT_CONFIG_VALUE_0": f"Authorization: Basic {secrets[0]}",
            }
        return environment

    @staticmethod
    def _spawn(
        command: list[str],
        environment: dict[str, str],
        directory: Path,
        inherit: tuple[int, ...],
        *,
        reads: bool,
    ) -> "subprocess.Popen[bytes]":
        try:
            from git.cmd import Git  # importing it runs git: not at import of ours
        except ImportError as error:
            raise Unavailable(f"git cannot be run: {error}", remedy="install git 2.37 or later") from error
        wrapper = Git(directory).execute(
            command,
            istream=subprocess.PIPE if reads else None,
            as_process=True,
            shell=False,
            env=environment,
            start_new_session=True,
            pass_fds=inherit,
        )
        # The wrapper ends the process when it is collected, without its group, and raises where we want a status.
        process = wrapper.proc
        wrapper.proc = None
        return cast("subprocess.Popen[bytes]", process)


class GitProcess:
    """A git that runs, in a process group of its own, which dies with it. Only one thread at a time may use it."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", limits: GitLimits, remote: Remote | None, secrets: tuple[str, ...]
    ) -> None:
        self._process = process
        self._limits = limits
        self._remote = remote
        self._secrets = secrets
        self._errors = bytearray()

    def communicate(
        self,
        request: bytes,
        take: Callable[[bytes], None],
        *,
        watch: Watch,
        what: str,
        timeout: float,
        answered: Callable[[], bool] | None = None,
    ) -> None:
        """Write ``request`` and give the output to ``take``, in chunks, until it is ``answered`` or git has ended.

        It is written while the output is read, so that the two never wait for each other. A git that has ended is left
        for :meth:`end` to reap.

        Args:
            watch, what: as for :meth:`GitRunner.run`.
            timeout: seconds that git may be waited for; what ``take`` takes for itself does not count.
            answered: whether the output is complete, and git waits for the next request; without it this is the last
                one, which git is told, and it is waited for its end.

        Raises:
            Unavailable: the time was used up.
            GitCancelled: the caller asked to stop.
        """
        deadline = time.monotonic() + timeout
        requests, output, errors = self._process.stdin, self._output, cast("BinaryIO", self._process.stderr)
        takers: dict[int, Callable[[bytes], None]] = {output.fileno(): take, errors.fileno(): self._take_error}
        unsent = memoryview(request)
        ended: float | None = None
        with selectors.DefaultSelector() as selector:
            for descriptor in takers:
                selector.register(descriptor, selectors.EVENT_READ)
            if requests is not None:
                os.set_blocking(requests.fileno(), False)
                selector.register(requests, selectors.EVENT_WRITE)
            while takers or ended is None:
                if not takers:  # git closes its pipes a moment before it ends
                    time.sleep(0.001)
                for key, _ in selector.select(_POLL_SECONDS if takers else 0):
                    if key.fileobj is requests:
                        unsent = unsent[_write(key.fd, unsent) :]
                        if not unsent:
                            selector.unregister(requests)
                            if answered is None:
                                requests.close()
                    elif chunk := os.read(key.fd, _CHUNK):
                        began = time.monotonic()
                        takers[key.fd](chunk)
                        deadline += time.monotonic() - began
                    else:
                        selector.unregister(key.fd)
                        del takers[key.fd]
                watch.beat(what)
                if answered is not None and not unsent and answered():
                    return
                now = time.monotonic()
                if ended is None and _has_ended(self._process.pid):
                    ended = now
                if ended is not None and now > ended + _GRACE_SECONDS:
                    return
                if now > deadline:
                    raise Unavailable(
                        f"{what} took longer than allowed and was stopped",
                        remedy="try again later; for a very large repository raise the git timeout in the settings",
                    )

    def end(self) -> int:
        """Kill what is left of the process group, reap its leader and return its status, negative for a signal."""
        if self._process.returncode is None:  # until then its number names its group, and nothing else
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        status = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        return status

    def close(self) -> None:
        """End a git that waits for requests: there are no more, so it ends by itself; if it does not, it is killed.

        Locks that it inherited are free then when it ended by itself; after a kill, in the moment that this takes.
        """
        try:
            if self._process.stdin is not None:
                self._process.stdin.close()
            with selectors.DefaultSelector() as selector:
                selector.register(self._output, selectors.EVENT_READ)  # it comes to its end with the last process
                selector.select(_CLOSE_SECONDS)
        finally:
            self.end()

    def failure(self, what: str) -> CoafiError:
        """The error that the end of this git means; ends it."""
        errors = _scrubbed(bytes(self._errors).decode("utf-8", "replace"), self._secrets)
        names = () if self._remote is None else self._remote.url.names
        return failure(self.end(), errors, what, contacts=self._remote is not None, limits=self._limits, names=names)

    @property
    def _output(self) -> BinaryIO:
        return cast("BinaryIO", self._process.stdout)

    def _take_error(self, chunk: bytes) -> None:
        # The first cause and the last word are what helps; what is between them can be anything a server sends.
        self._errors += chunk
        if len(self._errors) > _MAX_STDERR:
            # A line that lost its beginning would no longer be known as the remote's.
            end = _LINE_END.search(self._errors, len(self._errors) - _MAX_STDERR // 2)
            del self._errors[_MAX_STDERR // 2 : end.start() if end else -_MAX_STDERR // 2]


class _Collector:
    """Output of one command, bounded."""

    def __init__(self, limit: int, what: str) -> None:
        self._limit = limit
        self._what = what
        self._size = 0
        self._chunks: list[bytes] = []

    def take(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > self._limit:
            raise ValidationError(
                f"{self._what} gives more than {self._limit} bytes of output",
                remedy="split the commit, or raise the limits for git in the settings",
            )
        self._chunks.append(chunk)

    def output(self) -> bytes:
        return b"".join(self._chunks)


def _write(descriptor: int, data: memoryview) -> int:
    """Write some of ``data`` without waiting; how much of it is done with."""
    try:
        return os.write(descriptor, data[:_CHUNK])
    except BlockingIOError:
        return 0
    except BrokenPipeError:  # nobody reads it: git has ended, or will
        return len(data)


def _has_ended(pid: int) -> bool:
    """Whether the process has ended. It stays a zombie, so that its number keeps naming its process group."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


_ENVIRONMENT: Final[dict[str, str]] = {
    "PATH": os.defpath,
    "HOME": "/nonexistent",
    "XDG_CONFIG_HOME": "/nonexistent",
    "LC_ALL": "C",
    "LANGUAGE": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_COUNT": "0",
    "GIT_CONFIG_KEY_0": "",
    "GIT_CONFIG_VALUE_0": "",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "SSH_ASKPASS": "",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_PROTOCOL_FROM_USER": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",  # git 2.44 and later; before, see GitRunner._transport
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_ADVICE": "0",
}

_CONFIGURATION: Final = (
    "protocol.allow=never",
    "protocol.version=2",
    "http.followRedirects=false",
    "http.sslVerify=true",
    "http.emptyAuth=false",
    "credential.helper=",
    "core.askPass=",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "core.bigFileThreshold=16m",  # larger blobs are streamed, never held in memory or compared
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "fetch.writeCommitGraph=false",
    "fetch.unpackLimit=1",  # a pack appears whole or not at all; loose objects come one by one
    "transfer.unpackLimit=1",
    "transfer.fsckObjects=true",
    "fetch.fsckObjects=true",
    # Harmless, and frozen into the history of old repositories.
    "fetch.fsck.zeroPaddedFilemode=ignore",
    "fetch.fsck.badTimezone=ignore",
    "fetch.fsck.missingSpaceBeforeDate=ignore",
    "gc.auto=0",
    "gc.autoDetach=false",
    "maintenance.auto=false",
    "pack.threads=1",
    "index.threads=1",
    "advice.graftFileDeprecated=false",
)


def _scrubbed(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return re.sub(r"(?<=://)[^/\s]*@", "***@", text)
