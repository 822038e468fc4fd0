"""The actuator: each slice's last allocation, held in force by the drivers that its resources are bound to."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from msgspec.structs import replace

from microopt import streams, subjects
from microopt.agent import Agent, Context
from microopt.messages import Actuation, Allocation, Held, Holdings, Telemetry
from microopt.settings import Settings
from microopt.specs import PoolSpec, SliceSpec
from microopt_actuator.bindings import Bindings
from microopt_actuator.dry_run import DryRun
from microopt_actuator.held import InForce
from microopt_actuator.memory import Memory
from microopt_actuator.metrics import ActuatorMetrics
from microopt_actuator.reconciler import Reconciler
from microopt_actuator.registry import DRIVERS, opened
from microopt_actuator.reports import Reports
from microopt_actuator.settings import ActuatorSettings
from microopt_actuator.waiting import Waiting


class Actuator:
    """The shell around the reconciler: messages in, reports out."""

    _reconciler: Reconciler
    _memory: Memory
    _in_force: InForce

    def __init__(self, settings: ActuatorSettings) -> None:
        self._settings = settings
        self._bindings = Bindings(settings.bindings, DRIVERS)
        self._reports = Reports()
        self._waiting = Waiting(self._take)

    @asynccontextmanager
    async def lifespan(self, ctx: Context) -> AsyncIterator[None]:
        """Open the drivers that are bound; at the end send the reports that wait."""
        self._memory = Memory(ctx.bus)
        async with AsyncExitStack() as stack:
            drivers = {
                name: await stack.enter_async_context(opened(name, self._settings, ctx))
                for name in sorted(self._bindings.drivers)
            }
            if self._settings.dry_run:
                ctx.log.warning("dry_run", remedy="nothing is written; unset [actuator] dry_run to write")
                drivers = {name: DryRun(driver) for name, driver in drivers.items()}
            self._reconciler = Reconciler(
                self._bindings,
                drivers,
                report=self._report,
                metrics=ActuatorMetrics(ctx.metrics.registry),
                check_every_s=self._settings.check_every_s,
            )
            self._in_force = InForce(self._bindings, drivers, self._reconciler)
            if not self._settings.bindings:
                ctx.log.warning("nothing_bound", remedy="write bindings into the table [actuator]")
            yield
        await self._reports.flush(ctx.bus)

    async def on_spec(self, key: str, spec: SliceSpec | None, _: Context) -> None:
        """Take a slice's bounds and blind policy."""
        self._reconciler.set_spec(key, spec)
        self._waiting.try_again()

    async def on_pool(self, key: str, spec: PoolSpec | None, _: Context) -> None:
        """Take the units in which a pool counts."""
        self._reconciler.set_pool(key, spec)
        self._waiting.try_again()

    async def on_allocation(self, allocation: Allocation, ctx: Context) -> None:
        """Follow a slice's allocation from its start, unless a higher epoch was accepted by whichever process.

        One whose slice or pool has no spec yet is followed once that is there.

        Raises:
            TemporaryError: the bucket of what was accepted does not answer.
            PermanentError: a lower epoch, a value outside the slice's bounds, or a unit that is not its driver's.
        """
        if not self._reconciler.owns(allocation):
            ctx.log.debug("allocation_of_others", slice=allocation.slice, resources=sorted(allocation.values))
            return
        await self._waiting.take(allocation)

    async def _take(self, allocation: Allocation) -> None:
        if self._reconciler.last(allocation.slice) is None:
            self._reconciler.restore(allocation.slice, await self._memory.recall(allocation.slice))
        before = self._reconciler.last(allocation.slice)
        self._reconciler.accept(allocation)
        if before is not self._reconciler.last(allocation.slice) and not self._settings.dry_run:
            await self._memory.keep(allocation, self._reconciler.ruling(allocation.slice))

    def _report(self, report: Actuation) -> None:
        if not self._settings.dry_run:  # nobody is to believe that it happened
            self._reports.put(report)

    async def on_telemetry(self, telemetry: Telemetry, _: Context) -> None:
        """See whether what was verified is at work."""
        self._reconciler.see(telemetry)

    async def on_held(self, question: Held, _: Context) -> Holdings:
        """Say what is in force here."""
        if self._settings.dry_run:  # another one is in charge
            return Holdings(slices=[])
        return await self._in_force.answer(question)

    async def hold(self, _: Context) -> None:
        """Hold every resource at what it was asked for."""
        await self._reconciler.run()

    async def follow_clock(self, _: Context) -> None:
        """Let allocations begin and expire when it is time."""
        await self._reconciler.follow_clock()

    async def take_what_waits(self, ctx: Context) -> None:
        """Follow allocations that came before their specs."""
        await self._waiting.run(ctx.bus)

    async def send_reports(self, ctx: Context) -> None:
        """Publish what became of each resource."""
        await self._reports.run(ctx.bus)


def build(settings: Settings, *, dry_run: bool = False) -> Agent:
    """Return the actuator; `dry_run` is for whoever does not want to set it in [actuator].

    Raises:
        ConfigError: a setting of [actuator] cannot be used.
    """
    own = settings.table("actuator", ActuatorSettings)
    actuator = Actuator(replace(own, dry_run=own.dry_run or dry_run))
    agent = Agent("actuator", description="holds allocations in force", lifespan=actuator.lifespan)
    agent.watch(streams.POOLS, PoolSpec)(actuator.on_pool)
    agent.watch(streams.SLICES, SliceSpec)(actuator.on_spec)
    agent.on(Allocation, start="last")(actuator.on_allocation)
    agent.on(Telemetry, start="new")(actuator.on_telemetry)
    agent.endpoint("held", subjects.HELD, Held, shared=False)(actuator.on_held)
    agent.task("hold")(actuator.hold)
    agent.task("clock")(actuator.follow_clock)
    agent.task("waiting")(actuator.take_what_waits)
    agent.task("reports")(actuator.send_reports)
    return agent
