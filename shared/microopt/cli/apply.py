"""`microopt apply`: pools, slices and routes from a file."""

from pathlib import Path

import click

from microopt import desired
from microopt.cli.connection import with_bus


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--check", is_flag=True, help="Only say whether the file is right; write nothing.")
def apply(file: Path, check: bool) -> None:
    """Put the pools, slices and routes of FILE (YAML) in force; running agents follow at once."""
    wanted = desired.read_file(file)
    if not check:
        with_bus(lambda bus: desired.put(bus, wanted))
    done = "is right" if check else "applied"
    click.echo(
        f"{file} {done}: {len(wanted.pools)} pools, {len(wanted.slices)} slices, {len(wanted.routes)} routes"
    )
