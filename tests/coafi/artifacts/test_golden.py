"""The bytes of artifacts, pinned: who changes them must raise ``GENERATOR_VERSION``.

After an intended change: raise the version, then ``python -m tests.coafi.artifacts.test_golden`` and look at the pages.
"""

import json
import sys
from pathlib import Path

from coafi.artifacts.generate import generate
from coafi.artifacts.model import GENERATOR_VERSION, GeneratorConfig
from coafi.canonical import sha256
from tests.coafi.documents.samples import check

GOLDEN = Path(__file__).parent / "golden"
PINNED = GOLDEN / "digests" / "pinned.json"


def made() -> dict[str, str]:
    """SHA-256 of every artifact of the golden documents."""
    digests: dict[str, str] = {}
    for source in sorted(path for path in GOLDEN.iterdir() if path.is_file()):
        content = source.read_bytes()
        report = check(source.name, content)
        assert report.verdict == "valid", source.name
        for artifact in generate(report.kind, content, report, GeneratorConfig()).artifacts:
            digests[f"{source.name}/{artifact.name}"] = sha256(artifact.content)
    return digests


def test_artifacts_change_only_with_the_generator_version() -> None:
    pinned = json.loads(PINNED.read_text())
    assert pinned["generatorVersion"] == GENERATOR_VERSION, "run this module to pin the bytes of the new version"
    changed = {name for name, digest in made().items() if pinned["sha256"].get(name) != digest}
    assert not changed, f"bytes of {sorted(changed)} changed: raise GENERATOR_VERSION, then pin them"
    assert set(pinned["sha256"]) == set(made())


def pin() -> None:
    """Write down the bytes of this version; refused when they changed and the version did not."""
    before = json.loads(PINNED.read_text()) if PINNED.exists() else {}
    now = {"generatorVersion": GENERATOR_VERSION, "sha256": made()}
    if before and before["generatorVersion"] == GENERATOR_VERSION and before != now:
        sys.exit("raise GENERATOR_VERSION in coafi/artifacts/model.py first")
    PINNED.parent.mkdir(exist_ok=True)
    PINNED.write_text(json.dumps(now, indent=2) + "\n")


if __name__ == "__main__":
    pin()
