"""`make bench-actuate`: from allocation to kernel and switch, beside the bare calls; see ../README.md."""

import asyncio
from pathlib import Path
from typing import Any

import click
import machine
import msgspec

from actuate.cgroup import cgroup_place
from actuate.drift import drift
from actuate.measure import SLICE, latency, restart
from actuate.ovs import ovs_place, rate_error
from actuate.tc import tc_place
from microopt import log
from microopt.settings import LogSettings

RESULTS = Path(__file__).parents[1] / "results"
QUICK_RESULTS = Path("var/bench")
PARTS = ("cgroup", "tc", "ovs", "ovs-rate", "drift", "many")


async def measure(quick: bool, only: tuple[str, ...]) -> dict[str, Any]:
    """Return the figures of some parts."""
    rounds, many = (5, 20) if quick else (300, 1000)
    found: dict[str, Any] = {}
    if "cgroup" in only:
        with cgroup_place([SLICE]) as place:
            found["cgroup"] = await latency(place, rounds)
    if "tc" in only:
        with tc_place(SLICE) as place:
            found["tc"] = await latency(place, rounds)
    if "ovs" in only:
        with ovs_place(SLICE) as place:
            found["ovs"] = await latency(place, rounds)
    if "ovs-rate" in only:
        found |= await rate_error(SLICE, quick)
    if "drift" in only:
        by_cause = await drift(quick)
        found |= {"drift_s": max(by_cause.values()), "drift_s_by_cause": by_cause}
    if "many" in only:
        slices = [f"1-{number:06x}" for number in range(1, many + 1)]
        with cgroup_place(slices) as place:
            found["restart_1000"] = await restart(place, slices)
    return found


@click.command()
@click.option("--quick", is_flag=True, help="Only try that everything works; the numbers mean little.")
@click.option("--only", multiple=True, type=click.Choice(PARTS), help="Measure this part alone; for trials.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of the result.")
def main(quick: bool, only: tuple[str, ...], out: Path | None) -> None:
    """Measure, print the figures and write actuate.json."""
    log.configure(LogSettings(level="warning"), agent="bench")
    found = asyncio.run(measure(quick, only or PARTS))
    folder = out or (QUICK_RESULTS if quick or only else RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "actuate.json"
    whole = {**found, "machine": machine.describe(), "quick": quick}
    file.write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n")
    for name, value in found.items():
        click.echo(f"{name}: {value}")
    click.echo(f"written to {file}")


if __name__ == "__main__":
    main()
