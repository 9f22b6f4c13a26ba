"""What a check says about an input: one value for documents, payloads and schemas alike."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class Severity(StrEnum):
    """How bad a finding is. Only ``ERROR`` makes a verdict invalid."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Finding(BaseModel):
    """One thing that is wrong, where, and what to do about it.

    Attributes:
        rule: stable id of the rule, such as ``yaml/syntax``.
        message: what is wrong.
        remedy: what to do about it.
        path: path of the file within its repository; empty when the input is not a file.
        line: 1-based line in the file, where known.
        column: 1-based column, counted in characters, where known.
        pointer: JSON Pointer (RFC 6901) to the offending value, where it fits; ``""`` is the whole document.
    """

    model_config = ConfigDict(frozen=True)

    severity: Severity
    rule: str
    message: str
    remedy: str
    path: str = ""
    line: int | None = Field(default=None, ge=1)
    column: int | None = Field(default=None, ge=1)
    pointer: str | None = None
