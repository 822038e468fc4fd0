"""One attempt at a round: everybody who is routed to is asked the same, and what they say becomes decisions."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from microopt.messages import Forecast, Problem, SliceCheck, SliceSolution, Values
from microopt.specs import Route
from microopt_optimizer.router import guard, holding, judging, standby
from microopt_optimizer.router.asking import Asking, Reply
from microopt_optimizer.router.composing import Composed, composed
from microopt_optimizer.router.decision import Decision
from microopt_optimizer.router.outcome import FALLBACK
from microopt_optimizer.router.rounds import Round
from microopt_optimizer.router.settings import RouterSettings
from microopt_optimizer.router.smoothing import smoothed
from microopt_optimizer.router.state import RouterState
from microopt_optimizer.router.told import Told


class Attempt:
    """Asks, checks and composes; `told` is what is to be published of it, `prices` the active optimizer's.

    `recommended` are slices that are done with without an allocation; `within` says how long may be waited now.
    """

    def __init__(
        self,
        settings: RouterSettings,
        state: RouterState,
        asking: Asking,
        problem: Problem,
        route: Route,
        forecasts: Mapping[str, Forecast],
        within: Callable[[], float],
    ) -> None:
        self.told = Told(problem, problem.id, route)
        self.prices: dict[str, float] | None = None
        self.recommended: set[str] = set()
        self._settings = settings
        self._state = state
        self._asking = asking
        self._problem = problem
        self._route = route
        self._forecasts = {one.slice: forecasts[one.slice] for one in problem.slices}
        self._within = within
        self._verdicts: dict[str, guard.Verdict] = {}
        self._raised: dict[str, dict[str, holding.Raised]] = {}
        self._held = holding.not_to_shrink(
            route,
            self._forecasts,
            state.slices,
            datetime.now(UTC),
            settings.forecast_age_intervals,
            settings.telemetry_age_slots,
        )
        self._answered_by: dict[str, str] = {standby.LAST: "", standby.PEAK: ""}

    async def decisions(self, current: Round) -> dict[str, Decision]:
        """Return what each slice is to have, of those that can be decided now.

        From the interval's start on, the last allocation or Peak-alloc stands in where no optimizer has an answer.
        """
        untouched = holding.untouched(self._route, self._forecasts)
        wanted = {name: self._route.optimizer_of(name) for name in self._forecasts if name not in untouched}
        await self._ask({self._route.active, *wanted.values()})
        order = [self._route.active]
        found = composed(self._problem, wanted, self._verdicts, order)
        for name in self._route.fallbacks:
            if not found.refused:
                break
            if name not in self._verdicts:
                await self._ask({name})
            order.append(name)
            found = composed(self._problem, wanted, self._verdicts, order)
        if found.refused and current.has_begun and not set(found.refused) <= current.stood_in:
            stood_in = current.stood_in & set(found.refused)
            found = await self._stand_in({n: o for n, o in wanted.items() if n not in stood_in}, order)
        self._tell(found)
        return {**self._smooth(found), **self._keep(untouched)}

    async def _ask(self, names: set[str]) -> None:
        replies = await self._asking.all(sorted(names), self._problem, self._within())
        for name in sorted(names):
            await self._take(replies[name])

    async def _take(self, reply: Reply) -> None:
        checks: dict[str, SliceCheck] = {}
        if reply.solution is None:
            verdict = guard.Verdict({}, {one.slice: reply.error for one in self._problem.slices})
        else:
            verdict = guard.check(self._problem, reply.solution)
            if self._settings.check != "off":
                verdict, checks = await self._judged(verdict)
            self._answered_by[reply.optimizer] = reply.solution.optimizer
            if reply.optimizer == self._route.active:
                self.prices = dict(reply.solution.capacity_prices)
        self._raised[reply.optimizer] = holding.raised(self._problem, verdict.accepted, self._held)
        higher = {name: one.answer for name, one in self._raised[reply.optimizer].items()}
        self._verdicts[reply.optimizer] = replace(verdict, accepted={**verdict.accepted, **higher})
        self.told.answered(reply, self._role(reply.optimizer), verdict, checks)
        if verdict.strangers:
            why = f"answered for slices that were not asked for: {', '.join(verdict.strangers)}"
            self.told.event("refused", None, why, reply.optimizer)

    async def _judged(self, verdict: guard.Verdict) -> tuple[guard.Verdict, dict[str, SliceCheck]]:
        """Hold the accepted answers, and claims that an SLA cannot be held, against the slice models."""
        settings, problem = self._settings, self._problem
        values = {name: answer.allocation for name, answer in verdict.accepted.items()}
        checks = await self._asking.check(problem, values, self._check_within())
        verdict = judging.judged(problem, verdict, checks, settings.check, settings.envelope)
        given_up = {name for name, answer in verdict.accepted.items() if answer.status == "infeasible"}
        if given_up:
            accepted = {name: answer.allocation for name, answer in verdict.accepted.items()}
            room = {name: one for name, one in judging.room_for(problem, accepted).items() if name in given_up}
            could = await self._asking.check(problem, room, self._check_within())
            verdict = _without_false_alarms(problem, verdict, could, room)
        return verdict, checks

    def _check_within(self) -> float:
        return min(self._settings.check_within_s, self._within())

    def _role(self, optimizer: str) -> str:
        if optimizer == self._route.active:
            return "active"
        if self._route.canary and optimizer == self._route.canary.optimizer:
            return "canary"
        return "exception" if optimizer in self._route.exceptions.values() else "fallback"

    async def _stand_in(self, wanted: Mapping[str, str], order: list[str]) -> Composed:
        options = standby.candidates(self._problem, self._state.slices, self._state.allocations)
        checks = {}
        if self._settings.check != "off":
            checks = {
                name: await self._asking.check(self._problem, values, self._check_within())
                for name, values in options.items()
            }
        self._verdicts |= standby.verdicts(self._problem, options, checks)
        found = composed(self._problem, wanted, self._verdicts, [*order, standby.LAST, standby.PEAK])
        for name, values in options[standby.LAST].items():
            if why := found.refused.pop(name, ""):  # there is no room for better, and what it has must not expire
                kept = SliceSolution(slice=name, allocation=values, status="infeasible")
                found.take(name, standby.LAST, kept)
                found.reverted[name] = why
        return found

    def _tell(self, found: Composed) -> None:
        for name, optimizer in found.optimizers.items():
            if name in found.reverted:
                stands_in = optimizer in FALLBACK or optimizer in self._route.fallbacks
                said = found.answers[name].reason if optimizer in FALLBACK else ""
                taken = f"{FALLBACK.get(optimizer, optimizer)} taken instead"
                why = "; ".join(part for part in (found.reverted[name], taken, said) if part)
                kind = "fallback" if stands_in else "reverted"
                self.told.event(kind, name, why, self._route.optimizer_of(name))
        for name, why in found.refused.items():
            self.told.event("refused", name, why, self._route.optimizer_of(name))

    def _smooth(self, found: Composed) -> dict[str, Decision]:
        settings = self._settings
        smooth = smoothed(
            self._problem, found.answers, deadband=settings.deadband, shrink_at_most=settings.shrink_at_most
        )
        decisions: dict[str, Decision] = {}
        for name, one in smooth.items():
            optimizer, changes = found.optimizers[name], []
            answer = found.answers[name]
            if name in found.reverted:
                changes.append(found.reverted[name])
            if (higher := self._raised.get(optimizer, {}).get(name)) is not None:
                changes.append(higher.change)
                self.told.event("held", name, higher.change, optimizer)
                answer = higher.before
            if one.change:
                changes.append(one.change)
            answered_by = self._answered_by[optimizer] or self._route.optimizer_of(name)
            fallback = FALLBACK.get(optimizer, "")
            decisions[name] = Decision(answer, one.values, answered_by, tuple(changes), fallback)
        return decisions

    def _keep(self, untouched: Mapping[str, str]) -> dict[str, Decision]:
        """Renew what frozen slices have, and note the slices for which that, or a recommendation, is all."""
        decisions: dict[str, Decision] = {}
        for name, mode in untouched.items():
            last = self._state.allocations.get(name)
            if mode == "frozen" and last is not None:
                answer = SliceSolution(
                    slice=name,
                    allocation=last.values,
                    status=last.status,
                    expected_degradation=last.expected_degradation,
                )
                change = "the route's mode keeps what is in force: frozen"
                decisions[name] = Decision(answer, last.values, last.optimizer, (change,), "force")
            elif mode == "frozen" or name in self._verdicts[self._route.active].accepted:
                self.recommended.add(name)
        return decisions


def _without_false_alarms(
    problem: Problem,
    verdict: guard.Verdict,
    could: Mapping[str, SliceCheck],
    room: Mapping[str, Values],
) -> guard.Verdict:
    allowed = {one.slice: one.sla.degradation_threshold for one in problem.slices}
    wrong = {
        name: why
        for name in room
        if (why := judging.false_alarm(verdict.accepted[name], could.get(name), allowed[name], room[name]))
    }
    accepted = {name: answer for name, answer in verdict.accepted.items() if name not in wrong}
    return replace(verdict, accepted=accepted, refused={**verdict.refused, **wrong})
