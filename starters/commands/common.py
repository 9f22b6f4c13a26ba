"""Options that several commands have, and how a command runs what talks to Temporal."""

import asyncio
import getpass
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
By = Annotated[str, typer.Option("--by", help="Who decides; goes on the record.", default_factory=getpass.getuser)]
Limit = Annotated[int, typer.Option(min=1, max=200, help="Most to show.")]
Result = TypeVar("Result")

SDK_USED: list[bool] = []
"""Not empty once a command has talked to Temporal."""


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run what may talk to Temporal, to its end."""
    SDK_USED.append(True)
    return asyncio.run(coroutine)
