"""``coafi config``: the settings as they are, and whether a service could work with them."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import typer
from pydantic import SecretStr
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.service import RPCError, RPCStatusCode

from coafi.database import Database
from coafi.database.migrate import Standing, state_of
from coafi.errors import CoafiError, ResourceNotFoundError, Unavailable, ValidationError
from coafi.ledger.keyfile import KeyFile
from coafi.ledger.keys import parse_private_key
from coafi.notify.subscribers import load_subscribers
from coafi.settings import Settings, variable
from coafi.tasks.file import load_schedules
from starters.addresses import temporal_address
from starters.connection import connected
from starters.output import command_settings, out, print_json, safe, styled, table
from workers.auth import build_authenticator
from workers.resources import load_subscriptions, open_objects

NOBODY = "0" * 64
"""A digest that no object has."""


@dataclass(frozen=True)
class Checked:
    """What one look found; ``problem`` and ``remedy`` are empty when all is well."""

    name: str
    found: str = ""
    problem: str = ""
    remedy: str = ""


def show_settings(*, as_json: bool) -> None:
    """``coafi config show``."""
    settings = command_settings()
    rows = [
        {"name": variable(name), "value": _shown(getattr(settings, name)), "source": _source(settings, name)}
        for name in Settings.model_fields
    ]
    if as_json:
        print_json(rows)
        return
    found = table("Setting", "From", "Value")
    for row in rows:
        style = "dim" if row["source"] == "default" else "bold"
        found.add_row(f"[{style}]{row['name']}[/{style}]", safe(str(row["source"])), safe(_said(row["value"])))
    out.print(found)


def _shown(value: object) -> object:
    """A setting for people and programs: of a secret, and of what holds secrets, only whether there is one."""
    if isinstance(value, SecretStr):
        return "(set)" if value.get_secret_value() else ""
    if isinstance(value, dict):
        return {name: _shown(one) for name, one in value.items()}
    if isinstance(value, tuple):
        return [_shown(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _said(value: object) -> str:
    return "–" if value in (None, "", []) else str(value)


def _source(settings: Settings, name: str) -> str:
    if name not in settings.model_fields_set:
        return "default"
    given = {one.upper() for one in os.environ}
    return "environment" if variable(name).upper() in given else f"{settings.secrets_dir}"


async def check_settings(*, as_json: bool) -> None:
    """``coafi config check``.

    Raises:
        ValidationError: a variable has a value that is not allowed, or a name that no setting has.
        typer.Exit: something is wrong.
    """
    settings = command_settings()
    looks: dict[str, Callable[[Settings], str]] = {
        "home": _home,
        "git": _git,
        "database": _database,
        "objects": _objects,
        "ledger key": _ledger_key,
        "subscribers": _subscribers,
        "subscriptions": _subscriptions,
        "schedules": _schedules,
    }
    checked = [await _looked(name, asyncio.to_thread(look, settings)) for name, look in looks.items()]
    checked.append(await _looked("callers", _callers(settings)))
    checked.append(await _looked("temporal", _temporal(settings)))
    wrong = [one for one in checked if one.problem]
    if as_json:
        print_json([vars(one) for one in checked])
    else:
        rows = table("", "Checked", "Found")
        for one in checked:
            said = safe(one.found) if not one.problem else f"{safe(one.problem)}\n→ {safe(one.remedy)}"
            rows.add_row(styled("failed", "✗") if one.problem else styled("valid", "✓"), one.name, said)
        out.print(rows)
    if wrong:
        raise typer.Exit(1)


async def _looked(name: str, look: Awaitable[str]) -> Checked:
    try:
        return Checked(name, await look)
    except CoafiError as error:
        return Checked(name, problem=error.message, remedy=error.remedy)
    except OSError as error:
        return Checked(name, problem=f"{error.filename or name}: {error.strerror}", remedy="check its permissions")


def _home(settings: Settings) -> str:
    home = settings.home
    nearest = next(one for one in (home, *home.parents) if one.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise ValidationError(f"{nearest} cannot be written", remedy="set COAFI_HOME to a directory of this user's")
    return str(home) if home.exists() else f"{home}, which is made at the first start"


def _git(_settings: Settings) -> str:
    program = shutil.which("git")
    if program is None:
        raise ResourceNotFoundError("there is no git in PATH", remedy="install git 2.36 or newer")
    return subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout.strip()


def _database(settings: Settings) -> str:
    where = settings.database
    if isinstance(where, Path) and not where.exists():
        return f"{where}, which is made at the first start"
    database = Database(where)
    try:
        state = state_of(database)
    finally:
        database.close()
    if state.standing is Standing.AHEAD:
        raise ValidationError(
            f"{where} has tables of newer software",
            remedy="run that version, or restore a backup; see docs/operations.md",
        )
    return f"{where}, tables: {state.standing.value}"


def _objects(settings: Settings) -> str:
    if not settings.objects_url and not settings.objects_directory.exists():
        return f"{settings.objects_directory}, which is made at the first start"
    store = open_objects(settings)
    store.has(NOBODY)
    return f"{store.place} can be read"


def _ledger_key(settings: Settings) -> str:
    if settings.bitt_api_url:
        return f"the ledger is kept at {settings.bitt_api_url}"
    held, path = settings.ledger_key, settings.ledger_key_path
    if held is None and settings.ledger_key_file is None and not path.exists():
        return f"{path}, which is made at the first start"
    signer = KeyFile(path).current() if held is None else parse_private_key(held.get_secret_value().encode())
    return f"signs as {signer.key.name}"


def _subscribers(settings: Settings) -> str:
    found = load_subscribers(settings.subscribers, allow_private=settings.notify_allow_private)
    return f"{len(found.all)} of them" if settings.subscribers else "none"


def _subscriptions(settings: Settings) -> str:
    load_subscriptions(settings)
    return f"{settings.bitt_subscriptions} can be read" if settings.bitt_subscriptions else "none"


def _schedules(settings: Settings) -> str:
    return f"{len(load_schedules(settings.schedules).schedules)} of them" if settings.schedules else "none"


async def _callers(settings: Settings) -> str:
    authenticator = build_authenticator(settings)
    await authenticator.close()
    return "keys and roles can be read"


async def _temporal(settings: Settings) -> str:
    if not settings.temporal_address and not settings.temporal_profile:
        return "the embedded server of `coafi up`"
    address = temporal_address(settings)
    client = await connected(settings, address)
    try:
        answer = await client.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace=settings.temporal_namespace)
        )
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise ResourceNotFoundError(
                f"Temporal at {address} has no namespace {settings.temporal_namespace}",
                remedy=f"temporal operator namespace create --namespace {settings.temporal_namespace}",
            ) from None
        raise Unavailable(f"Temporal at {address} answers: {error.message}", remedy="check the credentials") from None
    days = answer.config.workflow_execution_retention_ttl.ToTimedelta().days
    return f"{address}, namespace {settings.temporal_namespace}, runs are kept for {days} days"
