"""Commands about the settings.

What a command does stands in ``starters/``, and is imported when it is called, so that ``--help`` is quick.
"""

import typer

from starters.commands.common import Json, run

config = typer.Typer(no_args_is_help=True, help="The settings: what they are, and whether the service can work so.")


@config.command("show")
def config_show(as_json: Json = False) -> None:
    """Every setting, its value, and where that comes from. Of secrets only whether they are set."""
    from starters.config import show_settings

    show_settings(as_json=as_json)


@config.command("check")
def config_check(as_json: Json = False) -> None:
    """Try everything that the settings name before anything starts; exit 1 if something is wrong. Changes nothing."""
    from starters.config import check_settings

    run(check_settings(as_json=as_json))
