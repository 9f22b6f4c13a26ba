"""What checking and generating cost, over files that are only read."""

import hashlib
from contextlib import closing
from itertools import count
from pathlib import Path

import jsonschema

from coafi.artifacts.cache import ArtifactService, GenerationRequest
from coafi.artifacts.generate import generate
from coafi.artifacts.model import GeneratorConfig
from coafi.canonical import sha256
from coafi.database import Database
from coafi.documents.check import check_file
from coafi.objects.local import LocalObjectStore
from coafi.registry.store import PublishedSchemas, builtin_schemas
from tests.bench.measure import Bench
from tests.harness import documents

SECTION = """
## Requirements

The landing gear *shall* extend within **12 seconds** at any speed below `VLE`, see [the policy](policy.md).

| id | requirement | level |
|---|---|---|
| CIVIL-AV-42-003-v1p0-FR001 | It extends by gravity when the hydraulics are lost. | A |

- Each leg is locked before touchdown.
- Each lock is monitored by two independent sensors.
"""


async def measure(bench: Bench) -> None:
    """Check, generate, remember, validate."""
    with closing(Database(bench.directory / "coafi.db")) as database:
        database.create_tables()
        registry = PublishedSchemas(database)
        registry.publish(builtin_schemas())
        await _process(bench, database, registry)
        await _validate(bench, registry)


async def _process(bench: Bench, database: Database, registry: PublishedSchemas) -> None:
    config = GeneratorConfig()
    service = ArtifactService(database, LocalObjectStore(bench.directory / "objects"), config)
    versions = count()
    requests: list[GenerationRequest] = []
    paths = []
    for name, text in documents(bench.amount(200, 10), text=SECTION * 8).items():
        paths.append(bench.directory / Path(name).name)
        paths[-1].write_text(str(text))

    def request(path: Path, more: str = "") -> GenerationRequest:
        content = path.read_bytes() + more.encode()
        report = check_file(path.name, content, registry)
        return GenerationRequest(sha256(content), report.kind, content, report)

    def check_and_generate() -> None:
        for one in map(request, paths):
            assert generate(one.kind, one.content, one.report, config).artifacts

    def request_new() -> None:
        """Documents that nobody has seen before."""
        version = next(versions)
        requests[:] = [request(path, f"\nVersion {version}\n") for path in paths]

    units = (len(paths), "files")
    await bench.compare(
        "read and check documents",
        lambda: [request(path) for path in paths],
        "read and hash them",
        lambda: [hashlib.sha256(path.read_bytes()).digest() for path in paths],
        units,
    )
    await bench.compare(
        "read, check and generate from them",
        check_and_generate,
        "read and hash them",
        lambda: [hashlib.sha256(path.read_bytes()).digest() for path in paths],
        units,
    )
    await bench.compare(
        "generate and store artifacts",
        lambda: service.artifacts_for_batch(requests),
        "find them in the cache",
        lambda: service.artifacts_for_batch(requests),
        units,
        prepare=request_new,
    )


async def _validate(bench: Bench, registry: PublishedSchemas) -> None:
    schema = registry.schema("frontmatter.INFO-SPEC")
    formats = jsonschema.Draft202012Validator.FORMAT_CHECKER
    reference = jsonschema.Draft202012Validator(schema.document, format_checker=formats)
    ((path, text),) = documents(1).items()
    metadata = check_file(path, str(text).encode(), registry).metadata
    times = bench.amount(1000, 50)
    await bench.compare(
        "validate front matter with jsonschema-rs",
        lambda: [schema.violations(metadata) for _ in range(times)],
        "with jsonschema",
        lambda: [list(reference.iter_errors(metadata)) for _ in range(times)],
        (times, "checks"),
    )
