"""The main job on PostgreSQL: a signed push goes through gateway, Temporal, workers and ledger to its receipt."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from coafi.database import Database, PostgresqlAddress, metadata
from coafi.database.migrate import migrate
from coafi.documents.facts import DocumentFacts
from coafi.errors import Unavailable
from coafi.names import EntryType, Phase
from coafi.settings import Settings
from coafi.trees.facts import FactsStore
from coafi.webhooks import github
from tests.coafi.ledger.making import draft
from tests.guarantees.support import finished
from tests.harness import SECRET, Repository, documents, running_stack, until
from tests.postgresql import PASSWORD, PostgresqlServer, running_server
from tests.starters.support import Home
from workers.resources import open_resources


@asynccontextmanager
async def crashing(server: PostgresqlServer) -> AsyncIterator[None]:
    """Crash it, leave it down while the block runs, and start it again."""
    await asyncio.to_thread(server.stop, "immediate")
    try:
        yield
    finally:
        await asyncio.to_thread(server.start)


async def test_a_push_goes_through_as_a_service_runs(home: Home, postgresql: PostgresqlServer) -> None:
    url = postgresql.create()
    repository = Repository.create(home.root / "repository")
    body = json.dumps(repository.push({**documents(12), "broken.json": "{"})).encode()
    headers = {
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": "delivery-1",
        "X-Hub-Signature-256": github.sign(body, SecretStr(SECRET)),
        "Content-Type": "application/json",
    }
    async with home.up(COAFI_DATABASE_URL=url, COAFI_INDEX_DEBOUNCE="0") as up:

        async def ask(*arguments: str) -> str:
            done = await asyncio.to_thread(home.coafi, *arguments, "--json", COAFI_DATABASE_URL=url)
            assert done.returncode == 0, done.stderr
            return done.stdout

        async with httpx.AsyncClient(timeout=30) as http:
            for _ in range(2):
                answer = await http.post(f"{up.address.gateway}/webhooks/github", content=body, headers=headers)
                assert answer.status_code == 202, answer.text
            assert (await http.get(f"{up.address.gateway}/ready")).status_code == 200
            workflow_id = answer.json()["workflowId"]

            async def concluded() -> bool:
                rows = json.loads(await ask("events", "list"))
                return bool(rows and rows[0]["phase"] == Phase.PROCESSED)

            await until(concluded)
            shown = json.loads(await ask("events", "show", workflow_id))
            assert shown["phase"] == Phase.PROCESSED
            assert {file["path"]: file["verdict"] for file in shown["files"]}["broken.json"] == "invalid"

            async def served() -> bool:
                return (await http.get(f"{up.address.gateway}/docs/")).text.count("main") > 0

            await until(served)
        assert len(json.loads(await ask("events", "list"))) == 1
        assert json.loads(await ask("ledger", "verify"))["verified"] is True
        json.loads(await ask("ledger", "prove", "0"))
        assert json.loads(await ask("database", "check"))["standing"] == "current"
        assert await up.stop() == 0
    assert not (home.path / "coafi.db").exists()
    told = up.log + home.transcript.read_text()
    assert PASSWORD not in told
    assert quote(PASSWORD, safe="") not in told


async def test_a_push_survives_a_crash_of_the_server(tmp_path: Path) -> None:
    with running_server() as server:
        url = server.create()
        async with running_stack(tmp_path, database_url=SecretStr(url)) as stack:
            repository = Repository.create(tmp_path / "repository")
            first = await finished(await stack.accepted(repository.push({"a.md": "# A\n"})))
            assert first.phase is Phase.PROCESSED
            large = await stack.accepted(repository.push(documents(300)))
            await until(lambda: len(stack.entries(EntryType.FILE_PROCESSED)) > 1)
            async with crashing(server):
                while_down = await stack.accepted(repository.push({"b.md": "# B\n"}))
                await asyncio.sleep(1)
            receipts = [await finished(large), await finished(while_down)]
            assert [receipt.phase for receipt in receipts] == [Phase.PROCESSED] * 2
            assert receipts[0].counts["valid"] == 300
            assert len(stack.entries(EntryType.FILE_PROCESSED)) == 302
            stack.verify()


def test_the_roles_of_the_documentation_suffice(tmp_path: Path, postgresql: PostgresqlServer) -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    section = page.partition("## On PostgreSQL\n")[2].partition("\n## ")[0]
    make, grant = re.findall(r"^```sql\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    with postgresql.connect() as owner:
        for statement in make.replace("…", PASSWORD).strip().split("\n"):
            owner.execute(statement.encode())
    urls = [postgresql.url("coafi", user=user) for user in ("coafi_owner", "coafi")]
    with closing(Database(PostgresqlAddress.parse(urls[0]))) as database:
        migrate(database)
    with postgresql.connect("coafi") as owner:
        for statement in grant.replace("…", PASSWORD).strip().split("\n"):
            owner.execute(statement.encode())
    settings = Settings(home=tmp_path, database_url=SecretStr(urls[1]))
    with open_resources(settings) as resources:
        resources.ledger.append([draft(number) for number in range(300)])
        resources.ledger.append([draft("more")])
        assert resources.ledger.checkpoint(force=True).size == 301
        facts = {"b" * 40: DocumentFacts(document_id="X", anchors=())}
        FactsStore(resources.database).remember(facts, {"c" * 40: "d" * 64}, [("X", "a.md")])
        kept = {"ledger_head", "ledger_entry", "ledger_tile", "ledger_checkpoint", "delivery"}
        with resources.database.read() as connection:
            may_delete = {
                name
                for name in metadata.tables
                if connection.execute(
                    text("SELECT has_table_privilege('coafi', :name, 'DELETE')"), {"name": name}
                ).scalar()
            }
        assert may_delete == set(metadata.tables) - kept
        for statement in ("UPDATE ledger_entry SET idx = 7", "DROP TRIGGER ledger_entry_no_change ON ledger_entry"):
            with pytest.raises(Unavailable, match="does not allow"), resources.database.write() as connection:
                connection.exec_driver_sql(statement)
