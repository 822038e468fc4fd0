"""`microopt actuator`: running it, and commands of an operator about what is bound."""

import asyncio
from pathlib import Path

import click
import msgspec

from microopt import log
from microopt.runtime import run as run_agent
from microopt.settings import LogSettings, Settings
from microopt_actuator.agent import build
from microopt_actuator.check.look import look
from microopt_actuator.check.report import lines

_config = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML or YAML file of settings [default: $MICROOPT_CONFIG, else ./microopt.toml].",
)


@click.group()
def actuator() -> None:
    """Hold allocations in force, and look at what is bound."""


@actuator.command()
@_config
@click.option("--dry-run", is_flag=True, help="Plan, read and log; write and report nothing.")
def run(config: Path | None, dry_run: bool) -> None:
    """Run the actuator until SIGTERM, as `microopt-actuator` does."""
    settings = Settings.load(config)
    run_agent(build(settings, dry_run=dry_run), settings)


@actuator.command()
@_config
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(config: Path | None, as_json: bool) -> None:
    """Read every target that is bound, and print what is in force and what would be written; nothing is.

    Exit status 1: nothing is bound, or a target cannot hold what its slice may be allocated.
    """
    settings = Settings.load(config)
    log.configure(LogSettings(level="error"), agent="cli")  # the report says what matters
    report = asyncio.run(look(settings))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report)))
    else:
        click.echo("\n".join(lines(report)))
    if not report.ok:
        raise SystemExit(1)
