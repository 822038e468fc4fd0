"""`microopt apply`: pools, slices and routes from a file."""

from pathlib import Path

import click
from msgspec.structs import replace

from microopt import desired, route_store, route_text, routes
from microopt.bus import Bus
from microopt.cli.connection import with_bus
from microopt.cli.route.changing import require_slices, slices_of, user
from microopt.desired import Desired
from microopt.specs import Route


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--check", is_flag=True, help="Only say whether the file is right; write nothing.")
def apply(file: Path, check: bool) -> None:
    """Put the pools, slices and routes of FILE (YAML) in force; running agents follow at once."""
    wanted = desired.read_file(file)
    changed = [] if check else with_bus(lambda bus: _put(bus, wanted, file))
    done = "is right" if check else "applied"
    click.echo(
        f"{file} {done}: {len(wanted.pools)} pools, {len(wanted.slices)} slices, {len(wanted.routes)} routes"
    )
    for line in changed:
        click.echo(line)


async def _put(bus: Bus, wanted: Desired, file: Path) -> list[str]:
    """Write what is asked for; return what it changes of routes that stood, such as a freeze that ends."""
    await desired.put(bus, replace(wanted, routes=[]))
    changes = [await _put_route(bus, route, file) for route in wanted.routes]
    return [line for line in changes if line]


async def _put_route(bus: Bus, wanted: Route, file: Path) -> str:
    """Write a route; one that says what stands already gets no new revision, and its canary no new beginning."""
    await _check(bus, wanted)
    on = await route_store.current(bus, wanted.pool)
    route = routes.continued(wanted, on.route)
    if on.route is not None and routes.content(on.route) == routes.content(route):
        return ""
    await route_store.write(bus, on, route, by=user(), reason=route.reason or f"applied {file.name}")
    return f"{route.pool}: {'; '.join(route_text.changes(on.route, route))}" if on.route else ""


async def _check(bus: Bus, route: Route) -> None:
    """Make sure that pool and slices of a route exist, and that its canary can be judged."""
    slices = await slices_of(bus, route.pool)
    canary = route.canary
    require_slices(route.pool, [*route.exceptions, *route.modes, *(canary.slices if canary else ())], slices)
    if canary:
        routes.with_canary(routes.without_canary(route), canary, slices)
