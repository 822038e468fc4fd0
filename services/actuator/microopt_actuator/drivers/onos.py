"""Bandwidth through an SDN controller: ONOS's flows by REST, each held by a meter of its own or by a queue.

ONOS answers before a switch has anything; what it has shows as state ADDED after the next poll of the switch,
5 s apart for flows and 10 s for meters unless ONOS is told otherwise. Queues are not made here: ONOS has no REST
for them.
"""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import structlog

from microopt.agent import Context
from microopt.errors import MicrooptError, PermanentError, TemporaryError
from microopt_actuator.drivers.base import Access, Driver, Made, Write
from microopt_actuator.drivers.onos_api import OnosApi, secret
from microopt_actuator.drivers.onos_change import (
    MeterChange,
    flow_request,
    mbps_of,
    meter_change,
    own_entry,
    queue_for,
    rate_of,
)
from microopt_actuator.drivers.onos_model import ADDED, FlowEntry, Hold, MeterRate
from microopt_actuator.drivers.onos_settings import OnosFlow, OnosSettings
from microopt_actuator.settings import ActuatorSettings

_TOLERANCE_MBPS: Final = 0.0005
"""Half of a kbit/s: meters have whole ones."""
_NO_RATE: Final = MeterRate(0, 0)
_LOOK_S: Final = (0.05, 0.1, 0.25, 0.5)
"""How long to wait before looking again whether a switch has confirmed."""


class OnosDriver:
    """The `Driver` for bandwidth by ONOS, in Mbit/s; a target is the name of a flow in [actuator.onos.flows].

    A change that was cut off, by a timeout or the end of the process, is taken up where it stands: what it had
    made is found in ONOS, and used or removed.
    """

    name = "onos"
    unit = "Mbit/s"

    def __init__(self, settings: OnosSettings, api: OnosApi) -> None:
        self._settings = settings
        self._api = api
        self._in_hand: dict[str, tuple[str, set[int]]] = {}
        """The meters that a target's change is at work with, and their device: no other change may take them."""
        self._found: dict[str, int] = {}
        """The ids under which targets' flows were found, which saves a search."""
        self._deciding: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._log = structlog.get_logger("microopt.actuator.onos")

    async def plan(self, target: str, value: float) -> Write:
        """Return the requests that give the flow this rate.

        Raises:
            TemporaryError: the device is not connected, or ONOS is away or in trouble.
            PermanentError: no such flow, a value that it cannot have, or ONOS refuses us.
        """
        flow = self._flow(target)
        if flow.queues:
            queue = queue_for(target, value, flow.queues)
            entry = await self._look(flow)
            hold = Hold("QUEUE", queue.id)
            is_posted = entry is not None and entry.posted(flow) == hold
            todo = () if is_posted else (flow_request(flow, hold, self._settings.app_id),)
            return Write(target, value, queue.mbps, _TOLERANCE_MBPS, todo)
        rate = rate_of(target, value, self._settings.burst_ms)
        change = await self._decide(target, flow, rate)
        steps = list(change.steps(self._settings.app_id))
        return Write(target, value, mbps_of(rate.kbps), _TOLERANCE_MBPS, tuple(steps))

    async def apply(self, write: Write) -> None:
        """Give the flow the rate, and wait until the switch has confirmed it.

        Raises:
            TemporaryError: not yet confirmed, the device is not connected, or ONOS is away or in trouble.
            PermanentError: no such flow, a value that it cannot have, or ONOS refuses us.
        """
        flow = self._flow(write.target)
        give_up_s = asyncio.get_running_loop().time() + self._settings.confirm_s
        if flow.queues:
            hold = Hold("QUEUE", queue_for(write.target, write.value, flow.queues).id)
            await self._point(flow, hold, await self._look(flow), give_up_s)
        else:
            rate = rate_of(write.target, write.value, self._settings.burst_ms)
            await self._change(write.target, flow, rate, give_up_s)

    async def read(self, target: str) -> float | None:
        """Return the Mbit/s that the switch has confirmed; `None` if the flow is not there as it should be.

        Raises:
            TemporaryError: the device is not connected, or ONOS is away or in trouble.
            PermanentError: no such flow, or ONOS refuses us.
        """
        flow = self._flow(target)
        await self._api.check_device(flow.device)
        entry = await self._find(target, flow)
        hold = entry.in_force(flow) if entry is not None else None
        if hold is None:
            return None
        if flow.queues:
            return next((queue.mbps for queue in flow.queues if queue.id == hold.number), None)
        meter = await self._api.meter(flow.device, int(hold.number))
        rate = meter.rate if meter is not None and meter.state == ADDED else None
        return None if rate is None else mbps_of(rate.kbps)

    async def access(self, target: str) -> Access:
        """Return that only a write would show it, for ONOS tells nobody the roles of a user."""
        self._flow(target)
        user = self._settings.username
        return Access(writable=None, why=f"ONOS says only at a write whether user {user} has the role admin")

    async def made(self, target: str) -> Made:
        """Return the target's flow, and the meters that are its own or left of it, by their decimal ids."""
        flow = self._flow(target)
        entry = await self._look(flow)
        change = await self._decide(target, flow, _NO_RATE)  # for which none of them can stay
        lasting = () if entry is None else (f"flow {entry.id}",)
        return Made(lasting, tuple(f"meter {number}" for number in change.retire))

    def _flow(self, target: str) -> OnosFlow:
        flow = self._settings.flows.get(target)
        if flow is None:
            there = ", ".join(sorted(self._settings.flows)) or "none at all"
            raise PermanentError(f"onos target {target!r}: no flow of this name in [actuator.onos.flows]: {there}")
        return flow

    async def _find(self, target: str, flow: OnosFlow) -> FlowEntry | None:
        """Return our entry for `flow`, by the id that it had, or among all of ours: a wiped ONOS gives others."""
        if (number := self._found.get(target)) is not None:
            entry = await self._api.flow(flow.device, number)
            if entry is not None and entry.app_id == self._settings.app_id and entry.is_at(flow):
                return entry
        ours = await self._api.flows_of(self._settings.app_id)
        entry = next((one for one in ours if one.is_at(flow)), None)
        if entry is not None:
            self._found[target] = int(entry.id)
        return entry

    async def _look(self, flow: OnosFlow) -> FlowEntry | None:
        await self._api.check_device(flow.device)
        return own_entry(flow, self._settings.app_id, await self._api.flows_on(flow.device))

    async def _decide(
        self, target: str, flow: OnosFlow, rate: MeterRate, former: int | None = None
    ) -> MeterChange:
        await self._api.check_device(flow.device)
        flows = await self._api.flows_on(flow.device)
        meters = await self._api.meters_on(flow.device)
        others = (its for who, (device, its) in self._in_hand.items() if who != target and device == flow.device)
        return meter_change(
            flow,
            rate,
            self._settings.app_id,
            flows,
            meters,
            burst_ms=self._settings.burst_ms,
            in_hand=set().union(*others),
            former=former,
        )

    async def _change(self, target: str, flow: OnosFlow, rate: MeterRate, give_up_s: float) -> None:
        async with self._deciding[flow.device]:
            change = await self._decide(target, flow, rate)
            meter = change.use or await self._api.post_meter(flow.device, rate.body(flow.device))
            kept = {meter} if change.former is None else {meter, change.former}
            self._in_hand[target] = flow.device, kept
        await self._confirmed(f"meter {meter} of {flow.device}", lambda: self._is_made(flow, meter), give_up_s)
        await self._point(flow, Hold("METER", meter), await self._look(flow), give_up_s)
        async with self._deciding[flow.device]:
            await self._retire(target, flow, rate, change.former)
            self._in_hand.pop(target, None)

    async def _retire(self, target: str, flow: OnosFlow, rate: MeterRate, former: int | None) -> None:
        """Delete what nothing uses any more; what cannot be deleted now is found again at the next change."""
        try:
            change = await self._decide(target, flow, rate, former)
            for meter in change.retire:
                await self._api.delete_meter(flow.device, meter)
        except MicrooptError as error:
            self._log.warning("old_meters_left", target=target, device=flow.device, error=str(error))

    async def _point(self, flow: OnosFlow, hold: Hold, entry: FlowEntry | None, give_up_s: float) -> None:
        """Post the flow with `hold` in it, if it is not so already, and wait until the switch has it."""
        if entry is None or entry.posted(flow) != hold:
            number = await self._api.post_flow(flow.device, self._settings.app_id, hold.body(flow))
        elif entry.state == ADDED:
            return
        else:
            number = int(entry.id)

        async def is_there() -> bool:
            now = await self._api.flow(flow.device, number)
            return now is not None and now.in_force(flow) == hold

        await self._confirmed(f"flow {number} of {flow.device}", is_there, give_up_s)

    async def _is_made(self, flow: OnosFlow, number: int) -> bool:
        meter = await self._api.meter(flow.device, number)
        return meter is not None and meter.state == ADDED

    async def _confirmed(self, what: str, is_there: Callable[[], Awaitable[bool]], give_up_s: float) -> None:
        """Wait until the switch has confirmed something.

        Raises:
            TemporaryError: the time is up.
        """
        loop = asyncio.get_running_loop()
        for looks in itertools.count():
            if await is_there():
                return
            pause_s = _LOOK_S[min(looks, len(_LOOK_S) - 1)]
            if loop.time() + pause_s > give_up_s:
                raise TemporaryError(
                    f"onos: {what} is not {ADDED} within {self._settings.confirm_s:g} s: ONOS asks its switches "
                    "only every few seconds, or the switch refuses it, which its log says; what it had stays"
                )
            await asyncio.sleep(pause_s)


@asynccontextmanager
async def opened(settings: ActuatorSettings, _: Context) -> AsyncIterator[Driver]:
    """Open the driver with its settings and a connection of its own.

    Raises:
        ConfigError: there is no password.
    """
    api = OnosApi(settings.onos, secret(settings.onos))
    try:
        yield OnosDriver(settings.onos, api)
    finally:
        await api.close()
