"""The values that generation gives back."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from coafi.canonical import Sha256, digest_of

GENERATOR_VERSION = "2"
"""Raised whenever the bytes of any artifact change: caches and ledger entries know artifacts by it."""


class ArtifactKind(StrEnum):
    """What derives from a document or an image."""

    PAGE = "page"
    METADATA = "metadata"
    CANONICAL = "canonical"
    IMAGE = "image"


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class GeneratorConfig(_Wire):
    """How artifacts are made. Every field changes the output, so its digest is part of the cache's key.

    Attributes:
        language: the language of documents whose front matter has no ``lang``, as a BCP 47 tag.
        max_ratio: the most bytes of a page's HTML per byte of its Markdown: tables can explode. Pages below 256 KiB
            are always accepted.
        max_page_bytes: the largest page.
        max_markup_bytes: the largest Markdown text with HTML in it: repairing hostile HTML takes quadratic time.
        max_highlighted: the most characters of code on one page that get colours.
        max_shown_values: the most values of a YAML or JSON file that its page shows.
    """

    model_config = ConfigDict(extra="forbid")

    language: str = Field(default="en", pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$")
    max_ratio: int = Field(default=20, ge=1)
    max_page_bytes: int = Field(default=8 * 1024 * 1024, ge=1)
    max_markup_bytes: int = Field(default=512 * 1024, ge=0)
    max_highlighted: int = Field(default=64 * 1024, ge=0)
    max_shown_values: int = Field(default=5_000, ge=1)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of the configuration."""
        return digest_of(self)


class Artifact(BaseModel):
    """A generated file.

    Attributes:
        kind: what it is.
        name: a file name for it, the same for every document: ``page.html``.
        media_type: for HTTP.
        content: its bytes.
    """

    model_config = ConfigDict(frozen=True)

    kind: ArtifactKind
    name: str
    media_type: str
    content: bytes = Field(repr=False)


class Skipped(_Wire):
    """An artifact that was not made, and why, for a person."""

    kind: ArtifactKind
    reason: str


class Generation(BaseModel):
    """What derives from one document."""

    model_config = ConfigDict(frozen=True)

    artifacts: tuple[Artifact, ...] = ()
    skipped: tuple[Skipped, ...] = ()


class ArtifactRef(_Wire):
    """A generated file in the object store: all that ledger and manifest need of it.

    Attributes:
        size: in bytes.
        digest: the name of the object.
    """

    kind: ArtifactKind
    name: str
    media_type: str
    digest: Sha256
    size: int = Field(ge=0)


class GenerationResult(_Wire):
    """What derives from one document, stored.

    Attributes:
        cached: whether it was there before, so that nothing was generated.
    """

    artifacts: tuple[ArtifactRef, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    cached: bool = False
