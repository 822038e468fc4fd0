"""`microopt train`: from measurements to a slice model."""

import csv
import re
from pathlib import Path

import click
import torch
from msgspec.structs import replace
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from microopt.bus import Bus
from microopt.cli.connection import with_bus
from microopt.errors import ConfigError, MicrooptError
from microopt.ids import NAME_PATTERN
from microopt_optimizer.slice_model import model_file, model_store, training
from microopt_optimizer.slice_model.dataset import Dataset
from microopt_optimizer.slice_model.dataset_csv import SETTLE_S, CleaningReport, Columns, read_csv
from microopt_optimizer.slice_model.model_file import TrainedModel

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.option("--data", type=FILE, required=True, help="csv with cpu, bw, n_users, qos and, where known, time.")
@click.option("--test", type=FILE, help="csv of points that are not to be trained on.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Where to write the model.")
@click.option("--publish", metavar="NAME", help="Put the model on the bus as NAME; workers follow at once.")
@click.option("--preset", type=click.Choice(sorted(training.PRESETS)), default="fast", show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), help="Train longer or shorter than the preset.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--settle-s",
    type=click.FloatRange(min=0),
    default=SETTLE_S,
    show_default=True,
    help="Seconds to drop after each change of resources; 0 keeps the transients.",
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads.")
def train(
    data: Path,
    test: Path | None,
    out: Path | None,
    publish: str | None,
    preset: str,
    epochs: int | None,
    seed: int,
    settle_s: float,
    threads: int,
) -> None:
    """Train a slice model on the measurements in --data.

    A csv of the emulated slice, for a start without measurements: `microopt testbed sweep FILE`.
    """
    if out is None and publish is None:
        raise click.UsageError("say where the model shall go: --out FILE, --publish NAME, or both")
    if publish is not None and not re.fullmatch(NAME_PATTERN, publish):
        raise click.BadParameter(
            f"{publish!r}: use a-z, 0-9, '-' and '_', as slices name it", param_hint="--publish"
        )
    torch.set_num_threads(threads)
    console = Console(stderr=True)
    config = replace(training.PRESETS[preset], seed=seed)
    config = replace(config, epochs=epochs) if epochs else config
    try:
        _require_outlets(out, publish)
        rows = _read(data, settle_s, console)
        held_back = _read(test, settle_s, console) if test else None
        model = train_with_progress(rows, config, console, test=held_back, name=publish or str(out))
        console.print(metrics_table(model))
        _deliver(model, out, publish)
    except MicrooptError as error:
        raise click.ClickException(str(error)) from error


def _require_outlets(out: Path | None, publish: str | None) -> None:
    """Find out before the training, not after it, that its result has nowhere to go.

    Raises:
        ConfigError: the folder of `out` cannot be made, or no broker answers.
    """
    if out:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--out {out}: {error.strerror}: {error.filename}") from error
    if publish:
        with_bus(_nothing)


async def _nothing(_: Bus) -> None:
    return None


def _read(path: Path, settle_s: float, console: Console) -> Dataset:
    columns = _columns(path)
    if columns.time is None:
        console.print(f"{path.name}: no column 'time'; taken as settled, in the order of its rows")
    rows, report = read_csv(path, columns, settle_s=settle_s)
    console.print(describe(path, report))
    return rows


def _columns(path: Path) -> Columns:
    """Return the columns of the authors' data set, without the time where the file has none."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return Columns()  # whoever reads the rows says what is wrong
    return Columns() if Columns.time in header else Columns(time=None)


def train_with_progress(
    rows: Dataset,
    config: training.TrainingConfig,
    console: Console,
    *,
    test: Dataset | None = None,
    name: str = "unnamed",
) -> TrainedModel:
    """Train and show how far it is."""
    columns = (TextColumn("training"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=config.epochs, state="")

        def show(progress: training.Progress) -> None:
            state = f"epoch {progress.epoch} of {progress.epochs}, NLL {progress.nll:.3f}"
            bar.update(task, completed=progress.epoch, state=state)

        return training.train(rows, config, test=test, progress=show, name=name)


def describe(path: Path, report: CleaningReport) -> str:
    """Return what was kept of a file, and why the rest was not."""
    return (
        f"{path.name}: {report.kept} of {report.rows_read} rows kept; dropped {report.duplicates} duplicates, "
        f"{report.invalid} invalid, {report.unsettled} before the slice had settled"
    )


def metrics_table(model: TrainedModel) -> Table:
    """Return the metrics of paper §VI-A1 for each part of the data."""
    unit = model.header.qos_unit
    table = Table("rows of", "rows", "NLL", f"MSE ({unit})²", f"MAE {unit}", title=f"slice model {model.name}")
    for part, metrics in model.header.metrics.items():
        values = (f"{metrics.nll:.3f}", f"{metrics.mse:.3f}", f"{metrics.mae:.3f}")
        table.add_row(part, str(metrics.rows), *values)
    return table


def _deliver(model: TrainedModel, out: Path | None, publish: str | None) -> None:
    if out:
        model_file.save(model, out)
        click.echo(f"wrote {out}")
    if publish:
        data = model_file.to_bytes(model)
        sha256 = with_bus(lambda bus: model_store.publish(bus, publish, data))
        click.echo(f"published {publish}, sha256 {sha256}")
