"""Ports, ownership of a home, and where others find its service."""

import asyncio
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from coafi.errors import Unavailable, ValidationError
from starters import embedded
from starters.addresses import run_url, temporal_address
from starters.embedded import ServiceAddress, TemporalServer, listening_socket, owned, temporal_executable
from starters.service import embedded_service
from tests.harness import settings_for
from tests.processes import FORKS

ADDRESS = ServiceAddress(1, "127.0.0.1:7233", "http://127.0.0.1:8233", "http://127.0.0.1:8080")


def test_an_address_is_read_only_while_somebody_owns_the_home(tmp_path: Path) -> None:
    ADDRESS.write(tmp_path)
    assert ServiceAddress.read(tmp_path) is None
    with owned(tmp_path):
        assert ServiceAddress.read(tmp_path) is None, "the address of the owner before is forgotten"
        ADDRESS.write(tmp_path)
        assert ServiceAddress.read(tmp_path) == ADDRESS
        ServiceAddress.forget(tmp_path)
        assert ServiceAddress.read(tmp_path) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"pid": 1}', '{"other": 1}', "null"])
def test_a_damaged_address_file_is_no_address(tmp_path: Path, content: str) -> None:
    with owned(tmp_path):
        (tmp_path / "service.json").write_text(content)
        assert ServiceAddress.read(tmp_path) is None


def test_a_home_has_one_owner_and_whoever_looks_does_not_own_it(tmp_path: Path) -> None:
    with owned(tmp_path), pytest.raises(ValidationError, match="already runs"), owned(tmp_path):
        pass
    ServiceAddress.read(tmp_path)
    with owned(tmp_path):
        pass


def _own_and_die(home: Path) -> None:
    with owned(home):
        os._exit(9)


def test_a_home_is_free_again_when_its_owner_was_killed(tmp_path: Path) -> None:
    process = FORKS.Process(target=_own_and_die, args=(tmp_path,))
    process.start()
    process.join(60)
    assert process.exitcode == 9
    with owned(tmp_path):
        pass


def test_a_home_that_cannot_be_a_directory_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ValidationError, match="cannot hold the state"), owned(file):
        pass


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_taken_port_is_replaced_only_where_that_is_welcome(host: str) -> None:
    with listening_socket(host, 0) as first:
        port = first.getsockname()[1]
        with listening_socket(host, port) as second:
            assert second.getsockname()[1] != port
        with pytest.raises(ValidationError, match=f"port {port}"):
            listening_socket(host, port, fall_back=False)
    with listening_socket(host, port, fall_back=False) as third:
        assert third.getsockname()[1] == port


def test_a_free_port_is_none_that_the_server_can_be_given_for_its_parts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        ports = {embedded._free_port(wish) for wish in (0, taken) for _ in range(20)}
    first_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert max(ports) < first_given
    wish = embedded._free_port(0)
    assert embedded._free_port(wish) == wish


async def test_answers_are_not_held_back_until_the_client_has_confirmed_the_one_before() -> None:
    delayed: list[int] = []

    async def look(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        delayed.append(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    listener = listening_socket("127.0.0.1", 0)
    async with await asyncio.start_server(look, sock=listener):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        assert await reader.read() == b""
        writer.close()
    assert delayed == [1]


async def test_a_server_that_cannot_start_is_an_error_that_names_its_log(tmp_path: Path) -> None:
    (tmp_path / "temporal.db").mkdir()
    server = TemporalServer.start(tmp_path, port=0, ui_port=0)
    with pytest.raises(Unavailable, match="did not start") as raised:
        await server.wait_ready()
    assert str(tmp_path / "temporal.log") in raised.value.remedy
    server.stop()


async def test_a_port_that_somebody_took_meanwhile_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        ports = iter([taken])
        free = embedded._free_port
        monkeypatch.setattr(embedded, "_free_port", lambda wish: next(ports, None) or free(wish))
        async with embedded_service(settings_for(tmp_path)) as service:
            assert service.address.temporal != f"127.0.0.1:{taken}"
    assert service.server.process.poll() is not None


async def test_anothers_listener_is_not_taken_for_the_server(tmp_path: Path) -> None:
    (tmp_path / "temporal.db").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as other:
        started = TemporalServer.start(tmp_path, port=0, ui_port=0)
        port = other.getsockname()[1]
        server = replace(started, address=f"127.0.0.1:{port}", ports=(port,))
        with pytest.raises(Unavailable):
            await server.wait_ready()
        server.stop()


def test_the_temporal_command_came_with_the_environment() -> None:
    assert os.access(temporal_executable(), os.X_OK)


def test_temporal_is_where_the_settings_say_or_where_the_service_is(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    with pytest.raises(Unavailable, match="no service runs in"):
        temporal_address(settings)
    with owned(settings.home):
        ADDRESS.write(settings.home)
        assert temporal_address(settings) == ADDRESS.temporal
    assert temporal_address(settings_for(tmp_path, temporal_address="t:7233")) == "t:7233"


def test_the_page_of_a_run_keeps_the_percent_signs_of_its_id(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, temporal_ui="https://ui.example", temporal_namespace="acme")
    url = run_url(settings, "git.commit:https://x:1", "run")
    assert url == "https://ui.example/namespaces/acme/workflows/git.commit%3Ahttps%3A%2F%2Fx%3A1/run/timeline"
    assert run_url(settings, "a", None).endswith("/workflows/a")
