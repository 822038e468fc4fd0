"""An HTB class of a test's own, in a network namespace of its own."""

import re
import subprocess

from real.switch import run

QDISC = "qdisc add dev v0 root handle 1: htb default 10"
CLASS = "class add dev v0 parent 1: classid 1:10 htb rate 10mbit ceil 10mbit"


class Htb:
    """A class of 10 Mbit/s, changed as somebody other than the actuator would."""

    def __init__(self, netns: str) -> None:
        self._netns = netns
        self.target = f"netns:{netns}/v0/1:10"

    def start(self) -> None:
        run("ip", "netns", "add", self._netns)
        self._add_link()

    def begin_anew(self, *, whole: bool) -> None:
        """Make the interface anew, or the whole namespace, as a pod that is replaced by the next one."""
        if whole:
            self.stop()
            self.start()
        else:
            run("ip", "-n", self._netns, "link", "del", "v0")
            self._add_link()

    def _add_link(self) -> None:
        run("ip", "-n", self._netns, "link", "add", "v0", "type", "veth", "peer", "name", "v1")
        for line in (QDISC, CLASS):
            self._tc(line)

    def stop(self) -> None:
        subprocess.run(["ip", "netns", "del", self._netns], capture_output=True, check=False)

    def mbps(self) -> float:
        """Return the rate, which must be the ceil too."""
        (found,) = re.findall(r"rate (\d+)Mbit ceil (\d+)Mbit", self._tc("class show dev v0 classid 1:10"))
        assert len(set(found)) == 1, f"a half-done change: {found}"
        return float(found[0])

    def limit(self, mbps: int) -> None:
        self._tc(f"class change dev v0 parent 1: classid 1:10 htb rate {mbps}mbit ceil {mbps}mbit")

    def _tc(self, line: str) -> str:
        return run("tc", "-n", self._netns, *line.split())
