"""One round: ask, check, publish; and ask again until there is an answer or the interval is over."""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from microopt import subjects
from microopt.agent import Context
from microopt.cancel import cancel
from microopt.errors import MicrooptError
from microopt.messages import Forecast, Problem, SliceSolution, Solution
from microopt.specs import PoolSpec, Route
from microopt_optimizer.router import guard
from microopt_optimizer.router.metrics import RouterMetrics
from microopt_optimizer.router.outcome import Outcome
from microopt_optimizer.router.problem import misfits, problem, require_room
from microopt_optimizer.router.rounds import Round
from microopt_optimizer.router.settings import RouterSettings
from microopt_optimizer.router.smoothing import smoothed
from microopt_optimizer.router.state import RouterState
from microopt_optimizer.router.thinning import most_atoms


class Decider:
    """Turns gathered forecasts into allocations, one attempt of a pool at a time.

    Were two rounds of a pool solved beside each other, each would count on capacity that the other gives away.
    """

    def __init__(
        self, settings: RouterSettings, state: RouterState, context: Context, metrics: RouterMetrics
    ) -> None:
        self._settings = settings
        self._state = state
        self._bus = context.bus
        self._log = context.log
        self._metrics = metrics
        self._outcome = Outcome(context.bus, state, metrics, settings.grace)
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._shadows: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Leave the shadows that still think."""
        await cancel(self._shadows)

    async def decide(self, current: Round) -> None:
        """Allocate every slice of the round, asking again while the interval lasts.

        Nothing is published when no answer can be used: the last allocation expires, and then the slice's blind
        policy rules. The route is read at each attempt, so that a swap heals a round that is stuck.
        """
        longest_s = max(self._settings.retry_s, current.interval.duration_s / 20)
        for attempt in itertools.count():
            try:
                async with self._turns[current.pool]:
                    await self._attempt(current, first=attempt == 0)
            except MicrooptError as error:
                self._log.warning("round_attempt_failed", pool=current.pool, error=str(error))
            except Exception:  # also a bus that is away for a while
                self._log.exception("round_attempt_failed", pool=current.pool)
            pending = self._pending(current)
            if not pending:
                return
            if _left_s(current) <= 0:
                self._metrics.unanswered.labels(current.pool).inc()
                self._log.error("round_unanswered", pool=current.pool, slices=sorted(pending))
                return
            await asyncio.sleep(min(self._settings.retry_s * 2 ** min(attempt, 20), longest_s))

    def _pending(self, current: Round) -> dict[str, Forecast]:
        return current.pending(self._state.slices, self._state.allocations)

    async def _attempt(self, current: Round, *, first: bool) -> None:
        await self._state.load_allocations(self._bus, current.pool)
        pending, within_s = self._pending(current), self._within_s(current)
        if not pending or within_s <= 0:
            return
        pool, route = self._pool_and_route(current.pool)
        asked = self._asked(pool, current, pending, within_s)
        if first:
            self._ask_shadows(asked, route, within_s)
        solution = await self._ask(asked, route.active, within_s)
        if _left_s(current) <= 0:
            raise MicrooptError(f"{route.active} answered after the interval was over")
        verdict = guard.check(asked, solution, route.active)
        verdict = replace(verdict, accepted=self._smoothed(asked, verdict))
        await self._outcome.allocate(asked, verdict, route.active, pending)
        await self._outcome.keep(asked, solution, "active", verdict)
        self._state.capacity_prices[pool.pool] = solution.capacity_prices

    def _within_s(self, current: Round) -> float:
        return min(self._settings.answer_within_s, _left_s(current))

    def _pool_and_route(self, name: str) -> tuple[PoolSpec, Route]:
        pool, route = self._state.pools.get(name), self._state.routes.get(name)
        if pool is None or route is None:
            raise MicrooptError(
                f"pool {name} has no {'specification' if pool is None else 'route'}; "
                "see `microopt apply` and `microopt route set`"
            )
        return pool, route

    def _asked(self, pool: PoolSpec, current: Round, pending: Mapping[str, Forecast], within_s: float) -> Problem:
        usable = self._usable(pool, pending)
        asked = problem(
            pool,
            current.interval,
            usable,
            self._state.slices,
            self._state.allocations,
            deadline_s=max(0.8 * within_s, 0.001),
            most_atoms=most_atoms(len(usable), self._bus.nc.max_payload),
            capacity_prices=self._state.capacity_prices.get(pool.pool, {}),
        )
        require_room(asked)
        return asked

    def _usable(self, pool: PoolSpec, pending: Mapping[str, Forecast]) -> dict[str, Forecast]:
        """Return the forecasts of slices that fit the pool; one that does not harms no other."""
        wrong = misfits(pool, pending, self._state.slices)
        for name, why in wrong.items():
            self._log.error("slice_unusable", slice=name, reason=why)
        if set(wrong) == set(pending):
            raise MicrooptError(f"pool {pool.pool}: none of its slices can be used: {'; '.join(wrong.values())}")
        return {name: forecast for name, forecast in pending.items() if name not in wrong}

    async def _ask(self, asked: Problem, optimizer: str, within_s: float) -> Solution:
        try:
            with self._metrics.answer_s.labels(optimizer).time():
                return await self._bus.request(subjects.optimize(optimizer), asked, Solution, timeout_s=within_s)
        except MicrooptError:
            self._metrics.answers.labels(optimizer, "failed").inc()
            raise

    def _smoothed(self, asked: Problem, verdict: guard.Verdict) -> dict[str, SliceSolution]:
        limits = self._settings
        return smoothed(asked, verdict.accepted, deadband=limits.deadband, shrink_at_most=limits.shrink_at_most)

    def _ask_shadows(self, asked: Problem, route: Route, within_s: float) -> None:
        """Ask the optimizers that only watch, beside the round: nobody waits for them."""
        for name in route.shadows:
            task = asyncio.create_task(self._shadow(asked, name, within_s), name=f"shadow:{name}")
            self._shadows.add(task)
            task.add_done_callback(self._shadows.discard)

    async def _shadow(self, asked: Problem, optimizer: str, within_s: float) -> None:
        try:
            solution = await self._ask(asked, optimizer, within_s)
            await self._outcome.keep(asked, solution, "shadow", guard.check(asked, solution, optimizer))
        except MicrooptError as error:
            self._log.warning("shadow_failed", optimizer=optimizer, error=str(error))
        except Exception:
            self._log.exception("shadow_failed", optimizer=optimizer)


def _left_s(current: Round) -> float:
    """Return how much of the interval is left."""
    return (current.interval.end - datetime.now(UTC)).total_seconds()
