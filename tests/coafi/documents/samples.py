"""What several tests of documents need."""

import struct
import zlib

from coafi.documents.check import FileReport, check_file
from coafi.documents.limits import DocumentLimits
from coafi.registry.store import builtin_schemas
from coafi.registry.validation import Schema


class Builtin:
    """The schemas of the package, without a database."""

    def __init__(self, *more: Schema) -> None:
        self._by_id = {schema.schema_id: schema for schema in (*builtin_schemas(), *more)}

    def find(self, schema_id: str) -> Schema | None:
        """What ``SchemaLookup`` asks for."""
        return self._by_id.get(schema_id)


class NoSchemas:
    """A registry that is empty."""

    def find(self, schema_id: str) -> Schema | None:
        """What ``SchemaLookup`` asks for."""
        return None


def png(width: int, height: int) -> bytes:
    """A black PNG."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(width + 1) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


BUILTIN = Builtin()
PNG = png(4, 3)
SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">%s</svg>'
GOOD = """---
title: "UTidS Management Schema"
document_id: COAFI-SCHEMA-0001-SPEC-A
version: v0.9-PRELIMINARY
status: DRAFT
author: GAIA Platforms Initiative
date: 2025-04-27
tags: [COAFI, Schema, UTidS]
infoCode: INFO-SPEC
utids: TBD
---

# UTidS Management Schema
"""


def check(path: str, content: bytes | str, **limits: int) -> FileReport:
    """The report on one file, with the package's schemas."""
    data = content.encode() if isinstance(content, str) else content
    return check_file(path, data, BUILTIN, DocumentLimits(**limits))


def rules(report: FileReport) -> list[str]:
    """The ids of the rules that were broken, in order."""
    return [finding.rule for finding in report.findings]
