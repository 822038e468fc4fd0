"""What the router knows: desired state, and the last allocation of each slice."""

from dataclasses import dataclass, field
from typing import TypeVar

from nats.js.errors import NotFoundError

from microopt import codec, streams, subjects
from microopt.bus import Bus
from microopt.errors import InvalidMessageError
from microopt.messages import Allocation, Values
from microopt.specs import PoolSpec, Route, SliceSpec

S = TypeVar("S")


@dataclass
class RouterState:
    """Desired state as last seen, and allocations as last published.

    `capacity_prices` of each pool are its active optimizer's last: where the next solving begins, if it likes.
    """

    pools: dict[str, PoolSpec] = field(default_factory=dict)
    slices: dict[str, SliceSpec] = field(default_factory=dict)
    routes: dict[str, Route] = field(default_factory=dict)
    allocations: dict[str, Allocation | None] = field(default_factory=dict)
    capacity_prices: dict[str, Values] = field(default_factory=dict)

    @staticmethod
    def set(table: dict[str, S], name: str, value: S | None) -> None:
        """Put `value` into `table`, or remove `name` when it is None."""
        if value is None:
            table.pop(name, None)
        else:
            table[name] = value

    async def load_allocations(self, bus: Bus, pool: str) -> None:
        """Read the last allocation of the pool's slices that is not known yet: it outlives the router."""
        for name, spec in list(self.slices.items()):
            if spec.pool == pool and name not in self.allocations:
                self.allocations[name] = await _last(bus, name)


async def _last(bus: Bus, slice_: str) -> Allocation | None:
    subject = f"{subjects.ROOT}.allocation.{slice_}"
    try:
        message = await bus.js.get_last_msg(streams.ALLOCATIONS, subject)
    except NotFoundError:
        return None
    try:
        return codec.decode(message.data or b"", Allocation, origin=subject)
    except InvalidMessageError as error:
        await bus.dead_letter(message.data or b"", subject=subject, error=error, kind="Allocation")
        return None
