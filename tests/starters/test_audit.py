"""The auditor's walk-through: every command of docs/audit.md on a page of a real run, in the order of the page."""

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from coafi.names import docs_path
from coafi.receipts.dsse import PAYLOAD_TYPE
from coafi.receipts.statement import BUILD_TYPE, BUILDER, PREDICATE_TYPE, STATEMENT_TYPE
from tests.harness import Repository, Stack, document, documents, running_stack, until
from tests.starters.support import command
from tests.test_docs import DOCS, blocks, column, section

AUDIT = DOCS / "audit.md"
NAME = "docs/COAFI-ENG-0001-SPEC-A.md"


@pytest_asyncio.fixture(scope="module")
async def run(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Stack, Path]]:
    """A service that has served a page, and an empty directory but for that page and its document."""
    home = tmp_path_factory.mktemp("audit")
    async with running_stack(home, index_debounce=0.2) as stack:
        repository = Repository.create(home / "repository")
        files = {
            **documents(2),
            NAME: document(1).replace("Some text.", "See [the other](/docs/COAFI-ENG-0002-SPEC-A.md)"),
        }
        handle = await stack.accepted(repository.push(files))
        await handle.result()
        address = f"{stack.gateway}{docs_path(repository.path.as_uri(), 'main')}{NAME}"

        async def shown() -> bytes:
            async with httpx.AsyncClient(timeout=30) as http:
                answer = await http.get(address)
            return answer.content if answer.status_code == 200 and b"UTIDS-P-" in answer.content else b""

        async def served() -> bool:
            return bool(await shown())

        await until(served)
        desk = home / "desk"
        desk.mkdir()
        (desk / "page.html").write_bytes(await shown())
        (desk / "document.md").write_bytes((repository.path / NAME).read_bytes())
        yield stack, desk


def steps() -> list[tuple[str, str]]:
    """The headings of the walk-through, each with its script."""
    text = section(AUDIT, "## The walk-through")
    found = []
    for part in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        heading, _, rest = part.partition("\n")
        found += [(heading, script) for script in blocks(rest, "sh")]
    return found


def play(script: str, desk: Path, home: Path | None) -> "subprocess.CompletedProcess[str]":
    """Run a script as a person would; an auditor has no home of the service."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "HOME": str(desk), "LANG": "C.UTF-8"}
    if home is not None:
        environment["COAFI_HOME"] = str(home)
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=desk,
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
    )


def test_the_walk_through_ends_with_proved(run: tuple[Stack, Path]) -> None:
    stack, desk = run
    said = {}
    assert [heading.split(":")[0].split(",")[0] for heading, _ in steps()] == [
        "The operator",
        "You",
        "The operator",
        "You",
        "You",
        "The operator",
        "You",
    ]
    for heading, script in steps():
        home = stack.settings.home if heading.startswith("The operator") else None
        done = play(script, desk, home)
        assert done.returncode == 0, (heading, done.stdout, done.stderr)
        said[heading] = done.stdout
    verified = said["You: verify"]
    assert verified.startswith("Proved\n")
    assert f"Proved: page.html is the page of {NAME} (entry " in verified
    assert "not proved" not in verified
    (shown,) = [one for one in blocks(AUDIT.read_text(), "text") if one.startswith("Proved")]
    labels = set(re.findall(r"^([A-Z][a-z]+(?: [a-z]+)?)(?:  |$)", shown, re.MULTILINE))
    assert labels == set(re.findall(r"^([A-Z][a-z]+(?: [a-z]+)?)(?:  |$)", verified, re.MULTILINE))
    assert said["You: verify after a change of the key"].count(f"Proved: page.html is the page of {NAME}") == 2
    later = (desk / "later.json").read_bytes()
    assert later != (desk / "receipt.json").read_bytes()
    assert play("coafi receipt verify later.json --key ledger-key.json", desk, None).returncode == 1
    assert said["You: compare the document"].split() == ["1", "1"]
    assert not list(desk.glob(".coafi*"))

    (script,) = blocks(AUDIT.read_text(), "python")
    checked = subprocess.run([sys.executable, "-c", script], cwd=desk, capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stderr
    assert NAME in checked.stdout
    receipt = desk / "receipt.json"
    whole = receipt.read_text()
    for old, new in (("github-webhook", "gitlab-webhook"), ('"payload":"ey', '"payload":"eyB'), ("index 1", "index 2")):
        receipt.write_text(whole.replace(old, new, 1))
        theirs = subprocess.run([sys.executable, "-c", script], cwd=desk, capture_output=True, timeout=60)
        ours = command(("receipt", "verify", str(receipt), "--key", str(desk / "ledger-key.json")), os.environ)
        assert (theirs.returncode, ours.returncode) == (1, 1), old
    receipt.write_text(whole)


def test_the_file_is_documented() -> None:
    text = section(AUDIT, "## The file")
    assert {"format", "entries", "envelope", "entry", "proof"} <= set(column(text))
    assert {
        "subject",
        "buildType",
        "externalParameters",
        "internalParameters",
        "resolvedDependencies",
        "builder",
        "metadata",
        "byproducts",
    } <= set(column(text))
    assert f"`{BUILD_TYPE}`" in text
    assert f"`{BUILDER}`" in text
    assert STATEMENT_TYPE in text
    assert PREDICATE_TYPE.removesuffix("/v1").removeprefix("https://") in text.replace("spec/v1.1/", "")
    assert PAYLOAD_TYPE.startswith("application/vnd.in-toto")
