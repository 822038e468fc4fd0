"""A driver over a dict that keeps the contract, and those that break one rule of it each."""

from microopt.errors import PermanentError, TemporaryError
from microopt_actuator.drivers.base import Made, Write


class Shelf:
    """A driver over a dict that keeps the contract; two of them see each other's writes."""

    name = "shelf"
    unit = "Mbit/s"

    def __init__(self, values):
        self.values = values
        self.tolerance = 0.5

    async def plan(self, target, value):
        self.known(target)
        if not 0 < value < 1e6:
            raise PermanentError(f"{value} is no rate")
        steps = () if self.values[target] == value else (f"{target} = {value:g}",)
        return Write(target, value, value, self.tolerance, steps)

    async def apply(self, write):
        self.values[write.target] = write.value

    async def read(self, target):
        self.known(target)
        return self.values[target]

    def known(self, target):
        if target not in self.values:
            raise PermanentError(f"{target} is not there")


class PlansByWriting(Shelf):
    async def plan(self, target, value):
        write = await super().plan(target, value)
        self.values[target] = value
        return write


class Rounds(Shelf):
    async def apply(self, write):
        self.values[write.target] = write.value // 10 * 10


class WritesAgain(Shelf):
    async def plan(self, target, value):
        write = await super().plan(target, value)
        return Write(target, value, write.holds, write.tolerance, ("write it again",))


class Remembers(Shelf):
    def __init__(self, values):
        super().__init__(values)
        self.own = dict(values)

    async def apply(self, write):
        await super().apply(write)
        self.own[write.target] = write.value

    async def read(self, target):
        self.known(target)
        return self.own[target]


class TakesAnyTarget(Shelf):
    async def read(self, target):
        return self.values.get(target)


class LooksAtTheNotationOnly(Shelf):
    """Its targets are single letters, and those that nobody has hold nothing."""

    def known(self, target):
        if len(target) != 1:
            raise PermanentError(f"{target} is no letter")
        self.values.setdefault(target, None)

    def absent(self, target):
        return "b" if target == "a" else "a"


class Leaks(Shelf):
    """It makes a thing for each change, and leaves the former ones."""

    def __init__(self, values):
        super().__init__(values)
        self.meters = 0

    async def apply(self, write):
        await super().apply(write)
        self.meters += 1

    async def made(self, _):
        return Made(("flow 1",), tuple(f"meter {number}" for number in range(1, self.meters + 1)))


class MovesOn(Leaks):
    """It makes what is to last anew at each change."""

    async def made(self, _):
        return Made((f"flow {self.meters}",), ("meter 1",))


class Forgets(Leaks):
    """From the tenth change on it reads something else."""

    async def read(self, target):
        return await super().read(target) if self.meters < 10 else None

    made = None


class TakesAnyValue(Shelf):
    async def plan(self, target, value):
        self.known(target)
        return Write(target, value, value, 0.5, () if self.values[target] == value else ("write",))


class SaysNothing(Shelf):
    def known(self, target):
        if target not in self.values:
            raise PermanentError("")


class Crashes(Shelf):
    async def apply(self, write):
        if write.value == 5.0:
            raise KeyError(write.target)
        await super().apply(write)


class ConfirmsLate(Shelf):
    tries = 0

    async def apply(self, write):
        self.tries += 1
        if self.tries == 1:
            raise TemporaryError("not confirmed yet")
        await super().apply(write)
