"""One round: ask, check, publish; and ask again until there is an answer or the interval is over."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta

import nats.errors

from microopt import subjects
from microopt.agent import Context
from microopt.errors import MicrooptError
from microopt.messages import Allocation, Answer, Forecast, Problem, SliceSolution, Solution
from microopt.specs import PoolSpec
from microopt_optimizer.router import guard, rounds
from microopt_optimizer.router.epochs import next_epoch
from microopt_optimizer.router.metrics import RouterMetrics
from microopt_optimizer.router.rounds import Round
from microopt_optimizer.router.settings import RouterSettings
from microopt_optimizer.router.state import RouterState


def _is_over(current: Round) -> bool:
    return datetime.now(UTC) >= current.interval.end


class Decider:
    """Turns gathered forecasts into allocations."""

    def __init__(
        self, settings: RouterSettings, state: RouterState, context: Context, metrics: RouterMetrics
    ) -> None:
        self._settings = settings
        self._state = state
        self._bus = context.bus
        self._log = context.log
        self._metrics = metrics

    async def decide(self, current: Round) -> None:
        """Allocate every slice of the round, asking again while the interval lasts.

        Nothing is published when no answer can be used: the last allocation expires, and then the slice's blind
        policy rules. The route is read at each attempt, so that a swap heals a round that is stuck.
        """
        longest_s = max(self._settings.retry_s, current.interval.duration_s / 20)
        for attempt in itertools.count():
            try:
                if await self._is_decided(current):
                    return
            except (MicrooptError, nats.errors.Error) as error:  # also a bus that is away for a while
                self._log.warning("round_attempt_failed", pool=current.pool, error=str(error) or repr(error))
            if _is_over(current):
                pending = current.pending(self._state.slices, self._state.allocations)
                self._metrics.unanswered.labels(current.pool).inc()
                self._log.error("round_unanswered", pool=current.pool, slices=sorted(pending))
                return
            await asyncio.sleep(min(self._settings.retry_s * 2 ** min(attempt, 20), longest_s))

    async def _is_decided(self, current: Round) -> bool:
        """Make one attempt, if there is still something to allocate and time for it."""
        await self._state.load_allocations(self._bus, current.pool)
        pending = current.pending(self._state.slices, self._state.allocations)
        if pending and not _is_over(current):
            await self._attempt(current, pending)
        return not current.pending(self._state.slices, self._state.allocations)

    async def _attempt(self, current: Round, pending: dict[str, Forecast]) -> None:
        pool, route = self._state.pools.get(current.pool), self._state.routes.get(current.pool)
        if pool is None or route is None:
            raise MicrooptError(
                f"pool {current.pool} has no {'specification' if pool is None else 'route'}; "
                "see `microopt apply` and `microopt route set`"
            )
        problem = rounds.problem(
            pool,
            current.interval,
            self._usable(pool, pending),
            self._state.slices,
            self._state.allocations,
            deadline_s=0.8 * self._settings.answer_within_s,
        )
        shadows = [
            asyncio.create_task(self._shadow(problem, name), name=f"shadow:{name}") for name in route.shadows
        ]
        try:
            solution = await self._ask(problem, route.active)
            await self._use(problem, solution, route.active, pending)
        finally:
            await asyncio.gather(*shadows)

    def _usable(self, pool: PoolSpec, pending: dict[str, Forecast]) -> dict[str, Forecast]:
        """Return the forecasts of slices that fit the pool; one that does not harms no other."""
        misfits = rounds.misfits(pool, pending, self._state.slices)
        for name, why in misfits.items():
            self._log.error("slice_unusable", slice=name, reason=why)
        if set(misfits) == set(pending):
            raise MicrooptError(f"pool {pool.pool}: none of its slices can be used: {'; '.join(misfits.values())}")
        return {name: forecast for name, forecast in pending.items() if name not in misfits}

    async def _ask(self, problem: Problem, optimizer: str) -> Solution:
        try:
            with self._metrics.answer_s.labels(optimizer).time():
                return await self._bus.request(
                    subjects.optimize(optimizer), problem, Solution, timeout_s=self._settings.answer_within_s
                )
        except MicrooptError:
            self._metrics.answers.labels(optimizer, "failed").inc()
            raise

    async def _use(
        self, problem: Problem, solution: Solution, optimizer: str, pending: dict[str, Forecast]
    ) -> None:
        verdict = guard.check(problem, solution, optimizer)
        for name, why in verdict.refused.items():
            self._metrics.answers.labels(optimizer, "refused").inc()
            self._log.error("answer_refused", optimizer=optimizer, slice=name, reason=why)
        if verdict.strangers:
            self._log.error("answer_for_strangers", optimizer=optimizer, slices=verdict.strangers)
        if verdict.accepted:
            epoch = await next_epoch(self._bus, problem.pool)
            for name, answer in verdict.accepted.items():
                await self._allocate(problem, answer, optimizer, epoch, pending[name])
        await self._keep(problem, solution, "active", verdict)

    async def _allocate(
        self, problem: Problem, answer: SliceSolution, optimizer: str, epoch: int, forecast: Forecast
    ) -> None:
        grace = timedelta(seconds=self._settings.grace * problem.interval.duration_s)
        allocation = Allocation(
            slice=answer.slice,
            pool=problem.pool,
            interval=problem.interval,
            epoch=epoch,
            values=answer.allocation,
            valid_until=problem.interval.end + grace,
            optimizer=optimizer,
            status=answer.status,
            expected_degradation=answer.expected_degradation,
            forecast_made_at=forecast.made_at,
            reason=answer.reason,
        )
        await self._bus.publish(allocation)
        self._state.allocations[answer.slice] = allocation
        self._metrics.answers.labels(optimizer, "accepted").inc()
        if answer.expected_degradation is not None:
            self._metrics.expected_degradation.labels(answer.slice).set(answer.expected_degradation)
        if answer.status == "infeasible":
            self._metrics.infeasible.labels(answer.slice).inc()
            self._log.warning("infeasible", slice=answer.slice, reason=answer.reason)

    async def _shadow(self, problem: Problem, optimizer: str) -> None:
        """Ask an optimizer that only watches; whatever it does, the active one's answer is used."""
        try:
            solution = await self._ask(problem, optimizer)
            await self._keep(problem, solution, "shadow", guard.check(problem, solution, optimizer))
        except MicrooptError as error:
            self._log.warning("shadow_failed", optimizer=optimizer, error=str(error))

    async def _keep(self, problem: Problem, solution: Solution, role: str, verdict: guard.Verdict) -> None:
        """Publish each slice's answer for comparison."""
        asked = {s.slice for s in problem.slices}
        for answer in solution.slices:
            if answer.slice in asked:
                await self._bus.publish(
                    Answer(
                        slice=answer.slice,
                        pool=problem.pool,
                        interval=problem.interval,
                        optimizer=solution.optimizer,
                        role="active" if role == "active" else "shadow",
                        solution=answer,
                        refused=verdict.refused.get(answer.slice, ""),
                    )
                )
