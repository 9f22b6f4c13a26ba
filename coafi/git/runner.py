"""The one hardened runner of the git binary: nothing else in the service spawns git.

Every command gets an empty environment but for what stands here, configuration that no file of the machine, of the
user or of a repository can add to, one allowed transport (or none), a bound on time, on output and on what it may
write, and its own process group, which dies with it. GitPython does the spawning.

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
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Final, cast

from pydantic import SecretStr

from coafi.errors import (
    CoafiError,
    IntegrityError,
    PolicyDenied,
    ResourceNotFoundError,
    Unavailable,
    ValidationError,
)
from coafi.git.limits import GitLimits
from coafi.git.urls import RepositoryUrl

HEARTBEAT_SECONDS: Final = 1.0
"""The longest pause between two calls of ``Watch.heartbeat`` while something is waited for."""

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 2.0
"""How long output may still come after git itself has ended; a descendant that holds the pipe longer is killed."""
_MAX_STDERR = 16_384
_CHUNK = 1 << 18
_ULIMIT_BLOCK = 512  # POSIX: ``ulimit -f`` counts in blocks of 512 bytes
# The signal is ignored so that the write fails with a reason instead of killing a helper of git's without one.
_SHELL = 'trap "" XFSZ; ulimit -c 0; ulimit -f "$0" || exit 125; exec "$@"'


class GitCancelled(Unavailable):
    """The caller asked to stop. The work can be done again, here or elsewhere."""


class GitFailed(CoafiError):
    """Git failed for a reason that is not in our table: a defect of ours, or a new message of git's."""


class AccessRefused(CoafiError):
    """The remote refuses our credentials, or wants some: the event is right, and an operator has to act."""


class CommitNotFound(ResourceNotFoundError):
    """The repository is there, the commit is not."""


class MirrorDamaged(IntegrityError):
    """The local mirror is broken. It is only a cache: delete it and fetch again."""


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
        sink: Callable[[bytes], None] | None = None,
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
            sink: takes the output in chunks instead; it is then not bounded, and the result is empty.
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
        secrets = self._secrets(remote)
        command = self._command(arguments, git_dir, remote, settings, timeout)
        with contextlib.ExitStack() as stack:
            source: BinaryIO | None = None
            if stdin is not None:  # a file rather than a pipe: nobody has to write while we read
                source = stack.enter_context(tempfile.TemporaryFile())
                source.write(stdin)
                source.seek(0)
            process = self._spawn(command, self._environment(remote, secrets), git_dir, source, inherit)
            collector = _Collector(sink, self.limits.max_output_bytes, what)
            try:
                self._pump(process, collector, watch, what, time.monotonic() + timeout)
            finally:
                status = _end(process)
        if status != 0:
            raise _translated(status, _scrubbed(collector.errors(), secrets), what, remote, self.limits)
        return collector.output()

    def _command(
        self, arguments: Sequence[str], git_dir: Path, remote: Remote | None, settings: Sequence[str], timeout: float
    ) -> list[str]:
        options = [*_CONFIGURATION, *self._transport(remote), *settings]
        return [
            "/bin/sh",
            "-c",
            _SHELL,
            str(max(1, self.limits.max_file_bytes // _ULIMIT_BLOCK)),
            *self._deadman(timeout),
            *self._without_our_environment(),
            "git",
            f"--git-dir={git_dir}",
            "--no-pager",
            "--literal-pathspecs",
            *(word for option in options for word in ("-c", option)),
            *arguments,
        ]

    def _deadman(self, timeout: float) -> list[str]:
        # Ends git even when this process is killed and cannot; it comes later than our own limit does.
        return ["timeout", "-s", "KILL", str(int(timeout + 60))] if self._has_timeout else []

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
        stdin: BinaryIO | None,
        inherit: tuple[int, ...],
    ) -> "subprocess.Popen[bytes]":
        try:
            from git.cmd import Git  # importing it runs git: not at import of ours
        except ImportError as error:
            raise Unavailable(f"git cannot be run: {error}", remedy="install git 2.37 or later") from error
        wrapper = Git(directory).execute(
            command,
            istream=stdin,
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

    @staticmethod
    def _pump(
        process: subprocess.Popen[bytes], collector: "_Collector", watch: Watch, what: str, deadline: float
    ) -> None:
        """Read both pipes until they are closed and the process has ended, which it is left to reap."""
        output, errors = cast("BinaryIO", process.stdout), cast("BinaryIO", process.stderr)
        takers: dict[int, Callable[[bytes], None]] = {
            output.fileno(): collector.take,
            errors.fileno(): collector.take_error,
        }
        ended: float | None = None
        with selectors.DefaultSelector() as selector:
            for descriptor in takers:
                selector.register(descriptor, selectors.EVENT_READ)
            while takers or ended is None:
                if not takers:  # git closes its pipes a moment before it ends
                    time.sleep(0.001)
                for key, _ in selector.select(_POLL_SECONDS if takers else 0):
                    if chunk := os.read(key.fd, _CHUNK):
                        takers[key.fd](chunk)
                    else:
                        selector.unregister(key.fd)
                        del takers[key.fd]
                watch.beat(what)
                now = time.monotonic()
                if ended is None and _has_ended(process.pid):
                    ended = now
                if ended is not None and now > ended + _GRACE_SECONDS:
                    return
                if now > deadline:
                    raise Unavailable(
                        f"{what} took longer than allowed and was stopped",
                        remedy="try again later; for a very large repository raise the git timeout in the settings",
                    )


class _Collector:
    """Output of one command: bounded, or passed on."""

    def __init__(self, sink: Callable[[bytes], None] | None, limit: int, what: str) -> None:
        self._sink = sink
        self._limit = limit
        self._what = what
        self._size = 0
        self._chunks: list[bytes] = []
        self._errors = bytearray()

    def take(self, chunk: bytes) -> None:
        if self._sink is not None:
            self._sink(chunk)
            return
        self._size += len(chunk)
        if self._size > self._limit:
            raise ValidationError(
                f"{self._what} gives more than {self._limit} bytes of output",
                remedy="split the commit, or raise the limits for git in the settings",
            )
        self._chunks.append(chunk)

    def take_error(self, chunk: bytes) -> None:
        # The first cause and the last word are what helps; what is between them can be anything a server sends.
        self._errors += chunk
        if len(self._errors) > _MAX_STDERR:
            del self._errors[_MAX_STDERR // 2 : -_MAX_STDERR // 2]

    def output(self) -> bytes:
        return b"".join(self._chunks)

    def errors(self) -> str:
        return bytes(self._errors).decode("utf-8", "replace")


def _has_ended(pid: int) -> bool:
    """Whether the process has ended. It stays a zombie, so that its number keeps naming its process group."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _end(process: "subprocess.Popen[bytes]") -> int:
    """Kill what is left of the process group, reap its leader and return its status, negative for a signal."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    status = process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    return status


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


@dataclass(frozen=True)
class _Rule:
    """One line of the table: a pattern in git's messages, and the error that it means."""

    pattern: re.Pattern[str]
    error: type[CoafiError]
    problem: str
    remedy: str


def _rule(pattern: str, error: type[CoafiError], problem: str, remedy: str) -> _Rule:
    return _Rule(re.compile(pattern, re.IGNORECASE), error, problem, remedy)


_RETRY = "nothing to do: it is tried again"
_REMAKE = "nothing to do: the mirror is only a cache and is made anew"

_LOCAL_RULES: Final = (
    _rule(
        r"No space left on device|Disk quota exceeded|Read-only file system|Cannot allocate memory|out of memory",
        Unavailable,
        "the disk or the memory of this machine is used up",
        "make room, or lower the quota of the mirrors",
    ),
    _rule(
        r"File too large",
        ValidationError,
        "it is larger than one fetch may download",
        "make the repository or the commit smaller, or raise the limits for git in the settings",
    ),
)
"""What can go wrong with any command."""

_REMOTE_RULES: Final = (
    *_LOCAL_RULES,  # first: the remote's side of the story follows from them
    _rule(
        r"not our ref|unadvertised object|couldn't find remote ref|upload-pack: not our",
        CommitNotFound,
        "the repository does not have this commit, or does not give it out",
        "check the SHA; a commit that was force-pushed away and collected is gone for good",
    ),
    _rule(
        r"Authentication failed|could not read (?:Username|Password)|returned error: (?:401|403|407)"
        r"|Permission denied \(|Host key verification failed|access denied|not authorized",
        AccessRefused,
        "the remote does not let us read it",
        "give a token that may read the repository in the settings for this host",
    ),
    _rule(
        r"detected dubious ownership",
        AccessRefused,
        "it belongs to another user of this machine",
        "give it to the user that runs the service",
    ),
    _rule(
        r"returned error: 3\d\d|unable to update url base from redirection|redirect",
        PolicyDenied,
        "the remote redirects elsewhere, and redirects are not followed",
        "give the address that it redirects to",
    ),
    _rule(
        r"transport '\S+' not allowed",
        PolicyDenied,
        "the remote asks for another transport",
        "give its https:// URL",
    ),
    _rule(
        r"repository .* not found|does not appear to be a git repository|returned error: (?:404|410)"
        r"|not valid: is this a git repository|does not exist|no such repository|dumb http transport",
        ResourceNotFoundError,
        "there is no such repository, or we may not see it",
        "check the URL; for a private repository give a token in the settings for this host",
    ),
    _rule(
        r"fsck error|error in object|malformed object|hasDot|fullPathname|badTree|treeNotSorted",
        ValidationError,
        "the repository holds malformed or hostile objects",
        "repair its history; `git fsck --strict` there names them",
    ),
    _rule(
        r"returned error: (?:408|425|429|5\d\d)|Could not resolve host|Connection (?:refused|reset|timed out|closed)"
        r"|Failed to connect|Couldn't connect|Operation (?:timed out|too slow)|timed? ?out|Network is unreachable"
        r"|No route to host|Empty reply|Recv failure|Send failure|SSL|TLS|certificate|GnuTLS|schannel"
        r"|transfer closed|unexpected disconnect|early EOF|hung up|RPC failed|HTTP/2 stream|curl \d+"
        r"|Temporary failure|expected (?:flush|packfile)|protocol error|bad line length|invalid index-pack output",
        Unavailable,
        "the remote is out of reach",
        _RETRY,
    ),
    _rule(
        r"The requested URL returned error: 4\d\d", ValidationError, "the remote refuses the request", "check the URL"
    ),
    _rule(
        r"not a git repository|object file|packfile|index file|loose object|bad object|unable to read"
        r"|missing (?:blob|tree|commit)|inflate|is corrupt|garbage|bad config|could not open"
        r"|unable to (?:create|open|parse)|invalid object|not a tree object|not a valid object|shallow file"
        r"|did not send all necessary objects|unresolved deltas|bad signature|cannot lock ref|unknown revision"
        r"|ambiguous argument",
        MirrorDamaged,
        "the local mirror is damaged",
        _REMAKE,
    ),
)


def _translated(status: int, stderr: str, what: str, remote: Remote | None, limits: GitLimits) -> CoafiError:
    """The error that a failed command means: the first rule that its messages match."""
    reason = _shortened(stderr)
    for rule in _REMOTE_RULES if remote else _LOCAL_RULES:
        if rule.pattern.search(stderr):
            limit = f" ({limits.max_file_bytes} bytes)" if "larger than" in rule.problem else ""
            return rule.error(f"{what} failed: {rule.problem}{limit}{reason}", remedy=rule.remedy)
    if status in (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGKILL, 128 + signal.SIGTERM, 124):
        return Unavailable(f"{what} was killed{reason}", remedy="check this machine's memory; it is tried again")
    if remote is None:
        return MirrorDamaged(f"{what} failed with status {status}{reason}", remedy=_REMAKE)
    return GitFailed(f"{what} failed with status {status}{reason}", remedy="report this message: it is not known to us")


def _scrubbed(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return re.sub(r"(?<=://)[^/\s]*@", "***@", text)


def _shortened(stderr: str) -> str:
    """What git itself says, on one line, printable and bounded, for the end of a message."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", stderr) if line.strip()]
    text = "; ".join([line for line in lines if not line.startswith("warning:")] or lines)
    text = "".join(character if character.isprintable() else "?" for character in text)
    if len(text) > 500:
        text = f"{text[:250]} … {text[-250:]}"
    return f"; git says: {text}" if text else ""
