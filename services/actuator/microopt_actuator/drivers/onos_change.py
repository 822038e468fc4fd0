"""What has to be done for a flow to have a rate, decided from what ONOS has: make a meter, point, retire the old.

A meter cannot be changed by REST. A flow gets another one, which is there before the flow points at it, and the
former goes when nothing points at that any more; a switch drops every flow whose meter is deleted.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from microopt.errors import PermanentError
from microopt_actuator.drivers.onos_model import (
    ADDED,
    MAX_KBPS,
    PENDING_ADD,
    REST_APP,
    FlowEntry,
    Hold,
    MeterEntry,
    MeterRate,
)
from microopt_actuator.drivers.onos_settings import OnosFlow, OnosQueue

_KBPS_PER_MBPS = 1000


@dataclass(frozen=True, slots=True)
class MeterChange:
    """The way from what is there to a flow with a meter of its own at `rate`.

    `use` is a meter that is there already, else one is to be made. `retire` are those that are to go in the end:
    the flow's former one, and what a process that died between make and break has left.
    """

    flow: OnosFlow
    rate: MeterRate
    use: int | None
    points: bool
    """The flow, as posted last, goes through `use` already."""
    former: int | None
    retire: tuple[int, ...]

    def steps(self, app_id: str) -> Iterator[str]:
        """Yield the requests, one line each."""
        if self.use is None:
            yield request(f"/meters/{self.flow.device}", self.rate.body(self.flow.device))
        if not self.points:
            number = "<the new meter's>" if self.use is None else self.use
            yield flow_request(self.flow, Hold("METER", number), app_id)
        for meter in self.retire:
            yield f"DELETE /onos/v1/meters/{self.flow.device}/{meter}"


def meter_change(
    flow: OnosFlow,
    rate: MeterRate,
    app_id: str,
    flows: Sequence[FlowEntry],
    meters: Sequence[MeterEntry],
    *,
    burst_ms: int,
    in_hand: Collection[int] = (),
    former: int | None = None,
) -> MeterChange:
    """Return what is to be done.

    Args:
        flow: the flow that shall have the rate.
        rate: that rate.
        app_id: the owner of our flows.
        flows: all flows of the device.
        meters: all its meters.
        burst_ms: what tells our meters from others of the same owner: all that are made by REST have one.
        in_hand: meters that other changes are at work with.
        former: a meter that the flow had before it was pointed at another, where that is known.

    Raises:
        PermanentError: somebody else owns this flow.
    """
    entry = own_entry(flow, app_id, flows)
    hold = entry.posted(flow) if entry else None
    pointed = hold.number if hold else None
    used_by_others = {meter for one in flows if one is not entry for meter in one.meter_ids}
    taken = used_by_others | set(in_hand)
    idle = {one.number: one for one in meters if _is_made_by_rest(one) and one.number not in taken}
    fitting = [number for number, one in idle.items() if one.rate == rate]
    # One that is to be shared with nobody: the switch may have flows that ONOS does not show any more.
    unused = [number for number in fitting if idle[number].reference_count == 0]
    use = next((number for number in fitting if number == pointed), min(unused, default=None))
    had = {former, *(entry.meter_ids if entry else [])} - {None, use}
    left = {number for number, one in idle.items() if number != pointed and _is_left(one, burst_ms)} - {use}
    return MeterChange(
        flow,
        rate,
        use,
        points=use is not None and use == pointed,
        former=entry.meter_ids[0] if entry and entry.meter_ids else None,
        retire=tuple(sorted(idle.keys() & (had | left))),
    )


def own_entry(flow: OnosFlow, app_id: str, flows: Sequence[FlowEntry]) -> FlowEntry | None:
    """Return our entry for `flow`, or None if there is none.

    Raises:
        PermanentError: the entry is somebody else's, with whom we would fight for it.
    """
    at = [one for one in flows if one.is_at(flow)]
    for one in at:
        if one.app_id != app_id:
            raise PermanentError(
                f"{flow.device}: flow {one.id} of {one.app_id!r} has the same selector and priority; delete it, "
                "choose another priority, or, if it is yours, set app_id of [actuator.onos] to its owner"
            )
    return at[0] if at else None


def rate_of(target: str, mbps: float, burst_ms: int) -> MeterRate:
    """Return the meter's rate for a value.

    Raises:
        PermanentError: no meter can have it.
    """
    kbps = round(checked(target, mbps) * _KBPS_PER_MBPS)
    if not 1 <= kbps <= MAX_KBPS:
        raise PermanentError(
            f"onos target {target!r}: {mbps:g} Mbit/s is outside 0.001 to {mbps_of(MAX_KBPS):g}, which a meter "
            "can have; set the slice's bounds within"
        )
    return MeterRate(kbps, burst_of(kbps, burst_ms))


def queue_for(target: str, mbps: float, queues: Sequence[OnosQueue]) -> OnosQueue:
    """Return the slowest queue that gives at least `mbps`.

    Raises:
        PermanentError: none does.
    """
    checked(target, mbps)
    enough = [queue for queue in queues if queue.mbps >= mbps]
    if not enough:
        most = max(queue.mbps for queue in queues)
        raise PermanentError(
            f"onos target {target!r}: {mbps:g} Mbit/s is more than the fastest of its queues gives ({most:g}); "
            "lower the slice's ceiling or add a queue"
        )
    return min(enough, key=lambda queue: (queue.mbps, queue.id))


def checked(target: str, mbps: float) -> float:
    """Return `mbps` if it can be a rate.

    Raises:
        PermanentError: it cannot.
    """
    if not math.isfinite(mbps) or mbps <= 0:
        raise PermanentError(f"onos target {target!r}: {mbps} Mbit/s is no rate above 0")
    return mbps


def mbps_of(kbps: int) -> float:
    """Return a meter's rate in Mbit/s."""
    return kbps / _KBPS_PER_MBPS


def burst_of(kbps: int, burst_ms: int) -> int:
    """Return the burst in kbit for a rate."""
    return max(1, round(kbps * burst_ms / 1000))


def flow_request(flow: OnosFlow, hold: Hold, app_id: str) -> str:
    """Return the request that points a flow at a meter or queue, in one line."""
    return request(f"/flows/{flow.device}?appId={app_id}", hold.body(flow))


def request(path: str, body: dict[str, Any]) -> str:
    """Return a request in one line."""
    return f"POST /onos/v1{path} {msgspec.json.encode(body).decode()}"


def _is_made_by_rest(meter: MeterEntry) -> bool:
    return meter.app_id == REST_APP and meter.state in (ADDED, PENDING_ADD)  # else it is going already


def _is_left(meter: MeterEntry, burst_ms: int) -> bool:
    """Return whether it looks like one of ours that nothing uses, neither in ONOS nor on the switch."""
    rate = meter.rate
    return (
        meter.state == ADDED
        and meter.reference_count == 0
        and rate is not None
        and rate.burst_kbit == burst_of(rate.kbps, burst_ms)
    )
