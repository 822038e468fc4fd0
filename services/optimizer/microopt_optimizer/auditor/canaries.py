"""The judge's shell: gathers the evidence on each canary, and writes the route that follows."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import nats.errors
import structlog
from msgspec.structs import replace
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError

from microopt import codec, streams, subjects
from microopt.bus import Bus
from microopt.errors import MicrooptError
from microopt.messages import Answer, Assurance, Event
from microopt.specs import Canary, PoolSpec, Route
from microopt_optimizer.auditor.canary import Evidence, Judgement, followed, judge
from microopt_optimizer.auditor.following import Following
from microopt_optimizer.auditor.metrics import AuditorMetrics

MOST_CHARS: Final = 2_000

About = tuple[Canary, str, dict[str, str]]
"""What evidence is about: the canary, the active optimizer beside it, and exceptions, whose slices it has not."""


@dataclass
class _Trial:
    """One canary on one route, from when it was set."""

    about: About
    evidence: Evidence
    answers: Following[Answer]
    assurances: Following[Assurance]


class Canaries:
    """Looks at the routes' canaries; a restart reads their evidence again from the streams."""

    def __init__(self, bus: Bus, pools: Mapping[str, PoolSpec], metrics: AuditorMetrics) -> None:
        self._bus = bus
        self._pools = pools
        self._metrics = metrics
        self._trials: dict[str, _Trial] = {}
        self._log = structlog.get_logger("microopt.auditor")

    async def look(self, routes: Mapping[str, Route]) -> None:
        """Judge each canary; trouble with one harms no other.

        Another auditor may do the same: the route is written by compare-and-set, so that one judgement counts.
        """
        for pool in set(self._trials) - {name for name, route in routes.items() if route.canary}:
            del self._trials[pool]
        for route in list(routes.values()):
            try:
                await self._look_at(route)
            except (MicrooptError, nats.errors.Error, TimeoutError) as error:  # the bus is away for a while
                self._log.warning("canary_not_judged", pool=route.pool, error=str(error) or repr(error))
            except Exception:
                self._log.exception("canary_not_judged", pool=route.pool)

    async def _look_at(self, route: Route) -> None:
        if route.canary is None:
            return
        if route.canary.since is None:
            await self._begin(route, route.canary)
            return
        trial = self._trial(route, route.canary, route.canary.since)
        pool, evidence = self._pools.get(route.pool), trial.evidence
        await trial.answers.read(lambda answer, _: evidence.hear(answer, route, pool))
        await trial.assurances.read(lambda assurance, _: evidence.see(assurance, route))
        if judgement := judge(route, evidence):
            await self._carry_out(route, route.canary, judgement)

    def _trial(self, route: Route, canary: Canary, since: datetime) -> _Trial:
        """Return the trial under way; it begins anew, from what is stored, when the route changes under it."""
        pool, about = route.pool, (canary, route.active, route.exceptions)
        trial = self._trials.get(pool)
        if trial is None or trial.about != about:
            trial = self._trials[pool] = _Trial(
                about,
                Evidence(),
                Following(self._bus, Answer, f"{subjects.ROOT}.solution.*.{pool}", since=since),
                Following(self._bus, Assurance, subjects.ALL[Assurance], since=since),
            )
        return trial

    async def _begin(self, route: Route, canary: Canary) -> None:
        """Note since when a canary is one, if who set it did not."""
        await self._change(route, replace(route, canary=replace(canary, since=datetime.now(UTC))))

    async def _carry_out(self, route: Route, canary: Canary, judgement: Judgement) -> None:
        at, pool = datetime.now(UTC), route.pool
        if not await self._change(route, followed(route, judgement, at)):
            return
        outcome = "promoted" if judgement.promote else "rolled-back"
        self._metrics.canaries.labels(pool, outcome).inc()
        self._log.warning("canary_judged", pool=pool, optimizer=canary.optimizer, reason=judgement.reason)
        reason = judgement.reason[:MOST_CHARS]
        await self._bus.publish(Event(pool=pool, kind="canary", at=at, optimizer=canary.optimizer, reason=reason))

    async def _change(self, former: Route, route: Route) -> bool:
        """Write a route in place of its former; return False if that is not what stands."""
        pool = former.pool
        kv = await self._bus.js.key_value(streams.ROUTES)
        try:
            entry = await kv.get(pool)
        except KeyNotFoundError:
            return False
        if codec.decode(entry.value or b"", Route, origin=f"{streams.ROUTES}/{pool}") != former:
            return False  # judged, or changed by an operator, in the meantime
        try:
            await kv.update(pool, codec.encode(route), last=entry.revision)
        except KeyWrongLastSequenceError:  # looked at again, on the route that stands by then
            return False
        return True
