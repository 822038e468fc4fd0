"""One HTB class as the kernel keeps it (net/sched/sch_htb.c), and how it looks at another rate."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pyroute2.netlink.rtnl.tcmsg import tcmsg

from microopt.errors import PermanentError

KIND: Final = "htb"
ROOT: Final = 0xFFFF_FFFF
"""The parent of a class that has none."""

_TICK_S: Final = 64e-9
"""The kernel counts bursts in ticks of 2^PSCHED_SHIFT ns."""
_U32_MAX: Final = 0xFFFF_FFFF
_BYTES_S_PER_MBPS: Final = 125_000


@dataclass(frozen=True, slots=True)
class HtbClass:
    """A class: rates in bytes/s, bursts in ticks of the time they take at those rates.

    `parameters` are all of its parameters, so that a change keeps those that are not its subject.
    """

    index: int
    handle: int
    parent: int
    rate: int
    ceil: int
    parameters: Mapping[str, int]

    @property
    def burst(self) -> int:
        """Return the burst in bytes at the rate."""
        return burst_bytes(self.parameters["buffer"], self.rate)

    @property
    def cburst(self) -> int:
        """Return the burst in bytes at the ceil."""
        return burst_bytes(self.parameters["cbuffer"], self.ceil)

    def at(self, rate: int) -> "HtbClass":
        """Return the class with `rate` as rate and ceil, and with its bursts of as many bytes as before.

        Raises:
            PermanentError: at this rate the bursts take longer than the kernel can count.
        """
        ticks = {"buffer": burst_ticks(self.burst, rate), "cbuffer": burst_ticks(self.cburst, rate)}
        if max(ticks.values()) > _U32_MAX:
            raise PermanentError(
                f"{mbps(rate):g} Mbit/s is too slow for a burst of {max(self.burst, self.cburst)} bytes, "
                f"which may take {_U32_MAX * _TICK_S:.0f} s; lower the class's burst or raise the slice's floor"
            )
        return replace(self, rate=rate, ceil=rate, parameters={**self.parameters, **ticks})

    def request(self) -> tcmsg:
        """Return the message that gives the class these parameters."""
        parameters = {**self.parameters, "rate": min(self.rate, _U32_MAX), "ceil": min(self.ceil, _U32_MAX)}
        attrs: list[list[object]] = [["TCA_HTB_PARMS", parameters]]
        for name, value in (("TCA_HTB_RATE64", self.rate), ("TCA_HTB_CEIL64", self.ceil)):
            if value > _U32_MAX:
                attrs.append([name, value])
        message = asked(self.index, self.handle)
        message["parent"] = self.parent
        message["attrs"] = [["TCA_KIND", KIND], ["TCA_OPTIONS", {"attrs": attrs}]]
        return message


def asked(index: int, handle: int) -> tcmsg:
    """Return the message that names a class, and nothing of it."""
    message = tcmsg()
    message["index"], message["handle"] = index, handle
    return message


def parse_class(message: Any) -> HtbClass | None:
    """Return the class that a decoded `tcmsg` describes; `None` is one of another kind than HTB."""
    options = message.get_attr("TCA_OPTIONS")
    if message.get_attr("TCA_KIND") != KIND or options is None:
        return None
    parameters = dict(options.get_attr("TCA_HTB_PARMS"))
    return HtbClass(
        index=message["index"],
        handle=message["handle"],
        parent=message["parent"],
        rate=options.get_attr("TCA_HTB_RATE64")
        or parameters["rate"],  # from 2^32 bytes/s on, which parameters cannot hold
        ceil=options.get_attr("TCA_HTB_CEIL64") or parameters["ceil"],
        parameters=parameters,
    )


def mbps(rate: int) -> float:
    """Return a rate in bytes/s as Mbit/s."""
    return rate / _BYTES_S_PER_MBPS


def rate_of(value_mbps: float) -> int:
    """Return Mbit/s as the nearest rate that the kernel can hold, in bytes/s."""
    return round(value_mbps * _BYTES_S_PER_MBPS)


def burst_ticks(size: int, rate: int) -> int:
    """Return how long `size` bytes take at `rate` bytes/s, in ticks, rounded up."""
    return math.ceil(size / (rate * _TICK_S))


def burst_bytes(ticks: int, rate: int) -> int:
    """Return the bytes that `ticks` stand for at `rate` bytes/s.

    A tick at 10 Gbit/s is 80 bytes. Of all sizes that a tick less and a tick more allow, this is the multiple of
    the largest power of two, so that a burst stays what it is however often the rate changes, where rounding each
    time would let it wander off.
    """
    if ticks == 0:
        return 0
    least = max(1, int((ticks - 1) * rate * _TICK_S))
    most = int((ticks + 1) * rate * _TICK_S) + 1
    step = 1 << most.bit_length()
    while most // step * step < least:
        step >>= 1
    return most // step * step
