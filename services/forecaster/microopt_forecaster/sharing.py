"""Hearing of the other replicas, on core NATS."""

import asyncio
import uuid

import msgspec
from nats.aio.msg import Msg

from microopt.agent import Context
from microopt.subjects import ROOT
from microopt_forecaster.members import BEAT_S, Members

SUBJECT = f"{ROOT}.members.forecaster"


class Beat(msgspec.Struct, frozen=True):
    """What a replica says every second."""

    member: str


class Sharing:
    """This replica's name, and who else there is."""

    def __init__(self) -> None:
        self.members = Members(uuid.uuid4().hex)

    def owns(self, slice: str) -> bool:
        """Return whether this replica forecasts `slice`."""
        return self.members.owns(slice, asyncio.get_running_loop().time())

    async def beat(self, ctx: Context) -> None:
        """Say that this replica is alive, and hear the others, for ever."""
        subscription = await ctx.bus.nc.subscribe(SUBJECT, cb=self._hear)
        try:
            while True:
                if ctx.bus.nc.is_connected:  # else it would be kept, and say later that this replica was alive
                    await ctx.bus.nc.publish(SUBJECT, msgspec.json.encode(Beat(self.members.own)))
                await asyncio.sleep(BEAT_S)
        finally:
            if not ctx.bus.nc.is_closed:
                await subscription.unsubscribe()

    async def _hear(self, message: Msg) -> None:
        try:
            beat = msgspec.json.decode(message.data, type=Beat)
        except msgspec.MsgspecError:
            return  # somebody else's word on this subject
        if len(beat.member) <= 64:
            self.members.hear(beat.member, asyncio.get_running_loop().time())
