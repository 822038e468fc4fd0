"""The emulated slices as a process: the outside world, which speaks plain JSON and knows nothing of microopt.

Each slot's end brings `testbed.measurement.<slice>`; `testbed.resource.<slice>.<resource>` answers `{}` with the
value in force and sets it on `{"set": 12.5}`. In microopt, the actuator alone sets resources.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Final

import msgspec
import nats.errors
import numpy as np
from msgspec import Meta, Struct
from nats.aio.msg import Msg
from numpy.typing import NDArray

from microopt.agent import Agent, Context
from microopt.errors import ConfigError, PermanentError
from microopt.messages import SliceId
from microopt.settings import Settings
from microopt_testbed.emulator import EmulatedSlice
from microopt_testbed.surface import QosSurface
from microopt_testbed.traffic import SlotCalendar, UsersPerSlot, users_per_slot

MEASUREMENT: Final = "testbed.measurement"
RESOURCE: Final = "testbed.resource"
MAX_SLEEP_S: Final = 1.0  # so that a step of the wall clock is noticed

_Count = Annotated[int, Meta(ge=1, le=100_000)]


class EmulatedSliceSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One slice of the outside world."""

    slice: SliceId
    resources: dict[str, float]
    """What is in force at first: gnb_cpu in millicores, transport_bandwidth in Mbit/s."""
    square: int = 4159
    """The Milan square whose traffic it has: 4159 (business) or 5161 (Duomo)."""
    peak_users: _Count = 5
    seed: Annotated[int, Meta(ge=0)] = 0


class EmulatorSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table [testbed]."""

    slices: Annotated[list[EmulatedSliceSettings], Meta(min_length=1)]
    slot_s: Annotated[float, Meta(gt=0.0, le=86_400.0)] = 1.0
    """The real length of a slot, however much of the emulated day it plays."""
    slots_per_interval: _Count = 12
    intervals_per_day: _Count = 24
    weekday: Annotated[int, Meta(ge=0, le=6)] = 0
    """The day that the first slot plays; 0 is Monday."""
    hour: Annotated[float, Meta(ge=0.0, lt=24.0)] = 0.0
    days: _Count = 1
    """The days of traffic from the first slot on; then they come again."""
    history_days: Annotated[int, Meta(ge=0, le=1000)] = 14
    """The days that lie before the first slot; another number gives another traffic."""
    start: Annotated[float, Meta(gt=0.0)] | None = None
    """Unix time of the first slot; by default the next multiple of an interval."""
    data: str | None = None
    """Where traces are looked for; by default MICROOPT_DATA, else ../shared/data."""

    @property
    def slots_per_day(self) -> int:
        """Return the slots of an emulated day."""
        return self.slots_per_interval * self.intervals_per_day


class Measurement(Struct, frozen=True):
    """What this foreign system says of one slot: when it began, in unix seconds, and what its users got."""

    snssai: str
    timestamp: float
    ues: int
    dl_thpt_per_ue_mbps: float | None


class ResourceRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Read a resource, or set it."""

    set: float | None = None


class ResourceValue(Struct, frozen=True):
    """The value in force after a request."""

    value: float


class ResourceError(Struct, frozen=True):
    """Why a request was not obeyed; nothing has changed."""

    error: str


def history(settings: EmulatorSettings, days: int) -> dict[str, list[tuple[float, int]]]:
    """Return (unix time of the slot, users) of the `days` before `start`, oldest first, for each slice.

    It is the same draw as the running traffic, which goes on where this ends.

    Raises:
        ConfigError: `start` is not set, or `days` is more than `history_days`.
    """
    if settings.start is None:
        raise ConfigError("[testbed] start: history needs it; set the unix time of the first slot")
    if not 0 <= days <= settings.history_days:
        raise ConfigError(
            f"[testbed] history_days: {settings.history_days} is less than the {days} days asked for"
        )
    first = settings.history_days * settings.slots_per_day
    wanted = range(-days * settings.slots_per_day, 0)
    past = {}
    for one in settings.slices:
        users = traffic(settings, one).users
        past[one.slice] = [(settings.start + k * settings.slot_s, int(users[first + k])) for k in wanted]
    return past


def first_slot_at(settings: EmulatorSettings, now_s: float) -> float:
    """Return the unix time of slot 0: `start`, else the next multiple of an interval after `now_s`."""
    if settings.start is not None:
        return settings.start
    interval_s = settings.slot_s * settings.slots_per_interval
    return math.ceil(now_s / interval_s) * interval_s


def first_whole_slot(start_s: float, slot_s: float, now_s: float) -> int:
    """Return the first slot that begins at `now_s` or later: what was before, this process has not seen."""
    return max(0, math.ceil((now_s - start_s) / slot_s))


class TrafficSlice:
    """One emulated slice with its users in each slot."""

    def __init__(self, settings: EmulatorSettings, one: EmulatedSliceSettings, surface: QosSurface) -> None:
        played = traffic(settings, one)
        self.snssai = one.slice
        self.source = played.source
        self._users: NDArray[np.int64] = played.users[settings.history_days * settings.slots_per_day :]
        self._emulated = EmulatedSlice(surface, one.resources, one.seed)

    def play(self, slot: int, start_s: float) -> Measurement:
        """Return what slot number `slot`, beginning at `start_s`, gives with the resources in force now."""
        users = int(self._users[slot % self._users.size])
        return Measurement(self.snssai, start_s, users, self._emulated.slot(users))

    def answer(self, resource: str, data: bytes) -> ResourceValue | ResourceError:
        """Obey one request about a resource."""
        try:
            request = msgspec.json.decode(data or b"{}", type=ResourceRequest)
            if request.set is not None:
                self._emulated.set_resource(resource, request.set)
            return ResourceValue(self._emulated.get_resource(resource))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return ResourceError(f'{error}; send {{}} to read, or {{"set": 12.5}}')
        except PermanentError as error:
            return ResourceError(str(error))


class Emulator:
    """The process around the slices: a clock that never drifts, and the requests."""

    def __init__(self, settings: EmulatorSettings) -> None:
        self._settings = settings
        surface = QosSurface.shipped()
        self._slices = {one.slice: TrafficSlice(settings, one, surface) for one in settings.slices}

    @asynccontextmanager
    async def lifespan(self, ctx: Context) -> AsyncIterator[None]:
        """Answer requests about the resources of these slices as long as the process lives."""
        for name, one in self._slices.items():
            await ctx.bus.nc.subscribe(f"{RESOURCE}.{name}.*", cb=self._on_request)
            ctx.log.info("slice_emulated", slice=name, traffic=one.source)
        yield

    async def run(self, ctx: Context) -> None:
        """Play one slot after the other; after a stall each slot that was missed is still published."""
        slot_s = self._settings.slot_s
        start_s = first_slot_at(self._settings, time.time())
        slot = first_whole_slot(start_s, slot_s, time.time())
        ctx.log.info("traffic_starts", at=start_s + slot * slot_s, slot=slot)
        await _sleep_until(start_s + slot * slot_s)
        while True:
            # Played at its beginning: what is set within a slot rules from the next one on.
            played = [one.play(slot, start_s + slot * slot_s) for one in self._slices.values()]
            slot += 1
            await _sleep_until(start_s + slot * slot_s)
            for measurement in played:
                await _publish(ctx, measurement)

    async def _on_request(self, message: Msg) -> None:
        name, resource = message.subject.removeprefix(f"{RESOURCE}.").split(".")
        answer = self._slices[name].answer(resource, message.data)
        if message.reply:
            await message.respond(msgspec.json.encode(answer))


def build(settings: Settings) -> Agent:
    """Return the emulated outside world.

    Raises:
        ConfigError: a setting of [testbed] cannot be used.
    """
    try:
        emulator = Emulator(_checked(settings.table("testbed", EmulatorSettings)))
    except PermanentError as error:
        raise ConfigError(f"[testbed] slices: {error}") from error
    agent = Agent("testbed", description="emulated slices", lifespan=emulator.lifespan)
    agent.task("slots")(emulator.run)
    return agent


def _checked(settings: EmulatorSettings) -> EmulatorSettings:
    names = [one.slice for one in settings.slices]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"[testbed] slices: {', '.join(twice)} is there twice; give each slice one entry")
    return settings


def traffic(settings: EmulatorSettings, one: EmulatedSliceSettings) -> UsersPerSlot:
    """Return the users of the days before the first slot, then of those from it on."""
    data = Path(settings.data) if settings.data is not None else None
    calendar = SlotCalendar(
        settings.slots_per_interval,
        settings.intervals_per_day,
        days=settings.history_days + settings.days,
        weekday=(settings.weekday - settings.history_days) % 7,
        hour=settings.hour,
    )
    return users_per_slot(one.square, calendar, peak_users=one.peak_users, seed=one.seed, data=data)


async def _publish(ctx: Context, measurement: Measurement) -> None:
    try:
        await ctx.bus.nc.publish(f"{MEASUREMENT}.{measurement.snssai}", msgspec.json.encode(measurement))
    except nats.errors.Error as error:  # as any foreign system: it does not wait for those who listen
        ctx.log.warning("measurement_lost", slice=measurement.snssai, at=measurement.timestamp, error=repr(error))


async def _sleep_until(unix_s: float) -> None:
    while True:
        left_s = unix_s - time.time()
        await asyncio.sleep(min(max(left_s, 0.0), MAX_SLEEP_S))  # also at 0: requests have their turn meanwhile
        if left_s <= 0.0:
            return
