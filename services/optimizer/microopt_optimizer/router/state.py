"""What the router knows: desired state, and the last allocation of each slice."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from nats.js.errors import KeyNotFoundError, NotFoundError

from microopt import codec, streams, subjects
from microopt.bus import Bus
from microopt.errors import InvalidMessageError
from microopt.messages import Allocation, Values
from microopt.specs import Margin, PoolSpec, Route, SliceSpec

S = TypeVar("S")

TOGETHER: Final = 64
"""Allocations that are read at the same time."""


@dataclass
class RouterState:
    """Desired state as last seen, and allocations as last published.

    `capacity_prices` of each pool are its active optimizer's last: where the next solving begins, if it likes.
    """

    pools: dict[str, PoolSpec] = field(default_factory=dict)
    slices: dict[str, SliceSpec] = field(default_factory=dict)
    routes: dict[str, Route] = field(default_factory=dict)
    margins: dict[str, Margin] = field(default_factory=dict)
    allocations: dict[str, Allocation | None] = field(default_factory=dict)
    sequences: dict[str, int] = field(default_factory=dict)
    """Of each slice, where its last allocation stands in the stream; the next is stored only behind it."""
    capacity_prices: dict[str, Values] = field(default_factory=dict)
    removed: set[tuple[str, str]] = field(default_factory=set)
    """Buckets and keys of desired state that were seen to be deleted."""

    @staticmethod
    def set(table: dict[str, S], name: str, value: S | None) -> None:
        """Put `value` into `table`, or remove `name` when it is None."""
        if value is None:
            table.pop(name, None)
        else:
            table[name] = value

    def note(self, bucket: str, key: str, value: Any | None) -> None:
        """Remember whether an entry of desired state was deleted."""
        if value is None:
            self.removed.add((bucket, key))
        else:
            self.removed.discard((bucket, key))

    async def load_allocations(self, bus: Bus, pool: str) -> None:
        """Read the last allocation of the pool's slices that is not known yet: it outlives the router."""
        unknown = [
            name for name, spec in self.slices.items() if spec.pool == pool and name not in self.allocations
        ]
        for part in (unknown[at : at + TOGETHER] for at in range(0, len(unknown), TOGETHER)):
            await asyncio.gather(*(self._load(bus, name) for name in part))

    async def save_prices(self, bus: Bus, pool: str) -> None:
        """Keep the pool's prices where the next leader finds them."""
        kv = await bus.js.key_value(streams.STATE)
        await kv.put(f"prices.{pool}", codec.encode(self.capacity_prices[pool]))

    async def load_prices(self, bus: Bus, pool: str) -> None:
        """Read the pool's prices that the last leader kept; without any, solving begins from nothing."""
        kv = await bus.js.key_value(streams.STATE)
        try:
            entry = await kv.get(f"prices.{pool}")
            self.capacity_prices[pool] = codec.decode(entry.value or b"", Values, origin=f"prices.{pool}")
        except (KeyNotFoundError, InvalidMessageError):
            self.capacity_prices.pop(pool, None)

    def forget(self, pool: str) -> dict[str, Allocation]:
        """Forget the pool's last allocations: another router may have made newer ones; return what they were."""
        former: dict[str, Allocation] = {}
        for name in [name for name, spec in self.slices.items() if spec.pool == pool]:
            if (last := self.allocations.pop(name, None)) is not None:
                former[name] = last
            self.sequences.pop(name, None)
        return former

    async def _load(self, bus: Bus, slice_: str) -> None:
        self.allocations[slice_], self.sequences[slice_] = await _last(bus, slice_)


async def _last(bus: Bus, slice_: str) -> tuple[Allocation | None, int]:
    """Return a slice's last allocation and its sequence in the stream; None and 0 where there is none."""
    subject = f"{subjects.ROOT}.allocation.{slice_}"
    try:
        message = await bus.js.get_last_msg(streams.ALLOCATIONS, subject)
    except NotFoundError:
        return None, 0
    try:
        return codec.decode(message.data or b"", Allocation, origin=subject), message.seq or 0
    except InvalidMessageError as error:
        await bus.dead_letter(message.data or b"", subject=subject, error=error, kind="Allocation")
        return None, message.seq or 0
