"""The `microopt` command: its own subcommands, and those that the installed packages bring."""

import importlib
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click

from microopt import __version__
from microopt.agent import Agent
from microopt.cli.apply import apply
from microopt.cli.dead import dead
from microopt.cli.events import events
from microopt.cli.optimizers import optimizers
from microopt.cli.route import freeze, route, unfreeze
from microopt.cli.schemas import schemas
from microopt.cli.status import status
from microopt.cli.up import up
from microopt.errors import ConfigError, MicrooptError
from microopt.runtime import run
from microopt.settings import Settings

GROUP = "microopt.commands"
_OWN = {
    command.name: command
    for command in (apply, dead, events, freeze, optimizers, route, schemas, status, unfreeze, up)
}


class _Commands(click.Group):
    """Loads a command only when it is called, so that `microopt route` needs no torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *(entry.name for entry in entry_points(group=GROUP))})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if own := super().get_command(ctx, cmd_name):
            return own
        for entry in entry_points(group=GROUP, name=cmd_name):
            return self._load(entry.name, entry.value)
        return None

    def _load(self, name: str, where: str) -> click.Command:
        module, _, attribute = where.partition(":")
        try:
            command: click.Command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            extra = module.partition(".")[0].removeprefix("microopt_")
            return _unavailable(name, f"{error.name} is not installed: pip install 'microopt[{extra}]'")
        return command

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except MicrooptError as error:
            raise SystemExit(f"microopt: {error}") from error


def _unavailable(name: str, why: str) -> click.Command:
    def refuse() -> None:
        raise click.ClickException(f"{name}: {why}")

    return click.Command(name, callback=refuse, help=why, short_help=f"({why})", params=[])


@click.command(cls=_Commands, commands=_OWN, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="microopt")
def main() -> None:
    """Hold 5G network slices to their SLAs with as few resources as possible."""


def agent_command(role: str, build: Callable[[Settings], Agent]) -> click.Command:
    """Return the command that runs the agent of `role` until SIGTERM; exit status 2 is a wrong setting."""

    @click.command(f"microopt-{role}", context_settings={"help_option_names": ["-h", "--help"]})
    @click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        help="TOML or YAML file of settings [default: $MICROOPT_CONFIG, else ./microopt.toml].",
    )
    @click.version_option(__version__, prog_name=f"microopt-{role}")
    def command(config: Path | None) -> None:
        try:
            settings = Settings.load(config, own_tables=(role,))
            agent = build(settings)
        except ConfigError as error:
            click.echo(f"microopt-{role}: {error}", err=True)
            raise SystemExit(2) from error
        run(agent, settings)

    command.help = f"Run the {role} until SIGTERM."
    return command
