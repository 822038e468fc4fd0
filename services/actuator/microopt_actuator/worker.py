"""Holding one resource of one slice at the value that was wished last: read, write if needed, read back."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

import structlog

from microopt.errors import PermanentError, TemporaryError
from microopt.messages import Actuation, ActuationState
from microopt_actuator.drivers.base import Driver, Write
from microopt_actuator.effect import Effect
from microopt_actuator.job import Job, Wish
from microopt_actuator.metrics import ActuatorMetrics
from microopt_actuator.turns import Capacity, Turns

ATTEMPT_S: Final = 10.0
"""A driver that has not answered by then counts as away."""
BACKOFF_S: Final = (0.1, 0.25, 0.5, 1.0)
"""The last one goes on: what comes back after hours has what it was allocated within two seconds, too."""
UNREAD_S: Final = 2.0
"""A value that could not be read for so long is not called verified any more."""
MAX_ERROR_CHARS: Final = 1_000
FIGHTS: Final = 5
FIGHT_S: Final = 60.0
"""A value that somebody else changes so often within this is not put back any more."""
RENEWALS: Final = 30
"""Another thing behind the same target, such as a new pod, is no fight before there are so many within it."""

Report = Callable[[Actuation], None]
Clock = Callable[[], datetime]


class Worker:
    """One resource of one slice; a new wish replaces the former, whatever has become of that.

    Args:
        slice_: the slice.
        resource: the resource.
        driver: what sets and reads it.
        target: the resource in the driver's notation.
        report: takes each state that is reached; it must not block.
        metrics: the actuator's.
        check_every_s: time between two readings of a value that is in force.
        clock: the time of day, with its zone.
        turns: whose turn it is among those that share capacities.
    """

    def __init__(
        self,
        slice_: str,
        resource: str,
        driver: Driver,
        target: str,
        *,
        report: Report,
        metrics: ActuatorMetrics,
        check_every_s: float,
        clock: Clock,
        turns: Turns | None = None,
    ) -> None:
        self.slice = slice_
        self.resource = resource
        self.driver = driver
        self._target = target
        self._report = report
        self._metrics = metrics
        self._check_every_s = check_every_s
        self._clock = clock
        self._turns = turns or Turns()
        self._job: Job | None = None
        self._drifts: deque[float] = deque(maxlen=FIGHTS)
        self._renewals: deque[float] = deque(maxlen=RENEWALS)
        self._observed: float | None = None
        self._changed = asyncio.Event()
        self._log = structlog.get_logger("microopt.actuator").bind(
            slice=slice_, resource=resource, driver=driver.name, target=target
        )

    @property
    def wished(self) -> float | None:
        """Return the value that was asked for last."""
        return self._job.wish.value if self._job else None

    @property
    def held(self) -> float | None:
        """Return what is in force: the value that was verified, else what was read last; None is unknown."""
        job = self._job
        return job.wish.value if job is not None and job.state == "verified" else self._observed

    def want(self, wish: Wish) -> None:
        """Hold `wish` from now on; the same wish again only changes whether it is kept."""
        former = self._job
        if former is not None and wish.same_as(former.wish):
            former.wish = replace(former.wish, keep=wish.keep and not former.given_up)
        else:
            self._job = Job(wish, wish.since_s)
            self._metrics.contested.labels(self.slice, self.resource).set(0)
            if former is not None:
                self._turns.done(self._capacity(former), self)
                if wish.value < former.wish.value:
                    self._turns.shrink(self._capacity(self._job), self)
        self._changed.set()

    def let_go(self) -> None:
        """Put nothing back any more; what is not in force yet is still brought there."""
        if self._job is not None:
            self._job.wish = replace(self._job.wish, keep=False)

    async def run(self) -> None:
        """Work for ever; no failure of the driver ends it."""
        while True:
            self._changed.clear()
            pause_s = await self._turn()
            try:
                async with asyncio.timeout(pause_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _turn(self) -> float | None:
        """Make one attempt and return the seconds to the next, None if only a new wish needs one."""
        job = self._job
        if job is None or job.is_at_rest:
            return None
        job.tried_at_s = time.monotonic()
        try:
            async with asyncio.timeout(ATTEMPT_S):
                await self._hold(job)
        except PermanentError as error:
            self._fail(job, "refused", str(error))
            return self._check_every_s
        except TimeoutError:
            self._fail(job, "temporary", f"driver {self.driver.name}: no answer within {ATTEMPT_S:g} s")
        except TemporaryError as error:
            self._fail(job, "temporary", str(error))
        except Exception as error:  # one driver's mistake must not end the others
            self._log.exception("driver_crashed")
            self._fail(job, "crashed", f"driver {self.driver.name}: {error!r}")
        else:
            job.failures, job.unread_since_s = 0, None
            return self._check_every_s
        job.failures += 1
        return min(BACKOFF_S[min(job.failures, len(BACKOFF_S)) - 1], self._check_every_s)

    async def _hold(self, job: Job) -> None:
        is_fresh = job.write is None
        if job.write is None:
            job.write = await self.driver.plan(self._target, job.wish.value)
        observed = await self._read()
        # What others wrote may read as wished and not be as the driver writes it, so that it would not stay.
        if job.write.is_held_by(observed) and (job.written or not job.write.steps):
            self._verified(job, observed)
            return
        if job is not self._job or (job.verified_at is not None and not job.wish.keep):
            return  # meanwhile a newer wish has come, which alone is written, or this one was let go
        # Planned anew: the target may be another one by now, such as a restarted switch's.
        write = job.write if is_fresh else await self.driver.plan(self._target, job.wish.value)
        if job is not self._job:
            return
        is_other = write.thing != job.write.thing
        if job.state == "verified" and not self._may_put_back(job, observed, is_other=is_other):
            return
        job.write = write
        if write.is_held_by(observed) and not write.steps:
            self._verified(job, observed)
            return
        if observed is not None and job.wish.value > observed:
            await self._turns.grow(self._capacity(job), self)
            if job is not self._job:
                return
        else:
            self._turns.shrink(self._capacity(job), self)
        await self._write(job, write, observed)

    async def _write(self, job: Job, write: Write, before: float | None) -> None:
        job.before = before
        await self.driver.apply(write)
        if not job.written:
            job.written = True
            self._reach(job, "applied", None)
        observed = await self._read()
        if not write.is_held_by(observed):
            text = "no value" if observed is None else f"{observed:g}"
            self._fail(job, "differs", f"{self._target}: requested {job.wish.value:g}, observed {text}", observed)
            return
        self._verified(job, observed)

    async def _read(self) -> float | None:
        self._observed = await self.driver.read(self._target)
        return self._observed

    def _verified(self, job: Job, observed: float | None) -> None:
        """Note that the value is in force, and once what it took where it was written."""
        if job.written and job.effect is None:
            self._metrics.writes.labels(self.driver.name, "verified").inc()
            self._metrics.apply_s.labels(self.driver.name).observe(time.monotonic() - job.since_s)
            job.effect = Effect(job.wish.value, job.before)
        self._reach(job, "verified", observed)

    def see(self, usage: float, slot_begin: datetime) -> None:
        """Take the resource's use in a slot, and say when it shows a verified value at work, or not."""
        job = self._job
        if job is None or job.state != "verified" or job.verified_at is None or slot_begin < job.verified_at:
            return
        job.effect = job.effect or Effect(job.wish.value, None)
        if not job.effect.see(usage) or job.effect.verdict is None:
            return
        error = ""
        if job.effect.verdict == "ineffective":
            error = (
                f"{self._target} reads {job.wish.value:g}, but the slice uses {usage:g}: "
                "is it bound to the right target?"
            )
        self._metrics.effects.labels(self.slice, self.resource).set(job.effect.verdict == "effective")
        self._say(job, job.effect.verdict, usage, error)

    def _capacity(self, job: Job) -> Capacity:
        return job.wish.pool, self.resource

    def _may_put_back(self, job: Job, observed: float | None, *, is_other: bool) -> bool:
        """Note that the value has changed, and return whether it is still worth putting back.

        Somebody who keeps changing it is given way to; another thing behind the same target never had it.
        """
        self._metrics.drift.labels(self.slice, self.resource).inc()
        self._log.warning("drift", requested=job.wish.value, observed=observed)
        now_s = time.monotonic()
        job.state, job.written, job.since_s, job.effect = None, False, now_s, None
        changes = self._renewals if is_other else self._drifts
        changes.append(now_s)
        if len(changes) < (changes.maxlen or 0) or now_s - changes[0] > FIGHT_S:
            return True
        job.given_up, job.wish = True, replace(job.wish, keep=False)
        self._metrics.contested.labels(self.slice, self.resource).set(1)
        text = "no value" if observed is None else f"{observed:g}"
        self._fail(
            job,
            "contested",
            f"{self._target}: changed by somebody else {len(changes)} times within {FIGHT_S:g} s, last to {text}; "
            "left so until the next allocation; find who else sets it, or bind it to the driver of its owner",
            observed,
        )
        return False

    def _fail(self, job: Job, outcome: str, error: str, observed: float | None = None) -> None:
        self._metrics.writes.labels(self.driver.name, outcome).inc()
        # A verified value that cannot be read just now is still the last thing known of it, for a while.
        if job.state == "verified" and outcome == "temporary" and not self._is_unread_for_long(job, error):
            return
        self._reach(job, "failed", observed, error)

    def _is_unread_for_long(self, job: Job, error: str) -> bool:
        if job.unread_since_s is None:
            job.unread_since_s = job.tried_at_s
            self._log.warning("not_readable", error=error)
        return time.monotonic() - job.unread_since_s >= UNREAD_S

    def _reach(self, job: Job, state: ActuationState, observed: float | None, error: str = "") -> None:
        """Report a state once, however often it is found again."""
        if state != "applied" and job is self._job:
            self._turns.done(self._capacity(job), self)
        if (job.state, job.error) == (state, error):
            return
        job.state, job.error = state, error
        if state == "verified":
            job.verified_at = self._clock()
        self._say(job, state, observed, error)

    def _say(self, job: Job, state: ActuationState, observed: float | None, error: str = "") -> None:
        log = self._log.warning if state in ("failed", "ineffective") else self._log.info
        log(state, epoch=job.wish.epoch, requested=job.wish.value, observed=observed, error=error)
        self._report(
            Actuation(
                slice=self.slice,
                resource=self.resource,
                epoch=job.wish.epoch,
                state=state,
                requested=job.wish.value,
                observed=observed,
                driver=self.driver.name,
                at=self._clock(),
                duration_s=max(0.0, time.monotonic() - job.since_s),
                forecast_made_at=job.wish.forecast_made_at,
                error=error[:MAX_ERROR_CHARS],
            )
        )
