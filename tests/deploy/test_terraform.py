"""What Terraform makes, as far as it can be tried without Terraform and AWS; see :mod:`tests.deploy.terraform`."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from typer.testing import CliRunner

from coafi.database import PostgresqlAddress
from coafi.names import TaskQueue
from coafi.settings import Settings, load_settings, variable
from starters.api_requests import LONGEST_WAIT
from starters.cli import app
from starters.service import KEEP_ALIVE
from tests.deploy import provider
from tests.deploy.compose import ROOT
from tests.deploy.terraform import DIRECTORY, Instance, Module, expression, needs, plain, problems, read
from tests.deploy.test_kubernetes import DIRECTORY as KUBERNETES
from tests.deploy.test_kubernetes import NAMED, PODS, objects
from tests.postgresql import PASSWORD, running_server
from tests.starters.support import COMMAND

PROVIDER = provider.load()
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
KNOWN = {variable(name) for name in Settings.model_fields}


def given(text: str) -> dict[str, Any]:
    return {name: expression(value).value({}) for name, value in plain(read(text)).items()}


MODULE = Module(DIRECTORY)
EXAMPLE = given((DIRECTORY / "terraform.tfvars.example").read_text())
WHOLE = Instance(MODULE, EXAMPLE)
TASKS: dict[str, Instance] = {name: one.instance for name, one in WHOLE.look_up("module", "task").items()}
MIGRATE: Instance = WHOLE.look_up("module", "migrate").instance
SERVICES: dict[str, Instance] = {name: one.instance for name, one in WHOLE.look_up("module", "service").items()}


def called(name: str) -> Instance:
    found = WHOLE.look_up("module", name).instance
    assert isinstance(found, Instance)
    return found


def arguments(instance: Instance, type_: str, name: str) -> dict[str, Any]:
    found = instance.look_up(type_, name).arguments
    assert isinstance(found, dict)
    return found


def containers(task: Instance) -> tuple[dict[str, Any], dict[str, Any]]:
    """The container that writes secrets, and the one of the process."""
    writer, process = json.loads(arguments(task, "aws_ecs_task_definition", "task")["container_definitions"])
    return writer, process


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container["environment"]}


def statements(task: Instance, role: str) -> dict[str, dict[str, Any]]:
    return {one["sid"]: one for one in task.look_up("data", "aws_iam_policy_document")[role].arguments["statement"]}


# ---------------------------------------------------------------------- as Terraform reads it


def test_nothing_is_undefined_unused_or_unknown_to_the_provider() -> None:
    assert problems(MODULE, PROVIDER) == []


def test_every_module_that_there_is_is_called() -> None:
    assert {one.directory for one in MODULE.all()} == {DIRECTORY, *(DIRECTORY / "modules").iterdir()}


def test_the_provider_is_of_the_version_whose_arguments_are_known() -> None:
    (block,) = MODULE.body["terraform"]
    (wanted,) = block["required_providers"]
    major, minor, _ = PROVIDER["provider"].split(".")
    assert (wanted["aws"]["source"], wanted["aws"]["version"]) == ('"hashicorp/aws"', f'"~> {major}.{minor}"')


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("main.tf", "var.vpc_cidr_block", "var.vpc_cidr", "there is no variable vpc_cidr"),
        ("main.tf", "var.vpc_cidr_block", '"10.0.0.0/8"', "variable vpc_cidr_block is not used"),
        ("main.tf", "= each.value\n", "= each_.value\n", "there is no each_.value"),
        ("main.tf", "  for_each          = { for name", "  tags              = { for name", "there is no each.key"),
        ("processes.tf", "local.owner_url }", "local.owner }", "there is no local owner"),
        ("processes.tf", 'health_path = "/health"', "health_path = locals.path", "there is no locals.path"),
        ("processes.tf", "one.insecure_value }", "two.insecure_value }", "there is no two.insecure_value"),
        ("processes.tf", "tostring((var", "to_string((var", "there is no function to_string"),
        ("processes.tf", "module.key.arn\n}", "module.key.id\n}", "module key has no output id"),
        ("processes.tf", "module.key.arn\n}", "module.keys.arn\n}", "there is no module keys"),
        ("processes.tf", "  cpu                 = var.task_cpu\n", "", "module.migrate: cpu is not given"),
        ("processes.tf", "  cpu                 =", "  cpus                =", "there is no variable cpus"),
        ("modules/ecr/main.tf", "scan_on_push", "scan_on_pull", "there is no argument scan_on_pull"),
        (
            "modules/ecr/main.tf",
            "aws_ecr_repository.image.name",
            "aws_ecr_repository.images.name",
            "there is no aws_ecr",
        ),
        ("modules/ecr/main.tf", "= var.key_arn", '= "alias/x"', "variable key_arn is not used"),
        ("modules/ecr/outputs.tf", ".image.arn", ".image.arm", "has no attribute arm"),
        ("modules/ecr/outputs.tf", '"repository_arn"', '"repository"', "module ecr has no output repository_arn"),
        ("modules/ecr/outputs.tf", '"repository_arn"', '"repository"', "output repository is not used"),
        ("modules/database/main.tf", "  instance_class = var", "  class = var", "instance_class is not given"),
        ("modules/database/main.tf", '"aws_db_instance"', '"aws_db_instances"', "there is no resource of this type"),
        ("modules/objects/main.tf", "bucket_key_enabled = true", "bucket_key_enabled {}", "is no block"),
        ("modules/ecs_service/main.tf", "deployment_circuit_breaker {", "deployment_circuit_breaker = {", "is a block"),
        ("modules/ecs_service/main.tf", "load_balancer.value.port", "balancer.value.port", "there is no balancer"),
        ("variables.tf", '  description = "ID of the VPC"\n', "", "variable vpc_id has no description"),
    ],
)
def test_what_is_wrong_is_found(file: str, old: str, new: str, problem: str, tmp_path: Path) -> None:
    copy = tmp_path / "terraform"
    shutil.copytree(DIRECTORY, copy)
    text = (copy / file).read_text()
    assert old in text
    (copy / file).write_text(text.replace(old, new))
    assert any(problem in one for one in problems(Module(copy), PROVIDER)), problems(Module(copy), PROVIDER)


@pytest.mark.parametrize("path", sorted(DIRECTORY.rglob("*.tf*")), ids=lambda path: str(path.relative_to(DIRECTORY)))
def test_files_are_formatted(path: Path) -> None:
    """As ``terraform fmt`` does it: what one line opens is one level, and `=` of neighbours stand in one column."""
    levels: list[int] = []
    column = None
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        code = re.sub(r'"(?:\\.|[^"\\])*"', lambda found: "x" * len(found[0]), line.partition(" #")[0])
        net = len(re.findall(r"[({\[]", code)) - len(re.findall(r"[)}\]]", code))
        closed = max(-net, 0)
        while closed:
            levels[-1] -= 1
            closed -= 1
            if not levels[-1]:
                levels.pop()
        assert line == line.rstrip(), f"line {number}"
        assert not line or len(line) - len(line.lstrip()) == 2 * len(levels), f"line {number}"
        if net > 0:
            levels.append(net)
        single = re.match(r"\s*[\w.-]+\s*= ", code) if net == 0 else None
        assert None in (single, column) or (single and single.end() == column), f"line {number}"
        column = single.end() if single else None
    assert not levels


# ---------------------------------------------------------------------- variables


def test_the_example_gives_what_has_no_default_and_all_of_it_is_allowed() -> None:
    assert set(EXAMPLE) == {name for name, one in MODULE.variables.items() if "default" not in one}
    plan = {"aws_region", "environment", "image_tag", "vpc_id", "private_subnet_ids", "vpc_cidr_block"}
    assert plan <= set(EXAMPLE)
    for name in MODULE.variables:
        assert allowed(name, WHOLE.scope["var"][name]), name


def allowed(name: str, value: Any) -> bool:
    rules = MODULE.variables[name].get("validation", ())
    told = {**WHOLE.scope["var"], name: value}
    return all(expression(rule["condition"]).value({"var": told}) for rule in rules)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("environment", "Production"),
        ("environment", "an-environment"),
        ("environment", "verylongname"),
        ("public_url", "http://events.example.org"),
        ("public_url", "https://events.example.org/"),
        ("private_subnet_ids", ["subnet-1"]),
        ("public_subnet_ids", ["subnet-1"]),
        ("task_storage", 20),
        ("temporal_address", ""),
    ],
)
def test_what_would_not_work_is_refused(name: str, value: Any) -> None:
    assert not allowed(name, value)


def test_defaults_are_those_of_the_plan() -> None:
    told = WHOLE.scope["var"]
    assert (told["service_min_replicas"], told["service_max_replicas"]) == (3, 10)
    assert (told["task_cpu"], told["task_memory"]) == ("512", "1024")
    for service in SERVICES.values():
        policies = service.look_up("aws_appautoscaling_policy", "utilization")
        (of_cpu,) = policies["ECSServiceAverageCPUUtilization"].arguments[
            "target_tracking_scaling_policy_configuration"
        ]
        (of_memory,) = policies["ECSServiceAverageMemoryUtilization"].arguments[
            "target_tracking_scaling_policy_configuration"
        ]
        assert (of_cpu["target_value"], of_memory["target_value"]) == (70, 80)


# ---------------------------------------------------------------------- processes


def test_processes_are_those_of_kubernetes_and_as_many() -> None:
    commands = {name: containers(task)[1]["command"] for name, task in {**TASKS, "migrate": MIGRATE}.items()}
    assert commands == {
        name.partition("/")[2].removeprefix("coafi-"): pod["containers"][0]["args"] for name, pod in PODS.items()
    }
    served = {words[2] for words in commands.values() if words[0] == "worker"}
    assert served == set(TaskQueue)
    replicas = {
        name: (one.scope["var"]["min_replicas"], one.scope["var"]["max_replicas"]) for name, one in SERVICES.items()
    }
    scaled = {
        one["metadata"]["name"].removeprefix("coafi-"): (one["spec"]["minReplicaCount"], one["spec"]["maxReplicaCount"])
        for one in objects(KUBERNETES / "keda" / "scaling.yaml")
    }
    gateway = NAMED["HorizontalPodAutoscaler/coafi-gateway"]["spec"]
    assert replicas == {**scaled, "gateway": (gateway["minReplicas"], gateway["maxReplicas"]), "listener": (1, 1)}


@pytest.mark.parametrize("name", [*TASKS, "migrate"])
def test_containers_may_do_little_and_run_commands_of_ours(name: str) -> None:
    task = MIGRATE if name == "migrate" else TASKS[name]
    definition = arguments(task, "aws_ecs_task_definition", "task")
    writer, process = containers(task)
    volumes = json.loads(re.findall(r"^VOLUME (.*)$", DOCKERFILE, re.MULTILINE)[0])
    for container in (writer, process):
        assert container["user"] == re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE)[0]
        assert container["readonlyRootFilesystem"] is True
        assert container["linuxParameters"]["capabilities"] == {"drop": ["ALL"]}
        # Mounted elsewhere, a volume would be root's.
        assert sorted(one["containerPath"] for one in container["mountPoints"]) == sorted(volumes)
        assert {one["sourceVolume"] for one in container["mountPoints"]} == {
            one["name"] for one in definition["volume"]
        }
        assert container["image"].endswith(f":{EXAMPLE['image_tag']}")
    assert process["name"] == name
    assert CliRunner().invoke(app, [*process["command"], "--help"]).exit_code == 0
    assert process["dependsOn"] == [{"containerName": writer["name"], "condition": "SUCCESS"}]
    assert (writer["essential"], process["essential"]) == (False, True)


@pytest.mark.parametrize("name", TASKS)
def test_processes_are_told_settings_that_are_allowed(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    writer, process = containers(TASKS[name])
    told = environment(process)
    assert set(told) - {"TEMPORAL_CONFIG_FILE"} <= KNOWN
    of_files = {one for one in NAMED["ConfigMap/coafi-config"]["data"] if one.endswith("_FILE")}
    kubernetes = {one for one in NAMED["ConfigMap/coafi-config"]["data"] if one.isupper()} - of_files
    assert kubernetes - {"COAFI_TEMPORAL_METRICS_PORT"} <= set(told)  # no Prometheus reads these here
    for one in list(os.environ):
        if one.startswith("COAFI_"):
            monkeypatch.delenv(one)
    for one, value in told.items():
        monkeypatch.setenv(one, value)
    home = re.findall(r"COAFI_HOME=(\S+)", DOCKERFILE)[0]
    assert told["COAFI_SECRETS_DIR"] == f"{home}/secrets"
    assert (told["BITT_API_URL"], told["REGISTRY_API_URL"]) == ("", "")  # of an instance that is for itself
    for one in json.loads(environment(writer)["SECRETS"]):
        (tmp_path / one).write_text("{}" if one == "COAFI_EVENTS_SECRETS" else "")
    monkeypatch.setenv("COAFI_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("COAFI_HOME", home)
    settings = load_settings()
    assert settings.secrets_directory == Path(told["COAFI_SECRETS_DIR"])
    assert settings.drain_timeout < process["stopTimeout"] <= 120  # what Fargate allows
    disk = arguments(TASKS[name], "aws_ecs_task_definition", "task")["ephemeral_storage"][0]["size_in_gib"] * 2**30
    assert settings.git_mirrors_bytes <= disk / 2
    port, path = (8080, "/health") if name == "gateway" else (settings.metrics_port, "/metrics")
    assert [one["containerPort"] for one in process["portMappings"]] == [port]
    assert f"'http://127.0.0.1:{port}{path}'" in process["healthCheck"]["command"][-1]
    assert process["healthCheck"]["command"][:3] == ["CMD", "python", "-c"]
    compile(process["healthCheck"]["command"][-1], "health check", "exec")


def test_the_image_listens_where_the_load_balancer_asks() -> None:
    balancer = called("load_balancer")
    group = arguments(balancer, "aws_lb_target_group", "gateway")
    assert f"'http://127.0.0.1:{group['port']}{group['health_check'][0]['path']}'" in DOCKERFILE
    assert f"COAFI_GATEWAY_PORT={group['port']}" in DOCKERFILE
    (target,) = arguments(SERVICES["gateway"], "aws_ecs_service", "service")["load_balancer"]
    assert (target["container_name"], target["container_port"]) == ("gateway", group["port"])
    assert not any(
        "load_balancer" in arguments(one, "aws_ecs_service", "service")
        for name, one in SERVICES.items()
        if name != "gateway"
    )
    assert LONGEST_WAIT < arguments(balancer, "aws_lb", "gateway")["idle_timeout"] < KEEP_ALIVE


def test_the_listener_alone_keeps_its_home_and_never_runs_twice() -> None:
    for name, task in TASKS.items():
        (home,) = [one for one in arguments(task, "aws_ecs_task_definition", "task")["volume"] if one["name"] == "home"]
        assert ("efs_volume_configuration" in home) == (name == "listener")
        service = arguments(SERVICES[name], "aws_ecs_service", "service")
        least, most = service["deployment_minimum_healthy_percent"], service["deployment_maximum_percent"]
        assert (least, most) == ((0, 100) if name == "listener" else (100, 200))
    point = arguments(called("file_system"), "aws_efs_access_point", "home")
    (user,), (root,) = point["posix_user"], point["root_directory"]
    assert f"{user['uid']}:{user['gid']}" == containers(TASKS["listener"])[1]["user"]
    assert root["creation_info"] == [{"owner_uid": user["uid"], "owner_gid": user["gid"], "permissions": "0700"}]


# ---------------------------------------------------------------------- secrets


def test_secrets_are_files_that_are_looked_for() -> None:
    files = {
        path.name
        for path in (
            Settings().ledger_key_path,
            Settings().federation_key_path,
            Settings().witness_key_path,
            Settings().api_keys_path,
        )
    }
    names = set(json.loads(environment(containers(TASKS["gateway"])[0])["SECRETS"]))
    assert files < names
    settings = {one for one in names if one.isupper()}
    assert settings <= KNOWN
    assert names - files - settings == {"database-ca.pem"}
    documented = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["x-coafi"]["secrets"]
    assert set(documented) - {"COAFI_S3_SECRET_ACCESS_KEY"} <= names  # tasks have a role
    assert "database-ca.pem" in environment(containers(MIGRATE)[1])["COAFI_DATABASE_URL"]


def test_no_secret_is_in_a_file_the_state_or_the_environment_of_a_process() -> None:
    parameters = called("secrets").look_up("aws_ssm_parameter", "secret")
    for one in parameters.values():
        assert one.arguments["type"] == "SecureString"
        assert one.arguments["value_wo"] == "unset"
        assert not {"value", "insecure_value"} & set(one.arguments)
    assert parameters["AUTH_SECRET"].arguments["name"] == "/coafi/prod/secrets/event-handlers/auth-secret"
    database = arguments(called("database"), "aws_db_instance", "database")
    assert database["manage_master_user_password"] is True
    assert not {"password", "password_wo"} & set(database)
    secret = {name for name, one in Settings.model_fields.items() if "Secret" in str(one.annotation)}
    for name, task in TASKS.items():
        writer, process = containers(task)
        assert process["secrets"] == []
        assert not {variable(one) for one in secret} & {one for one, value in environment(process).items() if value}
        files = json.loads(environment(writer)["SECRETS"])
        assert {one["name"] for one in writer["secrets"]} == set(files.values())
        assert len(set(files.values())) == len(files), name
    PostgresqlAddress.parse(environment(containers(MIGRATE)[1])["COAFI_DATABASE_URL"])
    assert [one["name"] for one in containers(MIGRATE)[1]["secrets"]] == ["PGPASSWORD"]
    assert not [name for name in MODULE.variables if re.search("password|secret_value|token", name)]


def write_secrets(home: Path, **values: str) -> "subprocess.CompletedProcess[str]":
    writer, _ = containers(TASKS["gateway"])
    names = {variable: f"the {variable}" for variable in json.loads(environment(writer)["SECRETS"]).values()}
    told = {**environment(writer), **names, "COAFI_HOME": str(home), **values}
    return subprocess.run(
        [sys.executable, *writer["entryPoint"][1:], *writer["command"]],
        env=told,
        capture_output=True,
        text=True,
        check=False,
    )


def test_secrets_are_written_for_the_process_alone_and_those_that_are_gone_go(tmp_path: Path) -> None:
    for value in ("one", "two"):
        done = write_secrets(tmp_path, SECRET_LEDGER_KEY=value)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "secrets" / "ledger-key").read_text() == value
        assert (tmp_path / "secrets" / "api-keys.json").read_text() == "the SECRET_API_KEYS_JSON"
        assert not (tmp_path / "secrets" / "COAFI_GIT_TOKENS").exists()
        (tmp_path / "secrets" / "COAFI_GIT_TOKENS").touch()
    assert {stat.S_IMODE(one.stat().st_mode) for one in (tmp_path / "secrets").glob("[!C]*")} == {0o600}
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700


def test_a_process_does_not_start_on_a_secret_that_was_never_set(tmp_path: Path) -> None:
    done = write_secrets(tmp_path, SECRET_LEDGER_KEY="unset")
    assert done.returncode == 1
    assert done.stderr.strip() == "the parameter of the secret ledger-key was never set"


# ---------------------------------------------------------------------- rights


def test_who_starts_a_process_may_read_its_secrets_and_no_others() -> None:
    for task in (*TASKS.values(), MIGRATE):
        may = statements(task, "execution")
        wanted = sorted(one["valueFrom"] for one in containers(task)[0]["secrets"])
        assert sorted(may["Secrets"]["resources"]) == wanted
        assert [one["resources"] for one in may.values() if "*" in one["resources"]] == [["*"]]
        assert may["RegistryToken"] == {
            "sid": "RegistryToken",
            "actions": ["ecr:GetAuthorizationToken"],
            "resources": ["*"],
        }
    assert "Password" not in statements(TASKS["gateway"], "execution")
    (secret,) = containers(MIGRATE)[1]["secrets"]
    assert statements(MIGRATE, "execution")["Password"]["resources"] == [
        secret["valueFrom"].removesuffix(":password::")
    ]


def test_processes_may_use_their_objects_and_only_the_clean_up_removes_some() -> None:
    for name, task in TASKS.items():
        may = statements(task, "task")
        bucket, _, prefix = environment(containers(task)[1])["COAFI_OBJECTS_URL"].removeprefix("s3://").partition("/")
        assert bucket == arguments(called("objects"), "aws_s3_bucket", "objects")["bucket"]
        assert may["Objects"]["resources"] == [f"aws_s3_bucket.objects.arn/{prefix}/*"]
        actions = {"s3:GetObject", "s3:PutObject"} | ({"s3:DeleteObject"} if name == "worker-tasks" else set())
        assert set(may["Objects"]["actions"]) == actions
        assert ("Home" in may) == (name == "listener")
        assert set(may) <= {"Bucket", "Objects", "ObjectsKey", "Home"}
    assert MIGRATE.look_up("aws_iam_role_policy", "task") == []


# ---------------------------------------------------------------------- what keeps data


def test_nobody_outside_reaches_the_database_and_it_is_not_lost() -> None:
    database = called("database")
    told = arguments(database, "aws_db_instance", "database")
    assert told["publicly_accessible"] is False
    for one in ("storage_encrypted", "multi_az", "deletion_protection"):
        assert told[one] is True, one
    assert told["backup_retention_period"] >= 7
    assert told["skip_final_snapshot"] is False
    group = arguments(database, "aws_db_parameter_group", "database")
    assert {"name": "rds.force_ssl", "value": "1"} in group["parameter"]
    assert group["family"] == f"{told['engine']}{told['engine_version']}"
    assert "cidr_ipv4" not in arguments(database, "aws_vpc_security_group_ingress_rule", "tasks")
    assert "sslmode=verify-full" in environment(containers(MIGRATE)[1])["COAFI_DATABASE_URL"]


def test_objects_are_encrypted_versioned_and_private() -> None:
    bucket = called("objects")
    assert arguments(bucket, "aws_s3_bucket_versioning", "objects")["versioning_configuration"] == [
        {"status": "Enabled"}
    ]
    assert set(arguments(bucket, "aws_s3_bucket_public_access_block", "objects").values()) - {
        "aws_s3_bucket.objects.id"
    } == {True}
    (tls,) = bucket.look_up("data", "aws_iam_policy_document")["objects"].arguments["statement"]
    assert (tls["effect"], tls["condition"][0]["variable"]) == ("Deny", "aws:SecureTransport")
    rules = arguments(bucket, "aws_s3_bucket_lifecycle_configuration", "objects")["rule"]
    expirations = [one for rule in rules for one in rule.get("expiration", ())]
    assert expirations == [{"expired_object_delete_marker": True}]  # of versions that are current, none
    assert any("abort_incomplete_multipart_upload" in rule for rule in rules)


def test_the_load_balancer_speaks_modern_tls_and_hides_metrics() -> None:
    balancer = called("load_balancer")
    https, http = (arguments(balancer, "aws_lb_listener", name) for name in ("https", "http"))
    assert "TLS13-1-2" in https["ssl_policy"]
    assert http["default_action"][0]["type"] == "redirect"
    assert http["default_action"][0]["redirect"][0]["protocol"] == "HTTPS"
    rule = arguments(balancer, "aws_lb_listener_rule", "metrics")
    assert rule["condition"][0]["path_pattern"][0]["values"] == ["/metrics"]
    assert balancer.look_up("aws_wafv2_web_acl_association", "gateway") == []
    with_acl = Instance(MODULE, {**EXAMPLE, "web_acl_arn": "arn:x"}).look_up("module", "load_balancer").instance
    assert len(with_acl.look_up("aws_wafv2_web_acl_association", "gateway")) == 1


# ---------------------------------------------------------------------- deploy.sh


SCRIPT = DIRECTORY / "deploy.sh"

FAKE = """#!/bin/sh
echo "$(basename "$0") $*" >>"$CALLS"
case "$*" in
*run-task*) echo arn:task ;;
*describe-tasks*) echo "$CODE" ;;
output*) echo "the-$3" ;;
esac
"""


def deploy(tmp_path: Path, code: str) -> tuple[int, list[str]]:
    for name in ("terraform", "aws"):
        (tmp_path / name).write_text(FAKE)
        (tmp_path / name).chmod(0o755)
    told = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls"), "CODE": code}
    done = subprocess.run([SCRIPT, "0123abc", "-auto-approve"], env=told, capture_output=True, text=True, check=False)
    calls = (tmp_path / "calls").read_text().splitlines()
    return done.returncode, [one for one in calls if not one.startswith("terraform output")]


def test_tables_are_brought_up_to_date_before_the_rest(tmp_path: Path) -> None:
    code, (first, run, wait, describe, last) = deploy(tmp_path, "0")
    assert code == 0
    assert "-target=module.migrate" in first
    assert "--task-definition the-migrate_task_definition" in run
    assert "--network-configuration the-network_configuration" in run
    assert wait == "aws ecs wait tasks-stopped --cluster the-cluster_name --tasks arn:task"
    assert "arn:task" in describe
    assert last == "terraform apply -var=image_tag=0123abc -auto-approve"
    outputs = re.findall(r"terraform output -raw (\w+)", SCRIPT.read_text())
    assert set(outputs) <= set(MODULE.outputs)


@pytest.mark.parametrize("code", ["1", "None"])
def test_services_stay_as_they_are_if_that_fails(code: str, tmp_path: Path) -> None:
    returned, calls = deploy(tmp_path, code)
    assert returned == 1
    assert calls[-1].startswith("aws ecs describe-tasks")


def test_the_migration_gets_in_with_a_password_that_is_not_in_its_url(tmp_path: Path) -> None:
    _, process = containers(MIGRATE)
    told = urlsplit(environment(process)["COAFI_DATABASE_URL"])
    assert told.password is None
    with running_server() as server:
        where = urlsplit(server.create())
        url = f"postgresql://{where.username}@{where.hostname}:{where.port}{where.path}"
        done = subprocess.run(
            [COMMAND, *process["command"]],
            env={"COAFI_HOME": str(tmp_path), "COAFI_DATABASE_URL": url, process["secrets"][0]["name"]: PASSWORD},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_what_the_migration_needs_is_there_first_and_no_service_is_touched() -> None:
    targets = set(re.findall(r"-target=(\S+)", SCRIPT.read_text()))
    there = {f"module.{name}" for name in MODULE.calls} | {".".join(one) for one in MODULE.resources}
    assert targets <= there
    found = needs(MODULE, targets)
    assert {"module.ecr", "module.secrets", "module.database", "aws_ecs_cluster.coafi"} <= found
    assert {"aws_security_group.ecs_service_sg", "aws_cloudwatch_log_group.event_handlers_log_group"} <= found
    assert not {"module.service", "module.task", "module.load_balancer"} & found


# ---------------------------------------------------------------------- docs/operations.md


def test_operations_names_what_is_there() -> None:
    _, _, rest = (ROOT / "docs" / "operations.md").read_text().partition("\n## On AWS\n")
    text = rest.partition("\n## ")[0]
    targets = set(re.findall(r"-target=(\S+)", text))
    assert targets <= {f"module.{name}" for name in MODULE.calls}
    assert "aws_security_group.ecs_service_sg" in needs(MODULE, targets)
    named = set(re.findall(r"terraform output (?:-raw )?(\w+)|`(load_balancer_\w+)`", text))
    assert {one or other for one, other in named} <= set(MODULE.outputs)
    variables = set(re.findall(r"`((?:temporal|service|worker|database|web|egress|extra)_[a-z_]+)`", text))
    assert variables <= set(MODULE.variables)
    assert WHOLE.look_up("aws_security_group", "ecs_service_sg").arguments["name"] in text
    assert WHOLE.look_up("aws_cloudwatch_log_group", "event_handlers_log_group").arguments["name"] in text
    parameters = {one.arguments["name"] for one in called("secrets").look_up("aws_ssm_parameter", "secret").values()}
    assert set(re.findall(r"--name (\S+)", text)) <= parameters
    config = {one.arguments["name"] for one in WHOLE.look_up("aws_ssm_parameter", "config").values()}
    assert set(re.findall(r"/coafi/prod/config/[\w-]+", text)) == config
    assert set(re.findall(r"--key-id (\S+)", text)) == {arguments(called("key"), "aws_kms_alias", "key")["name"]}
    assert set(re.findall(r"--cluster (\S+)", text)) == {arguments(WHOLE, "aws_ecs_cluster", "coafi")["name"]}
    (services,) = re.findall(r"--services (\w+) (\w+)", text)
    assert {*services, *re.findall(r"--service (\S+)", text)} <= set(SERVICES)
