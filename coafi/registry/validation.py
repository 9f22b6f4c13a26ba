"""JSON Schema 2020-12 on the hot path, by a compiled engine (``jsonschema-rs``).

The ``jsonschema`` package is the reference: a differential test holds the two against each other. Schemas are
hostile input: no remote ``$ref`` is ever fetched, and a pattern that needs back-tracking is refused on compiling.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import NoReturn, Protocol

import jsonschema_rs
from pydantic import BaseModel, ConfigDict, JsonValue
from pydantic.alias_generators import to_camel

from coafi.canonical import JsonObject, Sha256, digest_of
from coafi.errors import ValidationError
from coafi.json_pointers import pointer_to

MAX_VIOLATIONS = 50
"""Violations reported of one instance; more would not help the person who has to mend it."""

MAX_LOOKED_AT = 10_000
"""Violations of one instance among which those to report are looked for."""


_PATTERN_BYTES = 1024 * 1024

PATTERNS = jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES, dfa_size_limit=_PATTERN_BYTES)
"""How regular expressions are matched: in linear time, and small ones only, since the time grows with their size."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One place where an instance breaks its schema.

    Attributes:
        pointer: JSON Pointer (RFC 6901) into the instance; ``""`` is the whole of it.
        keyword: the schema keyword that is broken, such as ``required``.
        message: what is wrong, for a person.
    """

    pointer: str
    keyword: str
    message: str


class CheckedSchema(BaseModel):
    """The schema that something was held against: the verdict can be repeated with it."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    schema_id: str
    version: str
    digest: Sha256


@dataclass(frozen=True)
class Schema:
    """One published version of a JSON Schema: immutable, known by its id and version.

    Attributes:
        schema_id: such as ``GitCommitEventPayload``.
        version: such as ``1.0.0``.
        document: the schema itself.
    """

    schema_id: str
    version: str
    document: JsonObject

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the schema's canonical JSON: verdicts record it."""
        return digest_of(self.document)

    @cached_property
    def reference(self) -> CheckedSchema:
        """What a verdict says of this schema."""
        return CheckedSchema(schema_id=self.schema_id, version=self.version, digest=self.digest)

    def violations(
        self, instance: JsonValue, *, quoting: bool = True, of_each_member: bool = False
    ) -> tuple[Violation, ...]:
        """Where ``instance`` breaks this schema, at most ``MAX_VIOLATIONS`` places; empty when it is valid.

        Args:
            quoting: whether messages quote values. What goes into the ledger must not: nobody could take it out.
            of_each_member: count those of each member of an object by itself, where some are worse than others: no
                number of breaches in one hides those in another. At most ``MAX_LOOKED_AT`` are looked at.
        """
        found: list[Violation] = []
        counts: Counter[object] = Counter()
        for error in islice((self._compiled if quoting else self._discreet).iter_errors(instance), MAX_LOOKED_AT):
            member = next(iter(error.instance_path), None) if of_each_member else None
            counts[member] += 1
            if counts[member] <= MAX_VIOLATIONS:
                place = pointer_to(error.instance_path, instance)
                found.append(Violation(place, error.kind.name, shorten(error.message)))
            elif not of_each_member:
                break
        return tuple(found)

    @cached_property
    def _compiled(self) -> jsonschema_rs.Draft202012Validator:
        return self._compile(None)

    @cached_property
    def _discreet(self) -> jsonschema_rs.Draft202012Validator:
        return self._compile("the value")

    def _compile(self, instead: str | None) -> jsonschema_rs.Draft202012Validator:
        """The engine for this schema, whose messages have ``instead`` where a value would be quoted."""
        try:
            return jsonschema_rs.Draft202012Validator(
                self.document,
                mask=instead,
                validate_formats=True,
                pattern_options=PATTERNS,
                retriever=_refuse_remote,
            )
        except (ValueError, jsonschema_rs.ValidationError) as error:
            raise ValidationError(
                f"schema {self.schema_id} {self.version} cannot be used: {str(error).splitlines()[0]}",
                remedy="mend the schema: 2020-12, no remote $ref, no back-references or look-around in patterns",
            ) from error


class SchemaLookup(Protocol):
    """Where schemas come from: the registry."""

    def find(self, schema_id: str) -> Schema | None:
        """The current version of the schema with this id, or ``None`` when there is none."""
        ...


def shorten(text: str, limit: int = 300) -> str:
    """``text``, cut in the middle when it is long: messages quote values, and values may be huge."""
    return text if len(text) <= limit else f"{text[: limit // 2]} … {text[-limit // 2 :]}"


def _refuse_remote(uri: str) -> NoReturn:
    raise ValueError(f"remote reference {uri} is not followed")
