"""Schedules, reports, archives and reconciling as an operator does them, on a running service."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from coafi.names import TaskName
from tests.harness import Repository, document, until
from tests.starters.support import Home, Up

FILE = """\
schedules:
  nightly-report:
    task: compliance-report
    cron: "0 6 29 2 *"
  check:
    task: verify-ledger
    cron: "0 6 29 2 *"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "schedules.yaml"
    made.write_text(FILE)
    return made


def changes(printed: str) -> dict[str, str]:
    return {step["schedule"]: step["change"] for step in json.loads(printed)["steps"]}


async def test_from_the_file_to_the_report_in_the_browser(service: tuple[Home, Up], file: Path) -> None:
    home, up = service
    repository = Repository.create(home.root / "scheduled")
    repository.commit({"docs/COAFI-ENG-0001-SPEC-A.md": document(1), "broken.json": "{"})
    home.submit(repository.path.as_uri(), repository.head, "--wait")
    said = {"COAFI_SCHEDULES": str(file)}

    refused = home.coafi("schedules", "apply", **said)
    assert refused.returncode == 1
    assert "say --yes" in refused.stderr
    assert "nightly-report" in refused.stdout
    dry = home.coafi("schedules", "apply", "--dry-run", "--json", **said)
    assert changes(dry.stdout) == {"nightly-report": "create", "check": "create"}
    done = home.coafi("schedules", "apply", "--yes", "--json", **said)
    assert json.loads(done.stdout)["applied"] is True
    again = home.coafi("schedules", "apply", "--yes", "--json", **said)
    assert changes(again.stdout) == {"nightly-report": "keep", "check": "keep"}
    assert json.loads(again.stdout)["applied"] is False

    assert home.json("schedules", "trigger", "nightly-report")["result"] == "triggered"
    for _ in range(200):
        results = home.json("reports", "list", "--task", TaskName.COMPLIANCE_REPORT)
        if results:
            break
        await asyncio.sleep(0.1)
    (result,) = results
    assert result["artifacts"].keys() == {"report.html", "report.json"}
    shown = home.json("reports", "show", TaskName.COMPLIANCE_REPORT)
    assert shown["details"]["trend"]["documents"] == 0, "there is no index yet: its debounce is an hour"
    output = home.root / "report.html"
    assert home.coafi("reports", "save", "compliance-report", "report.html", "-o", str(output)).returncode == 0
    page = await asyncio.to_thread(output.read_text)
    assert "<script" not in page

    async with httpx.AsyncClient(base_url=up.address.gateway) as http:
        listed = await http.get("/reports/")
        assert f"{result['ledgerEntry']}/report.html" in listed.text
        served = await http.get(f"/reports/{result['ledgerEntry']}/report.html")
        assert served.text == page
        assert "script-src" not in served.text
        assert (await http.get(f"/reports/{result['ledgerEntry']}/report.json")).json()["format"]
        for path in ("/reports/999999/report.html", f"/reports/{result['ledgerEntry']}/result"):
            assert (await http.get(path)).status_code == 404
        foreign = await http.get("/reports/", headers={"Host": "evil.example"})
        assert foreign.status_code == 403

    assert home.json("schedules", "pause", "check", "--reason", "looking")["result"] == "paused"
    rows = {row["schedule"]: row for row in home.json("schedules", "list")}
    assert rows["check"]["paused"] is True
    assert rows["check"]["note"].endswith(": looking")
    assert rows["nightly-report"]["done"] == 1
    assert home.json("schedules", "resume", "check")["result"] == "resumed"
    assert home.coafi("schedules", "trigger", "nobody").returncode == 1
    await asyncio.to_thread(file.write_text, "schedules: {}")
    removed = home.coafi("schedules", "apply", "--yes", "--json", **said)
    assert changes(removed.stdout) == {"nightly-report": "remove", "check": "remove"}


async def test_what_was_missed_is_shown_and_started_by_hand(service: tuple[Home, Up]) -> None:
    home, _ = service
    repository = Repository.create(home.root / "missed")
    url, first = repository.path.as_uri(), repository.head
    home.submit(url, first, "--wait")
    second = repository.commit({"docs/COAFI-ENG-0001-SPEC-A.md": document(1)})
    dry = home.json("reconcile", "--repository", url, "--dry-run")
    (branch,) = dry["branches"]
    assert (branch["before"], branch["after"], branch["standing"]) == (first, second, "missed")
    started = home.json("reconcile", "--repository", url)["branches"][0]
    assert started["standing"] == "started"

    def processed() -> bool:
        shown = home.coafi("events", "show", started["workflowId"], "--json")
        # Before it is received, the command fails.
        return shown.returncode == 0 and bool(json.loads(shown.stdout)["phase"] == "PROCESSED")

    await until(processed)
    assert home.json("events", "show", started["workflowId"])["counts"]["files"] == 1
    assert home.json("reconcile", "--repository", url)["branches"] == []
    assert home.json("reconcile", "--since", first)["branches"][0]["standing"] == "found"
    assert home.coafi("reconcile", "--since", "a" * 40).returncode == 1
    await asyncio.to_thread(repository.path.rename, home.root / "elsewhere")
    away = home.json("reconcile", "--repository", url, code=1)
    assert away["unreachable"].keys() == {url}


def test_a_file_that_is_not_right_is_refused_with_its_places(home: Home, file: Path) -> None:
    file.write_text(FILE.replace("verify-ledger", "verify-everything"))
    refused = home.coafi("schedules", "apply", "--yes", COAFI_SCHEDULES=str(file))
    assert refused.returncode == 1
    assert "6:5: schedules.check.task" in refused.stderr
