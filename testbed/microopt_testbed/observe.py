"""A subscriber that watches the demo from the bus, as anybody's dashboard would."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from microopt.agent import Agent, Context
from microopt.messages import Actuation, Allocation, Forecast, Telemetry
from microopt_testbed.history import SOURCE


@dataclass
class Record:
    """What was seen, by slice, in the order of arrival."""

    telemetry: list[Telemetry] = field(default_factory=list)
    forecasts: list[Forecast] = field(default_factory=list)
    allocations: list[Allocation] = field(default_factory=list)
    allocated_at: dict[tuple[str, int], datetime] = field(default_factory=dict)
    """When the allocation of a slice and epoch was seen."""
    actuations: list[Actuation] = field(default_factory=list)

    def last(self, kind: str, slice_: str) -> Any:
        """Return the newest message of a slice, or None."""
        return next((m for m in reversed(getattr(self, kind)) if m.slice == slice_), None)


def observer(record: Record) -> Agent:
    """Return an agent that writes everything into `record`."""
    agent = Agent("demo-observer")

    async def telemetry(message: Telemetry, _: Context) -> None:
        if message.source != SOURCE:
            record.telemetry.append(message)

    async def forecast(message: Forecast, _: Context) -> None:
        record.forecasts.append(message)

    async def allocation(message: Allocation, _: Context) -> None:
        record.allocations.append(message)
        record.allocated_at.setdefault((message.slice, message.epoch), datetime.now(UTC))

    async def actuation(message: Actuation, _: Context) -> None:
        record.actuations.append(message)

    agent.on(Telemetry, start="new")(telemetry)
    agent.on(Forecast, start="new")(forecast)
    agent.on(Allocation, start="new")(allocation)
    agent.on(Actuation, start="new")(actuation)
    return agent
