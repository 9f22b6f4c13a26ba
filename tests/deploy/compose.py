"""``docker-compose.yml`` as Compose reads it: merged, and with variables filled in."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
EXAMPLE = ROOT / ".env.example"

VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>[A-Z0-9_]+)(?::-(?P<default>[^}]*))?\})")


@dataclass(frozen=True)
class Service:
    """A service of ours.

    Attributes:
        command: the words after ``coafi``.
        environment: what the container gets besides that of the image.
        secrets: names of the files below ``/run/secrets``.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    secrets: tuple[str, ...]


def document(variables: Mapping[str, str]) -> Any:
    """The whole file."""

    def filled(value: Any) -> Any:
        match value:
            case dict():
                return {name: filled(one) for name, one in value.items()}
            case list():
                return [filled(one) for one in value]
            case str():
                return VARIABLE.sub(lambda found: _filling(found, variables), value)
        return value

    return filled(yaml.safe_load(FILE.read_text()))


def _filling(found: "re.Match[str]", variables: Mapping[str, str]) -> str:
    if found[0] == "$$":
        return "$"
    return variables.get(found["name"]) or found["default"] or ""


def variables_used() -> set[str]:
    """The variables that somebody has to give, or may give."""
    text = FILE.read_text()
    filled = {found["name"] for found in VARIABLE.finditer(text) if found["name"]}
    return filled | {one["environment"] for one in yaml.safe_load(text)["secrets"].values()}


def ours(variables: Mapping[str, str]) -> dict[str, Service]:
    """The services that run our image."""
    services = document(variables)["services"]
    return {
        name: Service(name, tuple(one["command"]), one["environment"], tuple(one["secrets"]))
        for name, one in services.items()
        if "build" in one
    }
