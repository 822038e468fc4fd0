"""An Open vSwitch of a test's own: both daemons in a network namespace, with the datapath in user space."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

from real.process import Process, executable

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
TRAFFIC = Path(__file__).parents[2] / "benchmarks" / "actuate" / "traffic.py"
KNOWN_FOR_S = 0.02
"""The driver takes what it was told 10 ms ago for true; a fast ovs-vsctl takes less."""
BRIDGE = "br0"
PRIVATE_TMP = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmp /tmp && exec "$@"', "sh")
COUNTS_CORES_AFTER_S = 11.0
"""In the first 10 s after a boot, ovs-vswitchd 3.1 counts no cores, and has no thread for a kernel's packets."""
SSL = {"private-key": "private_key", "certificate": "certificate", "ca-cert": "ca_cert"}


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)[:300]}: {done.stderr}"
    return done.stdout


class OvsdbServer(Process):
    def __init__(self, netns: str, folder: Path) -> None:
        self._socket = folder / "db.sock"
        self.database = folder / "conf.db"
        command = [
            *(() if os.access("/tmp", os.W_OK) else PRIVATE_TMP),  # where the server compacts its database
            *("ip", "netns", "exec", netns, executable("ovsdb-server", "/usr/sbin"), str(self.database)),
            *(f"--remote=punix:{self._socket}", f"--unixctl={folder / 'ovsdb.ctl'}", "--no-chdir"),
            *(f"--{file}=db:Open_vSwitch,SSL,{column}" for file, column in SSL.items()),
        ]
        super().__init__(command, folder / "ovsdb.log", port=0)

    def begin(self) -> None:
        self._socket.unlink(missing_ok=True)  # left by one that was killed
        super().begin()

    def is_ready(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self._socket)) == 0


class Vswitchd(Process):
    def __init__(self, netns: str, folder: Path) -> None:
        self._control = folder / "vswitchd.ctl"
        command = [
            *("env", f"OVS_RUNDIR={folder}", "ip", "netns", "exec", netns),
            *(executable("ovs-vswitchd", "/usr/sbin"), f"unix:{folder / 'db.sock'}"),
            *(f"--unixctl={self._control}", "--no-chdir"),
        ]
        super().__init__(command, folder / "vswitchd.log", port=0)

    def begin(self) -> None:
        self._control.unlink(missing_ok=True)
        time.sleep(max(0.0, COUNTS_CORES_AFTER_S - time.clock_gettime(time.CLOCK_MONOTONIC)))
        super().begin()

    def is_ready(self) -> bool:
        return self._control.exists()


class Switch:
    """A bridge whose ports are links to nowhere, and what the kernel has of them."""

    def __init__(self, folder: Path, netns: str) -> None:
        self.netns = netns
        self.folder = folder
        self.remote = f"unix:{folder / 'db.sock'}"
        self.ovsdb = OvsdbServer(netns, folder)
        self.vswitchd = Vswitchd(netns, folder)
        self._hosts: list[str] = []

    def start(self, datapath: str = "netdev") -> None:
        run("ip", "netns", "add", self.netns)
        run("ip", "-n", self.netns, "link", "set", "lo", "up")
        self.create_database()
        self.ovsdb.begin()
        self.vsctl("--no-wait", "init")
        self.vswitchd.begin()
        self.vsctl("add-br", BRIDGE, "--", "set", "bridge", BRIDGE, f"datapath_type={datapath}")

    def stop(self) -> None:
        for daemon in (self.vswitchd, self.ovsdb):
            daemon.end(signal.SIGKILL)
        for netns in (self.netns, *self._hosts):
            subprocess.run(["ip", "netns", "del", netns], capture_output=True, check=False)

    def create_database(self) -> None:
        run("ovsdb-tool", "create", str(self.ovsdb.database), str(SCHEMA))

    def listen(self, remote: str) -> None:
        """Have the database served at another place too, until it ends; TLS with what `set-ssl` says."""
        control = f"--target={self.folder / 'ovsdb.ctl'}"
        run("ovs-appctl", control, "ovsdb-server/add-remote", "db:Open_vSwitch,Open_vSwitch,manager_options")
        self.vsctl("--no-wait", "set-manager", remote)

    def make_certificates(self, folder: Path) -> None:
        """Make an authority, and a server and a client that it vouches for."""
        folder.mkdir(exist_ok=True)
        for name in ("ca", "server", "client"):
            signed = [] if name == "ca" else ["-CA", str(folder / "ca.pem"), "-CAkey", str(folder / "ca.key")]
            new = ["-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-days", "2"]
            files = ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")]
            run("openssl", "req", "-x509", *new, *signed, *files)

    def vsctl(self, *command: str) -> str:
        """Change the database, and wait until the switch has followed and what a driver knew before is too old."""
        said = run("ovs-vsctl", f"--db={self.remote}", "--timeout=10", *command).strip()
        time.sleep(KNOWN_FOR_S)
        return said

    def tc(self, line: str) -> str:
        return run("tc", "-n", self.netns, *line.split())

    def ip(self, *command: str) -> None:
        run("ip", "-n", self.netns, *command)

    def add_port(self, name: str) -> None:
        """Add a port that is one end of a link; the other is called as the port, and peer."""
        run("ip", "-n", self.netns, "link", "add", name, "type", "veth", "peer", "name", f"{name}-peer")
        for end in (name, f"{name}-peer"):
            run("ip", "-n", self.netns, "link", "set", end, "up")
        self.vsctl("add-port", BRIDGE, name)

    def add_host(self, port: str, address: str) -> str:
        """Put the other end of a port's link into a namespace of its own, and return that."""
        netns = f"{self.netns}-{port}"
        run("ip", "netns", "add", netns)
        self._hosts.append(netns)
        self.add_port(port)
        run("ip", "-n", self.netns, "link", "set", f"{port}-peer", "netns", netns)
        run("ip", "-n", netns, "address", "add", address, "dev", f"{port}-peer")
        run("ip", "-n", netns, "link", "set", f"{port}-peer", "up")
        run("ip", "netns", "exec", netns, sys.executable, str(TRAFFIC), "quiet", f"{port}-peer")
        return netns

    def shape(self, port: str, *queues: int, kind: str = "linux-htb", most: str = "100000000") -> str:
        """Give a port a QoS whose queues have 10 Mbit/s and the tag port=<port>-<queue>; return its uuid."""
        most_too = [f"other_config:max-rate={most}"] if most else []
        command = ["set", "port", port, "qos=@qos", "--", "--id=@qos", "create", "qos", f"type={kind}", *most_too]
        command += [f"queues:{number}=@q{number}" for number in queues]
        for number in queues:
            rates = ("other_config:min-rate=10000000", "other_config:max-rate=10000000")
            command += ["--", f"--id=@q{number}", "create", "queue", *rates]
            command += [f"external_ids:port={port}-{number}"]
        self.vsctl(*command)
        return self.vsctl("get", "port", port, "qos")

    def queue(self, port: str, number: int) -> str:
        """Return the uuid of a queue."""
        qos = self.vsctl("get", "port", port, "qos")
        return self.vsctl("get", "qos", qos, f"queues:{number}")

    def config(self, port: str, number: int) -> dict[str, str]:
        """Return what the database has of a queue's rates."""
        text = self.vsctl("get", "queue", self.queue(port, number), "other_config")
        return dict(re.findall(r'([\w-]+)="?([^",}]*)"?', text))

    def add_flow(self, flow: str) -> None:
        run("ovs-ofctl", "add-flow", f"unix:{self.folder / BRIDGE}.mgmt", flow)

    def rows(self, table: str) -> int:
        return len(self.vsctl("--bare", "--columns=_uuid", "list", table).split())

    def classes(self, port: str) -> dict[int, tuple[str, str]]:
        """Return rate and ceil of each queue of a port, as the kernel has them."""
        found = re.findall(
            r"class htb 1:(\w+) parent \S+ .*?rate (\S+) ceil (\S+)", self.tc(f"class show dev {port}")
        )
        return {int(number, 16) - 1: (rate, ceil) for number, rate, ceil in found}


class Transfer:
    """A TCP connection that sends as fast as it goes, from one namespace to an address in another."""

    def __init__(self, sender: str, receiver: str, address: str) -> None:
        self._counts: deque[tuple[float, int]] = deque(maxlen=600)
        self._receiver = subprocess.Popen(_python(receiver, "receive", "5201"), stdout=subprocess.PIPE, text=True)
        assert self._receiver.stdout.readline() == "ready\n"
        self._thread = threading.Thread(target=self._count)
        self._thread.start()
        self._sender = subprocess.Popen(_python(sender, "send", address, "5201"))

    def __enter__(self) -> "Transfer":
        return self

    def __exit__(self, *_: object) -> None:
        self._sender.kill()
        self._sender.wait()
        self._receiver.kill()
        self._receiver.wait()
        self._thread.join()
        self._receiver.stdout.close()

    def mbps(self, last_s: float) -> float:
        """Return the payload received in the last seconds, in Mbit/s; 0 before there have been as many."""
        since_s = time.monotonic() - last_s
        counts = [one for one in list(self._counts) if one[0] >= since_s]
        if not counts or counts[-1][0] - counts[0][0] < 0.8 * last_s:
            return 0.0
        (begin_s, begin), (end_s, end) = counts[0], counts[-1]
        return (end - begin) * 8 / (end_s - begin_s) / 1e6

    def _count(self) -> None:
        for line in self._receiver.stdout:
            at_s, total = line.split()
            self._counts.append((float(at_s), int(total)))


def _python(netns: str, *arguments: str) -> list[str]:
    return ["ip", "netns", "exec", netns, sys.executable, str(TRAFFIC), *arguments]
