"""``docker-compose.yml``, as far as it can be tried without a container engine; see also ``tests/guarantees``."""

import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import yaml
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from typer.testing import CliRunner

from coafi.database import Database, PostgresqlAddress
from coafi.database.migrate import Standing, migrate, state_of
from coafi.names import SearchAttribute, TaskQueue
from coafi.settings import Settings, load_settings, variable
from starters.cli import app
from starters.embedded import SERVER_OPTIONS, temporal_executable
from tests.deploy.compose import EXAMPLE, FILE, ROOT, Service, document, ours, variables_used
from tests.harness import settings_for, temporal_server
from tests.postgresql import PASSWORD, running_server
from workers.client import connect

SCRIPTS = ROOT / "deploy" / "compose"


def test_it_is_what_compose_understands() -> None:
    checker = str(Path(sys.executable).with_name("check-jsonschema"))
    command = [checker, "--builtin-schema", "vendor.compose-spec", str(FILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_variable_is_in_the_example_and_none_has_a_secret() -> None:
    lines = [line.partition("=") for line in EXAMPLE.read_text().splitlines() if line and not line.startswith("#")]
    optional = {
        "COAFI_IMAGE",
        "COAFI_PORT",
        "TEMPORAL_VERSION",
        "TEMPORAL_UI_VERSION",
        "PROMETHEUS_VERSION",
        "GRAFANA_VERSION",
    }
    assert {name for name, _, _ in lines} == variables_used() - optional
    for name, _, value in lines:
        assert not value or "SECRET" not in name, name
        assert not value or "PASSWORD" not in name, name


@pytest.mark.parametrize("service", ours({}).values(), ids=ours({}))
def test_our_services_run_commands_of_ours_with_settings_of_ours(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert CliRunner().invoke(app, [*service.command, "--help"]).exit_code == 0
    for name in list(os.environ):
        if name.startswith("COAFI_"):
            monkeypatch.delenv(name)
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    for name in service.secrets:  # without a value in .env Compose mounts an empty file
        (tmp_path / name).touch()
    monkeypatch.setenv("COAFI_SECRETS_DIR", str(tmp_path))
    assert load_settings().temporal_address == "temporal:7233"
    known = {variable(name) for name in Settings.model_fields}
    assert {*service.secrets, *service.environment} <= known


def test_every_task_queue_has_a_worker_of_its_own() -> None:
    served = [one.command[2] for one in ours({}).values() if one.command[:2] == ("worker", "--queue")]
    assert sorted(served) == sorted(TaskQueue)


def test_our_containers_may_do_little_and_images_have_versions() -> None:
    for name, one in document({})["services"].items():
        if "build" not in one:
            assert re.search(r":v?\d", one["image"]), name
            continue
        assert one["read_only"] is True
        assert one["cap_drop"] == ["ALL"]
        assert one["security_opt"] == ["no-new-privileges:true"]
        seconds = int(one["stop_grace_period"].removesuffix("s"))
        assert seconds > 2 * Settings().drain_timeout, "a worker drains before it is killed"


def test_only_the_gateway_is_reached_from_elsewhere() -> None:
    ports = {name: one.get("ports", ()) for name, one in document({})["services"].items()}
    assert ports.pop("gateway") == ["8080:8080"]
    published = [port for one in ports.values() for port in one]
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert len({port.split(":")[1] for port in published}) == len(published) == 3


def test_what_watches_may_do_little_and_keeps_what_it_knows() -> None:
    whole = document({})
    for name in ("prometheus", "grafana"):
        one = whole["services"][name]
        assert one["profiles"] == ["monitoring"]
        assert one["read_only"] is True
        assert one["cap_drop"] == ["ALL"]
        assert one["security_opt"] == ["no-new-privileges:true"]
        assert "healthcheck" in one
        paths = [path.split(":") for path in one["volumes"]]
        assert [path for path, *_ in paths if not path.startswith("./")] == [name]
        assert all((ROOT / path).exists() and rest[1:] == ["ro"] for path, *rest in paths if path.startswith("./"))
    named = {path.split(":")[0] for one in whole["services"].values() for path in one.get("volumes", ())}
    assert {name for name in named if not name.startswith("./")} == set(whole["volumes"])


def test_grafana_lets_in_whoever_has_the_password_and_does_not_start_without(tmp_path: Path) -> None:
    grafana = document({})["services"]["grafana"]
    environment = grafana["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    assert environment["GF_SECURITY_ADMIN_PASSWORD__FILE"] == f"/run/secrets/{grafana['secrets'][0]}"
    secret = tmp_path / "secret"
    shell, option, script = grafana["entrypoint"]
    command = [shell, option, script.replace("/run.sh", "echo started")]
    for password, code, out in (("", 1, ""), ("a-password", 0, "started\n")):
        secret.write_text(password)
        variables = {"GF_SECURITY_ADMIN_PASSWORD__FILE": str(secret)}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (code, out)


def test_whatever_is_needed_is_waited_for() -> None:
    services = document({})["services"]
    for name, one in services.items():
        needed = one.get("depends_on", {})
        for other, how in needed.items() if isinstance(needed, dict) else ():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[other], f"{name} waits for {other}"
            else:
                assert services[other]["restart"] == "on-failure", f"{name} waits for the end of {other}"
    assert set(services["gateway"]["depends_on"]) == {"migrate", "namespace"}


def test_temporal_gets_the_settings_that_the_service_relies_on() -> None:
    settings = yaml.safe_load((SCRIPTS / "temporal.yaml").read_text())
    assert settings == {"matching.enableFairness": [{"value": True}]}
    assert "--dynamic-config-value=matching.enableFairness=true" in SERVER_OPTIONS


# ------------------------------------------------------------------------------ scripts


def run(script: str, tmp_path: Path, tools: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a script with its secrets elsewhere."""
    text = (SCRIPTS / script).read_text().replace("/run/secrets", str(tmp_path))
    return subprocess.run(
        ["sh", "-c", text],
        env={"PATH": f"{tools}:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_postgresql_gets_roles_and_databases_that_the_service_can_use(tmp_path: Path) -> None:
    password = "it's a \\ 'password' $HOME"
    (tmp_path / "COAFI_DATABASE_PASSWORD").write_text(password)
    (tmp_path / "TEMPORAL_DATABASE_PASSWORD").write_text("another")
    with running_server() as server:  # of its own: roles are the server's, and another test makes some
        environment = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGPASSWORD": PASSWORD}
        done = run("postgres.sh", tmp_path, str(server.binaries), **environment)
        assert done.returncode == 0, done.stderr
        for name, secret in (("coafi", password), ("temporal", "another")):
            with psycopg.connect(
                host="127.0.0.1", port=server.port, user=name, password=secret, dbname=name, autocommit=True
            ) as connection:
                connection.execute("CREATE TABLE sample (one int)")
        database = Database(PostgresqlAddress.parse(server.url("coafi", user="coafi", password=password)))
        migrate(database)
        assert state_of(database).standing is Standing.CURRENT
        database.close()


async def test_temporal_gets_the_namespace_and_the_search_attributes(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, temporal_namespace="coafi")
    tools = str(Path(temporal_executable()).parent)
    async with temporal_server(settings) as server:
        environment = {"TEMPORAL_ADDRESS": server.address, "TEMPORAL_NAMESPACE": "coafi", "HOME": str(tmp_path)}
        for _ in range(2):  # also when everything is there
            done = run("namespace.sh", tmp_path, tools, **environment)
            assert done.returncode == 0, done.stderr + done.stdout
        client = await connect(settings, server.address)
        found = await client.operator_service.list_search_attributes(ListSearchAttributesRequest(namespace="coafi"))
        assert {one.value for one in SearchAttribute} <= set(found.custom_attributes)
