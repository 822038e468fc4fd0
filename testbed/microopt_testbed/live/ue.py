"""One slice's UEs: their modem between the air and the network stack, and what they do with it."""

import asyncio
import os
import socket
import time
from contextlib import suppress
from typing import Final

import aiohttp

from microopt_testbed.live import packets, replay, role
from microopt_testbed.live.addresses import AIR_PORT, UE_TUN, VIDEO_PORT, SliceNet
from microopt_testbed.live.gnb import RNTI_BYTES
from microopt_testbed.live.goodput import Goodput
from microopt_testbed.live.pdcp import DOWNLINK, UPLINK, NotPdcp, Receiver, Sender
from microopt_testbed.live.role import RoleSettings
from microopt_testbed.live.tun import open_tun

SEGMENT_S: Final = 3.0
BUFFER_S: Final = 30.0
"""A player that has so much video in store waits before it asks for more."""
CHUNK: Final = 64 * 1024
RETRY_S: Final = 0.2
STALLED_S: Final = 20.0
"""A connection that has brought nothing for so long is given up for a new one."""
_SOURCE: Final = slice(12, 16)


class Modem:
    """The radio side of all UEs: one bearer each, one TUN interface that has all their addresses."""

    def __init__(self, settings: RoleSettings) -> None:
        net = settings.net
        self._air = role.udp(net.ue_air, AIR_PORT, net.gnb_air)
        self._tun = open_tun(UE_TUN)
        keys = [bytes.fromhex(key) for key in settings.keys]
        self._senders = [Sender(key, 1, UPLINK) for key in keys]
        self._receivers = [Receiver(key, 1, DOWNLINK) for key in keys]

    def start(self) -> None:
        """Carry packets from now on."""
        packets.from_socket(self._air, self._downlink)
        packets.from_tun(self._tun, self._uplink)

    def _downlink(self, block: bytes) -> None:
        number = int.from_bytes(block[:RNTI_BYTES], "big")
        with suppress(NotPdcp, IndexError):
            os.write(self._tun, self._receivers[number].packet(block[RNTI_BYTES:]))

    def _uplink(self, packet: bytes) -> None:
        number = SliceNet.ue_number(packet[_SOURCE])
        if packet[0] >> 4 == 4 and 0 <= number < len(self._senders):
            self._air.send(number.to_bytes(RNTI_BYTES, "big") + self._senders[number].pdu(packet))


class Player:
    """Streams a video over TCP, one segment after the other, and notes what it gets."""

    def __init__(self, net: SliceNet, number: int) -> None:
        self.goodput = Goodput()
        self._net = net
        self._number = number
        self._segment = 7 * number

    async def play(self) -> None:
        """Play for ever; a connection that fails is made anew."""
        while True:
            try:
                await self._connected()
            except (aiohttp.ClientError, TimeoutError, OSError):
                await asyncio.sleep(RETRY_S)
            finally:
                self.goodput.have_enough(time.monotonic())

    async def _connected(self) -> None:
        source = (self._net.ue(self._number), 0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=STALLED_S, sock_read=STALLED_S)
        connector = aiohttp.TCPConnector(local_addr=source, limit=1)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            empty_at_s = time.monotonic()  # when the video in store will have been played
            while True:
                await self._fetch(session)
                empty_at_s = max(empty_at_s, time.monotonic()) + SEGMENT_S
                if (store_s := empty_at_s - time.monotonic()) > BUFFER_S:
                    await asyncio.sleep(store_s - BUFFER_S)

    async def _fetch(self, session: aiohttp.ClientSession) -> None:
        url = f"http://{self._net.server}:{VIDEO_PORT}/segment/{self._segment}"
        self.goodput.want(time.monotonic())
        async with session.get(url) as response:
            response.raise_for_status()
            async for part in response.content.iter_chunked(CHUNK):
                self.goodput.received += len(part)
        self.goodput.have_enough(time.monotonic())
        self._segment += 1


class Listener:
    """Receives a replayed recording, whose sender asks nobody whether it is wanted."""

    def __init__(self, net: SliceNet, number: int) -> None:
        self.goodput = Goodput()
        self._address = (net.ue(number), replay.PORT)

    async def play(self) -> None:
        """Count until cancelled."""
        self.goodput.want(time.monotonic())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as one:
            one.bind(self._address)
            loop = asyncio.get_running_loop()
            while True:
                datagram = await loop.sock_recv(one, packets.MAX_PACKET)
                self.goodput.received += len(datagram)


class Crowd:
    """The UEs that have traffic: the first `users` of them."""

    def __init__(self, settings: RoleSettings) -> None:
        self._settings = settings
        self._wanted = 0
        self._active: list[tuple[Player | Listener, asyncio.Task[None]]] = []

    async def follow_commands(self) -> None:
        """Take how many UEs are wanted from the next slot on."""
        async for command in role.commands():
            self._wanted = min(command.users, len(self._settings.keys))

    async def report_slots(self) -> None:
        """Say at the end of each slot what its UEs got; slots begin at multiples of their length in unix time."""
        slot_s = self._settings.slot_s
        slot = time.time() // slot_s + 1
        await asyncio.sleep(slot * slot_s - time.time())
        while True:
            self._change()
            slot += 1
            await asyncio.sleep(max(0.0, slot * slot_s - time.time()))
            now_s = time.monotonic()
            ues = [one.goodput.close(now_s) for one, _ in self._active]
            role.say(slot={"begin_s": (slot - 1) * slot_s, "ues": ues})

    def _change(self) -> None:
        while len(self._active) > self._wanted:
            self._active.pop()[1].cancel()
        kind = Listener if self._settings.recording else Player
        while len(self._active) < self._wanted:
            one = kind(self._settings.net, len(self._active))
            self._active.append((one, asyncio.create_task(one.play())))


async def run(settings: RoleSettings) -> None:
    """Run until the other side of the commands has gone."""
    Modem(settings).start()
    crowd = Crowd(settings)
    tasks = [asyncio.create_task(crowd.report_slots()), asyncio.create_task(crowd.follow_commands())]
    role.say(ready=True)
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for one in done:
        await one


def main() -> None:
    """Run until killed."""
    asyncio.run(run(role.settings()))


if __name__ == "__main__":
    main()
