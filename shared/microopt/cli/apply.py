"""`microopt apply`: pools, slices and routes from a file."""

from pathlib import Path

import click
from msgspec.structs import replace

from microopt import desired, route_store, routes
from microopt.bus import Bus
from microopt.cli.connection import with_bus
from microopt.cli.route.changing import user
from microopt.desired import Desired


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--check", is_flag=True, help="Only say whether the file is right; write nothing.")
def apply(file: Path, check: bool) -> None:
    """Put the pools, slices and routes of FILE (YAML) in force; running agents follow at once."""
    wanted = desired.read_file(file)
    if not check:
        with_bus(lambda bus: _put(bus, wanted, file))
    done = "is right" if check else "applied"
    click.echo(
        f"{file} {done}: {len(wanted.pools)} pools, {len(wanted.slices)} slices, {len(wanted.routes)} routes"
    )


async def _put(bus: Bus, wanted: Desired, file: Path) -> None:
    """Write what is asked for; a route that says what stands already gets no new revision."""
    await desired.put(bus, replace(wanted, routes=[]))
    for route in wanted.routes:
        on = await route_store.current(bus, route.pool)
        if on.route is None or routes.content(on.route) != routes.content(route):
            reason = route.reason or f"applied {file.name}"
            await route_store.write(bus, on, route, by=user(), reason=reason)
