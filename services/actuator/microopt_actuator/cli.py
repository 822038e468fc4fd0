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
from microopt_actuator.conformance.report import Outcome, summary
from microopt_actuator.conformance.report import lines as outcome_lines
from microopt_actuator.conformance.run import Values, conform
from microopt_actuator.registry import REAL_DRIVERS

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


@actuator.command()
@click.argument("driver", type=click.Choice(REAL_DRIVERS))
@click.option("--target", required=True, help="What to try it on, in the driver's notation; it gets other values.")
@click.option("--low", type=float, help="The lower of two values to put in force [default: half of the present].")
@click.option("--high", type=float, help="The higher one [default: the present].")
@click.option("--after", type=float, help="What to leave in force where there is no value now.")
@_config
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def conformance(
    driver: str,
    target: str,
    low: float | None,
    high: float | None,
    after: float | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Try a driver on a real target: does it do what the actuator relies on?

    The target gets two values in turns and at last the one that it has now, also after Ctrl-C. Let no actuator
    hold it meanwhile, which would put its own back. Exit status 1: a check failed.
    """
    settings = Settings.load(config)
    log.configure(LogSettings(level="error"), agent="cli")  # the report says what matters

    def say(outcome: Outcome) -> None:
        if not as_json:
            click.echo("\n".join(outcome_lines(outcome)))

    report = asyncio.run(conform(settings, driver, target, Values(low, high, after), say))
    click.echo(msgspec.json.format(msgspec.json.encode(report)) if as_json else summary(report))
    if not report.ok:
        raise SystemExit(1)
