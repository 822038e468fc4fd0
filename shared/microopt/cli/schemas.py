"""`microopt schemas`: the JSON Schemas of the wire format, for agents in any language."""

from pathlib import Path
from typing import Any, Final

import click
import msgspec

from microopt import messages, specs

KINDS: Final[tuple[type[Any], ...]] = (
    messages.Telemetry,
    messages.Forecast,
    messages.Problem,
    messages.Solution,
    messages.Asked,
    messages.Answer,
    messages.Check,
    messages.Checked,
    messages.Held,
    messages.Holdings,
    messages.Allocation,
    messages.Actuation,
    messages.Assurance,
    messages.Event,
    specs.SliceSpec,
    specs.PoolSpec,
    specs.Route,
    specs.Margin,
    specs.ModelRoute,
)


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail if a file is not up to date.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def schemas(folder: Path, check: bool) -> None:
    """Write the JSON Schema of each message and desired state into FOLDER."""
    stale = []
    for kind in KINDS:
        path = folder / f"{kind.__name__.lower()}.json"
        text = render(kind)
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if check and stale:
        raise click.ClickException(f"not up to date: {', '.join(map(str, stale))}; run microopt schemas {folder}")
    click.echo(f"{len(KINDS)} schemas in {folder} {'are up to date' if check else f'({len(stale)} changed)'}")


def render(kind: type[Any]) -> str:
    """Return the JSON Schema of `kind` as text that does not change between runs."""
    schema = msgspec.json.schema(kind)
    return msgspec.json.format(msgspec.json.encode(schema, order="sorted"), indent=2).decode() + "\n"
