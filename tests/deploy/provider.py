"""What Terraform's provider for AWS takes, as far as ``deploy/terraform`` uses it: ``provider.json``.

Neither Terraform nor its provider can be had everywhere; the types of its CDK can, and were made from the provider's
own schema. After a change of what is used, or of the provider's version::

    pip download --no-deps cdktf-cdktf-provider-aws
    python -m tests.deploy.provider cdktf_cdktf_provider_aws-*.whl
"""

import io
import json
import re
import sys
import tarfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("provider.json")

Schema = dict[str, Any]
"""Arguments of a block by name: ``required`` if they are, and, of a block in it, its schema as ``block``."""

_OF_PROVIDER = re.compile(r"docs/(resources|data-sources)/\w+ (aws_\w+)\}")
_OF_ARGUMENT = re.compile(r"docs/(?:resources|data-sources)/\w+#(\w+)")


def load() -> Any:
    """The committed schema."""
    return json.loads(FILE.read_text())


def read(wheel: Path, used: set[tuple[str, str]]) -> Any:
    """The schema of the types that are used, from a wheel of the CDK's types."""
    with zipfile.ZipFile(wheel) as packed:
        (inner,) = [name for name in packed.namelist() if name.endswith(".jsii.tgz")]
        with tarfile.open(fileobj=io.BytesIO(packed.read(inner))) as package:
            assembly, about = (json.load(_member(package, name)) for name in ("package/.jsii", "package/package.json"))
    types = assembly["types"]

    @cache
    def arguments(name: str) -> Schema:
        found = {}
        for one in types[name].get("properties", ()):
            argument = _OF_ARGUMENT.search(json.dumps(one.get("docs", {})))
            if argument:
                inner = next(
                    (each for each in _named(one["type"]) if types.get(each, {}).get("kind") == "interface"), None
                )
                schema: Schema = {} if one.get("optional") else {"required": True}
                found[argument[1]] = {**schema, "block": arguments(inner)} if inner in types else schema
        return dict(sorted(found.items()))

    made: dict[str, Any] = {"provider": about["cdktf"]["provider"]["version"], "data": {}, "resource": {}}
    for name, one in types.items():
        is_of = _OF_PROVIDER.search(json.dumps(one.get("docs", {})))
        config = next((each for each in (f"{name}Config", f"{name}ConfigA") if each in types), None)
        if one["kind"] == "class" and is_of and config:
            kind = "resource" if is_of[1] == "resources" else "data"
            if (kind, is_of[2]) in used:
                attributes = {re.sub(r"(?<!^)(?=[A-Z])", "_", each["name"]).lower() for each in one["properties"]}
                made[kind][is_of[2]] = {
                    "arguments": arguments(config),
                    "attributes": sorted(each for each in attributes if not each.endswith("_input")),
                }
    assert {(kind, type_) for kind in ("data", "resource") for type_ in made[kind]} == used
    return made


def _member(package: tarfile.TarFile, name: str) -> Any:
    return package.extractfile(name)


def _named(type_: Any) -> list[str]:
    """The types that a type is made of."""
    if isinstance(type_, dict):
        own = [type_["fqn"]] if "fqn" in type_ and type_["fqn"].startswith("@cdktf/provider-aws.") else []
        return own + [one for value in type_.values() for one in _named(value)]
    return [one for value in type_ for one in _named(value)] if isinstance(type_, list) else []


if __name__ == "__main__":
    from tests.deploy.terraform import DIRECTORY, Module

    modules = list(Module(DIRECTORY).all())
    needed = {("resource", type_) for module in modules for type_, _ in module.resources}
    needed |= {("data", type_) for module in modules for type_, _ in module.sources}
    # A line for each type.
    text = json.dumps(read(Path(sys.argv[1]), needed), separators=(",", ":"), sort_keys=True)
    FILE.write_text(re.sub(r'(?="aws_\w+":\{"arguments")', "\n", text) + "\n")
