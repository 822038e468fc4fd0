"""`microopt model`: versions of slice models, and which one is in force."""

import getpass
from collections.abc import Iterator
from pathlib import Path

import click

from microopt import desired
from microopt.bus import Bus
from microopt.cli.connection import with_bus
from microopt.errors import ConfigError, InvalidMessageError
from microopt.specs import ModelRoute
from microopt_optimizer.tuner import report
from microopt_optimizer.versions import objects, routes
from microopt_optimizer.versions.names import require_name, versioned
from microopt_optimizer.versions.objects import Version

REASON = click.option("--reason", default="", help="Kept in the route's history.")


@click.group()
def model() -> None:
    """Show, publish, promote and roll back versions of slice models."""


@model.command("list")
@click.argument("name", required=False)
def list_(name: str | None) -> None:
    """Print the versions of all models, or of NAME, and which are in force."""
    if name is not None:
        require_name(name)
    for line in with_bus(lambda bus: _listed(bus, name)):
        click.echo(line)


@model.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--name", required=True, help="The model that this is a version of, as slices name it.")
@click.option("--promote", "promotes", is_flag=True, help="Put it in force at once.")
@REASON
def publish(file: Path, name: str, promotes: bool, reason: str) -> None:
    """Publish FILE, of `microopt train --out`, as the next version of a model."""
    require_name(name)
    try:
        from microopt_optimizer.slice_model.model_store import publish_version
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"publish: {error.name} is not installed: pip install 'microopt[optimizer]'"
        ) from error
    data = file.read_bytes()
    about = f"{file.name}, published by {getpass.getuser()}" + (f": {reason}" if reason else "")

    async def work(bus: Bus) -> tuple[int, ModelRoute | None]:
        version = await publish_version(bus, name, data, about)
        if not promotes:
            return version, None
        return version, await routes.promote(bus, name, version, reason=reason, by=getpass.getuser())

    version, route = with_bus(work)
    click.echo(f"published {name} version {version} (slices may name it as {versioned(name, version)})")
    click.echo(described(name, route) if route else f"not in force: `microopt model promote {name} {version}`")


@model.command()
@click.argument("name")
@click.argument("version", type=click.IntRange(min=0))
@REASON
def promote(name: str, version: int, reason: str) -> None:
    """Put VERSION of NAME in force: workers use it from the next problem on. 0 is the model without a version."""
    by = getpass.getuser()
    click.echo(described(name, with_bus(lambda bus: routes.promote(bus, name, version, reason=reason, by=by))))


@model.command()
@click.argument("name")
@REASON
def rollback(name: str, reason: str) -> None:
    """Put the version of NAME in force that was before; once more goes further back."""
    require_name(name)
    by = getpass.getuser()
    click.echo(described(name, with_bus(lambda bus: routes.rollback(bus, name, reason=reason, by=by))))


@model.command()
def drift() -> None:
    """Print how well the models in force predict what is measured now, as the tuner has it."""
    reports = with_bus(report.get_all)
    for each in reports:
        click.echo(report.described(each))
    if not reports:
        click.echo("nothing measured yet: start `microopt-tuner`, and let slices have telemetry")


async def _listed(bus: Bus, name: str | None) -> list[str]:
    versions = await objects.get_all(bus, name)
    routed, _ = await desired.get_all(bus, ModelRoute)
    names = sorted({*routed, *(each.model for each in versions)} if name is None else {name})
    if not names:
        return ["no models: `microopt model publish FILE --name NAME`"]
    found: list[str] = []
    for each in names:
        try:
            route, _ = await routes.current(bus, each)
        except InvalidMessageError as error:
            found.append(f"{error}; `microopt model promote {each} VERSION` writes another")
            continue
        own = [version for version in versions if version.model == each]
        if not own and route is None:
            raise ConfigError(f"there is no model {each!r}; see `microopt model list`")
        found += lines(each, route, own)
    return found


def described(name: str, route: ModelRoute | None) -> str:
    """Return in a line what is in force of a model."""
    if route is None:
        return f"{name}: no route; slices that name it have the model without a version, if there is one"
    changed = f" since {route.changed_at:%Y-%m-%d %H:%M:%S} by {route.changed_by}" if route.changed_at else ""
    before = "" if route.previous is None else f", before it version {route.previous}"
    return f"{name}: version {route.version} in force{changed}{before}; {route.reason or '-'}"


def lines(name: str, route: ModelRoute | None, versions: list[Version]) -> Iterator[str]:
    """Yield what there is of a model; what is in force has a star."""
    yield described(name, route)
    for each in versions:
        star = "*" if each.version == (route.version if route else 0) else " "
        yield f" {star} {each.version:>4}  {each.published_at[:19]}  {each.size:>9} bytes  {each.about or '-'}"
