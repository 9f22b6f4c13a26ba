"""Whose token or key was verified, and what they may do.

A permission names an endpoint of the API and a method: ``api:registry/update:POST``. In what somebody has been given,
``*`` may stand for either, and ``…/*`` for everything below an endpoint::

    api:registry/update:POST    this one operation
    api:registry/*:GET          whatever can be read below registry/
    api:*:GET                   whatever can be read
    api:*:*                     everything
"""

import re
from collections.abc import Iterable
from typing import Annotated, Final

from pydantic import AfterValidator, StringConstraints

from coafi.events import Wire

MAX_NAME: Final = 200
"""Most characters of a principal's name."""

ROLE_NAME: Final = "[a-z][a-z0-9-]{0,62}"

_SEGMENT = r"[A-Za-z0-9._{}-]+"
_PERMISSION = re.compile(rf"api:(\*|{_SEGMENT}(?:/{_SEGMENT})*(?:/\*)?):(\*|[A-Z]+)")


def check_name(name: str) -> str:
    """``name``, if it can stand in a log, an entry and a table without passing for another.

    Raises:
        ValueError: it is empty, longer than ``MAX_NAME``, begins or ends with a space, or holds what is not printable:
            control characters, line ends, what turns text around.
    """
    if not name or name != name.strip():
        raise ValueError("is empty, or begins or ends with a space")
    if len(name) > MAX_NAME:
        raise ValueError(f"is longer than {MAX_NAME} characters")
    if not name.isprintable():
        raise ValueError("holds characters that cannot be printed")
    return name


def check_permission(permission: str) -> str:
    """``permission``, if it is one.

    Raises:
        ValueError: it is none.
    """
    if len(permission) > MAX_NAME or _PERMISSION.fullmatch(permission) is None:
        raise ValueError("is no permission: write api:ENDPOINT:METHOD, such as api:registry/entry:GET or api:*:GET")
    return permission


PrincipalName = Annotated[str, AfterValidator(check_name)]
Permission = Annotated[str, AfterValidator(check_permission)]
RoleName = Annotated[str, StringConstraints(pattern=rf"^{ROLE_NAME}$")]


class Principal(Wire):
    """Somebody whose token or key was verified.

    Attributes:
        name: who: ``jwt:`` and the subject of the token, or ``key:`` and the name of the API key.
        roles: the roles they have here, sorted. What this service does not know as a role is left out.
        permissions: all that their roles and the scope of their token give, sorted.
    """

    name: PrincipalName
    roles: tuple[RoleName, ...] = ()
    permissions: tuple[Permission, ...] = ()

    def may(self, needed: str) -> bool:
        """Whether they may do what needs this permission."""
        return allows(self.permissions, needed)


def permission_of(endpoint: str, method: str) -> str:
    """The permission that an operation needs."""
    return f"api:{endpoint}:{method}"


def allows(permissions: Iterable[str], needed: str) -> bool:
    """Whether one of ``permissions`` covers the permission ``needed``, which names one endpoint and one method.

    Wildcards count in what was given only: nobody may do what needs ``api:*:GET``. What is no permission gives nothing.
    """
    wanted = _PERMISSION.fullmatch(needed)
    if wanted is None or "*" in needed:
        return False
    endpoint, method = wanted.groups()
    for permission in permissions:
        given = _PERMISSION.fullmatch(permission)
        if given is not None and given[2] in ("*", method) and _covers(given[1], endpoint):
            return True
    return False


def _covers(given: str, endpoint: str) -> bool:
    return given in ("*", endpoint) or (given.endswith("/*") and endpoint.startswith(given[:-1]))
