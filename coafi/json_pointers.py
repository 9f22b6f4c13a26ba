"""JSON Pointers (RFC 6901) to what an engine of JSON Schema has found."""

import re
from collections.abc import Iterable

_NUMBER = re.compile(r"\+?[0-9]+")


def pointer_to(path: Iterable[str | int], instance: object) -> str:
    """The pointer to a place in ``instance``.

    Args:
        path: as ``jsonschema`` or ``jsonschema-rs`` gives it: names and indices. The latter gives a member's name as a
            number where it looks like one, ``00`` as 0; it is looked up here. Of several names that are the same number
            the first is taken.
    """
    names: list[str] = []
    for part in path:
        name: str | int = part
        if isinstance(instance, dict):
            if isinstance(part, int) and str(part) not in instance:
                name = next((one for one in instance if _NUMBER.fullmatch(one) and int(one) == part), part)
            instance = instance.get(str(name))
        elif isinstance(instance, list) and isinstance(part, int) and part < len(instance):
            instance = instance[part]
        names.append("/" + str(name).replace("~", "~0").replace("/", "~1"))
    return "".join(names)
