"""The values that leave the log for an auditor, as JSON."""

import json

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from coafi.canonical import Sha256
from coafi.errors import ValidationError
from coafi.ledger.checkpoint import MAX_NOTE, MAX_SIZE
from coafi.ledger.entry import MAX_BODY

MAX_HASHES = 64
"""Hashes of an inclusion proof at most: the tree has fewer than 2^63 entries."""

_MAX_JSON = 1_048_576


class Proof(BaseModel):
    """An entry, and what it takes to show that a signed checkpoint covers it.

    Attributes:
        index: the entry's place, from 0.
        size: the number of entries of the tree that the proof is about; the checkpoint's.
        entry: the entry's exact bytes, as the UTF-8 text they are.
        hashes: the inclusion proof (RFC 9162 section 2.1.3), lowest first, in hexadecimal.
        checkpoint: the signed note.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    index: int = Field(ge=0, le=MAX_SIZE)
    size: int = Field(ge=1, le=MAX_SIZE)
    entry: str = Field(max_length=MAX_BODY)
    hashes: tuple[Sha256, ...] = Field(max_length=MAX_HASHES)
    checkpoint: str = Field(max_length=MAX_NOTE)

    @classmethod
    def parse(cls, data: str | bytes) -> "Proof":
        """A proof from the JSON that ``model_dump_json`` writes.

        Raises:
            ValidationError: it is not that.
        """
        if len(data) > _MAX_JSON:
            raise ValidationError("this is too long for a proof", remedy=f"a proof has at most {_MAX_JSON:,} bytes")
        try:
            found = cls.model_validate_json(data)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = "/".join(str(part) for part in first["loc"])
            raise ValidationError(
                f"this is not a proof: {where or 'document'}: {first['msg']}", remedy="get it again from its source"
            ) from None
        if len(json.loads(data, object_pairs_hook=list)) > len(cls.model_fields):
            raise ValidationError(
                "this is not a proof: it says a member twice, of which others read the first",
                remedy="get it again from its source",
            )
        return found
