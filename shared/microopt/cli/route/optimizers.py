"""`microopt route set`, `shadow` and `fallback`: who answers, who watches, who stands in."""

import click
from msgspec.structs import replace

from microopt import route_text, routes
from microopt.cli.names import optimizer_name
from microopt.cli.route.changing import REASON, SLICE, Change, Standing, canonical
from microopt.errors import ConfigError
from microopt.specs import Route

NONE = "-"


@click.command("set")
@click.argument("pool")
@click.argument("optimizer")
@SLICE
@REASON
def set_route(pool: str, optimizer: str, slices: tuple[str, ...], reason: str) -> None:
    """Let OPTIMIZER answer for POOL from the next interval on.

    With --slice: for these slices alone, an exception; OPTIMIZER - removes it.
    """
    if optimizer != NONE:
        optimizer_name(optimizer)
    if slices:
        _set_exceptions(pool, optimizer, canonical(slices), reason)
    elif optimizer == NONE:
        raise ConfigError("- removes the exceptions of slices: name them with --slice")
    else:
        _set_active(pool, optimizer, reason)


def _set_active(pool: str, optimizer: str, reason: str) -> None:
    def logic(now: Standing) -> Route:
        after = routes.with_active(now.on.route, pool, optimizer)
        change.notes += [f"  slice {s} keeps its exception: {name}" for s, name in after.exceptions.items()]
        if after.canary:
            change.notes.append(f"  the canary {after.canary.optimizer} goes on")
        if after.mode != "apply":
            change.notes.append(f"  the pool's mode stays {after.mode}")
        return after

    def tell(before: Route | None, after: Route) -> str:
        swap = f"{pool}: {before.active if before else 'no optimizer'} → {after.active}"
        also = route_text.changes(replace(before, active=after.active), after) if before else []
        return "; ".join([swap, *also])

    change = Change(pool, logic, reason, named=[optimizer])
    change.run(tell)


def _set_exceptions(pool: str, optimizer: str, slices: tuple[str, ...], reason: str) -> None:
    name = None if optimizer == NONE else optimizer

    def logic(now: Standing) -> Route:
        after = routes.with_exceptions(now.require(), slices, name)
        if after.canary and not routes.canary_slices(after, now.slices):
            change.notes.append(f"  the canary {after.canary.optimizer} is left without a slice: it is not judged")
        return after

    change = Change(pool, logic, reason, slices, named=[name] if name else [])
    change.run()


@click.command("shadow")
@click.argument("pool")
@click.argument("optimizers", nargs=-1, required=True, type=optimizer_name, metavar="OPTIMIZER...")
@click.option("--remove", is_flag=True, help="Ask them no longer.")
@REASON
def shadow(pool: str, optimizers: tuple[str, ...], remove: bool, reason: str) -> None:
    """Ask each OPTIMIZER the same problems as the active one; its answers are kept and scored, never applied."""

    def logic(now: Standing) -> Route:
        change = routes.without_shadows if remove else routes.with_shadows
        return change(now.require(), optimizers)

    Change(pool, logic, reason, named=[] if remove else optimizers).run()


@click.command("fallback")
@click.argument("pool")
@click.argument("optimizers", nargs=-1, type=optimizer_name, metavar="[OPTIMIZER...]")
@REASON
def fallback(pool: str, optimizers: tuple[str, ...], reason: str) -> None:
    """Ask each OPTIMIZER in this order when the active one fails; none clears the list."""

    def logic(now: Standing) -> Route:
        return routes.with_fallbacks(now.require(), optimizers)

    Change(pool, logic, reason, named=optimizers).run()
