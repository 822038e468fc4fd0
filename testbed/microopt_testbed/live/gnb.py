"""A gNB's user plane for one slice: GTP-U off, PDCP and ciphering on, out over the air, and back.

It is the process whose CPU the slice buys: each packet costs some, and what its quota does not cover waits in its
socket and is lost when that is full.
"""

import select
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from microopt_testbed.live import gtpu, role
from microopt_testbed.live.addresses import AIR_PORT
from microopt_testbed.live.pdcp import DOWNLINK, UPLINK, NotPdcp, Receiver, Sender
from microopt_testbed.live.role import RoleSettings, downlink_teid, uplink_teid

BATCH: Final = 16
"""Packets of one direction before the other has its turn."""
RNTI_BYTES: Final = 2
MAX_DATAGRAM: Final = 2048
SAY_EVERY_S: Final = 1.0
_NOTHING: Final = (BlockingIOError, ConnectionRefusedError)


class Gnb:
    """One cell of one slice."""

    def __init__(self, settings: RoleSettings) -> None:
        net = settings.net
        self._n3 = role.udp(net.gnb_n3, gtpu.PORT, net.upf_n3)
        self._air = role.udp(net.gnb_air, AIR_PORT, net.ue_air)
        keys = [bytes.fromhex(key) for key in settings.keys]
        self._senders = {
            downlink_teid(n): (n.to_bytes(RNTI_BYTES, "big"), Sender(key, 1, DOWNLINK))
            for n, key in enumerate(keys)
        }
        self._receivers = [Receiver(key, 1, UPLINK) for key in keys]
        self.counts: Counter[str] = Counter()

    def run(self) -> None:
        """Carry packets for ever."""
        said_s = time.monotonic()
        while True:
            select.select([self._n3, self._air], [], [], SAY_EVERY_S)
            self._some(self._n3.recv, self.downlink)
            self._some(self._air.recv, self.uplink)
            if time.monotonic() - said_s >= SAY_EVERY_S:
                said_s = time.monotonic()
                role.say(gnb=dict(self.counts))

    def _some(self, receive: Callable[[int], bytes], carry: Callable[[bytes], None]) -> None:
        for _ in range(BATCH):
            try:
                datagram = receive(MAX_DATAGRAM)
            except _NOTHING:
                return
            try:
                carry(datagram)
            except _NOTHING:  # the other side's buffer is full, or it is not there yet: as lost on the air
                self.counts["not_sent"] += 1

    def downlink(self, datagram: bytes) -> None:
        """Send what came through a tunnel to its UE."""
        try:
            teid, packet = gtpu.decapsulate(datagram)
        except gtpu.NotGtpu:
            self.counts["not_gtpu"] += 1
            return
        bearer = self._senders.get(teid)
        if bearer is None:
            self.counts["unknown_tunnel"] += 1
            return
        rnti, sender = bearer
        self._air.send(rnti + sender.pdu(packet))
        self.counts["downlink"] += 1

    def uplink(self, block: bytes) -> None:
        """Send what a UE sent through its tunnel."""
        number = int.from_bytes(block[:RNTI_BYTES], "big")
        if number >= len(self._receivers):
            self.counts["unknown_ue"] += 1
            return
        try:
            packet = self._receivers[number].packet(block[RNTI_BYTES:])
        except NotPdcp:
            self.counts["not_pdcp"] += 1
            return
        self._n3.send(gtpu.encapsulate(uplink_teid(number), packet, "uplink"))
        self.counts["uplink"] += 1


def main() -> None:
    """Run until killed."""
    gnb = Gnb(role.settings())
    role.say(ready=True)
    gnb.run()


if __name__ == "__main__":
    main()
