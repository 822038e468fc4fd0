"""One round of a pool: its forecasts are published, and its allocations received as an actuator receives them."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from nats.aio.msg import Msg
from nats.js.api import DeliverPolicy

from microopt import codec, streams, subjects
from microopt.bus import TOGETHER, Bus
from microopt.messages import Allocation, Answer, Asked
from route.pools import Pool

WITHIN_S = 120.0


@dataclass(frozen=True)
class Took:
    """What one round took, from right before its last forecast was published; one time for each slice."""

    allocated_s: list[float]
    solve_s: float
    """The optimizer's own word."""
    answer_s: float
    """From asking the optimizer to its answer."""
    told_s: float
    """Until all else was published, too: the pool's next round can begin."""
    epochs: int
    """1, unless the round began without some of its forecasts, or was asked twice."""
    allocations: list[Allocation] = field(repr=False)
    asked: Asked = field(repr=False)


class Rounds:
    """Publishes forecasts and hears what comes of them; one round at a time."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._allocations: dict[str, tuple[float, bytes]] = {}
        self._asked: list[tuple[float, Asked]] = []
        self._answers: list[Answer] = []
        self._shadows: Counter[str] = Counter()
        """Answers of shadows that are still to come, by pool."""
        self._told: list[float] = []
        self._heard = asyncio.Event()

    async def listen(self) -> None:
        """Hear from now on: allocations once they are stored, the rest as it is said."""
        await self._bus.js.subscribe(
            subjects.ALL[Allocation],
            stream=streams.ALLOCATIONS,
            cb=self._on_allocation,
            ordered_consumer=True,
            deliver_policy=DeliverPolicy.NEW,
        )
        await self._bus.nc.subscribe(subjects.ALL[Asked], cb=self._on_asked)
        await self._bus.nc.subscribe(subjects.ALL[Answer], cb=self._on_answer)
        await self._bus.nc.subscribe(f"$KV.{streams.STATE}.prices.*", cb=self._on_prices)
        await self._bus.nc.flush()

    async def run(self, pool: Pool) -> Took:
        """Run a round, and wait until the router is done with it.

        Raises:
            RuntimeError: a forecast was not stored, not everything came, or an answer was not taken as it came.
        """
        forecasts = pool.forecasts()
        for heard in (self._allocations, self._asked, self._answers, self._told):
            heard.clear()
        for at in range(0, pool.size - 1, TOGETHER):
            if left := await self._bus.publish_together(forecasts[:-1][at : at + TOGETHER]):
                raise RuntimeError(f"{len(left)} forecasts were not stored")
        began_s = time.perf_counter()
        await self._bus.publish(forecasts[-1])
        wanted = {one.slice for one in pool.slices}
        await self._until(lambda: wanted <= set(self._allocations), pool)
        await self._until(self._all_told, pool)
        return self._took(began_s)

    def _all_told(self) -> bool:
        """Return whether the problems of all allocations were said, and prices, which come last, after them."""
        asked = {one.epoch: at_s for at_s, one in self._asked}
        wanted = {codec.decode(data, Allocation, origin="bench").epoch for _, data in self._allocations.values()}
        return wanted <= set(asked) and max(self._told, default=0.0) > max(asked.values())

    async def shadows_done(self, pool: Pool) -> None:
        """Wait until all shadows of all rounds of a pool have answered."""
        await self._until(lambda: self._shadows[pool.name] == 0, pool)

    def _took(self, began_s: float) -> Took:
        allocations = [codec.decode(data, Allocation, origin="bench") for _, data in self._allocations.values()]
        if odd := [one for one in allocations if one.fallback or one.status == "infeasible"]:
            raise RuntimeError(f"{len(odd)} slices have no answer of the optimizer that holds: {odd[0]}")
        active = [one for one in self._answers if one.role == "active"]
        return Took(
            allocated_s=[at_s - began_s for at_s, _ in self._allocations.values()],
            solve_s=sum(one.solution.solve_s for one in active if one.solution),
            answer_s=sum(one.latency_s for one in active),
            told_s=self._told[-1] - began_s,
            epochs=len({one.epoch for one in allocations}),
            allocations=allocations,
            asked=self._asked[-1][1],
        )

    async def _until(self, probe: Callable[[], bool], pool: Pool) -> None:
        try:
            async with asyncio.timeout(WITHIN_S):
                while not probe():
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError as error:
            raise RuntimeError(
                f"pool {pool.name}: {len(self._allocations)} of {pool.size} allocations, {len(self._asked)} "
                f"problems and {len(self._answers)} answers within {WITHIN_S:g} s"
            ) from error

    async def _on_allocation(self, message: Msg) -> None:
        self._allocations[message.subject.rpartition(".")[2]] = (time.perf_counter(), message.data)
        self._heard.set()

    async def _on_asked(self, message: Msg) -> None:
        asked = codec.decode(message.data, Asked, origin="bench")
        self._shadows[asked.problem.pool] += len(asked.shadows)
        self._asked.append((time.perf_counter(), asked))
        self._heard.set()

    async def _on_answer(self, message: Msg) -> None:
        answer = codec.decode(message.data, Answer, origin="bench")
        if answer.role == "shadow":
            self._shadows[answer.pool] -= 1
        self._answers.append(answer)
        self._heard.set()

    async def _on_prices(self, _: Msg) -> None:
        self._told.append(time.perf_counter())
        self._heard.set()
