"""`microopt up`: a broker and the agents on one machine, kept running."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Final

import click

from microopt import log
from microopt.broker import Broker
from microopt.bus import without_secrets
from microopt.settings import BrokerSettings, LogSettings, Settings
from microopt.supervise import Child, Supervisor, role_command

ROLES: Final = ("collector", "forecaster", "router", "optimizer", "actuator", "auditor")


@click.command()
@click.argument("roles", nargs=-1, type=click.Choice(ROLES))
@click.option("--broker-only", is_flag=True, help="Start the broker and no agent.")
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="TOML or YAML file of settings for all of them.",
)
def up(roles: tuple[str, ...], broker_only: bool, config: Path | None) -> None:
    """Run a broker on loopback (unless NATS_URL is given) and the agents ROLES (default: all) until Ctrl-C.

    An agent that dies is started again. The last allocations stay in force when everything stops.
    """
    settings = Settings.load(config)
    log.configure(settings.table("log", LogSettings), agent="up")
    if broker_only and (url := _given_url()):
        raise click.UsageError(
            f"--broker-only, but NATS_URL names a broker that runs already: {without_secrets(url)}"
        )
    wanted = () if broker_only else roles or ROLES
    asyncio.run(_run(settings, wanted, config))


async def _run(settings: Settings, roles: tuple[str, ...], config: Path | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    url = _given_url()
    broker = None if url else _broker(settings.table("broker", BrokerSettings))
    supervisor = Supervisor()
    try:
        if broker:
            await broker.start()
            url = broker.url
            click.echo(f"NATS with JetStream at {url}, store in {broker.store_dir}")
        environment = {**os.environ, "NATS_URL": url or "", **({"MICROOPT_CONFIG": str(config)} if config else {})}
        for role in roles:
            await supervisor.start(Child(role, role_command(role), environment))
        await _until(stop, broker)
    finally:
        await supervisor.stop()
        if broker:
            await broker.stop()


def _given_url() -> str | None:
    return os.environ.get("MICROOPT_NATS_URL") or os.environ.get("NATS_URL")


def _broker(settings: BrokerSettings) -> Broker:
    return Broker(Path(settings.store_dir), host=settings.host, port=settings.port, executable=settings.executable)


async def _until(stop: asyncio.Event, broker: Broker | None) -> None:
    """Wait for the stop; a broker that died is started again on its port and store."""
    while not stop.is_set():
        if broker and not broker.running:
            await broker.start()
        try:
            await asyncio.wait_for(stop.wait(), 1.0)
        except TimeoutError:
            continue
