"""One round: ask, check, compose, publish; and ask again until there is an answer or the interval is over."""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial

from microopt.agent import Context
from microopt.errors import MicrooptError
from microopt.messages import Forecast, Problem
from microopt.specs import PoolSpec, Route
from microopt_optimizer.router.asking import Asking
from microopt_optimizer.router.attempt import Attempt
from microopt_optimizer.router.leases import Leases
from microopt_optimizer.router.metrics import RouterMetrics
from microopt_optimizer.router.outcome import Outcome
from microopt_optimizer.router.problem import misfits, problem, require_room
from microopt_optimizer.router.readback import ReadBack
from microopt_optimizer.router.rounds import Round
from microopt_optimizer.router.settings import RouterSettings
from microopt_optimizer.router.state import RouterState
from microopt_optimizer.router.telling import Teller
from microopt_optimizer.router.thinning import most_atoms


class Decider:
    """Turns gathered forecasts into allocations, one attempt of a pool at a time.

    Were two rounds of a pool solved beside each other, each would count on capacity that the other gives away.
    """

    def __init__(
        self,
        settings: RouterSettings,
        state: RouterState,
        context: Context,
        metrics: RouterMetrics,
        leases: Leases,
        read_back: ReadBack,
    ) -> None:
        self._settings = settings
        self._state = state
        self._bus = context.bus
        self._log = context.log
        self._metrics = metrics
        self._leases = leases
        self._read_back = read_back
        self._asking = Asking(context.bus, metrics)
        self._outcome = Outcome(context.bus, state, metrics, settings.grace)
        self.teller = Teller(context.bus, metrics)
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def decide(self, current: Round) -> None:
        """Allocate every slice of the round, asking again while the interval lasts.

        The route is read at each attempt, so that a swap heals a round that is stuck. A router that does not lead
        the pool waits until it does, or the interval is over.
        """
        if current.pool not in self._state.pools:  # nobody leads it until it is there
            why = f"pool {current.pool} has no specification; see `microopt apply`"
            self._log.warning("round_waits", pool=current.pool, reason=why)
        for attempt in itertools.count():
            if await self._leases.wait_for(current.pool, max(current.left_s, 0.0)):
                await self._attempt_safely(current)
            pending = self._pending(current)
            if not pending:
                return
            if current.left_s <= 0:
                if self._leases.leads(current.pool):
                    self._metrics.unanswered.labels(current.pool).inc()
                    self._log.error("round_unanswered", pool=current.pool, slices=sorted(pending))
                return
            await asyncio.sleep(self._pause_s(current, attempt))

    def _pause_s(self, current: Round, attempt: int) -> float:
        """Return how long to wait before asking again, but not past the interval's start: then others stand in."""
        longest_s = max(self._settings.retry_s, current.interval.duration_s / 20)
        pause_s: float = min(self._settings.retry_s * 2 ** min(attempt, 20), longest_s)
        until_s: float = (current.interval.start - datetime.now(UTC)).total_seconds()
        return pause_s if until_s <= 0.0 else min(pause_s, until_s)

    async def _attempt_safely(self, current: Round) -> None:
        try:
            async with self._turns[current.pool]:
                await self._attempt(current)
        except MicrooptError as error:
            self._log.warning("round_attempt_failed", pool=current.pool, error=str(error))
        except Exception:  # also a bus that is away for a while
            self._log.exception("round_attempt_failed", pool=current.pool)

    def _pending(self, current: Round) -> dict[str, Forecast]:
        return current.pending(self._state.slices, self._state.allocations)

    async def _attempt(self, current: Round) -> None:
        await self._state.load_allocations(self._bus, current.pool)
        if epoch := await self._read_back.fill(current.pool):
            self._leases.raise_epoch(current.pool, epoch)
        pending, within_s = self._pending(current), current.may_wait_s(self._settings.answer_within_s)
        if not pending or within_s <= 0:
            return
        term = self._leases.term(current.pool)
        pool, route = self._pool_and_route(current.pool)
        asked = self._asked(pool, current, pending, within_s)
        within = partial(current.may_wait_s, self._settings.answer_within_s)
        attempt = Attempt(self._settings, self._state, self._asking, asked, route, pending, within)
        decisions = await attempt.decisions(current)
        if current.left_s <= 0:
            raise MicrooptError(f"{route.active} answered after the interval was over")
        if decisions:
            attempt.told.epoch = await self._leases.next_epoch(current.pool, term)
        try:
            await self._outcome.allocate(attempt.told, decisions, attempt.told.epoch, pending)
            current.note(decisions, attempt.recommended)
        finally:
            attempt.told.leave_out(current.said)
            self.teller.put(attempt.told)
        if (prices := attempt.prices) is not None:
            await self._keep_prices(pool.pool, prices)

    async def _keep_prices(self, pool: str, prices: dict[str, float]) -> None:
        self._state.capacity_prices[pool] = prices
        for resource, price in prices.items():
            self._metrics.price.labels(pool, resource).set(price)
        await self._state.save_prices(self._bus, pool)

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
            margins=self._state.margins,
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
