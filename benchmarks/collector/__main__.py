"""`make bench-collector`: messages a second through the collector and through bare clients; see ../README.md."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

sys.path.insert(0, str(Path(__file__).parent))
import machine
import trial

RESULTS = Path(__file__).parents[1] / "results"
QUICK_RESULTS = Path("var/bench")
SLICES = 1000
FIRST_RATE = 2_000.0
MOST_RATE = 60_000.0
STEPS = (2.0, 1.1)
"""Rates grow by the first factor until one is not sustained, then from the last good one by the second."""
AGAIN = 2
"""Tries of a rate that was not sustained: other work on the machine must not decide."""


async def sustained(kind: trial.Kind, *, bare: bool, seconds: float, most: float = MOST_RATE) -> float:
    """Return the highest rate, in messages a second, at which practically everything is stored."""
    best, rate = 0.0, FIRST_RATE
    for step in STEPS:
        while rate <= most and await is_sustained(kind, bare=bare, rate=rate, seconds=seconds):
            best, rate = rate, rate * step
        rate = best * STEPS[-1]
    return best


async def is_sustained(kind: trial.Kind, *, bare: bool, rate: float, seconds: float) -> bool:
    """Return whether a rate is sustained in one of the tries."""
    for _ in range(AGAIN):
        outcome = await trial.run(kind, bare=bare, rate=rate, seconds=seconds, slices=SLICES)
        click.echo(
            f"  {kind}{' bare' if bare else ''} {rate:,.0f}/s: {outcome.stored} of {outcome.said} stored, "
            f"{outcome.cpu_s / seconds:.2f} cores",
            err=True,
        )
        if outcome.is_sustained:
            return True
    return False


async def measure(seconds: float, most: float) -> dict[str, Any]:
    """Return all figures."""
    found: dict[str, Any] = {}
    for kind in ("nats", "mqtt"):
        found[f"raw_{kind}_msgs_per_s"] = await sustained(kind, bare=True, seconds=seconds, most=most)
        found[f"{kind}_msgs_per_s"] = await sustained(kind, bare=False, seconds=seconds, most=most)
        found[f"{kind}_ratio"] = found[f"{kind}_msgs_per_s"] / max(found[f"raw_{kind}_msgs_per_s"], 1.0)
    hertz = await trial.run("nats", bare=False, rate=float(SLICES), seconds=5 * seconds, slices=SLICES)
    found["slices_1000_cpu_cores"] = hertz.cpu_s / hertz.seconds
    found["slices_1000_rss_mb"] = hertz.rss_mb
    found["slices_1000_stored"] = hertz.stored / hertz.said
    return found


@click.command()
@click.option("--quick", is_flag=True, help="Only try that everything works; the numbers mean little.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of the result.")
def main(quick: bool, out: Path | None) -> None:
    """Measure, print the figures and write collector.json."""
    found = asyncio.run(measure(1.0 if quick else 6.0, FIRST_RATE if quick else MOST_RATE))
    folder = out or (QUICK_RESULTS if quick else RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "collector.json"
    whole = {**found, "slices": SLICES, "machine": machine.describe(), "quick": quick}
    file.write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n")
    for name, value in found.items():
        click.echo(f"{name:24} {value:,.3f}")
    click.echo(f"written to {os.path.relpath(file)}")


if __name__ == "__main__":
    main()
