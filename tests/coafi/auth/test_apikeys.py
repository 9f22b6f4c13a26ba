"""API keys: nothing but a whole, valid key is let in, and changes of the file count at once."""

import asyncio
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coafi.auth.apikeys import MAX_FILE, ApiKeyFile
from coafi.auth.authenticator import Authenticator
from coafi.errors import AuthorizationError, ResourceNotFoundError, Unavailable, ValidationError
from tests.coafi.auth.tokens import authenticator
from tests.strength import examples


@pytest.fixture
def file(tmp_path: Path) -> ApiKeyFile:
    return ApiKeyFile(tmp_path / "api-keys.json")


@pytest.fixture
def who(tmp_path: Path) -> Authenticator:
    return authenticator(tmp_path)


async def name_of(who: Authenticator, text: str) -> str:
    return (await who.authenticate(f"Bearer {text}")).name


def make(file: ApiKeyFile, name: str = "ci", *, another: bool = False, expires: datetime | None = None) -> str:
    return file.add(name, ("editor",), expires=expires, another=another)[1].get_secret_value()


async def test_a_key_is_a_principal_with_its_roles(file: ApiKeyFile, who: Authenticator) -> None:
    text = make(file)
    for _ in range(3):
        principal = await who.authenticate(f"Bearer {text}")
        assert principal.name == "key:ci"
        assert principal.roles == ("editor",)
        assert principal.may("api:registry/update:POST")
        assert not principal.may("api:registry/status:POST")


async def test_every_change_of_a_key_is_noticed_and_not_quoted(file: ApiKeyFile, who: Authenticator) -> None:
    text = make(file)
    for at in range(len(text)):
        wrong = text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]
        with pytest.raises(AuthorizationError) as caught:
            await name_of(who, wrong)
        assert wrong[20:] not in f"{caught.value}{caught.value!r}"
    for wrong in (text[:-1], text + "0", text.upper(), text + "\n", f" {text[:40]}", text.replace("_", "-")):
        with pytest.raises(AuthorizationError):
            await name_of(who, wrong)


async def test_the_file_holds_no_key(file: ApiKeyFile) -> None:
    text = make(file)
    content = file.path.read_text()
    assert text not in content
    assert text.split("_")[2] not in content
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert text not in f"{file.keys()!r} {file!r}"


async def test_a_revoked_key_is_refused_at_once_and_stays_on_the_list(file: ApiKeyFile, who: Authenticator) -> None:
    text, other = make(file), make(file, "other")
    assert await name_of(who, text) == "key:ci"
    (revoked,) = ApiKeyFile(file.path).revoke("ci")  # as another process does
    with pytest.raises(AuthorizationError, match="was revoked"):
        await name_of(who, text)
    assert await name_of(who, other) == "key:other"
    assert [(key.name, key.status(datetime.now(UTC))) for key in file.keys().values()] == [
        ("ci", "revoked"),
        ("other", "valid"),
    ]
    assert file.revoke("ci") == ()
    assert file.keys()[revoked.id].revoked == revoked.revoked
    with pytest.raises(ResourceNotFoundError):
        file.revoke("nobody")


async def test_an_expired_key_is_refused_at_once(file: ApiKeyFile, tmp_path: Path) -> None:
    now = [time.time()]
    who = authenticator(tmp_path, clock=lambda: now[0])
    until = datetime.fromtimestamp(now[0] + 100, UTC)
    text = make(file, expires=until)
    assert await name_of(who, text) == "key:ci"
    now[0] = until.timestamp() - 0.001
    assert await name_of(who, text) == "key:ci"
    now[0] = until.timestamp()
    with pytest.raises(AuthorizationError, match="expired at"):
        await name_of(who, text)


async def test_one_key_replaces_another_under_the_same_name(file: ApiKeyFile, who: Authenticator) -> None:
    old = make(file)
    with pytest.raises(ValidationError, match="a valid API key"):
        make(file)
    new = make(file, another=True)
    assert await name_of(who, old) == await name_of(who, new) == "key:ci"
    file.revoke(old.split("_")[1])
    assert await name_of(who, new) == "key:ci"
    with pytest.raises(AuthorizationError):
        await name_of(who, old)
    file.revoke("ci")
    with pytest.raises(AuthorizationError):
        await name_of(who, new)
    assert await name_of(who, make(file)) == "key:ci"


async def test_changed_roles_count_at_once(file: ApiKeyFile, who: Authenticator) -> None:
    text = make(file)
    await name_of(who, text)
    parsed = json.loads(file.path.read_text())
    parsed["keys"][0]["roles"] = ["reader", "unknown"]
    file.path.write_text(json.dumps(parsed))
    principal = await who.authenticate(f"Bearer {text}")
    assert principal.roles == ("reader",)
    assert not principal.may("api:registry/update:POST")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o602, 0o777])
async def test_a_file_that_is_open_to_others_lets_nobody_in(file: ApiKeyFile, who: Authenticator, mode: int) -> None:
    text = make(file)
    assert await name_of(who, text) == "key:ci"
    file.path.chmod(mode)
    with pytest.raises(Unavailable) as caught:
        await name_of(who, text)
    assert str(file.path) not in str(caught.value)
    with pytest.raises(ValidationError, match=r"chmod"):
        file.keys()
    with pytest.raises(ValidationError, match=r"chmod"):
        make(file, "other")
    file.path.chmod(0o600)
    assert await name_of(who, text) == "key:ci"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
async def test_a_file_of_somebody_else_lets_nobody_in(file: ApiKeyFile, who: Authenticator) -> None:
    text = make(file)
    os.chown(file.path, 12_345, -1)
    with pytest.raises(Unavailable):
        await name_of(who, text)
    with pytest.raises(ValidationError, match="belongs to user 12345"):
        file.keys()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"keys": [{}]}',
        b'{"keys": [], "more": 1}',
        b'{"keys": [{"id": "0", "name": "x"}]}',
        b" " * (MAX_FILE + 1),
    ],
    ids=lambda content: repr(content[:20]),
)
async def test_a_file_of_garbage_lets_nobody_in_until_it_is_mended(
    file: ApiKeyFile, who: Authenticator, content: bytes
) -> None:
    text = make(file)
    good = file.path.read_bytes()
    assert await name_of(who, text) == "key:ci"
    file.path.write_bytes(content)
    with pytest.raises(Unavailable):
        await name_of(who, text)
    with pytest.raises(ValidationError, match=r"api-keys\.json"):
        make(file, "other")
    assert file.path.read_bytes() == content
    file.path.write_bytes(good)
    assert await name_of(who, text) == "key:ci"


async def test_two_keys_with_one_id_and_wrong_fields_are_refused(file: ApiKeyFile) -> None:
    make(file)
    good = json.loads(file.path.read_text())["keys"][0]
    for wrong in (
        [good, good],
        [{**good, "sha256": "0"}],
        [{**good, "expires": "soon"}],
        [{**good, "expires": "2030-01-01T00:00:00"}],
        [{**good, "roles": ["*"]}],
        [{**good, "name": "a\nb"}],
        [{**good, "secret": "x"}],
    ):
        file.path.write_text(json.dumps({"keys": wrong}))
        with pytest.raises(ValidationError, match="API keys"):
            file.keys()


async def test_a_directory_or_a_pipe_is_no_file(file: ApiKeyFile, who: Authenticator) -> None:
    text = make(file)
    file.path.unlink()
    with pytest.raises(AuthorizationError, match="not known"):
        await name_of(who, text)
    file.path.mkdir(0o700)
    with pytest.raises(Unavailable):
        await name_of(who, text)
    file.path.rmdir()
    os.mkfifo(file.path, 0o600)
    with pytest.raises(Unavailable):
        await asyncio.wait_for(name_of(who, text), 10)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(100))
@given(st.binary(max_size=300))
def test_a_file_of_any_bytes_is_read_or_refused(file: ApiKeyFile, content: bytes) -> None:
    file.path.write_bytes(content)
    file.path.chmod(0o600)
    with pytest.raises(ValidationError):
        file.keys()


@pytest.mark.parametrize("name", ["", "a b", "-a", "a\n", "é", "x" * 101, "../x", "[red]"])
def test_a_name_that_could_mislead_is_refused(file: ApiKeyFile, name: str) -> None:
    with pytest.raises(ValidationError, match="name"):
        make(file, name)
    assert not file.path.exists()


def test_what_many_threads_and_processes_change_at_once_is_all_there(file: ApiKeyFile) -> None:
    script = (
        "import sys; from pathlib import Path; from coafi.auth.apikeys import ApiKeyFile\n"
        "file = ApiKeyFile(Path(sys.argv[1]))\n"
        "for number in range(15):\n"
        "    file.add(f'{sys.argv[2]}-{number}', ('editor',), expires=None)\n"
        "    file.revoke(f'{sys.argv[2]}-{number}') if number % 3 == 0 else None\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", script, str(file.path), f"process{n}"]) for n in range(3)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: make(file, f"thread-{number}"), range(20)))
    reading = ApiKeyFile(file.path)
    while any(process.poll() is None for process in processes):
        reading.keys()  # never half a file
    assert [process.returncode for process in processes] == [0, 0, 0]
    keys = list(file.keys().values())
    assert {key.name for key in keys} == {f"thread-{n}" for n in range(20)} | {
        f"process{p}-{n}" for p in range(3) for n in range(15)
    }
    assert sum(key.revoked is not None for key in keys) == 15


async def test_changes_within_a_tick_of_the_clock_are_seen(file: ApiKeyFile, who: Authenticator) -> None:
    text = make(file)
    good = file.path.read_bytes()
    gone = good.replace(b"editor", b"reader")
    moment = time.time_ns()
    for number in range(40):
        content, role = (gone, "reader") if number % 2 else (good, "editor")
        file.path.write_bytes(content)  # the same file, size and, as far as that can be set, time
        os.utime(file.path, ns=(moment, moment))
        assert (await who.authenticate(f"Bearer {text}")).roles == (role,)


async def test_nothing_is_asked_of_the_file_when_no_key_is_shown(file: ApiKeyFile, who: Authenticator) -> None:
    file.path.write_text("garbage")
    with pytest.raises(AuthorizationError):
        await who.authenticate("Bearer a.b.c")


async def test_a_key_may_be_valid_for_long(file: ApiKeyFile, who: Authenticator) -> None:
    assert await name_of(who, make(file, expires=datetime.now(UTC) + timedelta(days=3_600))) == "key:ci"
