"""`microopt route`: which optimizers answer for a pool, which watch, and what becomes of their answers."""

import click

from microopt import route_store, routes
from microopt.bus import Bus
from microopt.cli.route.canary import canary, promote, rollback
from microopt.cli.route.modes import freeze, mode, unfreeze
from microopt.cli.route.optimizers import fallback, set_route, shadow
from microopt.cli.route.show import show

__all__ = ["freeze", "put", "route", "unfreeze"]


@click.group()
def route() -> None:
    """Show or change which optimizers answer for a pool, and what becomes of their answers."""


for _command in (show, set_route, shadow, fallback, canary, promote, rollback, mode):
    route.add_command(_command)


async def put(bus: Bus, pool: str, optimizer: str, *, reason: str, by: str) -> None:
    """Let `optimizer` answer for `pool`; what else the route says stays.

    Raises:
        RouteConflictError: the route was changed meanwhile.
    """
    before = await route_store.current(bus, pool)
    after = routes.with_active(before.route, pool, optimizer)
    await route_store.write(bus, before, after, by=by, reason=reason)
