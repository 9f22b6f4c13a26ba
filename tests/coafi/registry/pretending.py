"""An HTTP server that pretends to be an instance which keeps a registry, and answers whatever a test says."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from coafi.canonical import digest_of
from coafi.ledger.wire import ERROR
from coafi.utids import entry_utids

TOKEN = "a-registry-token-that-nobody-may-see"


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    endpoint: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Said:
    """An answer: whole, or piece by piece without saying how long it will be."""

    status: int = 200
    body: bytes | Iterable[bytes] = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Pretender:
    """What is asked, and what is answered."""

    url: str
    asked: list[Asked] = field(default_factory=list)
    answer: Callable[[Asked], Said] = lambda _asked: Said(404)

    def endpoints(self) -> list[str]:
        """What was asked for, in order."""
        return [one.endpoint for one in self.asked]

    def says(self, document: Any, status: int = 200, **headers: str) -> None:
        """Answer everything with a JSON document."""
        self.answer = lambda _asked: said(document, status, **headers)


def said(document: Any, status: int = 200, **headers: str) -> Said:
    """A JSON document as an answer."""
    return Said(status, json.dumps(document).encode(), {name.replace("_", "-"): one for name, one in headers.items()})


def problem(status: int, kind: str = "", *, errors: Any = (), **headers: str) -> Said:
    """A problem as the API writes it; ``kind`` names an error of the tree."""
    type_ = ERROR + kind if kind else "about:blank"
    return said(
        {"type": type_, "title": "?", "status": status, "detail": "so it is", "errors": list(errors)}, status, **headers
    )


def entry(**changes: Any) -> dict[str, Any]:
    """An entry as the API shows it."""
    data = changes.pop("data", {"n": 1})
    made: dict[str, Any] = {
        "registryId": "AERO",
        "entryId": "wing",
        "version": 1,
        "status": "Submission",
        "class": "Application",
        "owner": "key:plant-b",
        "tags": [],
        "utids": entry_utids("AERO", "wing"),
        "digest": digest_of(data),
        "created": "2026-11-27T08:00:00.000Z",
        "changed": "2026-11-27T08:00:00.000Z",
        "by": "key:plant-b",
        "reason": "",
        "workflowId": "api.request:there:1",
        "ledgerEntry": 7,
        "integratedVersion": None,
        "checkedWith": None,
        "data": data,
    }
    return made | changes


@contextmanager
def pretending() -> Iterator[Pretender]:
    """A server on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            split = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked = Asked(
                self.command,
                split.path.removeprefix("/api/"),
                parse_qs(split.query),
                {name.lower(): value for name, value in self.headers.items()},
                body,
            )
            pretender.asked.append(asked)
            answer = pretender.answer(asked)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if isinstance(answer.body, bytes):
                self.send_header("Content-Length", str(len(answer.body)))
            else:
                self.send_header("Connection", "close")
            self.end_headers()
            try:
                for piece in [answer.body] if isinstance(answer.body, bytes) else answer.body:
                    self.wfile.write(piece)
                    self.wfile.flush()
            except OSError:  # nobody reads on
                self.close_connection = True

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    pretender = Pretender(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=[0.05], daemon=True)
    thread.start()
    try:
        yield pretender
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
