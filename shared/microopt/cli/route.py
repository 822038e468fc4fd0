"""`microopt route`: which optimizer answers for a pool."""

import getpass
from datetime import UTC, datetime

import click

from microopt import desired, streams
from microopt.bus import Bus
from microopt.cli.connection import with_bus
from microopt.errors import ConfigError, InvalidMessageError
from microopt.specs import PoolSpec, Route


@click.group()
def route() -> None:
    """Show or change which optimizer answers for a pool."""


@route.command("show")
def show() -> None:
    """Print the route of each pool."""
    routes, wrong = with_bus(lambda bus: desired.get_all(bus, Route))
    for pool, entry in routes.items():
        changed = f"{entry.changed_at:%Y-%m-%d %H:%M:%S} by {entry.changed_by}" if entry.changed_at else "-"
        shadows = ", ".join(entry.shadows) or "-"
        click.echo(f"{pool}: active {entry.active}; shadows {shadows}; changed {changed}; {entry.reason or '-'}")
    if not routes:
        click.echo("no routes: `microopt route set POOL OPTIMIZER`")
    for trouble in wrong:
        click.echo(trouble, err=True)


@route.command("set")
@click.argument("pool")
@click.argument("optimizer")
@click.option("--reason", default="", help="Kept in the route's history.")
def set_route(pool: str, optimizer: str, reason: str) -> None:
    """Let OPTIMIZER answer for POOL from the next interval on."""
    click.echo(with_bus(lambda bus: _set(bus, pool, optimizer, reason)))


async def _set(bus: Bus, pool: str, optimizer: str, reason: str) -> str:
    if await desired.get(bus, PoolSpec, pool) is None:
        known, _ = await desired.get_all(bus, PoolSpec)
        raise ConfigError(f"unknown pool {pool!r}; pools: {', '.join(known) or 'none, see `microopt apply`'}")
    former = await _former(bus, pool)
    await put(bus, pool, optimizer, reason=reason, by=getpass.getuser())
    return f"{pool}: {former.active if former else 'no optimizer'} → {optimizer}"


async def put(bus: Bus, pool: str, optimizer: str, *, reason: str, by: str) -> None:
    """Write the route of `pool`; its former shadows stay, less the one that becomes active."""
    former = await _former(bus, pool)
    shadows = tuple(s for s in former.shadows if s != optimizer) if former else ()
    entry = Route(
        pool=pool,
        active=optimizer,
        shadows=shadows,
        changed_at=datetime.now(UTC),
        changed_by=by,
        reason=reason,
    )
    await bus.put_spec(streams.ROUTES, pool, entry)


async def _former(bus: Bus, pool: str) -> Route | None:
    """Return the route that stands, or None for one that cannot be read: writing another is the remedy."""
    try:
        return await desired.get(bus, Route, pool)
    except InvalidMessageError:
        return None
