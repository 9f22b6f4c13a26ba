"""Commands about who may use the API.

What a command does stands in ``starters/``, and is imported when it is called, so that ``--help`` is quick.
"""

from typing import Annotated

import typer

from starters.commands.common import Json

auth = typer.Typer(no_args_is_help=True, help="Who may use the API: keys, tokens, and what they permit.")
auth_key = typer.Typer(no_args_is_help=True, help="API keys for machines: make, list, revoke.")
auth.add_typer(auth_key, name="key")

RoleNames = Annotated[list[str], typer.Option("--role", help="A role; repeatable.")]


@auth_key.command("add")
def auth_key_add(
    name: Annotated[str, typer.Argument(help="Who or what the key is for.")],
    role: RoleNames,
    expires: Annotated[str, typer.Option(help="How long it is valid: 12h, 90d, or never.")] = "90d",
    another: Annotated[bool, typer.Option("--another", help="Beside a valid key of this name, to replace it.")] = False,
    as_json: Json = False,
) -> None:
    """Make an API key and print it. It is shown this once."""
    from starters.auth import add_key

    add_key(name, role, expires, another=another, as_json=as_json)


@auth_key.command("list")
def auth_key_list(as_json: Json = False) -> None:
    """The API keys that were made, and which of them are valid."""
    from starters.auth import list_keys

    list_keys(as_json=as_json)


@auth_key.command("revoke")
def auth_key_revoke(
    name: Annotated[str, typer.Argument(help="Name: every key that has it; or the id of one key.")],
    as_json: Json = False,
) -> None:
    """Revoke API keys. Counts at once."""
    from starters.auth import revoke_keys

    revoke_keys(name, as_json=as_json)


@auth.command("token")
def auth_token(
    subject: Annotated[str, typer.Option(help="Who the token is for.")],
    role: Annotated[list[str] | None, typer.Option("--role", help="A role; repeatable.", show_default=False)] = None,
    permission: Annotated[
        list[str] | None, typer.Option("--permission", help="A permission; repeatable.", show_default=False)
    ] = None,
    ttl: Annotated[str, typer.Option(help="How long it is valid: 30m, 1h, 7d.")] = "1h",
    as_json: Json = False,
) -> None:
    """Make a token for development and print it: signed with AUTH_SECRET, or with a key that is made if missing."""
    from starters.auth import make_token

    make_token(subject, role or [], permission or [], ttl, as_json=as_json)


@auth.command("check")
def auth_check(as_json: Json = False) -> None:
    """Read a token or key from standard input; say who it is and what it may do. Exit 1 if it is not valid."""
    from starters.auth import check_token

    check_token(as_json=as_json)
