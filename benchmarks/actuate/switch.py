"""An Open vSwitch for the benchmark alone, in network namespaces of its own, with its datapath in user space."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
TRAFFIC = Path(__file__).with_name("traffic.py")
ADDRESS = "192.0.2.1"
WITHIN_S = 20.0


class Switch:
    """A bridge in the namespace `name`, whose ports lead to namespaces of their own."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.socket = folder / "db.sock"
        self.namespaces = [name]
        self._folder = folder
        self._daemons: list[subprocess.Popen[bytes]] = []

    def begin(self) -> None:
        """Run both daemons over a new database, with a bridge in user space."""
        folder = self._folder
        _run("ovsdb-tool", "create", f"{folder}/conf.db", SCHEMA)
        self._run(
            "ovsdb-server", f"{folder}/conf.db", f"--remote=punix:{self.socket}", f"--unixctl={folder}/ovsdb.ctl"
        )
        _wait(self.socket.exists, "ovsdb-server does not start")
        self.vsctl("--no-wait", "init")
        self._run("ovs-vswitchd", f"unix:{self.socket}", f"--unixctl={folder}/vswitchd.ctl")
        self.vsctl("add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev")

    def end(self) -> None:
        """Kill both daemons, and forget the database; links stay."""
        while self._daemons:
            daemon = self._daemons.pop()
            daemon.kill()
            daemon.wait()
        for left in ("conf.db", "db.sock", ".conf.db.~lock~"):
            (self._folder / left).unlink(missing_ok=True)

    def has_class(self, port: str, rate: str) -> bool:
        """Return whether the kernel holds a class of a port to a rate, as tc writes it."""
        command = ["tc", "-n", self.name, "class", "show", "dev", port]
        shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return f" rate {rate} ceil {rate} " in shown

    def _run(self, *command: str) -> None:
        inside = ["env", f"OVS_RUNDIR={self._folder}", "ip", "netns", "exec", self.name, *command, "--no-chdir"]
        quiet = subprocess.DEVNULL
        self._daemons.append(subprocess.Popen(inside, stdin=quiet, stdout=quiet, stderr=quiet))

    def vsctl(self, *command: str) -> None:
        """Change the database, and wait until the switch has followed."""
        _run("ovs-vsctl", f"--db=unix:{self.socket}", "--timeout=20", *command)

    def add_port(self, port: str, address: str) -> str:
        """Add a port with a host behind it, and return the host's namespace."""
        host, far = f"{self.name}-{port}", f"{port[:10]}-far"
        _run("ip", "netns", "add", host)
        self.namespaces.append(host)
        _run("ip", "-n", self.name, "link", "add", port, "type", "veth", "peer", "name", far, "netns", host)
        _run("ip", "-n", host, "address", "add", f"{address}/24", "dev", far)
        _run("ip", "-n", self.name, "link", "set", port, "up")
        _run("ip", "-n", host, "link", "set", far, "up")
        _run(*python(host, "quiet", far))
        self.vsctl("add-port", "br0", port)
        return host

    def add_queues(self, port: str, *numbers: int) -> None:
        """Give a port a QoS of 100 Mbit/s and queues of 10."""
        rates = ("other_config:min-rate=10000000", "other_config:max-rate=10000000", "other_config:burst=400000")
        words = ["set", "port", port, "qos=@s", "--", "--id=@s", "create", "qos", "type=linux-htb"]
        words += ["other_config:max-rate=100000000", *(f"queues:{number}=@q{number}" for number in numbers)]
        for number in numbers:
            words += ["--", f"--id=@q{number}", "create", "queue", f"external_ids:bench={number}", *rates]
        self.vsctl(*words)


@contextmanager
def running_switch() -> Iterator[Switch]:
    """Run both daemons, and remove all at the end."""
    name = f"microopt-bench-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="microopt-bench-") as folder:
        switch = Switch(name, Path(folder))
        _run("ip", "netns", "add", name)
        try:
            switch.begin()
            yield switch
        finally:
            switch.end()
            for namespace in switch.namespaces:
                _run("ip", "netns", "del", namespace)


@contextmanager
def transfer(sender: str, receiver: str, record: Path) -> Iterator[None]:
    """Send by TCP as fast as it goes, and note in a file what was received so far."""
    with record.open("wb") as file:
        receiving = subprocess.Popen(python(receiver, "receive", "5201"), stdout=file)
    try:
        _wait(lambda: record.stat().st_size > 0, "nobody receives")
        sending = subprocess.Popen(python(sender, "send", ADDRESS, "5201"))
        try:
            yield
        finally:
            sending.kill()
            sending.wait()
    finally:
        receiving.kill()
        receiving.wait()


def received_mbps(record: Path, begin_s: float, end_s: float) -> float:
    """Return the payload that was received between two monotonic times, in Mbit/s."""
    lines = [line.split() for line in record.read_text().splitlines()[1:]]
    counts = [(float(at_s), int(total)) for at_s, total in lines if begin_s <= float(at_s) <= end_s]
    (first_s, first), (last_s, last) = counts[0], counts[-1]
    return (last - first) * 8 / (last_s - first_s) / 1e6


def python(namespace: str, *arguments: str) -> list[str]:
    """Return the command that runs traffic.py in a namespace."""
    return ["ip", "netns", "exec", namespace, sys.executable, str(TRAFFIC), *arguments]


def _wait(probe: Callable[[], bool], what: str) -> None:
    give_up_s = time.monotonic() + WITHIN_S
    while not probe():
        if time.monotonic() > give_up_s:
            raise RuntimeError(what)
        time.sleep(0.02)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
