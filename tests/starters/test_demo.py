"""The sample of ``coafi demo``: its verdicts, and that its pages lead to each other."""

import re
from html import unescape
from posixpath import join, normpath
from urllib.parse import unquote

from coafi.artifacts.compose import PageLocation, compose
from coafi.artifacts.generate import generate
from coafi.artifacts.model import Artifact, ArtifactKind, GeneratorConfig
from coafi.documents.check import Verdict
from starters.demo import EXPECTED, FRONT_PAGE, sample_files
from tests.coafi.documents.samples import check


def test_every_file_of_the_sample_has_the_verdict_that_is_expected() -> None:
    files = sample_files("0")
    verdicts = {path: check(path, content).verdict for path, content in files.items()}
    gone = {path for path, verdict in EXPECTED.items() if verdict is Verdict.DELETED}
    assert verdicts == {path: verdict for path, verdict in EXPECTED.items() if path not in gone}


def test_every_file_differs_from_one_revision_to_the_next() -> None:
    one, two = sample_files("1"), sample_files("2")
    assert one == sample_files("1")
    assert one.keys() == two.keys()
    assert all(one[path] != two[path] for path in one)


def test_the_links_and_images_of_its_pages_lead_to_what_is_exported() -> None:
    made = {path: artifact for path, content in sample_files("0").items() for artifact in shown(path, content)}
    pages = frozenset(path for path, artifact in made.items() if artifact.kind is ArtifactKind.PAGE)
    written = {f"{path}.html" if path in pages else path for path in made}
    seen: set[str] = set()
    for path in pages:
        html = compose(made[path].content, location=PageLocation(path, pages)).decode()
        for url in re.findall(r'(?:href|src)="([^"#]+)[^"]*"', html):
            target = normpath(join(f"{path}/..", unquote(unescape(url))))
            assert target in written, (path, url)
            seen.add(target)
    assert seen >= {"assets/logo.png", "assets/pipeline.svg", f"{FRONT_PAGE}.html", "registry/entries.json.html"}


def shown(path: str, content: bytes) -> list[Artifact]:
    """What an export writes of a file."""
    report = check(path, content)
    made = generate(report.kind, content, report, GeneratorConfig()).artifacts
    return [artifact for artifact in made if artifact.kind in (ArtifactKind.PAGE, ArtifactKind.IMAGE)]
