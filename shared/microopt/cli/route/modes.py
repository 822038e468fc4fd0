"""`microopt route mode`, `microopt freeze` and `unfreeze`: what becomes of answers."""

from typing import cast, get_args

import click

from microopt import routes
from microopt.cli.route.changing import REASON, SLICE, Change, Standing, canonical
from microopt.specs import Mode, Route


@click.command("mode")
@click.argument("pool")
@click.argument("mode", type=click.Choice(get_args(Mode)))
@SLICE
@REASON
def mode(pool: str, mode: str, slices: tuple[str, ...], reason: str) -> None:
    """Apply answers for POOL, or apply them where they grow, or hold what is in force, or only recommend."""
    _set(pool, cast(Mode, mode), slices, reason)


@click.command("freeze")
@click.argument("pool")
@SLICE
@click.option("--shrink-only", is_flag=True, help="Forbid only that allocations shrink; growth goes on.")
@REASON
def freeze(pool: str, slices: tuple[str, ...], shrink_only: bool, reason: str) -> None:
    """Hold what POOL's slices have, whatever optimizers answer, until `microopt unfreeze`."""
    _set(pool, "no-shrink" if shrink_only else "frozen", slices, reason)


@click.command("unfreeze")
@click.argument("pool")
@SLICE
@REASON
def unfreeze(pool: str, slices: tuple[str, ...], reason: str) -> None:
    """Apply answers for POOL again after `microopt freeze`."""
    wanted = canonical(slices)

    def logic(now: Standing) -> Route:
        after = routes.unfrozen(now.require(), wanted)
        change.notes += _kept(after, wanted)
        return after

    change = Change(pool, logic, reason, wanted)
    change.run()


def _set(pool: str, wanted: Mode, slices: tuple[str, ...], reason: str) -> None:
    own = canonical(slices)

    def logic(now: Standing) -> Route:
        after = routes.with_mode(now.require(), wanted, own)
        change.notes += _kept(after, own)
        return after

    change = Change(pool, logic, reason, own)
    change.run()


def _kept(after: Route, asked: tuple[str, ...]) -> list[str]:
    """Return what a change of the pool's mode leaves as it was."""
    own = {} if asked else {s: m for s, m in sorted(after.modes.items()) if m != after.mode}
    return [f"  slice {slice_} keeps its own mode: {mode}" for slice_, mode in own.items()]
