"""`microopt collector`: commands of an operator about the sources."""

import asyncio
from pathlib import Path

import click
import msgspec

from microopt import log
from microopt.settings import LogSettings, NatsSettings, Settings
from microopt_collector.check.report import lines, remarks
from microopt_collector.check.run import check as run_check
from microopt_collector.settings import CollectorSettings


@click.group()
def collector() -> None:
    """Look at the collector's sources."""


@collector.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML or YAML file of settings [default: $MICROOPT_CONFIG, else ./microopt.toml].",
)
@click.option(
    "--for",
    "for_s",
    type=click.FloatRange(min=0.1, max=3600.0),
    default=10.0,
    show_default=True,
    help="How many seconds to wait for each source at most.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(config: Path | None, for_s: float, as_json: bool) -> None:
    """Run the configured sources and print what they give; nothing is published.

    Exit status 1: a source gave nothing.
    """
    settings = Settings.load(config)
    log.configure(LogSettings(level="error"), agent="cli")  # the report says what matters
    table, nats = settings.table("collector", CollectorSettings), settings.table("nats", NatsSettings)
    report = asyncio.run(run_check(table, nats, for_s))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode({"report": report, "notes": remarks(report)})))
    else:
        click.echo("\n".join(lines(report)))
    if not report.ok:
        raise SystemExit(1)
