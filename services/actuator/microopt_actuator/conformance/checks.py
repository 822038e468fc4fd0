"""The contract of a driver (`drivers/base.py`), tried in order on one target."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from microopt.errors import MicrooptError, PermanentError, TemporaryError
from microopt_actuator.drivers.base import Absence, Driver, Made, Maker, Write

NOWHERE: Final = "-microopt-none"
"""What makes another target of one, which nobody has."""
_NO_VALUES: Final = (math.nan, 0.0, -1.0, math.inf)
PATIENCE_S: Final = 45.0
"""Controllers that ask their switches every ten seconds need some."""
_PAUSE_S: Final = 0.25
CHECK_S: Final = PATIENCE_S + 15.0
"""A check of one change that takes longer has failed."""
TURNS: Final = 12
"""Enough for ids to become more than one digit, which ONOS writes in hexadecimal and reads in decimal."""
_STRIDE: Final = 5
"""Without a common factor with `TURNS`: no two values in turn are neighbours, and none comes twice."""

T = TypeVar("T")


class Broken(Exception):
    """The driver does not keep its contract; the text says how."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of a driver that does as it should."""

    said: str
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried: a driver on a target, with a second one that stands for somebody else.

    `low` and `high` are two values that the target does not hold in the same way.
    """

    driver: Driver
    second: Driver
    target: str
    low: float
    high: float

    async def plan_only(self) -> Seen:
        """Planning says what would be written, and writes nothing."""
        before = await self.driver.read(self.target)
        write = await patiently(lambda: self.driver.plan(self.target, self.low))
        after = await self.driver.read(self.target)
        if before != after:
            raise Broken(f"{shown(before)} was in force, and {shown(after)} is after a mere plan")
        if not write.is_held_by(before) and not write.steps:
            raise Broken(f"{shown(before)} is in force, and the plan for {self.low:g} has no step")
        return Seen(f"{self.low:g} would be held as {write.holds:g} ± {write.tolerance:g}", write.steps)

    async def apply_low(self) -> Seen:
        """A value is in force once it was applied."""
        return await self._apply(self.low)

    async def apply_again(self) -> Seen:
        """What is in force already is not written again."""
        write = await patiently(lambda: self.driver.plan(self.target, self.low))
        if write.steps:
            raise Broken(f"{self.low:g} is in force, and the plan still has steps: {'; '.join(write.steps)}")
        await patiently(lambda: self.driver.apply(write))
        return Seen(f"{_held(write, await self.driver.read(self.target))}, nothing to write")

    async def apply_high(self) -> Seen:
        """Another value takes its place."""
        return await self._apply(self.high)

    async def see_drift(self) -> Seen:
        """What somebody else writes is read, not what was written last."""
        theirs = await put(self.second, self.target, self.low)
        observed = await self.driver.read(self.target)
        _held(theirs, observed)
        ours = await patiently(lambda: self.driver.plan(self.target, self.high))
        if ours.is_held_by(observed) or not ours.steps:
            raise Broken(f"a second driver set {self.low:g}, and this one takes {self.high:g} for in force")
        return Seen(f"{shown(observed)} of another process is seen")

    async def many_in_turn(self) -> Seen:
        """However often a value changes, each is read right, and nothing of the former ones is left."""
        before = await self._made()
        for turn in range(1, TURNS + 1):
            value = self.low + (self.high - self.low) * (turn * _STRIDE % TURNS) / TURNS
            try:
                await self._apply(value)
            except Broken as error:
                raise Broken(f"change {turn}: {error}") from None
        said = f"{TURNS} changes, each of which is read"
        after = await self._made()
        if before is None or after is None:
            return Seen(said)
        if before.lasting != after.lasting:
            raise Broken(f"there was {_listed(before.lasting)}, and {_listed(after.lasting)} is in its place")
        if len(before.changing) != len(after.changing):
            raise Broken(f"of {_listed(before.changing)} has become {_listed(after.changing)}")
        return Seen(f"{said}; there are {_listed((*after.lasting, *after.changing))}")

    async def refuse_target(self) -> Seen:
        """A target that is not there is refused with a reason: by its notation, and by what has no such thing."""
        said = ""
        for wrong in self._wrong_targets():
            calls = {
                "read": lambda wrong=wrong: self.driver.read(wrong),
                "planned": lambda wrong=wrong: self.driver.plan(wrong, self.low),
            }
            for done, call in calls.items():
                said = await _refused(call, f"{wrong!r} was {done}", MicrooptError)
        return Seen(said)

    async def refuse_values(self) -> Seen:
        """What is no value is refused with a reason."""
        said = ""
        for value in _NO_VALUES:
            said = await _refused(
                lambda value=value: self.driver.plan(self.target, value),  # type: ignore[misc]
                f"{value:g} was planned",
                PermanentError,
            )
        return Seen(said)

    async def _made(self) -> Made | None:
        driver = self.driver
        return await patiently(lambda: driver.made(self.target)) if isinstance(driver, Maker) else None

    def _wrong_targets(self) -> list[str]:
        wrong = [self.target + NOWHERE]
        if isinstance(self.driver, Absence):
            wrong.append(self.driver.absent(self.target))
        return wrong

    async def _apply(self, value: float) -> Seen:
        write = await put(self.driver, self.target, value)
        return Seen(_held(write, await self.driver.read(self.target)))


class Check(NamedTuple):
    """One of the rules: what it is called, how it is tried, and how long that may take."""

    name: str
    call: Callable[[Trial], Awaitable[Seen]]
    within_s: float = CHECK_S


CHECKS: Final = (
    Check("plan writes nothing", Trial.plan_only),
    Check("apply low", Trial.apply_low),
    Check("apply again", Trial.apply_again),
    Check("apply high", Trial.apply_high),
    Check("drift is seen", Trial.see_drift),
    Check("many in turn", Trial.many_in_turn, TURNS * CHECK_S),
    Check("wrong target", Trial.refuse_target),
    Check("wrong values", Trial.refuse_values),
)


async def put(driver: Driver, target: str, value: float) -> Write:
    """Put a value in force as the actuator does, which plans anew at each attempt, and return what was planned."""

    async def attempt() -> Write:
        write = await driver.plan(target, value)
        await driver.apply(write)
        return write

    return await patiently(attempt)


async def put_back(driver: Driver, target: str, value: float) -> Seen:
    """Put the value from before in force again."""
    write = await put(driver, target, value)
    return Seen(_held(write, await driver.read(target)))


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Return the result of `call`, tried again for a while after temporary errors, as the actuator does for ever.

    Raises:
        TemporaryError: the last one.
    """
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + PATIENCE_S
    while True:
        try:
            return await call()
        except TemporaryError:
            if loop.time() > give_up_s:
                raise
        await asyncio.sleep(_PAUSE_S)


async def _refused(call: Callable[[], Awaitable[object]], else_said: str, kind: type[MicrooptError]) -> str:
    try:
        await call()
    except kind as error:
        if not str(error):
            raise Broken("it is refused without a word") from error
        return str(error)
    raise Broken(f"{else_said} instead of refused")


def _held(write: Write, observed: float | None) -> str:
    if not write.is_held_by(observed):
        raise Broken(
            f"{write.value:g} was applied, which shows as {write.holds:g} ± {write.tolerance:g}; "
            f"{shown(observed)} is read"
        )
    return f"{shown(observed)} is read"


def _listed(things: tuple[str, ...]) -> str:
    return ", ".join(things) or "nothing"


def shown(value: float | None) -> str:
    """Return a reading as text."""
    return "no value" if value is None else f"{value:g}"
