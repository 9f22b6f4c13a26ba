"""The main job with objects on S3: a push to its page, its receipt and the clean-up; and a server that is away."""

import asyncio
import json
import subprocess
from pathlib import Path

import httpx

from coafi.names import EntryType, Phase
from tests.harness import Repository, documents, push_payload, running_stack
from tests.s3 import S3Server, running_s3
from tests.starters.support import Home


async def test_a_push_goes_through_as_a_service_runs(home: Home, s3: S3Server) -> None:
    settings = s3.settings()
    secret = settings["s3_secret_access_key"].get_secret_value()
    environment = {f"COAFI_{name.upper()}": str(value) for name, value in settings.items()}
    environment["COAFI_S3_SECRET_ACCESS_KEY"] = secret
    repository = Repository.create(home.root / "repository")
    commit = repository.commit({**documents(6), "broken.json": "{"})
    receipt = home.root / "receipt.json"
    async with home.up(**environment) as up:

        async def ask(*arguments: str) -> "subprocess.CompletedProcess[str]":
            done = await asyncio.to_thread(home.coafi, *arguments, **environment)
            assert done.returncode == 0, done.stderr
            return done

        words = ("--repository", repository.path.as_uri(), "--commit", commit, "--wait", "--json")
        done = json.loads((await ask("submit", "git-commit", *words)).stdout)
        assert (done["phase"], done["counts"]["valid"]) == (Phase.PROCESSED, 6)
        shown = json.loads((await ask("events", "show", done["workflow_id"], "--json")).stdout)
        assert {one["verdict"] for one in shown["files"]} == {"valid", "invalid"}
        await ask("receipt", done["workflow_id"], "-o", str(receipt))
        entries = json.loads((await ask("ledger", "find", "--type", EntryType.ARTIFACT_GENERATED, "--json")).stdout)
        digest = entries[0]["data"]["digest"]
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"{up.address.gateway}/ready")).status_code == 200
        assert secret not in up.log
    assert not (home.path / "objects").exists()
    assert secret.encode() not in (home.path / "coafi.db").read_bytes()
    assert secret not in home.transcript.read_text()
    assert digest in receipt.read_text()


async def test_while_the_server_is_away_nothing_is_accepted_and_then_everything(tmp_path: Path) -> None:
    with running_s3() as server:
        settings = server.settings()
        async with running_stack(tmp_path, **settings) as stack:
            repository = Repository.create(tmp_path / "repository")
            commit = repository.commit(documents(3))
            payload = push_payload(repository.path.as_uri(), commit)
            server.stop()
            assert (await stack.push(payload, delivery="one")).status_code == 503
            server.restart()
            server.create(settings["objects_url"])

            receipt = await (await stack.accepted(payload, delivery="one")).result()
            assert receipt.phase is Phase.PROCESSED
            stack.verify()
