"""`microopt route mode`, `microopt freeze` and `unfreeze`: what becomes of answers."""

from collections.abc import Callable
from typing import cast, get_args

import click

from microopt import routes
from microopt.cli.route.changing import REASON, SLICE, Change, Standing, canonical
from microopt.specs import Mode, Route

Slices = tuple[str, ...]


@click.command("mode")
@click.argument("pool")
@click.argument("mode", type=click.Choice(get_args(Mode)))
@SLICE
@REASON
def mode(pool: str, mode: str, slices: Slices, reason: str) -> None:
    """Apply answers for POOL, or apply them where they grow, or hold what is in force, or only recommend."""
    _change(pool, slices, reason, lambda route, own: routes.with_mode(route, cast(Mode, mode), own))


@click.command("freeze")
@click.argument("pool")
@SLICE
@click.option("--shrink-only", is_flag=True, help="Forbid only that allocations shrink; growth goes on.")
@REASON
def freeze(pool: str, slices: Slices, shrink_only: bool, reason: str) -> None:
    """Hold what POOL's slices have, whatever optimizers answer, until `microopt unfreeze`."""
    wanted: Mode = "no-shrink" if shrink_only else "frozen"
    _change(pool, slices, reason, lambda route, own: routes.frozen(route, wanted, own))


@click.command("unfreeze")
@click.argument("pool")
@SLICE
@REASON
def unfreeze(pool: str, slices: Slices, reason: str) -> None:
    """Apply answers for POOL again after `microopt freeze`.

    With --slice: a slice that was frozen by itself follows its pool again, one that its pool froze is excepted.
    """
    _change(pool, slices, reason, routes.unfrozen)


def _change(pool: str, slices: Slices, reason: str, changed: Callable[[Route, Slices], Route]) -> None:
    own = canonical(slices)

    def logic(now: Standing) -> Route:
        after = changed(now.require(), own)
        change.notes += _besides(after, own)
        return after

    change = Change(pool, logic, reason, own)
    change.run()


def _besides(after: Route, asked: Slices) -> list[str]:
    """Return what else holds: slices' own modes when the pool's changed, the pool's when a slice lost its own."""
    if asked:
        freed = [] if after.mode == "apply" else [s for s in asked if s not in after.modes]
        return [f"  slice {slice_} follows its pool: {after.mode}" for slice_ in freed]
    own = {s: m for s, m in sorted(after.modes.items()) if m != after.mode}
    return [f"  slice {slice_} keeps its own mode: {mode}" for slice_, mode in own.items()]
