"""One instance keeps the ledger, another one works with it over HTTP; the first is killed in the middle."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from coafi.canonical import JsonObject
from coafi.database import Database
from coafi.ledger.keys import VerifierKey
from coafi.ledger.log import Ledger
from coafi.ledger.proof import Proof
from coafi.ledger.remote import RemoteLedger
from coafi.ledger.verifier import verify_inclusion
from coafi.names import EntryType, Phase
from starters import embedded
from tests.coafi.ledger.making import draft
from tests.coafi.ledger.serving import APPEND_TOKEN, INSTANCE, served
from tests.guarantees.support import finished
from tests.harness import Repository, documents, running_stack, settings_for, until
from tests.processes import Process, start
from tests.starters.support import COMMAND, command
from tests.strength import size
from workers.resources import open_ledger, open_resources

TOKEN = "an-append-token-that-nobody-may-see"


def free_port() -> int:
    """A port that nobody listens on, and none that the system gives to whoever asks for any."""
    return embedded._free_port(0)


@contextmanager
def ledger_process(home: Path, port: int) -> Iterator[Process]:
    """``coafi gateway`` with a ledger and no Temporal; killed at the end."""
    process = start(
        (COMMAND, "gateway"),
        {
            **{name: value for name, value in os.environ.items() if not name.startswith(("COAFI_", "BITT_API_"))},
            "COAFI_HOME": str(home),
            "COAFI_TEMPORAL_ADDRESS": "127.0.0.1:1",
            "COAFI_GATEWAY_PORT": str(port),
            "COAFI_BITT_APPEND_TOKENS": f'{{"plant-b": "{TOKEN}"}}',
        },
        home.parent / "gateway.log",
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def answers(port: int) -> bool:
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            return (await client.get(f"http://127.0.0.1:{port}/health")).status_code == 200
        except httpx.HTTPError:
            return False


@pytest.mark.also_in_soak
async def test_runs_wait_for_an_instance_that_was_killed_and_double_nothing(tmp_path: Path) -> None:
    home, port = tmp_path / "a", free_port()
    with open_resources(settings_for(tmp_path).model_copy(update={"home": home})) as resources:
        key = str(resources.ledger.key)
    with ledger_process(home, port) as first:
        await until(lambda: answers(port))
        async with running_stack(
            tmp_path,
            bitt_api_url=f"http://127.0.0.1:{port}",
            bitt_api_key=key,
            bitt_api_token=TOKEN,
            instance="plant-b",
        ) as stack:
            assert isinstance(stack.resources.ledger, RemoteLedger)
            repository = Repository.create(tmp_path / "repo")
            early = await finished(await stack.accepted(repository.push(documents(3))))
            assert early.phase is Phase.PROCESSED
            many = size(80, soak=600)
            large = await stack.accepted(repository.push(documents(many, text="Other text.")))
            await until(lambda: len(stack.entries(EntryType.FILE_PROCESSED)) > 3)
            first.send_signal(signal.SIGKILL)
            first.wait()
            waiting = [await stack.accepted(repository.push({f"{n}.txt": "a note"})) for n in range(3)]
            async with httpx.AsyncClient(trust_env=False) as client:
                assert (await client.get(f"{stack.gateway}/ready")).status_code == 200
            await asyncio.sleep(5)
            for handle in (large, *waiting):
                assert (await stack.state(handle)).phase in (Phase.RECEIVED, Phase.VALIDATED)
            with ledger_process(home, port):
                receipts = [await finished(handle, seconds=150) for handle in (large, *waiting)]
                assert {receipt.phase for receipt in receipts} == {Phase.PROCESSED}
                assert receipts[0].counts["valid"] == many
                trusted = VerifierKey.parse(key)
                for receipt in (early, *receipts[1:]):
                    for one in receipt.entries:
                        proof = stack.resources.ledger.prove(one.last)
                        assert verify_inclusion(proof, trusted).entry.namespace == "plant-b/default"
                entries = stack.verify()
                assert len(stack.entries(EntryType.FILE_PROCESSED)) == 3 + many + 3
                for entry_type in (EntryType.EVENT_RECEIVED, EntryType.EVENT_PROCESSED):
                    assert len(stack.entries(entry_type)) == 5
                assert not stack.entries(EntryType.EVENT_PROCESSING_FAILED)
    # The owner's own view of it, from its files.
    database = Database(home / "coafi.db")
    ledger = open_ledger(settings_for(tmp_path).model_copy(update={"home": home}), database)
    assert isinstance(ledger, Ledger)
    assert ledger.size() == entries
    ledger.close()
    database.close()


async def test_instances_that_share_a_ledger_keep_the_same_delivery_apart(tmp_path: Path) -> None:
    async with (
        running_stack(tmp_path / "a", bitt_append_tokens={"plant-b": TOKEN}, git_file_roots=(tmp_path,)) as one,
        running_stack(
            tmp_path / "b",
            git_file_roots=(tmp_path,),
            bitt_api_url=one.gateway,
            bitt_api_key=str(one.resources.ledger.key),
            bitt_api_token=TOKEN,
            instance="plant-b",
        ) as two,
    ):
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{one.gateway}/bitt/checkpoint")).status_code == 200
            assert (await client.get(f"{two.gateway}/bitt/checkpoint")).status_code == 404
        payload = Repository.create(tmp_path / "repo").push(documents(2))
        receipts = [await finished(await stack.accepted(payload, delivery="the-same")) for stack in (one, two)]
        assert [receipt.phase for receipt in receipts] == [Phase.PROCESSED] * 2
        assert await asyncio.to_thread(two.verify) == one.verify()
        found = one.resources.ledger.by_event("the-same")
        assert {recorded.entry.namespace for recorded in found} == {"default", "plant-b/default"}
        assert len({recorded.entry.workflow_id for recorded in found}) == 1
        indices = [
            {index for part in receipt.entries for index in range(part.first, part.last + 1)} for receipt in receipts
        ]
        assert not indices[0] & indices[1]


@pytest.mark.parametrize("name", ["BITT_API_KEY", "BITT_API_TOKEN", "COAFI_INSTANCE"])
def test_the_settings_of_a_remote_ledger_come_together(tmp_path: Path, name: str) -> None:
    environment = {
        "BITT_API_URL": "http://127.0.0.1:1",
        "BITT_API_KEY": "x",
        "BITT_API_TOKEN": TOKEN,
        "COAFI_INSTANCE": "b",
        "COAFI_HOME": str(tmp_path / "home"),
        "COAFI_TEMPORAL_ADDRESS": "127.0.0.1:1",
    }
    del environment[name]
    (tmp_path / "home").mkdir()
    Database(tmp_path / "home" / "coafi.db").create_tables()
    done = command(("ledger", "show"), {**os.environ, **environment})
    assert done.returncode != 0
    assert f"BITT_API_URL is set, and {name} must be too" in done.stderr.decode().replace("\n", " ")


def test_the_commands_of_an_instance_prove_and_verify_a_ledger_that_another_one_keeps(tmp_path: Path) -> None:
    with served(tmp_path / "a") as one:
        one.ledger.append([draft(number) for number in range(300)])
        environment = {
            "BITT_API_URL": one.url,
            "BITT_API_KEY": str(one.ledger.key),
            "BITT_API_TOKEN": APPEND_TOKEN,
            "COAFI_INSTANCE": INSTANCE,
            "COAFI_HOME": str(tmp_path / "b"),
        }
        (tmp_path / "b").mkdir()
        Database(tmp_path / "b" / "coafi.db").create_tables()

        def coafi(*arguments: str) -> JsonObject:
            done = command(("ledger", *arguments, "--json"), {**os.environ, **environment})
            assert done.returncode == 0, done.stderr
            found: JsonObject = json.loads(done.stdout)
            return found

        report = coafi("verify")
        assert (report["verified"], report["size"], report["tiles"]) == (True, 300, 3)
        proof = Proof.parse(json.dumps(coafi("prove", "299")))
        assert verify_inclusion(proof, one.ledger.key).entry.step == "files.process/299"
