"""Holds data against schemas of a repository, in a process of its own: run as a program, one request per line.

A schema from outside can ask for more work than there is time: thirty definitions that each refer twice to the next
one are a billion checks. Nothing within a process can stop that, so this one is given an allowance of processor time
per request, and of memory, and is ended by the kernel when they are used up.

A request is a JSON object on one line; the answer is another one.

``key``
    names the schema among the compiled ones that are remembered.
``schema``, ``base``, ``resources``, ``draft3``
    the schema, its URI, other schemas by their URIs, and whether it is of draft 3; left out when the key should do.
``instances``
    JSON values to hold against it.

The answer has ``violations``, a list of instance number, JSON Pointer, keyword, message; or ``unusable``, why the
schema cannot be used; or ``unknown`` when the key is not remembered.
"""

import json
import resource
import signal
import sys
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import jsonschema_rs

from coafi.json_pointers import pointer_to

CPU_SECONDS = 5.0
MEMORY_BYTES = 2 * 1024**3
MAX_VIOLATIONS = 50
REMEMBERED = 64

_BACKTRACKING = 100_000
_PATTERN_BYTES = 1024 * 1024
_MESSAGE = 300
_GAVE_UP = (
    jsonschema_rs.ValidationErrorKind.BacktrackLimitExceeded,
    jsonschema_rs.ValidationErrorKind.RegexEngineFailure,
)

_Validator = Any
"""Of ``jsonschema_rs``, or for draft 3 of ``jsonschema``."""


def main(cpu_seconds: float) -> None:
    """Answer requests until the input ends.

    Args:
        cpu_seconds: processor time that a request may take.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    # The default action ends the process at once, also within a library that never returns to the interpreter.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    compiled: OrderedDict[str, _Validator] = OrderedDict()
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        answer = json.dumps(answer_to(json.loads(line), compiled))
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


def answer_to(request: dict[str, Any], compiled: "OrderedDict[str, _Validator]") -> dict[str, Any]:
    """The answer to one request."""
    key = request["key"]
    if key not in compiled and "schema" not in request:
        return {"unknown": True}
    try:
        validator = compiled.pop(key) if key in compiled else _compile(request)
        found = _found(validator, request["instances"])
    except Exception as error:  # Whatever a library says of a schema that it cannot take.
        return {"unusable": _short(str(error).splitlines()[0] if str(error) else type(error).__name__)}
    compiled[key] = validator
    while len(compiled) > REMEMBERED:
        compiled.popitem(last=False)
    return {"violations": found}


def _found(validator: _Validator, instances: list[Any]) -> list[tuple[int, str, str, str]]:
    found: dict[tuple[int, str, str, str], None] = {}  # The parts of a meta-schema say the same thing several times.
    for number, instance in enumerate(instances):
        for pointer, keyword, message in _violations(validator, instance):
            found[number, pointer, keyword, _short(message)] = None
            if len(found) == MAX_VIOLATIONS:
                return list(found)
    return list(found)


def _compile(request: dict[str, Any]) -> _Validator:
    schema, base, resources = request["schema"], request["base"], request["resources"]
    if request.get("draft3"):
        # These take longer to import than all the rest, and are hardly ever needed.
        from jsonschema import Draft3Validator
        from referencing import Registry

        # With a registry of its own, or it would fetch what a reference names.
        return Draft3Validator(schema if base else Draft3Validator.META_SCHEMA, registry=Registry())

    def retrieve(uri: str) -> Any:  # noqa: ANN401  # any JSON
        found = resources.get(uri.partition("#")[0])
        if found is None:
            raise ValueError(f"{uri} is not in the repository, and nothing is fetched")
        return found

    return jsonschema_rs.validator_for(
        schema,
        base_uri=base or None,
        validate_formats=True,
        retriever=retrieve,
        pattern_options=jsonschema_rs.FancyRegexOptions(
            backtrack_limit=_BACKTRACKING, size_limit=_PATTERN_BYTES, dfa_size_limit=_PATTERN_BYTES
        ),
    )


def _violations(validator: _Validator, instance: Any) -> Iterator[tuple[str, str, str]]:  # noqa: ANN401  # any JSON
    for error in validator.iter_errors(instance):
        if isinstance(error, jsonschema_rs.ValidationError):
            one = _nearest(error)
            if isinstance(one.kind, _GAVE_UP):
                raise ValueError("a pattern of it needs too much back-tracking")
            yield pointer_to(one.instance_path, instance), one.kind.name, one.message
        else:
            yield pointer_to(error.absolute_path, instance), str(error.validator), error.message


def _nearest(error: jsonschema_rs.ValidationError) -> jsonschema_rs.ValidationError:
    """What is wrong by the one of several forms that fits best: "none of them fits" helps nobody."""
    forms = getattr(error.kind, "context", None) or []
    firsts = [form[0] for form in forms if form]
    return max(firsts, key=lambda one: len(one.instance_path)) if firsts else error


def _short(text: str) -> str:
    return text if len(text) <= _MESSAGE else f"{text[: _MESSAGE // 2]} … {text[-_MESSAGE // 2 :]}"


if __name__ == "__main__":
    main(float(sys.argv[1]))
