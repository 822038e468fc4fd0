"""Trying a driver on a target, and putting back what was in force, whatever happens."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from microopt.agent import Context
from microopt.bus import Bus
from microopt.errors import ConfigError, MicrooptError
from microopt.metrics import AgentMetrics
from microopt.settings import Settings
from microopt_actuator.conformance.checks import CHECK_S, CHECKS, Broken, Seen, Trial, put_back, shown
from microopt_actuator.conformance.report import Outcome, Report
from microopt_actuator.drivers.base import Driver
from microopt_actuator.registry import opened
from microopt_actuator.settings import ActuatorSettings

Say = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True)
class Values:
    """What is put in force; by default half of what is, and that again.

    `after` is left in force where there was no value before, which a driver cannot put back.
    """

    low: float | None = None
    high: float | None = None
    after: float | None = None


async def conform(settings: Settings, name: str, target: str, values: Values, say: Say) -> Report:
    """Try the driver `name`, opened twice with its settings of [actuator], on `target`.

    Raises:
        ConfigError: a setting or value cannot be used; nothing was written.
    """
    own = settings.table("actuator", ActuatorSettings)
    metrics = AgentMetrics()
    log = structlog.get_logger("microopt.actuator.conformance")
    context = Context(Bus("conformance", metrics), settings, metrics, log)  # never connected: no driver needs it
    async with opened(name, own, context) as driver, opened(name, own, context) as second:
        return await try_out(driver, second, target, values, say)


async def try_out(driver: Driver, second: Driver, target: str, values: Values, say: Say) -> Report:
    """Try `driver`, with `second` in the place of somebody else, and put back what was in force.

    Args:
        driver: what is tried.
        second: another instance of the same.
        target: what it is tried on.
        values: what is put in force meanwhile.
        say: takes each outcome at once.

    Raises:
        ConfigError: there is no value to put back, or `values` are not two; nothing was written.
    """
    outcomes: list[Outcome] = []
    before: list[float | None] = []

    async def note(check: str, call: Callable[[], Awaitable[Seen]], within_s: float = CHECK_S) -> None:
        outcomes.append(await _outcome(check, call, within_s))
        say(outcomes[-1])

    async def read() -> Seen:
        before.append(await driver.read(target))
        return Seen(f"{shown(before[0])} is in force")

    await note("read", read)
    if before:
        left = values.after if before[0] is None else before[0]
        trial, left = _trial(driver, second, target, values, left)
        try:
            for check in CHECKS:
                await note(check.name, lambda check=check: check.call(trial), check.within_s)  # type: ignore[misc]
        finally:
            await note("put back", lambda: put_back(driver, target, left))
    return Report(
        driver=driver.name,
        target=target,
        unit=driver.unit or "",
        before=before[0] if before else None,
        outcomes=outcomes,
    )


def _trial(driver: Driver, second: Driver, target: str, values: Values, left: float | None) -> tuple[Trial, float]:
    if left is None:
        raise ConfigError(
            f"{target}: no value is in force, which a driver cannot put back; say with --after which one to leave"
        )
    low = left / 2 if values.low is None else values.low
    high = left if values.high is None else values.high
    if not low < high:
        raise ConfigError(f"--low {low:g} is not below --high {high:g}, which by default is the value in force")
    return Trial(driver, second, target, low, high), left


async def _outcome(check: str, call: Callable[[], Awaitable[Seen]], within_s: float) -> Outcome:
    begin_s = time.monotonic()
    try:
        async with asyncio.timeout(within_s):
            seen, ok = await call(), True
    except TimeoutError:
        seen, ok = Seen(f"not done within {within_s:g} s"), False
    except (Broken, MicrooptError) as error:
        seen, ok = Seen(str(error)), False
    except Exception as error:  # a driver's mistake is what is looked for
        seen, ok = Seen(f"it fails with {error!r}"), False
    took_s = time.monotonic() - begin_s
    return Outcome(check=check, ok=ok, said=seen.said, took_s=took_s, steps=seen.steps)
