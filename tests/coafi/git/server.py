"""A small HTTP server in front of ``git http-backend`` that can also misbehave in every way the tests need."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.coafi.git.repositories import ENVIRONMENT


@dataclass
class GitServer:
    """Serves every repository below ``root``.

    Attributes:
        status: answer every request with it instead, and with ``body`` as plain text.
        location: where redirects go.
        authorization: the only value of that header that is let in.
        stall: answer the packs of fetches with silence, until the test is over.
        requests: method and target of every request.
        authorizations: the ``Authorization`` header of every request.
    """

    root: Path
    port: int = 0
    status: int | None = None
    body: str = ""
    location: str = ""
    authorization: str | None = None
    stall: bool = False
    stalled: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    requests: list[str] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)

    def url(self, name: str) -> str:
        """The URL of the repository ``name``."""
        return f"http://127.0.0.1:{self.port}/{name}"

    @property
    def posts(self) -> int:
        """How many commands git sent."""
        return sum(request.startswith("POST") for request in self.requests)


@contextmanager
def serve(root: Path) -> Iterator[GitServer]:
    """Serve the repositories below ``root`` on a free port of 127.0.0.1."""
    server = GitServer(root)

    class Handler(_Handler):
        git = server

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.port = http.server_port
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        http.shutdown()
        http.server_close()


class _Handler(BaseHTTPRequestHandler):
    git: GitServer

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self._answer(body)

    def _answer(self, body: bytes) -> None:
        git = self.git
        git.requests.append(f"{self.command} {self.path}")
        git.authorizations.append(self.headers.get("Authorization"))
        if git.status is not None:
            self.send_response(git.status)
            if git.location:
                self.send_header("Location", git.location + self.path)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(git.body.encode())))
            self.end_headers()
            self.wfile.write(git.body.encode())
            return
        if git.authorization is not None and self.headers.get("Authorization") != git.authorization:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if git.stall and b"command=fetch" in body:
            git.stalled.set()
            git.over.wait(60)
            return
        self._backend(body)

    def _backend(self, body: bytes) -> None:
        target = urlsplit(self.path)
        environment = ENVIRONMENT | {
            "GIT_PROJECT_ROOT": str(self.git.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": target.path,
            "QUERY_STRING": target.query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        done = subprocess.run(["git", "http-backend"], env=environment, input=body, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode("latin-1").split("\r\n") if line)
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the base class's
        """Say nothing."""


def none_left_with(word: str) -> bool:
    """Whether every process that has ``word`` in its arguments has ended, or does in the moment that a kill takes."""
    for _ in range(100):
        if not processes_with(word):
            return True
        time.sleep(0.05)
    return False


def processes_with(word: str) -> list[int]:
    """The running processes that have ``word`` in their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if word.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found
