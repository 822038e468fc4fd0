"""`microopt route show`: the routes that stand, and what they were before."""

import click

from microopt import codec, desired, route_store, route_text
from microopt.bus import Bus
from microopt.cli.connection import with_bus
from microopt.cli.route.changing import slices_of
from microopt.cli.table import printable
from microopt.route_store import Revision
from microopt.specs import Route


@click.command("show")
@click.argument("pool", required=False)
@click.option("--history", is_flag=True, help="Also print each revision, newest first, and what it changed.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print each pool's route as one line of JSON, without history."
)
def show(pool: str | None, history: bool, as_json: bool) -> None:
    """Print the route of POOL, or of each pool."""
    lines, wrong = with_bus(lambda bus: _json_lines(bus, pool) if as_json else _lines(bus, pool, history))
    for line in lines:
        click.echo(line if as_json else printable(line))
    for trouble in wrong:
        click.echo(printable(trouble), err=True)


async def _lines(bus: Bus, pool: str | None, with_history: bool) -> tuple[list[str], list[str]]:
    found, wrong = await desired.get_all(bus, Route)
    if pool is not None and pool not in found:
        return await _without_route(bus, pool, with_history), []
    lines: list[str] = []
    for name in found if pool is None else [pool]:
        lines += route_text.summary(found[name])
        if with_history:
            lines += revisions(await route_store.history(bus, name))
    if not found and not wrong:
        lines.append("no routes: `microopt route set POOL OPTIMIZER`")
    return lines, wrong if pool is None else []


async def _json_lines(bus: Bus, pool: str | None) -> tuple[list[str], list[str]]:
    if pool is not None:
        return [codec.encode((await route_store.current(bus, pool)).require()).decode()], []
    found, wrong = await desired.get_all(bus, Route)
    return [codec.encode(route).decode() for route in found.values()], wrong


async def _without_route(bus: Bus, pool: str, with_history: bool) -> list[str]:
    """Return the history of a pool whose route was removed or spoilt: it is what a rollback needs."""
    await slices_of(bus, pool)  # an unknown pool is an error
    kept = await route_store.history(bus, pool) if with_history else []
    if not kept:
        return route_text.summary((await route_store.current(bus, pool)).require())
    what = kept[0].error or f"{pool}: its route was removed"
    return [f"{what}; to bring one back: `microopt route rollback {pool}`", *revisions(kept)]


def revisions(newest_first: list[Revision]) -> list[str]:
    """Return a line for each revision: its number, when, by whom, what it changed, and why."""
    lines = []
    before: Route | None = None
    for one in reversed(newest_first):
        lines.append(f"  revision {one.number:<5} {_what(before, one)}")
        before = one.route or before
    return lines[::-1]


def _what(before: Route | None, one: Revision) -> str:
    if one.route is None:
        when = f"{one.at:%Y-%m-%d %H:%M:%S} UTC" if one.at else "-"
        return f"{when}: {one.error or 'removed'}"
    changed = "; ".join(route_text.changes(before, one.route)) or "nothing changed"
    when = route_text.when_and_who(one.route)
    if one.route.changed_at is None and one.at:
        when = f"{one.at:%Y-%m-%d %H:%M:%S} UTC"
    return f"{when}: {changed}; {route_text.why(one.route)}"
