"""One slice's core: a UPF between N3 and the data network, and the video server in that network."""

import asyncio
import os
from typing import Final

from aiohttp import web

from microopt_testbed.live import gtpu, packets, role
from microopt_testbed.live.addresses import VIDEO_PORT, SliceNet
from microopt_testbed.live.replay import Replay
from microopt_testbed.live.role import RoleSettings, downlink_teid, uplink_teid
from microopt_testbed.live.tun import open_tun

CHUNK: Final = bytes(64 * 1024)
_DESTINATION: Final = slice(16, 20)
_SOURCE: Final = slice(12, 16)


class Upf:
    """Tunnels what goes to a UE, and frees what comes from one."""

    def __init__(self, settings: RoleSettings) -> None:
        net = settings.net
        self._users = len(settings.keys)
        self._n3 = role.udp(net.upf_n3, gtpu.PORT, net.gnb_n3)
        self._tun = open_tun(net.upf_tun)

    def start(self) -> None:
        """Carry packets from now on."""
        packets.from_tun(self._tun, self._downlink)
        packets.from_socket(self._n3, self._uplink)

    def _downlink(self, packet: bytes) -> None:
        number = SliceNet.ue_number(packet[_DESTINATION])
        if packet[0] >> 4 == 4 and number < self._users:
            self._n3.send(gtpu.encapsulate(downlink_teid(number), packet, "downlink"))

    def _uplink(self, datagram: bytes) -> None:
        try:
            teid, packet = gtpu.decapsulate(datagram)
        except gtpu.NotGtpu:
            return
        if len(packet) >= 20 and teid == uplink_teid(SliceNet.ue_number(packet[_SOURCE])):
            os.write(self._tun, packet)


class VideoServer:
    """Serves segments of a video, over and over, as HTTP does DASH."""

    def __init__(self, segments_bits: tuple[int, ...]) -> None:
        self._segments = segments_bits

    async def segment(self, request: web.Request) -> web.StreamResponse:
        """Answer with a segment's bytes."""
        size = self._segments[int(request.match_info["number"]) % len(self._segments)] // 8
        response = web.StreamResponse(headers={"Content-Length": str(size)})
        await response.prepare(request)
        while size > 0:
            part = CHUNK[:size]
            await response.write(part)
            size -= len(part)
        await response.write_eof()
        return response


async def run(settings: RoleSettings) -> None:
    """Serve until killed, and replay what is asked for."""
    Upf(settings).start()
    app = web.Application()
    app.router.add_get("/segment/{number:[0-9]{1,9}}", VideoServer(settings.segments_bits).segment)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, settings.net.server, VIDEO_PORT).start()
    role.say(ready=True)
    await Replay(settings).follow(role.commands())


def main() -> None:
    """Run until killed."""
    asyncio.run(run(role.settings()))


if __name__ == "__main__":
    main()
