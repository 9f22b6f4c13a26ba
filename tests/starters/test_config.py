"""``coafi config``, profiles of ``temporal.toml``, and workers of some task queues."""

import asyncio
import datetime
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from coafi.names import Phase, TaskQueue
from coafi.settings import Settings, variable
from tests.guarantees.support import finished
from tests.harness import SECRET, Repository, documents, running_stack, until, worker_process
from tests.postgresql import PASSWORD, PostgresqlServer
from tests.s3 import S3Server
from tests.starters.support import COMMAND, TOKEN, Home


def shown(home: Home, **environment: str) -> dict[str, dict[str, Any]]:
    done = home.coafi("config", "show", "--json", **environment)
    assert done.returncode == 0, done.stderr
    return {one["name"]: one for one in json.loads(done.stdout)}


def checked(home: Home, code: int = 0, **environment: str) -> dict[str, dict[str, str]]:
    ran = home.coafi("config", "check", "--json", **environment)
    assert ran.returncode == code, ran.stdout + ran.stderr
    return {one["name"]: one for one in json.loads(ran.stdout)}


# ---------------------------------------------------------------------------------- show


def test_every_setting_is_shown_with_where_it_comes_from(home: Home, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "AUTH_SECRET").write_text("an-auth-secret-of-more-than-32-bytes")
    found = shown(home, COAFI_SECRETS_DIR=str(secrets), COAFI_LOG_LEVEL="debug")
    assert found.keys() == {variable(name) for name in Settings.model_fields}
    assert found["COAFI_LOG_LEVEL"] == {"name": "COAFI_LOG_LEVEL", "value": "debug", "source": "environment"}
    assert found["COAFI_API_WAIT"]["source"] == "default"
    assert found["AUTH_SECRET"] == {"name": "AUTH_SECRET", "value": "(set)", "source": str(secrets)}
    assert found["COAFI_GIT_TOKENS"]["value"] == {"127.0.0.1": "(set)", "git.example": "(set)"}
    assert found["COAFI_GITHUB_WEBHOOK_SECRET"]["value"] == ["(set)"]


def test_no_secret_is_shown(home: Home) -> None:
    url = "postgresql://coafi:a-database-secret@db.example/coafi"
    for words in (("show",), ("show", "--json")):
        printed = home.coafi("config", *words, COAFI_DATABASE_URL=url).stdout
        assert "(set)" in printed
        assert not [secret for secret in (SECRET, TOKEN, "a-database-secret") if secret in printed]


def test_a_setting_that_is_none_is_named_before_anything_is_shown(home: Home) -> None:
    done = home.coafi("config", "show", COAFI_GATEWAY_PROT="1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "COAFI_GATEWAY_PROT is no setting; did you mean COAFI_GATEWAY_PORT?" in done.stderr


# --------------------------------------------------------------------------------- check


def test_a_new_home_can_be_worked_with_and_is_left_alone(home: Home) -> None:
    found = checked(home)
    assert not any(one["problem"] for one in found.values())
    assert "made at the first start" in found["database"]["found"]
    assert not home.path.exists()
    assert home.coafi("config", "check").stdout.count("✓") == len(found)


def test_everything_that_is_wrong_is_named_at_once(home: Home, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("- 7\n")
    wrong.chmod(0o600)
    found = checked(
        home,
        code=1,
        COAFI_DATABASE_URL="postgresql://u:a-database-secret@127.0.0.1:1/coafi",
        COAFI_OBJECTS_URL="s3://bucket",
        COAFI_S3_ENDPOINT="http://127.0.0.1:1",
        COAFI_S3_ACCESS_KEY_ID="id",
        COAFI_S3_SECRET_ACCESS_KEY="an-s3-secret",
        COAFI_LEDGER_KEY_FILE=str(tmp_path / "no-key"),
        COAFI_SUBSCRIBERS=str(wrong),
        COAFI_BITT_SUBSCRIPTIONS=str(wrong),
        COAFI_SCHEDULES=str(wrong),
        COAFI_TEMPORAL_ADDRESS="127.0.0.1:1",
    )
    expected = {"database", "objects", "ledger key", "subscribers", "subscriptions", "schedules", "temporal"}
    assert {name for name, one in found.items() if one["problem"]} == expected
    assert all(one["remedy"] for one in found.values() if one["problem"])
    assert "COAFI_DATABASE_URL" in found["database"]["remedy"]
    assert "a-database-secret" not in str(found)
    assert "an-s3-secret" not in str(found)


async def test_what_is_there_is_described(tmp_path: Path, postgresql: PostgresqlServer, s3: S3Server) -> None:
    settings = s3.settings()
    secret = settings.pop("s3_secret_access_key").get_secret_value()
    environment = {f"COAFI_{name.upper()}": str(value) for name, value in settings.items()}
    environment |= {"COAFI_S3_SECRET_ACCESS_KEY": secret, "COAFI_DATABASE_URL": postgresql.create()}
    async with running_stack(tmp_path, workers=False) as stack:
        home = Home(tmp_path)
        environment["COAFI_TEMPORAL_ADDRESS"] = stack.server.address
        found = await asyncio.to_thread(checked, home, 0, **environment)
        assert "namespace default" in found["temporal"]["found"]
        assert found["objects"]["found"].startswith("s3://test-")
        assert "tables: empty" in found["database"]["found"]
        assert stack.resources.settings.ledger_origin in found["ledger key"]["found"]
        assert PASSWORD not in str(found)
        wrong = await asyncio.to_thread(checked, home, 1, COAFI_TEMPORAL_NAMESPACE="nobody", **environment)
        assert "has no namespace nobody" in wrong["temporal"]["problem"]
        assert "namespace create --namespace nobody" in wrong["temporal"]["remedy"]


# ------------------------------------------------------------------------------- profiles


def certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "temporal.example")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("temporal.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "cert.pem", directory / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


@asynccontextmanager
async def with_tls(target: str, cert: Path, key: Path) -> AsyncIterator[str]:
    """A server in front of Temporal that speaks TLS; its address."""
    host, port = target.split(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["h2"])

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


PROFILE = """
[profile.prod]
address = "{address}"
namespace = "default"
[profile.prod.tls]
server_name = "temporal.example"
server_ca_cert_path = "{cert}"
[profile.elsewhere]
address = "{address}"
namespace = "elsewhere"
[profile.nowhere]
namespace = "default"
"""


async def test_a_profile_says_how_temporal_is_reached(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    async with running_stack(tmp_path, workers=False) as stack, with_tls(stack.server.address, cert, key) as address:
        file = tmp_path / "temporal.toml"
        file.write_text(PROFILE.format(address=address, cert=cert))
        home = Home(tmp_path)
        environment = {"TEMPORAL_CONFIG_FILE": str(file), "COAFI_TEMPORAL_PROFILE": "prod"}
        assert f"{address}, namespace default" in (await _temporal(home, 0, **environment))["found"]
        other = await _temporal(home, 1, **{**environment, "COAFI_TEMPORAL_PROFILE": "elsewhere"})
        assert "COAFI_TEMPORAL_NAMESPACE=elsewhere" in other["remedy"]
        none = await _temporal(home, 1, **{**environment, "COAFI_TEMPORAL_PROFILE": "none"})
        assert "the profile none of Temporal cannot be used" in none["problem"]
        nowhere = await _temporal(home, 1, **{**environment, "COAFI_TEMPORAL_PROFILE": "nowhere"})
        assert "names no address" in nowhere["problem"]
        file.write_text("[profile.prod\n")
        assert "cannot be used" in (await _temporal(home, 1, **environment))["problem"]
        file.write_text(PROFILE.format(address=address, cert=tmp_path / "no-cert"))
        assert "no-cert" in (await _temporal(home, 1, **environment))["problem"]


async def _temporal(home: Home, code: int = 0, **environment: str) -> dict[str, str]:
    return (await asyncio.to_thread(checked, home, code, **environment))["temporal"]


# -------------------------------------------------------------------------------- workers


async def test_a_worker_serves_the_queues_that_it_is_told(tmp_path: Path) -> None:
    split = (TaskQueue.EVENTS, TaskQueue.GIT)
    async with running_stack(tmp_path, workers=False) as stack:
        others = [queue for queue in TaskQueue if queue not in split]
        words = [[word for queue in some for word in ("--queue", queue.value)] for some in (split, others)]
        with worker_process(stack, COMMAND, "worker", *words[0]) as first:
            run = await stack.accepted(Repository.create(tmp_path / "r").push(documents(2)))

            async def validated() -> bool:
                return (await stack.state(run)).phase is Phase.VALIDATED

            await until(validated)
            await asyncio.sleep(1)
            assert (await stack.state(run)).phase is Phase.VALIDATED  # nobody processes files
            with worker_process(stack, COMMAND, "worker", *words[1]):
                assert (await finished(run)).phase is Phase.PROCESSED
            assert first.poll() is None
