"""Temporal goes away under a running gateway, and comes back."""

import time
import uuid
from pathlib import Path

import httpx

from coafi.names import EntryType, Phase
from starters.embedded import TemporalServer
from tests.harness import Repository, Stack, running_stack, until


async def _ready(stack: Stack) -> httpx.Response:
    async with httpx.AsyncClient(timeout=30) as http:
        return await http.get(f"{stack.gateway}/ready")


async def test_while_temporal_is_down_deliveries_get_503_and_afterwards_the_redelivery_succeeds(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack:
        repository = Repository.create(tmp_path / "repository")
        payload, delivery = repository.push({"a.json": "{}"}), str(uuid.uuid4())
        stack.server.stop()

        started = time.monotonic()
        response = await stack.push(payload, delivery=delivery)
        assert time.monotonic() - started < 6
        assert response.status_code == 503
        assert response.headers["content-type"] == "application/problem+json"
        assert int(response.headers["retry-after"]) > 0
        assert stack.entries() == []
        unready = await _ready(stack)
        assert unready.status_code == 503
        assert [error.partition(":")[0] for error in unready.json()["errors"]] == ["Temporal"]
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"{stack.gateway}/health")).status_code == 200
            assert "coafi_ledger_entries 0.0" in (await http.get(f"{stack.gateway}/metrics")).text

        again = TemporalServer.start(
            stack.settings.home,
            port=int(stack.server.address.rpartition(":")[2]),
            ui_port=0,
            options=("--headless",),
        )
        try:
            assert again.address == stack.server.address
            await again.wait_ready()

            async def ready() -> bool:
                return (await _ready(stack)).status_code == 200

            await until(ready)
            response = await stack.push(payload, delivery=delivery)
            assert response.status_code == 202
            receipt = await stack.handle(response.json()["workflowId"]).result()
            assert receipt.phase is Phase.PROCESSED
            assert len(stack.entries(EntryType.EVENT_RECEIVED)) == 1
            stack.verify()
        finally:
            again.stop()
