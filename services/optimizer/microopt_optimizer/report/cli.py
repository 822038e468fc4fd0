"""The commands that operators and researchers read with."""

import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click
import msgspec

from microopt.cli.connection import with_bus
from microopt.cli.names import optimizer_name
from microopt.cli.table import printable
from microopt.errors import ConfigError
from microopt.ids import slice_id
from microopt_optimizer.report import gathering, gathering_slice
from microopt_optimizer.report.explain_text import explain_lines
from microopt_optimizer.report.pool_text import ledger_lines, prices_lines, scorecard_lines
from microopt_optimizer.report.reading import since_of
from microopt_optimizer.report.replay_text import replay_lines
from microopt_optimizer.report.whatif import Change
from microopt_optimizer.report.whatif_text import whatif_lines

JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")

MOST: Final = 1e9
"""More than any slice has; with a margin on top messages still take it."""


def _known(_: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """Refuse NaN, which lies in no range and out of none."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is no number", param=parameter)
    return value


def _print(report: Any, as_json: bool, lines: Callable[[Any], Iterable[str]]) -> None:
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2))
        return
    for line in lines(report):
        click.echo(printable(line))  # reasons and errors are what others wrote


@click.command()
@click.argument("pool")
@click.option("--since", default="24h", show_default=True, metavar="TIME", help="24h, 7d, a date, or a time.")
@click.option(
    "--optimizer", "compared", multiple=True, type=optimizer_name, metavar="NAME",
    help="Compare only these; may be repeated.",
)  # fmt: skip
@JSON
def scorecard(pool: str, since: str, compared: tuple[str, ...], as_json: bool) -> None:
    """Compare all optimizers of POOL, active or shadow, on identical inputs."""
    now = datetime.now(UTC)
    start = since_of(since, now)
    names = tuple(dict.fromkeys(compared))
    _print(
        with_bus(lambda bus: gathering.gather_scorecard(bus, pool, start, now, names)), as_json, scorecard_lines
    )


@click.command()
@click.argument("pool")
@click.option("--days", type=click.IntRange(1, 366), default=30, show_default=True, help="Today is one of them.")
@click.option(
    "--against", type=optimizer_name, metavar="OPTIMIZER",
    help="Compare with it instead of the one that was active before.",
)  # fmt: skip
@JSON
def ledger(pool: str, days: int, against: str | None, as_json: bool) -> None:
    """Show by day what POOL cost and saved, and which SLAs were broken."""
    now = datetime.now(UTC)
    start = datetime(now.year, now.month, now.day, tzinfo=UTC) - timedelta(days=days - 1)
    _print(with_bus(lambda bus: gathering.gather_ledger(bus, pool, start, now, against)), as_json, ledger_lines)


@click.command()
@click.argument("pool")
@click.option("--optimizer", required=True, type=optimizer_name, metavar="NAME", help="Who is asked again.")
@click.option("--since", metavar="TIME", help="Since when: 1h, 7d, a date, or a time.  [default: 1h]")
@click.option("--problem", metavar="ID", help="Only this problem, however old.")
@JSON
def replay(pool: str, optimizer: str, since: str | None, problem: str | None, as_json: bool) -> None:
    """Ask an optimizer the recorded problems of POOL again, and show what differs; nothing is applied.

    The exit status is 1 when it answers otherwise than it did in the same version.
    """
    start = None if problem and since is None else since_of(since or "1h", datetime.now(UTC))
    found = with_bus(lambda bus: gathering.gather_replay(bus, pool, optimizer, start, problem))
    _print(found, as_json, replay_lines)
    if found.broken:
        raise SystemExit(1)


@click.command()
@click.argument("slice_", metavar="SLICE")
@click.option("--epoch", type=click.IntRange(1), help="Of this epoch instead of the last.")
@JSON
def explain(slice_: str, epoch: int | None, as_json: bool) -> None:
    """Say why SLICE has what it has, and what would change it."""
    name = slice_id(slice_)
    _print(with_bus(lambda bus: gathering_slice.gather_explanation(bus, name, epoch)), as_json, explain_lines)


@click.command()
@click.argument("slice_", metavar="SLICE")
@click.option(
    "--qos-threshold", type=click.FloatRange(0.0, MOST, min_open=True), callback=_known,
    help="The SLA's, before its margin.",
)  # fmt: skip
@click.option(
    "--degradation-threshold",
    type=click.FloatRange(0.0, 1.0, min_open=True, max_open=True),
    callback=_known,
    help="The SLA's, before its margin.",
)
@click.option(
    "--users", type=click.FloatRange(0.0, MOST), callback=_known,
    help="So many in every slot, instead of the forecast.",
)  # fmt: skip
@click.option("--optimizer", type=optimizer_name, metavar="NAME", help="Who is asked.  [default: the active one]")
@JSON
def whatif(
    slice_: str,
    qos_threshold: float | None,
    degradation_threshold: float | None,
    users: float | None,
    optimizer: str | None,
    as_json: bool,
) -> None:
    """Say what SLICE would cost with another SLA or load, and what tightening costs; nothing is applied."""
    change = Change(qos_threshold=qos_threshold, degradation_threshold=degradation_threshold, users=users)
    if change == Change() and optimizer is None:
        raise ConfigError(
            "what if nothing changes? Give --qos-threshold, --degradation-threshold, --users or --optimizer"
        )
    name, now = slice_id(slice_), datetime.now(UTC)
    work = gathering_slice.gather_whatif
    _print(with_bus(lambda bus: work(bus, name, change, optimizer, now)), as_json, whatif_lines)


@click.command()
@click.argument("pool")
@JSON
def prices(pool: str, as_json: bool) -> None:
    """Show what of POOL's capacities is used, what a unit is worth, and who holds most or is shorted."""
    now = datetime.now(UTC)
    _print(with_bus(lambda bus: gathering.gather_prices(bus, pool, now)), as_json, prices_lines)
