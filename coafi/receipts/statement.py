"""What a receipt states: an in-toto Statement v1 whose predicate is SLSA provenance v1.

Sources: https://in-toto.io/Statement/v1, https://slsa.dev/spec/v1.1/provenance. What each field holds for us is said in
docs/audit.md, to which :data:`BUILD_TYPE` refers. Every value follows from the entries of the event and the checkpoint
that covers them, so whoever has verified those can make the statement again; nothing else may be in it.
"""

from pydantic import JsonValue

from coafi.canonical import JsonObject, canonical_json, sha256
from coafi.ledger.checkpoint import SignedCheckpoint
from coafi.receipts.story import ChangeData, FileData, Story

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:coafi:build:event:1"
BUILDER = "urn:coafi:builder:"
"""Followed by the log's name: who runs the log runs the workers."""

COMPONENT = "coafi-event-handlers"
GENERATOR = "artifact-generator"


def statement_of(story: Story, signed: SignedCheckpoint) -> bytes:
    """The statement that follows from a whole story and the checkpoint that covers its entries: canonical JSON.

    Raises:
        IntegrityError: no entry says that the event was received.
    """
    return canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": _subjects(story),
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": _asked(story),
                    "internalParameters": {"namespace": story.namespace, "principal": story.received.data.principal},
                    "resolvedDependencies": _dependencies(story),
                },
                "runDetails": {
                    "builder": {"id": BUILDER + signed.checkpoint.origin, "version": _versions(story)},
                    "metadata": _metadata(story),
                    "byproducts": _byproducts(story, signed),
                },
            },
        }
    )


def _subjects(story: Story) -> list[JsonValue]:
    """Every artifact, every entry that was changed, and the commit; where there is none, the body that was received."""
    subjects: list[JsonValue] = [
        {
            "name": artifact.path,
            "digest": {"sha256": artifact.digest},
            "mediaType": artifact.media_type,
            "annotations": {"artifact": artifact.artifact, "entry": index},
        }
        for index, artifact in story.artifacts
    ]
    subjects += [_change(index, change) for index, change in story.changes]
    if story.commit:
        subjects.append({"name": story.received.data.asked("repositoryUrl"), "digest": {"gitCommit": story.commit}})
    return subjects or [_body(story)]


def _change(index: int, change: ChangeData) -> JsonObject:
    return {
        "name": change.name,
        "digest": {"sha256": change.digest},
        "mediaType": "application/json",
        "annotations": {"version": change.version, "status": change.status, "entry": index},
    }


def _body(story: Story) -> JsonObject:
    return {"name": "body", "digest": {"sha256": story.received.data.body_digest}}


def _asked(story: Story) -> JsonObject:
    received = story.received.data
    return {
        "event": story.event_id,
        "source": received.source,
        "type": received.event_type,
        "utids": story.received.utids,
        "parameters": received.parameters,
    }


def _dependencies(story: Story) -> list[JsonValue]:
    """What the run worked on: body, payload, commit, schemas, contents of files, versions that were replaced."""
    received = story.received.data
    found: list[JsonValue] = [_body(story), {"name": "payload", "digest": {"sha256": received.payload_digest}}]
    if story.commit:
        uri = f"git+{received.asked('repositoryUrl')}@refs/heads/{received.asked('branch')}"
        found.append({"uri": uri, "digest": {"gitCommit": story.commit}})
    schemas = {}
    if (own := received.payload_schema) is not None:
        schemas[own.id, own.version] = own.digest
    for used in [one.used_schema for _, one in story.files] + [one.used_schema for _, one in story.changes]:
        if used is not None:
            schemas[used.schema_id, used.version] = used.digest
    found += [
        {"name": f"schema {name}", "digest": {"sha256": digest}, "annotations": {"version": version}}
        for (name, version), digest in schemas.items()
    ]
    found += [_file(index, file) for index, file in story.files if file.blob]
    for _, change in story.changes:
        if (old := change.previous) is not None:
            before: JsonObject = {"version": old.version}
            found.append({"name": change.name, "digest": {"sha256": old.digest}, "annotations": before})
    return found


def _file(index: int, file: FileData) -> JsonObject:
    digest: JsonObject = {"gitBlob": file.blob}
    if file.sha256 is not None:
        digest["sha256"] = file.sha256
    return {"name": file.path, "digest": digest, "annotations": {"verdict": file.verdict, "entry": index}}


def _versions(story: Story) -> JsonObject:
    versions: JsonObject = {}
    if story.builds:
        versions[COMPONENT] = ", ".join(sorted(story.builds))
    generators = sorted({artifact.generator for _, artifact in story.artifacts})
    if generators:
        versions[GENERATOR] = ", ".join(generators)
    return versions


def _metadata(story: Story) -> JsonObject:
    run = story.received.data.run_id
    found: JsonObject = {
        "invocationId": f"{story.workflow_id}/{run}" if run else story.workflow_id,
        "startedOn": story.received.time,
    }
    if story.conclusion is not None:
        found["finishedOn"] = story.conclusion.time
    return found


def _byproducts(story: Story, signed: SignedCheckpoint) -> list[JsonValue]:
    """What came of the run besides artifacts: manifest, reports, the conclusion, and where all of it is recorded."""
    found: list[JsonValue] = []
    if (conclusion := story.conclusion) is not None:
        data = conclusion.data
        found += [{"name": name, "digest": {"sha256": one}} for name, one in sorted(data.digests.items())]
        said: JsonObject = {"phase": data.phase, "counts": {**data.counts}, "entry": conclusion.index}
        found.append({"name": "conclusion", "digest": {"sha256": conclusion.digest}, "annotations": said})
    reports = dict.fromkeys(file.reports for _, file in story.files)
    found += [{"name": "reports", "digest": {"sha256": digest}} for digest in reports]
    checkpoint = signed.checkpoint
    found.append(
        {
            "name": "checkpoint",
            "digest": {"sha256": sha256(signed.note.encode())},
            "annotations": {
                "origin": checkpoint.origin,
                "size": checkpoint.size,
                "root": checkpoint.root.hex(),
                "entries": [list(one) for one in story.ranges],
            },
        }
    )
    return found
