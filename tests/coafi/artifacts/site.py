"""The golden documents as a site on disk, as an export has it, with the images that they show."""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from coafi.artifacts.compose import PageLocation, Provenance, compose
from coafi.artifacts.generate import generate
from coafi.artifacts.model import ArtifactKind, GeneratorConfig
from coafi.canonical import sha256
from tests.coafi.documents.samples import SVG, check, png

GOLDEN = Path(__file__).parent / "golden"


def documents() -> dict[str, bytes]:
    """The files of the sample repository by their paths."""
    files = {f"docs/{path.name}": path.read_bytes() for path in GOLDEN.iterdir() if path.is_file()}
    files["assets/logo.png"] = files["docs/figures/life-cycle.png"] = png(96, 96)
    drawing = '<rect width="640" height="96" fill="#9cf"/><script>document.title = "broken"</script>'
    files["assets/pipeline.svg"] = (SVG % drawing).replace("<svg", '<svg viewBox="0 0 640 96" width="640"').encode()
    files["schemas/README.md"] = b"# Schemas\n\nBack to [the handbook](/docs/handbook.md#fields).\n"
    files["docs/notes.md"] = b"# Notes\n\nNone.\n"
    files["README.md"] = b"# Root\n\n![Logo](assets/logo.png) [Handbook](docs/handbook.md)\n"
    return files


def write_site(directory: Path) -> None:
    """Export every page and image of the sample."""
    config = GeneratorConfig()
    made = []
    for path, content in documents().items():
        report = check(path, content)
        assert report.verdict == "valid", report
        made += [(path, one) for one in generate(report.kind, content, report, config).artifacts]
    pages = frozenset(path for path, one in made if one.kind is ArtifactKind.PAGE)
    for path, one in made:
        if one.kind is ArtifactKind.PAGE:
            location = PageLocation(path, pages)
            content = compose(one.content, location=location, provenance=provenance(path, one.content))
            _write(directory / f"{path}.html", content)
        elif one.kind is ArtifactKind.IMAGE:
            _write(directory / path, one.content)


def provenance(path: str, page: bytes) -> Provenance:
    """Where the page of a sample came from."""
    return Provenance(
        repository="https://example.org/acme/flight-data",
        branch="main",
        commit="8f1d6c0b5a4e39281706f5e4d3c2b1a098765432",
        path=path,
        blob="3b18e512dba79e4c8300dd08aeb37f8e728b8dad",
        event="056c637c-5d9b-4b18-93de-f048bc117858",
        utids="UTIDS-P-4RKJ23CX2G5FMG3NHYFE67Q9JM",
        artifact=sha256(page),
        generator="2",
        file_entry=1207,
        artifact_entry=1213,
        receipt=1220,
    )


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


class _Quiet(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        """Browsers ask every site for an icon that no page names."""
        if self.path == "/favicon.ico":
            self.send_response(HTTPStatus.NO_CONTENT)
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """A directory over HTTP, on a free port; the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(directory)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
