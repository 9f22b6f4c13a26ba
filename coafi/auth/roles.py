"""Roles and the permissions that they give: those that are built in, or those of the settings in their place."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from coafi.auth.principal import ROLE_NAME, Permission, Principal, RoleName, check_permission
from coafi.errors import ValidationError

_ROLE = re.compile(ROLE_NAME)
_READ = ("api:*:GET", "api:schema/validate:POST")

DEFAULT_ROLES: Final[Mapping[RoleName, tuple[Permission, ...]]] = MappingProxyType(
    {
        "reader": _READ,
        "editor": (*_READ, "api:registry/update:POST"),
        "approver": (*_READ, "api:registry/status:POST"),
        "operator": (*_READ, "api:workflow/start:POST"),
        "admin": ("api:*:*",),
    }
)
"""Who writes an entry and who approves it are two roles: give somebody both only if one person may do both."""


@dataclass(frozen=True)
class Roles:
    """The roles of this service.

    Attributes:
        permissions: what each role gives.
    """

    permissions: Mapping[RoleName, tuple[Permission, ...]]

    def principal(self, name: str, roles: Iterable[str], scope: Iterable[str] = ()) -> Principal:
        """The principal of this name.

        Args:
            roles: of a token or key. What is no role here gives nothing: an identity provider names roles for all that
                it serves.
            scope: words of a token's scope; those that are permissions are given too.

        Raises:
            ValueError: nobody can have this name.
        """
        known = sorted(set(roles) & self.permissions.keys())
        given = {permission for role in known for permission in self.permissions[role]}
        given.update(word for word in scope if _is_permission(word))
        return Principal(name=name, roles=tuple(known), permissions=tuple(sorted(given)))

    def check(self, roles: Iterable[str]) -> tuple[RoleName, ...]:
        """These roles, sorted, each once.

        Raises:
            ValidationError: one of them is none.
        """
        wanted = sorted(set(roles))
        if strangers := [role for role in wanted if role not in self.permissions]:
            raise ValidationError(
                f"there is no role {', '.join(map(repr, strangers))}",
                remedy=f"take one of {', '.join(self.permissions)}; COAFI_AUTH_ROLES says what they may do",
            )
        return tuple(wanted)


def check_role(name: str, permissions: Iterable[str]) -> None:
    """Refuse what is no role.

    Raises:
        ValueError: the name is none, or one of the permissions is none.
    """
    if _ROLE.fullmatch(name) is None:
        raise ValueError(f"role {name!r} is no name: lower-case letters, digits and dashes")
    for permission in permissions:
        try:
            check_permission(permission)
        except ValueError as error:
            raise ValueError(f"role {name}: {permission!r} {error}") from None


def _is_permission(word: str) -> bool:
    try:
        check_permission(word)
    except ValueError:
        return False
    return True
