"""A repository of 40 documents with the oddities that such repositories have, and what must be said of each.

``write`` puts the files into a directory. ``commit`` makes a repository of them, with a history that has what
histories have: a first commit, commits of nothing but renames or deletions, an empty one, and a merge.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coafi.documents.check import Verdict
from tests.coafi.documents.samples import PNG
from tests.coafi.git.repositories import Repository

VALID, INVALID = Verdict.VALID, Verdict.INVALID

Told = tuple[str, str, int | None, int | None]
"""A finding: rule, severity, line, column."""


@dataclass(frozen=True)
class Sample:
    """One file.

    Attributes:
        path: within the repository.
        oddity: what is odd about it; empty when nothing is.
        content: its bytes.
        verdict: what it must get.
        findings: all that must be found, in order.
    """

    path: str
    oddity: str
    content: bytes
    verdict: Verdict
    findings: tuple[Told, ...]


def front(document_id: str, info_code: str = "", **changes: str) -> str:
    """Front matter as the ecosystem writes it; a value of ``""`` leaves the key out."""
    keys = {
        "title": f'"{document_id}"',
        "document_id": document_id,
        "version": "v0.9-PRELIMINARY",
        "status": "DRAFT",
        "author": "GAIA Platforms Initiative",
        "date": "2025-04-27",
        "tags": "[COAFI, Sample]",
        "infoCode": info_code,
        "utids": "TBD",
        **changes,
    }
    return "---\n" + "".join(f"{key}: {value}\n" for key, value in keys.items() if value) + "---\n\n"


def _sample(path: str, content: str | bytes, verdict: Verdict, *findings: Told, oddity: str = "") -> Sample:
    data = content if isinstance(content, bytes) else content.encode()
    return Sample(path, oddity, data, verdict, findings)


_REGISTRY_SCHEMA = """{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "title": "A registry",
  "type": "object",
  "required": ["domain", "status", "owner"],
  "properties": {
    "domain": {"enum": ["AERO", "SPACE", "COM", "GROUND", "GREENTECH", "UTIDS"]},
    "status": {"enum": ["Submission", "Review", "Approval", "Integration"]},
    "owner": {"type": "string"},
    "tags": {"type": "array", "items": {"type": "string"}}
  }
}
"""

_HEADINGS = """# Headings

- [Overview](#overview), [the second one](#overview-1), [the rocket](#-launch), [decomposed](#re\u0301sume\u0301)
- [requirement](#civil-av-42-003-v1p0-fr001), [by id](#marked), [the top](#headings)

## Overview

## Overview

## 🚀 Launch

## Re\u0301sume\u0301

### CIVIL-AV-42-003-v1p0-FR001

<a id="marked"></a>

```text
[no link](in/code.md)
```
"""

SAMPLES: tuple[Sample, ...] = (
    # ------------------------------------------------------------------ the repository's own files
    _sample(
        "README.md",
        "# COAFI samples\n\nThe [event policy](policies/COAFI-POL-0001-EVENT-A.md#rules), the [guides](guides/),\n"
        "and the [site][site].\n\n[site]: https://example.org/coafi\n",
        VALID,
        ("frontmatter/missing", "info", 1, 1),
        oddity="no front matter, as is usual for such a file",
    ),
    _sample(
        "CONTRIBUTING.md",
        "# Contributing\n\nSee [the issues](../../issues).\n",
        VALID,
        ("frontmatter/missing", "info", 1, 1),
    ),
    _sample(
        ".coafi.yaml", "rules:\n  yaml/tag: off\n  link/empty: error\n", VALID, oddity="settings of the repository"
    ),
    _sample(
        "schemas.yaml",
        "schemas:\n  - schema: schemas/registry.schema.json\n    files: ['registries/*.yaml']\n",
        VALID,
        oddity="schemas for files that name none",
    ),
    _sample("assets/logo.png", PNG, VALID, oddity="a picture"),
    # ------------------------------------------------------------------ schemas and data
    _sample("schemas/registry.schema.json", _REGISTRY_SCHEMA, VALID),
    _sample(
        "schemas/broken.schema.json",
        '{\n  "type": "text"\n}\n',
        INVALID,
        ("schema/invalid", "error", 2, 11),
        oddity="a schema that is none",
    ),
    _sample("registries/aero.yaml", "domain: AERO\nstatus: Review\nowner: GAIA\ntags: [Core]\n", VALID),
    _sample(
        "registries/space.yaml",
        "domain: SPACE\nstatus: Done\n",
        INVALID,
        ("schema/violation", "error", 1, 1),
        ("schema/violation", "error", 2, 9),
        oddity="breaks the schema it is bound to",
    ),
    _sample(
        "registries/com.yaml",
        "domain: COM\nstatus: Review\nowner: GAIA\nowner: other\nlive: no\n",
        INVALID,
        ("yaml/duplicate-key", "error", 4, 1),
        ("yaml/ambiguous", "warning", 5, 7),
        oddity="a key appears twice, and a value that not all programs read alike",
    ),
    _sample(
        "registries/ground.yaml",
        "domain: !Upper ground\nstatus: Review\nowner: x\n",
        INVALID,
        ("schema/violation", "error", 1, 9),
        oddity="a tag",
    ),
    _sample(
        "registries/greentech.yaml",
        "domain: GREENTECH\nstatus: [Review\n",
        INVALID,
        ("yaml/syntax", "error", 3, 1),
        oddity="no YAML",
    ),
    _sample(
        "registries/utids.json",
        '{"$schema": "../schemas/registry.schema.json", "domain": "UTIDS", "status": "Review", "owner": "GAIA"}\n',
        VALID,
        oddity="names its schema",
    ),
    _sample(
        "registries/classes.json",
        '{"classes": ["Core", "Service",]}\n',
        INVALID,
        ("json/syntax", "error", 1, 31),
        oddity="a trailing comma",
    ),
    _sample(
        "registries/remote.json",
        '{"$schema": "https://example.org/r.json"}\n',
        VALID,
        ("schema/remote", "info", 1, 13),
        oddity="a schema elsewhere",
    ),
    # ------------------------------------------------------------------ policies
    _sample(
        "policies/COAFI-POL-0001-EVENT-A.md",
        front("COAFI-POL-0001-EVENT-A", "INFO-POLICY")
        + "# Event policy\n\n## Rules\n\nSee [plan](../plans/event-handlers-plan.md).\n",
        VALID,
    ),
    _sample(
        "policies/COAFI-POL-0002-ETHICS-A.md",
        front("COAFI-POL-0002-ETHICS-A", "INFO-POLICY", date="2025-04-27   # day of the draft") + "# Ethics\n",
        VALID,
        oddity="a trailing YAML comment",
    ),
    _sample(
        "policies/COAFI-POL-0003-ACCESS-A.md",
        front("COAFI-POL-0030-ACCESS-A", "INFO-POLICY") + "# Access\n",
        VALID,
        ("document/file-name", "warning", 3, 14),
        oddity="a document_id that does not match the name",
    ),
    _sample(
        "policies/retention.md",
        front("COAFI-POL-0004-DATA-A", "INFO-POLICY", version="", status="") + "# Retention\n",
        INVALID,
        ("frontmatter/required-key", "error", 1, 1),
        ("frontmatter/required-key", "error", 1, 1),
        oddity="required keys are missing",
    ),
    # ------------------------------------------------------------------ plans
    _sample(
        "plans/event-handlers-plan.md",
        front("COAFI-ENG-EVENT-HANDLERS-0002-PLAN-A", "INFO-PLAN")
        + "# Event handlers â€“ the plan\n\n`â€“` is â€œnothingâ€\x9d.\n",
        VALID,
        ("text/mojibake", "warning", 13, 18),
        ("text/mojibake", "warning", 15, 10),
        oddity="mojibake, and a name that says nothing of the id",
    ),
    _sample(
        "plans/COAFI-ENG-CORE-0001-PLAN-A.md",
        "# Orchestration core\n\nSome words first.\n\n"
        + front("COAFI-ENG-CORE-0001-PLAN-A", "INFO-PLAN")
        + "## Steps\n",
        INVALID,
        ("frontmatter/misplaced", "error", 5, 1),
        oddity="front matter in the middle of the file",
    ),
    _sample(
        "plans/COAFI-ENG-CORE-0002-PLAN-A.md",
        "# No front matter\n",
        VALID,
        ("frontmatter/missing", "warning", 1, 1),
        oddity="no front matter at all",
    ),
    _sample(
        "plans/COAFI-ENG-CORE-0003-PLAN-A.md",
        "---\ntitle: Never closed\nstatus: DRAFT\n\n# Text\n",
        INVALID,
        ("frontmatter/unclosed", "error", 1, 1),
        oddity="front matter without an end",
    ),
    # ------------------------------------------------------------------ guides
    _sample(
        "guides/getting-started.md",
        front("GP-GUIDE-0001-START-GUIDE-A", "INFO-GUIDE")
        + "# Getting started\n\nRead the [policy](policies/COAFI-POL-0001-EVENT-A.md) and look at "
        "![it](assets/logo.png).\n",
        VALID,
        ("link/other-directory", "warning", 15, 10),
        ("link/other-directory", "warning", 15, 67),
        oddity="links that resolve only from the parent directory",
    ),
    _sample(
        "guides/links.md",
        front("GP-GUIDE-0002-LINKS-GUIDE-A", "INFO-GUIDE") + "# Links\n\n[start](getting-startd.md), "
        "[rules](../policies/COAFI-POL-0001-EVENT-A.md#rule), [out](../../x.md),\n"
        "[gone][gone] and [gone again][gone]; [nothing]().\n\n[gone]: removed.md\n",
        INVALID,
        ("link/missing-file", "warning", 15, 1),
        ("link/missing-heading", "warning", 15, 29),
        ("link/outside", "warning", 15, 82),
        ("link/empty", "error", 16, 38),
        ("link/missing-file", "warning", 18, 1),
        oddity="dead links",
    ),
    _sample(
        "guides/images.md",
        front("GP-GUIDE-0003-IMAGES-GUIDE-A", "INFO-GUIDE")
        + "# Images\n\n![logo](../assets/logo.png) ![chart](../assets/chart.png)\n\n"
        '<img src="../assets/none.svg" alt="none">\n',
        VALID,
        ("link/missing-file", "warning", 15, 29),
        ("link/missing-file", "warning", 17, 1),
        oddity="images that do not exist",
    ),
    _sample(
        "guides/headings.md", front("GP-GUIDE-0004-HEADINGS-GUIDE-A", "INFO-GUIDE", title="Headings") + _HEADINGS, VALID
    ),
    _sample(
        "guides/encoding.md",
        front("GP-GUIDE-0005-ENCODING-GUIDE-A", "INFO-GUIDE")
        + "# Gr\ufffd\ufffde\n\nCaf\u00c3\u00a9 \x96 na\u00efve.\n",
        VALID,
        ("text/lost-character", "warning", 13, 5),
        ("text/mojibake", "warning", 15, 4),
        ("text/control-character", "warning", 15, 7),
        oddity="three kinds of encoding damage",
    ),
    _sample(
        "guides/latin-1.md", "# Größe\n".encode("latin-1"), INVALID, ("file/encoding", "error", 1, 5), oddity="Latin-1"
    ),
    _sample(
        "guides/bom.md",
        b"\xef\xbb\xbf"
        + front("GP-GUIDE-0006-BOM-GUIDE-A", "INFO-GUIDE").replace("\n", "\r\n").encode()
        + b"# BOM\r\n",
        VALID,
        ("file/bom", "warning", 1, 1),
        oddity="a byte order mark and Windows line ends",
    ),
    # ------------------------------------------------------------------ requirements
    _sample(
        "requirements/CIVIL-AV-42-003.md",
        front("COAFI-REQ-CIVIL-0003-REQ-A", "INFO-REQ")
        + "# CIVIL-AV-42-003-v1p0-FR001\n\n## CIVIL-AV-42-003-v1p0-CSR006\n",
        VALID,
    ),
    _sample(
        "requirements/COAFI-REQ-0002-REQ-A.md",
        front("COAFI-REQ-0002-REQ-A", "INFO-REQ", version="0.9", status="On hold", date="April 2025")
        + "# Requirement\n",
        VALID,
        ("frontmatter/unusual-value", "warning", 4, 10),
        ("frontmatter/unusual-value", "warning", 5, 9),
        ("frontmatter/unusual-value", "warning", 7, 7),
        oddity="version, status and date in free form",
    ),
    # ------------------------------------------------------------------ specifications
    _sample(
        "specs/GP-DOCS-0001-PROTOCOL-A.md", front("GP-DOCS-0001-PROTOCOL-A", "INFO-PROTOCOL") + "# Protocol\n", VALID
    ),
    _sample(
        "specs/COAFI-SCHEMA-0001-SPEC-A.md",
        front("COAFI-SCHEMA-0001-SPEC-A", "INFO-SPEC") + "# UTidS\n",
        INVALID,
        ("document/duplicate-id", "error", 3, 14),
        oddity="two files with one id",
    ),
    _sample(
        "archive/COAFI-SCHEMA-0001-SPEC-A-old.md",
        front("COAFI-SCHEMA-0001-SPEC-A", "INFO-SPEC") + "# UTidS, as it was\n",
        INVALID,
        ("document/duplicate-id", "error", 3, 14),
        oddity="two files with one id",
    ),
    _sample(
        "specs/COAFI-FED-0001-SPEC-A.md",
        front("COAFI-FED-0001-SPEC-A", "INFO-FED", utids="") + "# Federation\n",
        VALID,
        oddity="an info code without a schema of its own, and no utids",
    ),
    _sample(
        "specs/COAFI-TEST-0001-TEST-A.md",
        "---\ntitle: &t Test\nauthor: *t\n---\n# Test\n",
        INVALID,
        ("yaml/alias", "error", 2, 8),
        ("yaml/alias", "error", 3, 9),
        oddity="aliases in front matter",
    ),
    _sample(
        "specs/COAFI-DD-0001-DD-A.md",
        front("COAFI-DD-0001-DD-A", "INFO-DD").replace("status: DRAFT\n", "status: DRAFT\nstatus: ACTIVE\n")
        + "# Design\n",
        INVALID,
        ("yaml/duplicate-key", "error", 6, 1),
        oddity="a duplicate key in front matter",
    ),
    # ------------------------------------------------------------------ reports
    _sample("reports/COAFI-RPT-0001-RPT-A.md", front("COAFI-RPT-0001-RPT-A", "INFO-RPT") + "# Report\n", VALID),
    _sample(
        "reports/2025-04.md",
        front("", "INFO-DIGEST", title="April", utids="") + "# April\n",
        VALID,
        ("frontmatter/recommended-key", "warning", 1, 1),
        ("frontmatter/unusual-value", "warning", 8, 11),
        oddity="an info code that nobody knows, and no id",
    ),
)

LATEST = "reports/latest.md"
"""A symbolic link, beside the 40 files."""

_OLD_NAMES = {
    "policies/COAFI-POL-0001-EVENT-A.md": "policies/COAFI-POL-0001.md",
    "guides/headings.md": "guides/anchors.md",
    "registries/aero.yaml": "registries/air.yaml",
}
_DELETED = {"policies/COAFI-POL-0000-OLD-A.md": "# Old\n", "registries/old.yaml": "domain: AERO\n", "notes.txt": "x\n"}
_ON_A_BRANCH = ("guides/images.md", "guides/encoding.md", "reports/2025-04.md")


@dataclass(frozen=True)
class History:
    """The commits, by what they are.

    Attributes:
        repository: where they are; its work tree is that of ``head``.
        first: without a parent.
        more: adds most documents.
        renames: nothing but renames.
        deletions: nothing but deletions.
        empty: changes nothing.
        branch: of the branch that is merged.
        merge: two parents; against the first it adds what the branch added.
        head: the last one: adds a symbolic link. Its tree is that of ``SAMPLES``.
    """

    repository: Repository
    first: str
    more: str
    renames: str
    deletions: str
    empty: str
    branch: str
    merge: str
    head: str


def write(directory: Path) -> None:
    """Write the 40 files and the symbolic link into a directory."""
    for path, content in contents().items():
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    _link(directory)


def contents() -> Mapping[str, bytes]:
    """The 40 files by their paths."""
    return {sample.path: sample.content for sample in SAMPLES}


def commit(directory: Path) -> History:
    """Make a repository with the whole history in a directory that does not exist yet."""
    repository = Repository.make(directory)
    files = contents()
    early = {
        path: content for path, content in files.items() if path.startswith(("README", "policies/", "registries/"))
    }
    first = repository.commit({**_DELETED, **{_OLD_NAMES.get(path, path): one for path, one in early.items()}}, "First")
    late = {path: one for path, one in files.items() if path not in early and path not in _ON_A_BRANCH}
    more = repository.commit({_OLD_NAMES.get(path, path): one for path, one in late.items()}, "Add documents")
    for new, old in _OLD_NAMES.items():
        repository.git("mv", old, new)
    renames = repository.commit(message="Name documents after their ids")
    repository.git("rm", "--quiet", *_DELETED)
    deletions = repository.commit(message="Delete what is outdated")
    repository.git("switch", "--quiet", "--create", "april")
    branch = repository.commit({path: files[path] for path in _ON_A_BRANCH}, "Write the April report")
    repository.git("switch", "--quiet", "main")
    empty = repository.commit(message="Run the checks again")
    repository.git("merge", "--quiet", "--no-ff", "-m", "Merge the April report", "april")
    merge = repository.git("rev-parse", "HEAD")
    _link(directory)
    head = repository.commit(message="Point to the latest report")
    return History(repository, first, more, renames, deletions, empty, branch, merge, head)


def _link(directory: Path) -> None:
    (directory / LATEST).symlink_to("2025-04.md")
