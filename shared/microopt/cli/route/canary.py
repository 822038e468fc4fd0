"""`microopt route canary`, `promote` and `rollback`."""

import re
from datetime import UTC, datetime
from typing import Final

import click
import msgspec
from msgspec.structs import replace

from microopt import route_store, route_text, routes
from microopt.cli.names import optimizer_name
from microopt.cli.route.changing import REASON, Change, Standing, canonical
from microopt.cli.table import listed
from microopt.errors import ConfigError
from microopt.specs import Canary, Criteria, Route

_SHARE: Final = re.compile(r"(\d{1,3}(?:\.\d+)?)%|(0?\.\d+|[01](?:\.0+)?)")
UNAPPLIED: Final = ("frozen", "recommend")
_OPTION: Final = {"cost_ratio": "--cost-ratio", "latency_s": "--latency-s"}


def _share(text: str) -> float:
    """Return a share of all slices, `10%` or `0.1`, or of all intervals."""
    found = _SHARE.fullmatch(text)
    share = float(found[1]) / 100 if found and found[1] else float(found[2]) if found else 2.0
    if share > 1:
        raise click.BadParameter(f"{text!r} is not a share; write 10% or 0.1")
    return share


@click.command("canary")
@click.argument("pool")
@click.argument("optimizer", type=optimizer_name)
@click.option("--share", type=_share, metavar="SHARE", help="Of the pool's slices, such as 10%.")
@click.option("--slice", "slices", multiple=True, metavar="S-NSSAI", help="This slice; repeat for more.")
@click.option("--intervals", type=click.IntRange(1, 100_000), help="Judged before the verdict  [default: 24]")
@click.option("--cost-ratio", type=float, help="Its cost by the active's, at most  [default: 1.01]")
@click.option(
    "--unfulfilled", type=_share, metavar="SHARE", help="Of intervals that miss the SLA, at most  [default: 10%]"
)
@click.option(
    "--failures", type=_share, metavar="SHARE", help="Of answers late, refused or absent, at most  [default: 5%]"
)
@click.option("--latency-s", type=float, help="Of 95 % of the answers, at most  [default: 1.0]")
@REASON
def canary(
    pool: str,
    optimizer: str,
    share: float | None,
    slices: tuple[str, ...],
    intervals: int | None,
    reason: str,
    **criteria: float | None,
) -> None:
    """Let OPTIMIZER answer for some slices of POOL, and judge it beside the active one.

    After --intervals it becomes active if it kept the criteria, and is rolled back otherwise. What a canary that
    runs already was given stays where nothing else is said.
    """
    own = canonical(slices)
    _require_one(own, share)

    def logic(now: Standing) -> Route:
        route = now.require()
        given = Canary(optimizer=optimizer, slices=own, share=share or 0.0, since=datetime.now(UTC))
        after = routes.with_canary(route, _filled(given, route.canary, intervals, criteria), now.slices)
        taken = routes.canary_slices(after, now.slices)
        change.notes.append(f"  {len(taken)} of {len(now.slices)} slices: {listed(taken)}")
        if held := [s for s in taken if after.mode_of(s) in UNAPPLIED]:
            change.notes.append(f"  not asked for slices whose mode is frozen or recommend: {listed(held)}")
        return after

    change = Change(pool, logic, reason, own, named=[optimizer])
    change.run()


def _require_one(slices: tuple[str, ...], share: float | None) -> None:
    if bool(slices) == (share is not None):
        raise click.UsageError("give either --share or --slice")
    if share == 0:
        raise click.UsageError("--share 0% is no slice; to end a canary: `microopt route rollback`")


def _filled(
    given: Canary, running: Canary | None, intervals: int | None, criteria: dict[str, float | None]
) -> Canary:
    """Return the canary with what was not said as it runs already, or as is usual."""
    base = running if running and running.optimizer == given.optimizer else given
    return replace(given, intervals=intervals or base.intervals, criteria=_criteria(base.criteria, criteria))


def _criteria(base: Criteria, given: dict[str, float | None]) -> Criteria:
    changed = replace(base, **{name: value for name, value in given.items() if value is not None})
    try:
        return msgspec.convert(msgspec.to_builtins(changed), Criteria)
    except msgspec.ValidationError as error:
        text = str(error)
        for field, option in _OPTION.items():
            text = text.replace(f"`$.{field}`", option)
        raise ConfigError(f"the canary's criteria: {text}") from error


@click.command("promote")
@click.argument("pool")
@REASON
def promote(pool: str, reason: str) -> None:
    """Make POOL's canary active at once, whatever its criteria say so far."""

    def logic(now: Standing) -> Route:
        after = routes.promoted(now.require())
        change.named = [after.active]
        return after

    change = Change(pool, logic, reason)
    change.run()


@click.command("rollback")
@click.argument("pool")
@click.option("--to", "number", type=click.IntRange(min=1), metavar="REVISION", help="One of `show --history`.")
@REASON
def rollback(pool: str, number: int | None, reason: str) -> None:
    """Write the content of POOL's former route anew: the last that differs, or --to REVISION. Ends a canary."""

    def logic(now: Standing) -> Route:
        former = route_store.former(now.on, now.history, number)
        after = routes.rolled_back(former.require())
        change.named = [after.active]
        change.reason = reason or f"rollback to revision {former.number}"
        change.notes.append(f"  as in revision {former.number}, of {route_text.when_and_who(former.require())}")
        return after

    change = Change(pool, logic, reason, with_history=True)
    change.run()
