"""Secrets that callers send, where they belong and where they do not: nothing that stays has one of them in it."""

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from joserfc.jwk import OctKey
from pydantic import SecretStr

from coafi.auth.apikeys import ApiKeyFile
from coafi.names import EntryType
from starters.api_requests import LONGEST_WAIT
from tests.coafi.auth.tokens import signed
from tests.guarantees.test_history import assert_nowhere, everything_readable
from tests.harness import running_stack, worker_process
from tests.starters.test_api import entry, problem, workflow_of

SHARED = "a-shared-secret-that-nobody-may-see-in-any-place"
WRITTEN = "what-a-caller-wrote-where-it-does-not-belong"
"""A value in a body is kept with the body, and quoted nowhere else."""

JSON = {"Content-Type": "application/json"}
WAIT = {"Prefer": f"wait={LONGEST_WAIT:.0f}"}


async def test_no_secret_of_a_caller_stays_anywhere(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with running_stack(tmp_path, workers=False, auth_secret=SecretStr(SHARED)) as stack:
        keys = ApiKeyFile(stack.settings.api_keys_path)
        key = keys.add("ci", ("editor",), expires=None)[1].get_secret_value()
        expired = keys.add("old", ("editor",), expires=datetime.now(UTC) - timedelta(days=1))[1].get_secret_value()
        token = signed(OctKey.import_key(SHARED), "HS256", iss="coafi")
        forged = signed(OctKey.import_key("another-shared-secret-of-sufficient-length"), "HS256", iss="coafi")
        unknown = f"{key[:-8]}{'A' * 8}"
        basic = base64.b64encode(f"ci:{key}".encode()).decode()
        bearers = {name: {"Authorization": f"Bearer {one}"} for name, one in (("key", key), ("token", token))}
        bodies: list[bytes] = []
        async with httpx.AsyncClient(base_url=f"{stack.gateway}/api", timeout=90) as client:

            async def ask(method: str, path: str, status: int, **more: object) -> httpx.Response:
                response = await client.request(method, path, **more)  # type: ignore[arg-type]  # what each line gives
                assert response.status_code == status, response.text
                if status >= 400:
                    problem(response, status)
                bodies.append(response.content + str(response.headers).encode())
                return response

            with worker_process(stack, COAFI_LOG_LEVEL="debug", AUTH_SECRET=SHARED):
                asked = entry()
                for number, headers in enumerate(bearers.values()):  # where they belong
                    made = await ask("POST", "/registry/update", 201 - number, json=asked, headers={**headers, **WAIT})
                    await ask("GET", f"/event/{workflow_of(made)}", 200, headers=headers)
                for wrong in (forged, expired, unknown, SHARED, f"{token}x", f"{key} {key}", token.rpartition(".")[0]):
                    await ask(
                        "POST", "/registry/update", 401, json=entry(), headers={"Authorization": f"Bearer {wrong}"}
                    )
                for headers in ({"Authorization": f"Basic {basic}"}, {"Authorization": key}, {"X-Api-Key": key}):
                    await ask("GET", "/registry/entries", 401, headers=headers)
                await ask("GET", "/registry/entries", 401, headers={"Cookie": f"token={token}"})
                for secret in (key, token, SHARED):  # where they do not belong
                    mine = {**bearers["key"], **WAIT}
                    where = {"registryId": "AERO", "entryId": str(asked["entryId"])}
                    await ask("GET", "/registry/entries", 401, params={"access_token": secret})
                    await ask("GET", "/registry/entry", 422, params={**where, "authorization": secret}, headers=mine)
                    await ask("GET", "/registry/entry", 422, params={**where, "version": secret}, headers=mine)
                    await ask("GET", "/registry/entries", 422, params={"status": secret}, headers=mine)
                    more = {**mine, "X-Authorization": secret, "Cookie": secret, "Referer": f"/?token={secret}"}
                    kept = await ask(
                        "POST", "/registry/update", 200, json=asked, headers=more, params={"access_token": secret}
                    )
                    assert kept.headers["coafi-event"]
                    for name in ("If-Match", "If-None-Match"):
                        await ask("POST", "/registry/update", 400, json=asked, headers={**mine, name: secret})
                    await ask("POST", "/registry/update", 400, content=f"{{{secret}", headers={**mine, **JSON})
                    await ask("POST", "/registry/update", 415, content=secret, headers={**mine, "Content-Type": secret})
                    checked = {"schemaId": "GitCommitEventPayload", "data": {"branch": [secret], "author": secret}}
                    await client.post("/schema/validate", json=checked, headers=mine)  # nothing of it stays
                for change in ({"class": WRITTEN}, {"tags": WRITTEN}, {"owner": WRITTEN * 9}):
                    refused = {**asked, **change}
                    await ask("POST", "/registry/update", 422, json=refused, headers={**bearers["key"], **WAIT})
            assert len(stack.entries(EntryType.REGISTRY_ENTRY_CHANGED)) == 5
            places = await everything_readable(stack, capfd)
            places["metrics"] = (await client.get(f"{stack.gateway}/metrics")).content
        places |= {f"answer {number}": body for number, body in enumerate(bodies)}
        for path in (stack.settings.home, *stack.settings.home.rglob("*")):
            if path.is_file() and path.suffix != ".lock":
                places[str(path.relative_to(stack.settings.home))] = path.read_bytes()
        assert any(b"api.operate" in text for place, text in places.items() if place.startswith("worker"))
        assert {"coafi.db", "temporal.db", "secrets/api-keys.json"} <= places.keys()
        assert any(place.startswith("objects/") for place in places)
        assert_nowhere(
            {
                "key": key.rpartition("_")[2],
                "expired key": expired.rpartition("_")[2],
                "unknown key": unknown.rpartition("_")[2],
                "signature of the token": token.rpartition(".")[2],
                "claims of the token": token.split(".")[1],
                "signature of the forged token": forged.rpartition(".")[2],
                "shared secret": SHARED,
                "basic": basic,
            },
            places,
        )
        lasting = ("entry ", "answer ", "worker-", "output", "metrics", "coafi.db")
        assert_nowhere({"value": WRITTEN}, {place: places[place] for place in places if place.startswith(lasting)})
