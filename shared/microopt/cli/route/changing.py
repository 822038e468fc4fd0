"""What all commands that change a route do: read, change, warn, write on top of what was read."""

import getpass
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click

from microopt import codec, desired, discovery, route_store, route_text, routes
from microopt.bus import Bus
from microopt.cli.connection import with_bus
from microopt.cli.table import listed
from microopt.errors import ConfigError
from microopt.ids import slice_id
from microopt.route_store import Revision
from microopt.specs import PoolSpec, Route, SliceSpec

F = TypeVar("F", bound=Callable[..., Any])
SLICE = click.option(
    "--slice", "slices", multiple=True, metavar="S-NSSAI", help="Only this slice; repeat for more."
)
REASON = click.option("--reason", default="", metavar="TEXT", help="Kept in the route's history.")


@dataclass(frozen=True)
class Standing:
    """What a change is made from: the route that stands, its pool's slices, its history where asked for."""

    on: Revision
    slices: tuple[str, ...]
    history: list[Revision]

    def require(self) -> Route:
        """Return the route.

        Raises:
            ConfigError: there is none that can be read.
        """
        return self.on.require()


@dataclass
class Change:
    """What a command asks for; `named` are the optimizers that should be alive for it."""

    pool: str
    logic: Callable[[Standing], Route]
    reason: str
    slices: Sequence[str] = ()
    named: Collection[str] = ()
    with_history: bool = False
    notes: list[str] = field(default_factory=list)
    """Lines about the outcome, printed after it; `logic` may add some."""

    def run(self, tell: Callable[[Route | None, Route], str] | None = None) -> None:
        """Make the change and print what it was, in the words of `tell`."""
        before, after = with_bus(self._made)
        changed = route_text.changes(before, after)
        if before is not None and not changed:
            click.echo(f"{self.pool}: is so already; nothing was written")
        else:
            click.echo(tell(before, after) if tell else f"{self.pool}: {'; '.join(changed)}")
        for line in self.notes:
            click.echo(line)

    async def _made(self, bus: Bus) -> tuple[Route | None, Route]:
        slices = await slices_of(bus, self.pool)
        history = await route_store.history(bus, self.pool) if self.with_history else []
        on = history[0] if history else await route_store.current(bus, self.pool)
        require_slices(self.pool, self.slices, [*slices, *_excepted(on.route)])
        after = self.logic(Standing(on, slices, history))
        if on.route is None or routes.content(after) != routes.content(on.route):
            codec.encode(after)  # what cannot be written is refused before anybody is asked for
            await _warn_of_absent(bus, self.named)
            await route_store.write(bus, on, after, by=user(), reason=self.reason)
        return on.route, after


async def slices_of(bus: Bus, pool: str) -> tuple[str, ...]:
    """Return the slices of a pool.

    Raises:
        ConfigError: there is no such pool; the text names those that there are.
    """
    if await desired.get(bus, PoolSpec, pool) is None:
        known, _ = await desired.get_all(bus, PoolSpec)
        raise ConfigError(f"unknown pool {pool!r}; pools: {', '.join(known) or 'none, see `microopt apply`'}")
    specs, _ = await desired.get_all(bus, SliceSpec)
    return tuple(name for name, spec in specs.items() if spec.pool == pool)


def canonical(slices: Sequence[str]) -> tuple[str, ...]:
    """Return the slices as their subjects have them, each once.

    Raises:
        ConfigError: one is not an S-NSSAI.
    """
    return tuple(dict.fromkeys(slice_id(text) for text in slices))


def require_slices(pool: str, wanted: Sequence[str], known: Collection[str]) -> None:
    """Make sure that the pool has these slices.

    Raises:
        ConfigError: it has not; the text names those that it has.
    """
    for name in wanted:
        if name not in known:
            raise ConfigError(f"unknown slice {name} in pool {pool}; slices: {listed(sorted(known)) or 'none'}")


def user() -> str:
    """Return who runs this."""
    try:
        return getpass.getuser()
    except (KeyError, ImportError, OSError):  # as in a container without a passwd entry
        return "unknown"


def _excepted(route: Route | None) -> set[str]:
    """Return the slices that a route names: what is left of one that is gone can still be removed."""
    return {*route.exceptions, *route.modes} if route else set()


async def _warn_of_absent(bus: Bus, named: Collection[str]) -> None:
    for name in await discovery.absent(bus.nc, named) if named else ():
        click.echo(
            f"warning: no NATS service announces optimizer {name} right now; see `microopt optimizers`", err=True
        )
