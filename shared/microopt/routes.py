"""Changing a route: what an operator may ask for, without the bus (docs/routing.md).

Each function returns the changed route and leaves the one that it is given as it is. Who, when and why are stamped
by `microopt.route_store`.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from microopt.errors import ConfigError
from microopt.specs import Canary, Mode, Route

FROZEN: Final[tuple[Mode, ...]] = ("frozen", "no-shrink")


def with_active(route: Route | None, pool: str, optimizer: str) -> Route:
    """Return the route with `optimizer` active: it is no shadow and on no probation any more."""
    if route is None:
        return Route(pool=pool, active=optimizer)
    canary = None if route.canary and route.canary.optimizer == optimizer else route.canary
    return replace(route, active=optimizer, shadows=_without(route.shadows, [optimizer]), canary=canary)


def with_exceptions(route: Route, slices: Collection[str], optimizer: str | None) -> Route:
    """Return the route with the answers of `optimizer` for single slices; None removes their exceptions.

    Raises:
        ConfigError: a slice has no exception that could be removed.
    """
    if optimizer is not None:
        return replace(route, exceptions={**route.exceptions, **dict.fromkeys(slices, optimizer)})
    _require_all(route.pool, slices, route.exceptions, "exception for slice")
    return replace(route, exceptions={s: o for s, o in route.exceptions.items() if s not in slices})


def with_shadows(route: Route, optimizers: Sequence[str]) -> Route:
    """Return the route with these shadows besides those that it has.

    Raises:
        ConfigError: one of them is the active optimizer.
    """
    if route.active in optimizers:
        raise ConfigError(f"pool {route.pool}: {route.active} is active, and cannot be its own shadow")
    return replace(route, shadows=tuple(dict.fromkeys([*route.shadows, *optimizers])))


def without_shadows(route: Route, optimizers: Collection[str]) -> Route:
    """Return the route without these shadows.

    Raises:
        ConfigError: one of them is no shadow.
    """
    _require_all(route.pool, optimizers, route.shadows, "shadow")
    return replace(route, shadows=_without(route.shadows, optimizers))


def with_fallbacks(route: Route, optimizers: Sequence[str]) -> Route:
    """Return the route with these fallbacks, in this order, in place of those that it has.

    Raises:
        ConfigError: one is named twice, or is the active optimizer.
    """
    if len(set(optimizers)) < len(optimizers):
        raise ConfigError(f"pool {route.pool}: fallbacks {', '.join(optimizers)}: name each once")
    if route.active in optimizers:
        raise ConfigError(f"pool {route.pool}: {route.active} is active, and cannot stand in for itself")
    return replace(route, fallbacks=tuple(optimizers))


def with_canary(route: Route, canary: Canary, slices: Collection[str]) -> Route:
    """Return the route with `canary`, or with other slices or criteria for the canary that it has.

    `slices` are the pool's.

    Raises:
        ConfigError: it is the active optimizer, another one is on probation, or it would have no slice.
    """
    pool, running = route.pool, route.canary
    if canary.optimizer == route.active:
        raise ConfigError(f"pool {pool}: {canary.optimizer} is active already")
    if running and running.optimizer != canary.optimizer:
        raise ConfigError(
            f"pool {pool} has the canary {running.optimizer}; end it first: `microopt route promote {pool}` "
            f"or `microopt route rollback {pool}`"
        )
    if excepted := sorted(set(canary.slices) & set(route.exceptions)):
        raise ConfigError(
            f"pool {pool}: slice {excepted[0]} has an exception for {route.exceptions[excepted[0]]}, which goes "
            f"before a canary; remove it: `microopt route set {pool} - --slice {excepted[0]}`"
        )
    changed = replace(route, canary=canary)
    if not canary_slices(changed, slices):
        raise ConfigError(
            f"pool {pool}: a share of {canary.share:.4g} takes in none of its {len(slices)} slices; "
            "take a larger --share, or name slices with --slice"
        )
    return changed


def canary_slices(route: Route, slices: Iterable[str]) -> list[str]:
    """Return which of a pool's `slices` the canary answers for, sorted; exceptions go before it."""
    canary = route.canary
    return sorted(s for s in slices if canary and s not in route.exceptions and canary.has(s))


def continued(route: Route, before: Route | None) -> Route:
    """Return the route with its canary going on where `before` has the same one, whose intervals count already."""
    running = before.canary if before else None
    if running and route.canary == replace(running, since=None):
        return replace(route, canary=running)
    return route


def promoted(route: Route) -> Route:
    """Return the route with its canary active, and the former active optimizer as the first fallback.

    Raises:
        ConfigError: there is no canary.
    """
    if route.canary is None:
        raise ConfigError(
            f"pool {route.pool} has no canary; `microopt route set {route.pool} OPTIMIZER` swaps without one"
        )
    new = route.canary.optimizer
    former = (route.active, *_without(route.fallbacks, [route.active]))
    return replace(with_active(route, route.pool, new), fallbacks=_without(former, [new]))


def without_canary(route: Route) -> Route:
    """Return the route with nobody on probation: the canary's slices are the active optimizer's again."""
    return replace(route, canary=None)


def with_mode(route: Route, mode: Mode, slices: Collection[str] = ()) -> Route:
    """Return the route with `mode` for single slices, or for the pool.

    A slice that has a mode of its own keeps it when the pool's changes. `apply` for a slice of a pool that applies
    says nothing, and is not kept: the pool's next mode shall hold for that slice as well.
    """
    modes = {**route.modes, **dict.fromkeys(slices, mode)}
    pool_mode = route.mode if slices else mode
    if pool_mode == "apply":
        modes = {s: m for s, m in modes.items() if m != "apply"}
    return replace(route, mode=pool_mode, modes=modes)


def frozen(route: Route, mode: Mode, slices: Collection[str] = ()) -> Route:
    """Return the route with `mode`, one of `FROZEN`, for single slices, or for the pool.

    Raises:
        ConfigError: nothing is applied to pool or slice: unfrozen, answers would be, as they never were.
    """
    for what, now in _modes(route, slices):
        if now == "recommend":
            option = "".join(f" --slice {s}" for s in slices)
            raise ConfigError(
                f"{what} is only recommended for, and `microopt unfreeze` would apply answers to it; to hold what "
                f"is in force all the same: `microopt route mode {route.pool} {mode}{option}`"
            )
    return with_mode(route, mode, slices)


def unfrozen(route: Route, slices: Collection[str] = ()) -> Route:
    """Return the route with `apply` in place of `frozen` or `no-shrink`.

    A slice that was frozen by itself follows its pool again, which may be frozen, too: the one freeze is not the
    other. Only of a pool's freeze a slice is excepted.

    Raises:
        ConfigError: pool or slice is not frozen.
    """
    own = [s for s, mode in sorted(route.modes.items()) if mode in FROZEN]
    for what, mode in _modes(route, slices):
        if mode not in FROZEN:
            also = f"; of its slices, {', '.join(own)} are: name them with --slice" if own and not slices else ""
            raise ConfigError(f"{what} is not frozen: its mode is {mode}{also}")
    if not slices:
        return with_mode(route, "apply")
    freed = replace(route, modes={s: m for s, m in route.modes.items() if s not in slices})
    excepted = [s for s in slices if s not in route.modes]
    return with_mode(freed, "apply", excepted) if excepted else freed


def _modes(route: Route, slices: Collection[str]) -> list[tuple[str, Mode]]:
    return [(f"slice {s}", route.mode_of(s)) for s in slices] or [(f"pool {route.pool}", route.mode)]


def rolled_back(former: Route) -> Route:
    """Return the content of a former revision as one to be written anew; it starts no canary again."""
    return without_canary(former)


def content(route: Route) -> Route:
    """Return the route without who changed it, when and why: what decides."""
    return replace(route, changed_at=None, changed_by="", reason="")


def roles(route: Route) -> dict[str, list[str]]:
    """Return every optimizer that the route names, and as what: active, canary, exception, fallback, shadow."""
    named = [(route.active, "active")]
    if route.canary:
        named.append((route.canary.optimizer, "canary"))
    named += [(name, "exception") for name in dict.fromkeys(route.exceptions.values())]
    named += [(name, "fallback") for name in route.fallbacks]
    named += [(name, "shadow") for name in route.shadows]
    found: dict[str, list[str]] = {}
    for name, role in named:
        found.setdefault(name, []).append(role)
    return found


def _without(names: tuple[str, ...], gone: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in gone)


def _require_all(pool: str, wanted: Iterable[str], there: Iterable[str], what: str) -> None:
    known = sorted(there)
    for name in wanted:
        if name not in known:
            raise ConfigError(f"pool {pool} has no {what} {name}; there are: {', '.join(known) or 'none'}")
