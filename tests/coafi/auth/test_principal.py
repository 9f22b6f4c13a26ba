import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.auth.principal import MAX_NAME, Principal, allows, check_name, check_permission, permission_of
from coafi.auth.roles import DEFAULT_ROLES, Roles
from coafi.errors import ValidationError


@pytest.mark.parametrize(
    ("given_permission", "needed", "covered"),
    [
        ("api:registry/update:POST", "api:registry/update:POST", True),
        ("api:registry/update:POST", "api:registry/update:GET", False),
        ("api:registry/update:POST", "api:registry/updates:POST", False),
        ("api:registry/*:GET", "api:registry/entry:GET", True),
        ("api:registry/*:GET", "api:registry/a/b:GET", True),
        ("api:registry/*:GET", "api:registry:GET", False),
        ("api:registry/*:GET", "api:registryx/entry:GET", False),
        ("api:registry/*:GET", "api:registry/entry:POST", False),
        ("api:*:GET", "api:event/{id}:GET", True),
        ("api:*:GET", "api:event/{id}:POST", False),
        ("api:registry/entry:*", "api:registry/entry:DELETE", True),
        ("api:*:*", "api:anything/at/all:POST", True),
        ("api:registry/update:POST", "api:*:*", False),
        ("api:registry/*:POST", "api:registry/*:POST", False),
        ("*", "api:registry/entry:GET", False),
        ("api:reg*:GET", "api:registry:GET", False),
        ("api:*/entry:GET", "api:registry/entry:GET", False),
        ("api:registry/entry:G*", "api:registry/entry:GET", False),
        ("", "api:registry/entry:GET", False),
        ("api:*:*", "", False),
        ("api:*:*", "api:registry/entry:GET\n", False),
    ],
)
def test_a_permission_covers_what_it_says(given_permission: str, needed: str, covered: bool) -> None:
    assert allows([given_permission], needed) is covered


def test_a_needed_wildcard_is_had_by_nobody() -> None:
    assert not allows(["api:*:*"], "api:*:GET")
    assert not allows(["api:*:*"], "api:registry/*:GET")


def test_one_of_many_permissions_is_enough() -> None:
    assert allows(["api:a:GET", "nonsense", "api:b:*"], permission_of("b", "POST"))
    assert not allows([], permission_of("b", "POST"))


@given(st.text(max_size=300))
def test_a_name_is_printable_or_refused(name: str) -> None:
    try:
        check_name(name)
    except ValueError:
        return
    assert name.isprintable()
    assert name == name.strip()
    assert 0 < len(name) <= MAX_NAME


@pytest.mark.parametrize(
    "name", ["", " ada", "ada ", "a\nb", "a\x00", "a\u202eb", "a\u200bb", "a\u2028b", "\ud800", "x" * 201]
)
def test_a_name_that_could_pass_for_another_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"is |holds"):
        check_name(name)


def test_a_principal_is_the_sum_of_roles_and_scope() -> None:
    roles = Roles({"reader": ("api:*:GET",), "editor": ("api:registry/update:POST", "api:*:GET")})
    principal = roles.principal(
        "jwt:ada", ["editor", "reader", "editor", "admin-of-something-else"], ["openid", "api:x:PUT"]
    )
    assert principal == Principal(
        name="jwt:ada", roles=("editor", "reader"), permissions=("api:*:GET", "api:registry/update:POST", "api:x:PUT")
    )
    assert principal.may("api:anything:GET")
    assert not principal.may("api:registry/status:POST")


def test_only_what_is_written_in_the_table_is_a_role() -> None:
    with pytest.raises(ValidationError, match="'root'"):
        Roles(DEFAULT_ROLES).check(["reader", "root"])
    assert Roles(DEFAULT_ROLES).check(["reader", "admin", "reader"]) == ("admin", "reader")


def test_no_built_in_role_but_admin_both_writes_and_approves() -> None:
    for role, permissions in DEFAULT_ROLES.items():
        for permission in permissions:
            check_permission(permission)
        both = allows(permissions, "api:registry/update:POST") and allows(permissions, "api:registry/status:POST")
        assert both is (role == "admin")
        assert allows(permissions, "api:registry/entry:GET")
