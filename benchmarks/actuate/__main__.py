"""`make bench-actuate`: from allocation to kernel and switch, beside the bare calls; see ../README.md."""

import asyncio
from pathlib import Path
from typing import Any

import click
import machine
import msgspec

from actuate.cgroup import cgroup_place
from actuate.measure import SLICE, drift, latency, restart
from actuate.tc import tc_place
from microopt import log
from microopt.settings import LogSettings

RESULTS = Path(__file__).parents[1] / "results"
QUICK_RESULTS = Path("var/bench")


async def measure(quick: bool) -> dict[str, Any]:
    """Return all figures."""
    rounds, many = (5, 20) if quick else (300, 1000)
    found: dict[str, Any] = {}
    with cgroup_place([SLICE]) as place:
        found["cgroup"] = await latency(place, rounds)
    with tc_place(SLICE) as place:
        found["tc"] = await latency(place, rounds)
    slices = [f"1-{number:06x}" for number in range(1, many + 1)]
    with cgroup_place(slices) as place:
        found["drift_s"] = await drift(place, slices[: 2 if quick else 20])
        found["restart_1000"] = await restart(place, slices)
    return found


@click.command()
@click.option("--quick", is_flag=True, help="Only try that everything works; the numbers mean little.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of the result.")
def main(quick: bool, out: Path | None) -> None:
    """Measure, print the figures and write actuate.json."""
    log.configure(LogSettings(level="warning"), agent="bench")
    found = asyncio.run(measure(quick))
    folder = out or (QUICK_RESULTS if quick else RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "actuate.json"
    whole = {**found, "machine": machine.describe(), "quick": quick}
    file.write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n")
    for name, value in found.items():
        click.echo(f"{name}: {value}")
    click.echo(f"written to {file}")


if __name__ == "__main__":
    main()
