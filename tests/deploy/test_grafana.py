"""Dashboards: they are laid out well, lead on, and ask for what gateways and workers really export."""

import itertools
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from coafi.names import SearchAttribute, TaskQueue
from tests.deploy.compose import ROOT, document
from tests.deploy.dashboards import BOARDS, GRAFANA, PANELS, PROMETHEUS, QUERIES, Query, own_series
from tests.harness import (
    Repository,
    Stack,
    documents,
    push_payload,
    running_stack,
    settings_for,
    temporal_server,
    until,
    worker_process,
)
from tests.test_docs import anchors
from workers.client import connect, measured_runtime

RARE = {
    "temporal_local_activity_execution_failed_total": {"activity_type", "task_queue"},
    "temporal_long_request_failure_total": {"operation", "status_code"},
    "temporal_request_failure_total": {"operation", "status_code"},
    "temporal_sticky_cache_miss_total": {"task_queue"},
    "temporal_sticky_cache_total_forced_eviction_total": {"task_queue"},
    "temporal_workflow_task_execution_failed_total": {"failure_reason", "task_queue"},
}
"""Series of Temporal's SDK that are there only once something went wrong that does not here, and their labels."""

LIMIT = timedelta(seconds=5)

ADDED = {"job", "instance", "service"}
"""Labels that Prometheus gives to whatever it reads."""

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool (Debian: prometheus)")
board = pytest.mark.parametrize("name", BOARDS)
panel = pytest.mark.parametrize("name", PANELS)
query = pytest.mark.parametrize("query", QUERIES, ids=[f"{one.panel}: {one.legend}" for one in QUERIES])


# ------------------------------------------------------------------------------ layout


@board
def test_a_dashboard_is_one_that_grafana_can_load(name: str) -> None:
    one = BOARDS[name]
    assert one["uid"] == name
    assert len(one["uid"]) <= 40
    assert "id" not in one, "Grafana gives it"
    assert one["schemaVersion"] >= 39
    numbers = [panel["id"] for panel in one["panels"]]
    assert len(set(numbers)) == len(numbers)
    titles = [panel["title"] for panel in one["panels"]]
    assert len(set(titles)) == len(titles)
    variables = {variable["name"] for variable in one["templating"]["list"]}
    text = json.dumps(one)
    used = set(re.findall(r"\$\{?([a-z]\w+)", text))
    assert used == variables - {"filters"}, "variables are used, and those that are used are there"
    assert len({one["title"] for one in BOARDS.values()}) == len(BOARDS)


@board
def test_panels_fill_the_grid_and_none_covers_another(name: str) -> None:
    places = {panel["title"]: panel["gridPos"] for panel in BOARDS[name]["panels"]}
    cells: dict[tuple[int, int], str] = {}
    for title, place in places.items():
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24, title
        for cell in itertools.product(
            range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        ):
            assert cells.setdefault(cell, title) == title, f"{title} covers {cells[cell]}"
    assert len(cells) == 24 * (1 + max(y for _, y in cells)), "there are holes"


@panel
def test_a_panel_says_what_it_shows(name: str) -> None:
    one = PANELS[name]
    assert one["description"].endswith(".")
    assert one["type"] in ("stat", "timeseries")
    defaults = one["fieldConfig"]["defaults"]
    assert defaults["thresholds"]["steps"][0]["value"] is None
    assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert all(target["datasource"] == one["datasource"] for target in one["targets"])
    references = [target["refId"] for target in one["targets"]]
    assert len(set(references)) == len(references)
    asked = " ".join(target["expr"] for target in one["targets"])
    seconds = re.search(r"_seconds(_bucket)?\b", asked) and "_cpu_" not in asked
    per_second = {"eps", "ops", "cps", "mps", "reqps"}
    if seconds:
        assert defaults["unit"] == "s"
    elif re.search(r"\b(rate|deriv)\(", asked) and "_cpu_" not in asked:
        assert defaults["unit"] in per_second
    else:
        assert defaults["unit"] in {"short", "bytes", "percentunit"}


@panel
def test_a_panel_leads_on_to_what_there_is(name: str) -> None:
    links = PANELS[name]["links"]
    assert links
    for link in links:
        start, _, rest = link["url"].partition("/")
        if start == "${docs}":
            page, _, anchor = rest.partition("#")
            assert not anchor or anchor in anchors(ROOT / "docs" / page), link["url"]
            assert (ROOT / "docs" / page).is_file()
        else:
            assert start == "${temporal_ui}"
            (asked,) = parse_qs(urlsplit(rest).query)["query"]
            attributes = set(re.findall(r"\b(\w+)\s*(?:=|IS)", asked))
            assert attributes <= {*SearchAttribute, "ExecutionStatus", "TemporalReportedProblems"}


@board
def test_a_dashboard_leads_on_to_what_there_is(name: str) -> None:
    urls = [link["url"] for link in BOARDS[name]["links"] if link["url"]]
    for page, anchor in re.findall(r"\$\{docs\}/([\w.-]+)#([\w-]+)", " ".join(urls)):
        assert anchor in anchors(ROOT / "docs" / page)
    assert any(url.startswith("${temporal_ui}/") for url in urls)


# ------------------------------------------------------------------------------ queries


@needs_promtool
def test_every_query_is_promql(tmp_path: Path) -> None:
    rules = [{"record": f"query:number_{number}", "expr": one.expression} for number, one in enumerate(QUERIES)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(QUERIES)} rules found" in done.stdout


@query
def test_a_query_asks_for_series_and_labels_of_ours(query: Query) -> None:
    known = own_series()
    ours = {name for name in query.metrics if name.startswith("coafi_")}
    assert query.metrics
    assert ours <= set(known)
    if ours:
        assert query.labels - ADDED <= set().union(*(known[name] for name in ours)) | {"le"}
    if any(name.endswith("_bucket") for name in query.metrics):
        assert "le" in query.labels


def test_every_metric_of_ours_is_shown() -> None:
    asked = set().union(*(one.metrics for one in QUERIES))
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for name in asked}
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in own_series()} <= shown


# ------------------------------------------------------------------------------ provisioning


@needs_promtool
def test_what_prometheus_is_told_is_right() -> None:
    command = ["promtool", "check", "config", "prometheus.yaml"]
    done = subprocess.run(command, cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rule files found" in done.stdout


def scraped() -> set[tuple[str, str, int]]:
    """Job, name and port of what Prometheus reads."""
    jobs = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())["scrape_configs"]
    return {
        (job["job_name"], name, found["port"])
        for job in jobs
        for found in job["dns_sd_configs"]
        for name in found["names"]
    }


def test_prometheus_reads_every_process_where_it_serves_metrics() -> None:
    services = document({})["services"]
    expected = {("temporal", "temporal", 9090)}
    for name, one in services.items():
        if "build" in one and one["command"][0] != "database":
            ports = {"gateway": ("8080",), "listener": (one["environment"]["COAFI_METRICS_PORT"],)}.get(
                name, (one["environment"]["COAFI_METRICS_PORT"], one["environment"]["COAFI_TEMPORAL_METRICS_PORT"])
            )
            expected |= {("coafi", name, int(port)) for port in ports}
    assert scraped() == expected
    assert services["temporal"]["environment"]["PROMETHEUS_ENDPOINT"] == "0.0.0.0:9090"


def test_grafana_finds_prometheus_and_the_dashboards() -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    services = document({})["services"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services
    interval = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == interval
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/coafi.yaml").read_text())["providers"]
    mounted = {target: Path(path) for path, target, *_ in (one.split(":") for one in services["grafana"]["volumes"])}
    assert ROOT / mounted[provider["options"]["path"]] == GRAFANA / "dashboards"
    for kind in ("datasources", "dashboards"):
        assert ROOT / mounted[f"/etc/grafana/provisioning/{kind}"] == GRAFANA / "provisioning" / kind


# ------------------------------------------------------------------------------ a real service


def free_ports(count: int) -> list[int]:
    with_ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [one.getsockname()[1] for one in with_ports]
    for one in with_ports:
        one.close()
    return found


@contextmanager
def prometheus(home: Path, addresses: dict[tuple[str, int], str]) -> Iterator[str]:
    """A Prometheus with our configuration, but for the addresses and how often it looks; its base URL."""
    configuration = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())
    configuration["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "1s"}
    configuration["rule_files"] = [str(PROMETHEUS / "rules.yaml")]
    for job in configuration["scrape_configs"]:
        job["static_configs"] = [
            {"targets": [addresses[name, found["port"]]], "labels": {"__meta_dns_name": name}}
            for found in job.pop("dns_sd_configs")
            for name in found["names"]
            if (name, found["port"]) in addresses
        ]
    home.mkdir()
    file = home / "prometheus.yaml"
    file.write_text(yaml.safe_dump(configuration))
    (port,) = free_ports(1)
    command = (
        "prometheus",
        f"--config.file={file}",
        f"--storage.tsdb.path={home / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


async def ready(client: httpx.AsyncClient) -> bool:
    """Whether Prometheus answers queries."""
    try:
        return (await client.get("/-/ready")).is_success
    except httpx.TransportError:
        return False


async def answer(client: httpx.AsyncClient, expression: str) -> list[dict[str, Any]]:
    """The series that a query finds now."""
    response = await client.post("/api/v1/query", data={"query": expression})
    assert response.is_success, f"{expression}: {response.text}"
    found: list[dict[str, Any]] = response.json()["data"]["result"]
    return found


async def bring_about(stack: Stack, home: Path) -> None:
    """An event that is processed and indexed, one that parks, and one that is refused."""
    repository = Repository.create(home / "repository")
    processed = await stack.accepted(repository.push(documents(2)))
    await stack.accepted(push_payload("https://git.invalid/acme/docs", "b" * 40))
    assert (await stack.push({}, secret="another")).status_code == 401
    await processed.result()


@pytest.mark.soak
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no Prometheus (Debian: prometheus)")
async def test_prometheus_reads_a_real_service_and_every_query_finds_what_there_is(tmp_path: Path) -> None:
    server, own, sdk = free_ports(3)
    ports = {"COAFI_METRICS_PORT": str(own), "COAFI_TEMPORAL_METRICS_PORT": str(sdk)}
    quickly = {"COAFI_GIT_PATIENCE": "0.5", "COAFI_INDEX_DEBOUNCE": "0.1"}
    async with running_stack(
        tmp_path, workers=False, server_options=(f"--metrics-port={server}",), index_debounce=0.1
    ) as stack:
        addresses = {
            ("gateway", 8080): urlsplit(stack.gateway).netloc,
            ("worker-events", 9090): f"127.0.0.1:{own}",
            ("worker-events", 9091): f"127.0.0.1:{sdk}",
            ("temporal", 9090): f"127.0.0.1:{server}",
        }
        with (
            worker_process(stack, **ports, **quickly),
            prometheus(tmp_path / "prometheus", addresses) as url,
        ):
            async with httpx.AsyncClient(base_url=url) as client:
                await until(lambda: ready(client))
                await bring_about(stack, tmp_path)
                await until(lambda: everything_counted(client))
                await look_at(client)


@activity.defn
async def fail() -> None:
    raise ApplicationError("on purpose")


@workflow.defn
class Trouble:
    """A workflow that goes wrong in each way that there is."""

    @workflow.run
    async def run(self, kind: str) -> None:
        """Go wrong, or wait."""
        if kind == "defect":
            raise RuntimeError("on purpose")
        if kind == "failing":
            await workflow.execute_local_activity(
                fail, start_to_close_timeout=LIMIT, retry_policy=RetryPolicy(maximum_attempts=1)
            )
        await workflow.sleep(1)


@pytest.mark.soak
async def test_what_is_rare_is_there_once_it_happens(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    (port,) = free_ports(1)
    async with temporal_server(settings) as server, httpx.AsyncClient() as http:
        client = await connect(settings, server.address, runtime=measured_runtime(port))
        worker = Worker(
            client,
            task_queue="trouble",
            workflows=[Trouble],
            activities=[fail],
            workflow_runner=UnsandboxedWorkflowRunner(),
            max_cached_workflows=2,
            max_concurrent_workflow_tasks=2,
        )

        async def missing() -> set[str]:
            """The series that are not there yet; those that are have the labels that are asked for."""
            families = text_string_to_metric_families((await http.get(f"http://127.0.0.1:{port}/metrics")).text)
            labels = {sample.name: set(sample.labels) for family in families for sample in family.samples}
            for name in RARE.keys() & labels.keys():
                assert RARE[name] <= labels[name]
            return RARE.keys() - labels.keys()

        async with worker:
            for number, kind in enumerate(("defect", "failing", *["calm"] * 6)):
                await client.start_workflow(Trouble.run, kind, id=f"trouble-{number}", task_queue="trouble")
            with pytest.raises(RPCError):
                await client.get_workflow_handle("nobody").describe()

            async def all_but_one() -> bool:
                return await missing() <= {"temporal_long_request_failure_total"}

            await until(all_but_one)
            server.stop()

            async def every_one() -> bool:
                return not await missing()

            await until(every_one)


async def everything_counted(client: httpx.AsyncClient) -> bool:
    """Whether what was brought about is seen, each of it twice, as rates need it."""
    parked = await answer(client, 'coafi_open_runs{state="parked"} == 1')
    counters = ("coafi_events_parked_total", "coafi_index_updates_total", "temporal_activity_execution_failed_total")
    return bool(parked) and all([await answer(client, f"rate({name}[10s])") for name in counters])


async def look_at(client: httpx.AsyncClient) -> None:
    """Ask every query, of variables and alerts too."""
    targets = await answer(client, "up")
    assert {one["metric"]["service"] for one in targets} == {"gateway", "worker-events", "temporal"}
    assert {one["value"][1] for one in targets} == {"1"}
    names = set((await client.get("/api/v1/label/__name__/values")).json()["data"])
    known = own_series() | RARE
    for one in QUERIES:
        found = await answer(client, one.expression)
        if one.metrics <= names:
            assert found, f"{one.panel} is empty: {one.expression}"
        else:
            assert one.metrics - names - {"ALERTS"} <= set(known), f"nothing exports {one.metrics - names}"
            assert one.labels - ADDED <= {"le"}.union(*(known.get(name, one.labels) for name in one.metrics))
        for series in found:
            assert set(re.findall(r"\{\{(\w+)\}\}", one.legend)) <= set(series["metric"]), one
    queues = (await client.get("/api/v1/label/queue/values", params={"match[]": "coafi_queue_backlog"})).json()
    assert set(queues["data"]) == set(TaskQueue)
    (rules,) = (await client.get("/api/v1/rules")).json()["data"]["groups"]
    assert {one["health"] for one in rules["rules"]} == {"ok"}
