"""`microopt status`: what each slice has, by whom, and whether it took effect."""

from typing import TypeVar

import click
from nats.js.errors import NotFoundError

from microopt import codec, desired, streams, subjects
from microopt.bus import Bus
from microopt.cli.connection import with_bus
from microopt.errors import InvalidMessageError
from microopt.messages import Actuation, Allocation
from microopt.specs import SliceSpec

T = TypeVar("T")


@click.command()
def status() -> None:
    """Print the allocation of each slice, its optimizer, and what the actuators read back."""
    for line in with_bus(_lines):
        click.echo(line)


async def _lines(bus: Bus) -> list[str]:
    specs, wrong = await desired.get_all(bus, SliceSpec)
    lines = [line for slice_, spec in specs.items() for line in await _slice(bus, slice_, spec)]
    return [*lines, *wrong] or ["no slices: `microopt apply FILE`"]


async def _slice(bus: Bus, slice_: str, spec: SliceSpec) -> list[str]:
    allocation = await _last(bus, streams.ALLOCATIONS, f"{subjects.ROOT}.allocation.{slice_}", Allocation)
    if allocation is None:
        return [f"{slice_} (pool {spec.pool}): no allocation yet"]
    expected = allocation.expected_degradation
    lines = [
        f"{slice_} (pool {spec.pool}): epoch {allocation.epoch} by {allocation.optimizer}, {allocation.status}, "
        f"expected degradation {'unknown' if expected is None else f'{expected:.3f}'} "
        f"of {spec.sla.degradation_threshold:g}, valid until {allocation.valid_until:%H:%M:%S %Z}"
    ]
    for resource, value in sorted(allocation.values.items()):
        subject = f"{subjects.ROOT}.actuation.{slice_}.{resource}"
        report = await _last(bus, streams.ACTUATIONS, subject, Actuation)
        lines.append(f"  {resource} {value:.6g}: {_outcome(report, allocation.epoch)}")
    return lines


def _outcome(report: Actuation | None, epoch: int) -> str:
    if report is None:
        return "no actuator has reported"
    behind = "" if report.epoch >= epoch else f" (still epoch {report.epoch})"
    observed = "unknown" if report.observed is None else f"{report.observed:.6g}"
    saw = f"read back {observed} by {report.driver}"
    if report.state in ("effective", "ineffective"):
        saw = f"{observed} in use"
    return f"{report.state}, {saw}{behind} {report.error}".rstrip()


async def _last(bus: Bus, stream: str, subject: str, kind: type[T]) -> T | None:
    try:
        message = await bus.js.get_last_msg(stream, subject)
        return codec.decode(message.data or b"", kind, origin=subject)
    except (NotFoundError, InvalidMessageError):
        return None
