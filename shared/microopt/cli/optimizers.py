"""`microopt optimizers`: which optimizers are alive, how they do, and which pools route to them."""

from datetime import UTC, datetime

import click
import msgspec
from msgspec import Struct
from nats.js.errors import NotFoundError

from microopt import codec, desired, discovery, routes, streams, subjects
from microopt.bus import Bus
from microopt.cli.connection import with_bus
from microopt.cli.table import aligned, printable
from microopt.discovery import Served
from microopt.errors import InvalidMessageError
from microopt.messages import Answer
from microopt.specs import Route

HEAD = ("OPTIMIZER", "SERVICE", "VERSION", "ID", "ALGORITHM", "REQUESTS", "ERRORS", "MEAN MS", "ROUTED BY")
NUMBERS = (5, 6, 7)


class Unserved(Struct, frozen=True, kw_only=True):
    """An optimizer that routes name and nobody announces; `answered_at` is when it last answered all the same."""

    optimizer: str
    routed_by: dict[str, list[str]]
    answered_at: datetime | None = None


class Report(Struct, frozen=True, kw_only=True):
    """What `--json` prints; `routed_by` has the pools of each optimizer, and its roles in each."""

    optimizers: list[Served]
    routed_by: dict[str, dict[str, list[str]]]
    unserved: list[Unserved]
    malformed_replies: int = 0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--wait-s", type=click.FloatRange(0.01, 60.0), default=discovery.WAIT_S, show_default=True,
    help="How long to wait for workers to say that they are there.",
)  # fmt: skip
def optimizers(as_json: bool, wait_s: float) -> None:
    """Print every optimizer on the bus, in whatever language, and which pools route to it.

    A worker is found if it is a NATS service with an endpoint on microopt.optimize.NAME. The exit status is 1 when
    a route names an optimizer that nobody announces.
    """
    report, wrong = with_bus(lambda bus: _report(bus, wait_s))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        for line in table(report, datetime.now(UTC)):
            click.echo(line)
    for trouble in wrong:
        click.echo(printable(trouble), err=True)
    if report.unserved:
        raise SystemExit(1)


def table(report: Report, now: datetime) -> list[str]:
    """Return the lines for a terminal."""
    lines = aligned([HEAD, *(_row(one, report.routed_by) for one in report.optimizers)], NUMBERS)
    if not report.optimizers:
        lines = ["no optimizers: `microopt up optimizer`"]
    lines += [
        f"last error of {printable(one.optimizer)} ({printable(one.id)}): {printable(one.last_error)}"
        for one in report.optimizers
        if one.last_error
    ]
    if report.malformed_replies:
        lines.append(f"! replies that are not of a NATS service (ADR-32), left out: {report.malformed_replies}")
    return lines + [_warning(one, now) for one in report.unserved]


def _row(one: Served, routed_by: dict[str, dict[str, list[str]]]) -> list[str]:
    return [
        one.optimizer,
        one.service,
        one.version or "-",
        one.id,
        one.algorithm or "-",
        "-" if one.requests is None else str(one.requests),
        "-" if one.errors is None else str(one.errors),
        "-" if one.mean_ms is None else f"{one.mean_ms:.1f}",
        _pools(routed_by.get(one.optimizer, {})) or "-",
    ]


def _warning(one: Unserved, now: datetime) -> str:
    if one.answered_at is None:
        what = "NOBODY SERVES IT, nor has anybody of late"
    else:
        ago_s = (now - one.answered_at).total_seconds()
        what = f"no NATS service announces it; it last answered {ago_s:.0f} s ago"
    return f"! {one.optimizer}, routed by {_pools(one.routed_by)}: {what}"


def _pools(by_pool: dict[str, list[str]]) -> str:
    return ", ".join(f"{pool} ({', '.join(roles)})" for pool, roles in sorted(by_pool.items()))


async def _report(bus: Bus, wait_s: float) -> tuple[Report, list[str]]:
    found = await discovery.discover(bus.nc, wait_s)
    standing, wrong = await desired.get_all(bus, Route)
    routed: dict[str, dict[str, list[str]]] = {}
    for pool, route in standing.items():
        for name, roles in routes.roles(route).items():
            routed.setdefault(name, {})[pool] = roles
    unserved = [
        Unserved(optimizer=name, routed_by=by, answered_at=await _answered_at(bus, name, list(by)))
        for name, by in sorted(routed.items())
        if name not in found.optimizers
    ]
    report = Report(
        optimizers=found.served, routed_by=routed, unserved=unserved, malformed_replies=found.malformed
    )
    return report, wrong


async def _answered_at(bus: Bus, optimizer: str, pools: list[str]) -> datetime | None:
    """Return when an optimizer last gave a solution: one that is no NATS service may be alive all the same."""
    times = []
    for pool in pools:
        subject = f"{subjects.ROOT}.solution.{optimizer}.{pool}"
        try:
            message = await bus.js.get_last_msg(streams.SOLUTIONS, subject)
            answer = codec.decode(message.data or b"", Answer, origin=subject)
        except (NotFoundError, InvalidMessageError):
            continue
        if answer.solution is not None:
            times.append(answer.at)
    return max(times, default=None)
