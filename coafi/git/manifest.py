"""What a fetch leaves in the object store for good: a manifest of the commit's changes, as canonical JSON.

It refers to one archive per batch (:mod:`coafi.git.archive`). Nothing in it depends on when or where it was made:
the same commit against the same base gives the same bytes, and so the same digest.
"""

import base64
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic import ValidationError as PydanticError
from pydantic.alias_generators import to_camel

from coafi.canonical import Sha256, canonical_json
from coafi.errors import IntegrityError
from coafi.git.changes import BaseKind, Change, ChangedFile, Commit, Person
from coafi.objects import ObjectStore
from coafi.paths import Omitted, display_path

Oid = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
"""The full name of a git object, SHA-1 or SHA-256, in lower-case hexadecimal."""

Mode = Annotated[str, StringConstraints(pattern=r"^[0-7]{6}$")]


class Model(BaseModel):
    """Frozen, strict about unknown fields, camelCase on the wire."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class ManifestPerson(Model):
    """Author or committer, as the commit says; personal data, so it stays out of ledger and history.

    Attributes:
        time: RFC 3339; missing when the commit's own time is none.
    """

    name: str
    email: str
    time: str | None = None


class ManifestFile(Model):
    """One changed file.

    Attributes:
        position: 0-based place in the order of paths; names the file within its manifest.
        path: the path for people; escaped where the name is not plain UTF-8, and cut where it is too long.
        raw_path: base64 of the exact bytes, where ``path`` is not the path itself. ``old_raw_path`` likewise.
        old_path: where it was renamed or copied from.
        mode: six octal digits; missing when the file was deleted. ``blob`` likewise.
        size: bytes of the blob; 0 where there is none.
        batch: index of the batch that holds it.
        omitted: why its content is left out of the archive; missing when it is there.
    """

    position: int = Field(ge=0)
    path: str
    raw_path: str | None = None
    old_path: str | None = None
    old_raw_path: str | None = None
    change: Change
    mode: Mode | None = None
    old_mode: Mode | None = None
    blob: Oid | None = None
    old_blob: Oid | None = None
    size: int = Field(ge=0)
    batch: int = Field(ge=0)
    omitted: Omitted | None = None


class BatchRef(Model):
    """One batch of contiguous files.

    Attributes:
        archive: digest of the archive in the object store.
        files: how many files, with and without content.
        size: bytes of their contents.
    """

    index: int = Field(ge=0)
    archive: Sha256
    files: int = Field(ge=1)
    size: int = Field(ge=0)


class Manifest(Model):
    """Everything that one commit changed.

    Attributes:
        repository: canonical URL.
        commit: SHA of the commit; ``tree`` and ``parents`` are its own.
        base: SHA of the commit (or, for ``root``, the empty tree) that it was compared with.
        before_lost: the sender named a commit before the push that could not be had any more.
        subject: first line of the message, at most 200 characters.
        message_digest: SHA-256 of the whole message.
    """

    format: Literal["coafi.git.manifest/1"] = "coafi.git.manifest/1"
    repository: str
    commit: Oid
    tree: Oid
    parents: tuple[Oid, ...]
    base: Oid
    base_kind: BaseKind
    before_lost: bool
    author: ManifestPerson
    committer: ManifestPerson
    subject: str
    message_digest: Sha256
    files: tuple[ManifestFile, ...]
    batches: tuple[BatchRef, ...]


def manifest_file(file: ChangedFile, *, position: int, batch: int) -> ManifestFile:
    """The entry of ``file`` in a manifest."""
    return ManifestFile(
        position=position,
        path=display_path(file.path),
        raw_path=_raw(file.path),
        old_path=None if file.old_path is None else display_path(file.old_path),
        old_raw_path=None if file.old_path is None else _raw(file.old_path),
        change=file.change,
        mode=file.mode,
        old_mode=file.old_mode,
        blob=file.blob,
        old_blob=file.old_blob,
        size=file.size,
        batch=batch,
        omitted=file.omitted,
    )


def manifest_person(person: Person) -> ManifestPerson:
    """The entry of an author or committer in a manifest."""
    return ManifestPerson(name=person.name, email=person.email, time=person.time)


def write_manifest(
    objects: ObjectStore,
    *,
    repository: str,
    commit: Commit,
    base: str,
    base_kind: BaseKind,
    before_lost: bool,
    files: tuple[ManifestFile, ...],
    batches: tuple[BatchRef, ...],
) -> str:
    """Store the manifest of ``commit`` and return its digest.

    Raises:
        Unavailable: the object store refuses.
    """
    manifest = Manifest(
        repository=repository,
        commit=commit.sha,
        tree=commit.tree,
        parents=commit.parents,
        base=base,
        base_kind=base_kind,
        before_lost=before_lost,
        author=manifest_person(commit.author),
        committer=manifest_person(commit.committer),
        subject=commit.subject,
        message_digest=commit.message_digest,
        files=files,
        batches=batches,
    )
    return objects.put(canonical_json(manifest))


def read_manifest(objects: ObjectStore, digest: str) -> Manifest:
    """The manifest with this digest.

    Raises:
        ResourceNotFoundError: the store does not have it.
        IntegrityError: it is damaged, or no manifest.
        Unavailable: the store cannot be read.
    """
    try:
        return Manifest.model_validate_json(objects.get(digest))
    except PydanticError as error:
        raise IntegrityError(
            f"object {digest} is not a manifest of a commit", remedy="fetch the commit again"
        ) from error


def _raw(path: bytes) -> str | None:
    """Base64 of ``path`` where its display is not the path itself."""
    return None if display_path(path).encode() == path else base64.b64encode(path).decode("ascii")
