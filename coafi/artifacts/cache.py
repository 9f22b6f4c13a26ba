"""Artifacts that were made once: kept by (blob, generator version, configuration, kind), never made again."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Column, Table, select, tuple_

from coafi.artifacts.generate import generate
from coafi.artifacts.model import GENERATOR_VERSION, ArtifactRef, Generation, GenerationResult, GeneratorConfig
from coafi.canonical import canonical_json
from coafi.database import Database, metadata, text
from coafi.database.statements import insert_or_replace
from coafi.documents.check import FileReport, Verdict
from coafi.documents.kinds import SHOWN, FileKind
from coafi.errors import IntegrityError, ResourceNotFoundError
from coafi.objects import ObjectStore

artifact_cache = Table(
    "artifact_cache",
    metadata,
    Column("blob", text(64), primary_key=True),
    Column("generator", text(40), primary_key=True),
    Column("config", text(64), primary_key=True),
    Column("kind", text(20), primary_key=True),
    Column("result", text(), nullable=False),
)

STORED_TOGETHER = 8 * 2**20
"""Bytes of artifacts that are held in memory until they are stored."""

_LOOK_UP = 200


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One document whose artifacts are wanted.

    Attributes:
        blob: what names the content: the id of its git blob, or its SHA-256, in hexadecimal digits.
        kind: what the file is, as the report says.
        content: its bytes.
        report: the outcome of ``check_file`` for these bytes.
    """

    blob: str
    kind: FileKind
    content: bytes
    report: FileReport

    @property
    def key(self) -> tuple[str, str]:
        """What tells its artifacts from those of others, under one generator and configuration."""
        return self.blob, self.kind.value


@dataclass(frozen=True)
class ArtifactService:
    """Makes artifacts, stores them, and knows those that it made before.

    Attributes:
        database: holds the table ``artifact_cache``.
        objects: holds the artifacts.
        config: how artifacts are made.
    """

    database: Database
    objects: ObjectStore
    config: GeneratorConfig

    def artifacts_for(self, blob: str, kind: FileKind, content: bytes, report: FileReport) -> GenerationResult:
        """The artifacts of one document; see ``artifacts_for_batch``."""
        return self.artifacts_for_batch((GenerationRequest(blob, kind, content, report),))[0]

    def artifacts_for_batch(
        self, requests: Sequence[GenerationRequest], alive: Callable[[], None] = lambda: None
    ) -> tuple[GenerationResult, ...]:
        """The artifacts of several documents, in their order: one look-up and at most one write for all of them.

        Objects are durable before the cache names them. A cached artifact whose object is gone or damaged is made
        again. Files that are not valid, or of a kind that gives nothing, have an empty result that is not cached.

        Args:
            requests: the documents.
            alive: called after each document that took work: a hostile one can take a second.

        Raises:
            Unavailable: database or object store are out of reach.
        """
        wanted = {request.key: request for request in requests if _gives_artifacts(request)}
        results = {
            key: result for key, result in self._look_up(list(wanted)).items() if self._is_stored(result.artifacts)
        }
        made = dict(self._make([one for key, one in wanted.items() if key not in results], alive))
        if made:
            self._remember(made)
        results.update(made)
        answers: list[GenerationResult] = []
        for request in requests:
            result = results.get(request.key) if _gives_artifacts(request) else None
            answers.append(result if result is not None else GenerationResult())
        return tuple(answers)

    def _make(
        self, requests: Iterable[GenerationRequest], alive: Callable[[], None]
    ) -> Iterator[tuple[tuple[str, str], GenerationResult]]:
        """Generate and store, together what fits into ``STORED_TOGETHER`` bytes."""
        waiting: list[tuple[tuple[str, str], Generation]] = []
        size = 0
        for request in requests:
            generation = generate(request.kind, request.content, request.report, self.config)
            waiting.append((request.key, generation))
            size += sum(len(artifact.content) for artifact in generation.artifacts)
            alive()
            if size >= STORED_TOGETHER:
                yield from self._store(waiting)
                waiting, size = [], 0
        yield from self._store(waiting)

    def _store(
        self, generations: Sequence[tuple[tuple[str, str], Generation]]
    ) -> Iterator[tuple[tuple[str, str], GenerationResult]]:
        contents = [artifact.content for _, generation in generations for artifact in generation.artifacts]
        digests = iter(self.objects.put_many(contents))
        for key, generation in generations:
            refs = tuple(
                ArtifactRef(
                    kind=artifact.kind,
                    name=artifact.name,
                    media_type=artifact.media_type,
                    digest=next(digests),
                    size=len(artifact.content),
                )
                for artifact in generation.artifacts
            )
            yield key, GenerationResult(artifacts=refs, skipped=generation.skipped)

    def _is_stored(self, artifacts: tuple[ArtifactRef, ...]) -> bool:
        try:
            for artifact in artifacts:
                self.objects.get(artifact.digest)
        except (ResourceNotFoundError, IntegrityError):
            return False
        return True

    def _look_up(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], GenerationResult]:
        table = artifact_cache.c
        found: dict[tuple[str, str], GenerationResult] = {}
        with self.database.read() as connection:
            for start in range(0, len(keys), _LOOK_UP):
                rows = connection.execute(
                    select(table.blob, table.kind, table.result).where(
                        table.generator == GENERATOR_VERSION,
                        table.config == self.config.digest,
                        tuple_(table.blob, table.kind).in_(keys[start : start + _LOOK_UP]),
                    )
                )
                for row in rows:
                    # A row that cannot be read is as good as none: it is made again and written anew.
                    with contextlib.suppress(ValueError):
                        stored = GenerationResult.model_validate_json(row.result)
                        found[(row.blob, row.kind)] = stored.model_copy(update={"cached": True})
        return found

    def _remember(self, made: dict[tuple[str, str], GenerationResult]) -> None:
        config = self.config.digest
        rows = [
            {
                "blob": blob,
                "generator": GENERATOR_VERSION,
                "config": config,
                "kind": kind,
                "result": canonical_json(result).decode(),
            }
            for (blob, kind), result in made.items()
        ]
        with self.database.write() as connection:
            # Whoever else made the same meanwhile wrote the same; a row whose object was gone is written again.
            insert_or_replace(connection, artifact_cache, rows)


def _gives_artifacts(request: GenerationRequest) -> bool:
    return request.report.verdict is Verdict.VALID and request.kind in SHOWN
