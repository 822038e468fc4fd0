"""`microopt events`: what the agents found worth telling an operator."""

import asyncio
import re
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Final, get_args, get_type_hints

import click

from microopt import codec, desired, streams, subjects
from microopt.bus import Bus
from microopt.cli.connection import with_bus
from microopt.cli.table import aligned
from microopt.cli.times import time_of
from microopt.errors import ConfigError, InvalidMessageError
from microopt.ids import slice_id
from microopt.messages import Event
from microopt.replay import last_sequence, replay
from microopt.specs import PoolSpec

KINDS: Final = get_args(get_type_hints(Event)["kind"])
POLL_S: Final = 1.0
Told = Callable[[Sequence[Event]], list[str]]
_DURATION: Final = re.compile(r"\d.*[smhdw]")


@click.command()
@click.argument("pool", required=False)
@click.option("--slice", "slice_", metavar="S-NSSAI", help="Only what is about this slice.")
@click.option(
    "--since", default="1h", show_default=True, metavar="TIME", help="30m, 24h, 7d, or a time (ISO 8601)."
)
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS), help="Only this kind; repeat for more.")
@click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print each event as one line of JSON.")
def events(
    pool: str | None, slice_: str | None, since: str, kinds: tuple[str, ...], follow: bool, as_json: bool
) -> None:
    """Print what happened in POOL, or in all, newest last: refusals, fallbacks, holds, canaries, leaders."""
    start = time_of(f"-{since}" if _DURATION.fullmatch(since) else since, datetime.now(UTC), "--since")
    wanted = Wanted(pool, slice_id(slice_) if slice_ else None, kinds)
    told = json_lines if as_json else lines
    try:
        with_bus(lambda bus: _print(bus, wanted, start, follow, told))
    except KeyboardInterrupt:
        return


class Wanted:
    """Which events to print."""

    def __init__(self, pool: str | None, slice_: str | None, kinds: Collection[str]) -> None:
        self.pool = pool
        self._slice = slice_
        self._kinds = kinds

    @property
    def subject(self) -> str:
        """Return where they are published."""
        return f"{subjects.ROOT}.event.{self.pool or '*'}"

    def has(self, event: Event) -> bool:
        """Return whether an event is one of them."""
        return (not self._kinds or event.kind in self._kinds) and self._slice in (None, event.slice)


def lines(found: Sequence[Event]) -> list[str]:
    """Return a line for each event, aligned, the newest last: when, where, what, whose answer, why."""
    rows = [
        [
            f"{event.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
            event.pool,
            event.kind,
            event.slice or "-",
            event.optimizer or "-",
            str(event.epoch or "-"),
            event.reason or "-",
        ]
        for event in sorted(found, key=lambda event: event.at)
    ]
    return aligned(rows) if rows else []


def json_lines(found: Sequence[Event]) -> list[str]:
    """Return each event as it was said, the newest last."""
    return [codec.encode(event).decode() for event in sorted(found, key=lambda event: event.at)]


async def _print(bus: Bus, wanted: Wanted, start: datetime, follow: bool, told: Told) -> None:
    if wanted.pool is not None and await desired.get(bus, PoolSpec, wanted.pool) is None:
        known, _ = await desired.get_all(bus, PoolSpec)
        raise ConfigError(f"unknown pool {wanted.pool!r}; pools: {', '.join(known) or 'none'}")
    last = await last_sequence(bus, streams.EVENTS)
    shown = told(await _read(bus, wanted, start, last))
    for line in shown:
        click.echo(line)
    if not shown:
        click.echo(f"no events since {start:%Y-%m-%d %H:%M:%S} UTC", err=True)
    while follow:
        await asyncio.sleep(POLL_S)
        newest = await last_sequence(bus, streams.EVENTS)
        if newest > last:
            for line in told(await _read(bus, wanted, last + 1, newest)):
                click.echo(line)
        last = newest


async def _read(bus: Bus, wanted: Wanted, start: int | datetime, last: int) -> list[Event]:
    found, unreadable = [], 0
    async for batch in replay(bus, streams.EVENTS, wanted.subject, start=start, last=last):
        for message in batch:
            try:
                event = codec.decode(message.data, Event, origin=message.subject)
            except InvalidMessageError:
                unreadable += 1
                continue
            if wanted.has(event):
                found.append(event)
    if unreadable:
        click.echo(f"! left out, as they cannot be read: {unreadable}", err=True)
    return found
