import asyncio
import os
import signal
import sys

import pytest
import structlog

from microopt import supervise
from microopt.errors import ConfigError
from microopt.supervise import Child, Supervisor
from microopt.testing import eventually

SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(supervise, "RESTART_WAITS_S", (0.01, 0.02, 0.05))
    monkeypatch.setattr(supervise, "STOP_TIMEOUT_S", 0.5)


@pytest.fixture
async def supervisor():
    one = Supervisor()
    yield one
    await one.stop()


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_child_that_is_killed_is_started_again(supervisor):
    await supervisor.start(child := Child("sleeper", SLEEPS))
    first = child.process.pid
    await supervisor.kill("sleeper")
    await eventually(lambda: child.starts == 2)
    assert child.process.pid != first
    assert child.exits == [-signal.SIGKILL]
    assert supervisor.child("sleeper") is child
    assert is_gone(first)


@pytest.mark.parametrize("status", [0, 3])
async def test_a_child_that_ends_by_itself_is_started_again_and_again(supervisor, status):
    await supervisor.start(child := Child("brief", [sys.executable, "-c", f"raise SystemExit({status})"]))
    await eventually(lambda: child.starts >= 4)
    assert set(child.exits) == {status}


async def test_stopping_ends_every_child_and_starts_none_again(supervisor):
    children = [Child(name, SLEEPS) for name in ("a", "b", "c")]
    for child in children:
        await supervisor.start(child)
    await supervisor.kill("b")
    await supervisor.stop()
    pids = [child.process.pid for child in children]
    starts = [child.starts for child in children]
    await asyncio.sleep(0.2)
    assert [child.starts for child in children] == starts
    assert all(is_gone(pid) for pid in pids)


async def test_a_child_that_ignores_the_order_to_end_is_killed(supervisor, tmp_path):
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('deaf', flush=True); time.sleep(600)"
    )
    await supervisor.start(child := Child("deaf", [sys.executable, "-c", deaf], log_path=tmp_path / "log"))
    await eventually(lambda: (tmp_path / "log").read_text() == "deaf\n")
    with structlog.testing.capture_logs() as said:
        await supervisor.stop()
    assert child.process.returncode == -signal.SIGKILL
    [line] = [line for line in said if line["event"] == "child_killed"]
    assert line == {"event": "child_killed", "child": "deaf", "after_s": 0.5, "log_level": "error"}


def test_a_child_is_shown_without_its_environment():
    assert "hush" not in repr(Child("role", ["role"], {"NATS_PASSWORD": "hush"}))


async def test_a_child_has_its_own_environment_log_and_session(supervisor, tmp_path):
    say = "import os, time; print(os.environ['WORD'], os.getsid(0) == os.getpid(), flush=True); time.sleep(600)"
    command = [sys.executable, "-c", say]
    await supervisor.start(Child("talker", command, {"WORD": "hello"}, tmp_path / "log"))
    await eventually(lambda: (tmp_path / "log").read_text() == "hello True\n")
    await supervisor.kill("talker")
    await eventually(lambda: (tmp_path / "log").read_text() == "hello True\n" * 2)


async def test_a_command_that_is_not_there_is_named(supervisor, tmp_path):
    with pytest.raises(ConfigError, match=rf"router: cannot run {tmp_path}/none: No such file"):
        await supervisor.start(Child("router", [str(tmp_path / "none")]))


async def test_a_command_that_is_away_during_an_upgrade_is_run_when_it_is_back(supervisor, tmp_path):
    script = tmp_path / "role"

    def install():
        script.write_text("#!/bin/sh\nexec sleep 600\n")
        script.chmod(0o700)

    install()
    await supervisor.start(child := Child("role", [str(script)]))
    await asyncio.sleep(0.1)
    script.unlink()
    await supervisor.kill("role")
    await eventually(lambda: child.exits)
    await asyncio.sleep(0.1)
    assert child.starts == 1
    install()
    await eventually(lambda: child.starts == 2)
