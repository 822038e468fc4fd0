"""`microopt dead`: the messages that no agent could use, with the reason."""

from typing import Final

import click
from nats.js.errors import NotFoundError

from microopt import streams
from microopt.bus import Bus
from microopt.cli.connection import with_bus
from microopt.cli.table import printable

SHOWN_BYTES: Final = 160


@click.command()
@click.option("--last", default=20, show_default=True, type=click.IntRange(min=1), help="How many, newest last.")
def dead(last: int) -> None:
    """Print the newest dead letters: who gave up, on what, and why."""
    for line in with_bus(lambda bus: _lines(bus, last)):
        click.echo(line)


async def _lines(bus: Bus, last: int) -> list[str]:
    state = (await bus.js.stream_info(streams.DEAD)).state
    if not state.messages:
        return ["no dead letters"]
    lines = []
    for sequence in range(max(state.first_seq, state.last_seq - last + 1), state.last_seq + 1):
        try:
            message = await bus.js.get_msg(streams.DEAD, sequence)
        except NotFoundError:  # removed by age or by hand
            continue
        headers = message.headers or {}
        body = (message.data or b"")[:SHOWN_BYTES].decode("utf-8", "backslashreplace")
        lines.append(
            f"{headers.get('Microopt-Agent')} ← {headers.get('Microopt-Subject')}: {headers.get('Microopt-Error')}"
        )
        lines.append(f"  {printable(body)}")
    return lines
