"""`microopt train`: from measurements to a slice model."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from msgspec.structs import replace
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from microopt.bus import Bus
from microopt.cli.connection import with_bus
from microopt.errors import ConfigError, MicrooptError
from microopt.ids import NAME_PATTERN
from microopt_optimizer.slice_model import model_file, model_store, train_file, training
from microopt_optimizer.slice_model.calibration import LEVELS
from microopt_optimizer.slice_model.dataset import Dataset
from microopt_optimizer.slice_model.dataset_csv import SETTLE_S, CleaningReport, Columns, read_csv
from microopt_optimizer.slice_model.model_file import TrainedModel
from microopt_optimizer.slice_model.train_file import TrainFile
from microopt_optimizer.versions import routes

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.option("--data", type=FILE, required=True, help="csv of measurements.")
@click.option(
    "--config",
    "config_file",
    type=FILE,
    help="YAML or TOML that names the csv's columns, resources and QoS, and how to train; without it the csv has "
    "n_users, cpu, bw, qos and, where known, time.",
)
@click.option("--test", type=FILE, help="csv of points that are not to be trained on.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Where to write the model.")
@click.option("--publish", metavar="NAME", help="Put the model on the bus as NAME; workers follow at once.")
@click.option("--preset", type=click.Choice(sorted(training.PRESETS)), help="How to train.  [default: fast]")
@click.option("--epochs", type=click.IntRange(min=1), help="Train longer or shorter than the preset.")
@click.option("--seed", type=click.IntRange(min=0), help="Another seed, another model.  [default: 0]")
@click.option(
    "--settle-s",
    type=click.FloatRange(min=0),
    help=f"Seconds to drop after each change of resources; 0 keeps the transients.  [default: {SETTLE_S:g}, or as "
    "--config says]",
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep the training in this file while it runs, and go on from it after an interruption.",
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads.")
def train(
    data: Path,
    config_file: Path | None,
    test: Path | None,
    out: Path | None,
    publish: str | None,
    preset: str | None,
    epochs: int | None,
    seed: int | None,
    settle_s: float | None,
    checkpoint: Path | None,
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
    try:
        file = train_file.read(config_file) if config_file else None
        config = _config(file, preset, epochs, seed)
        _require_outlets(out, publish, checkpoint)
        reading = _Reading(file, settle_s, console)
        rows, held_back = reading.read(data), reading.read(test) if test else None
        name = publish or str(out)
        model = train_with_progress(rows, config, console, test=held_back, checkpoint=checkpoint, name=name)
        console.print(metrics_table(model))
        _deliver(model, out, publish)
        if checkpoint:
            checkpoint.unlink(missing_ok=True)
    except MicrooptError as error:
        raise click.ClickException(str(error)) from error


def _config(
    file: TrainFile | None, preset: str | None, epochs: int | None, seed: int | None
) -> training.TrainingConfig:
    """Return how to train: the preset, then the file, then the command line."""
    config = train_file.training(file, preset=preset) if file else training.PRESETS[preset or "fast"]
    config = config if epochs is None else config.shortened(epochs)
    return config if seed is None else replace(config, seed=seed)


@dataclass(frozen=True)
class _Reading:
    """How the command reads its files."""

    file: TrainFile | None
    settle_s: float | None
    console: Console

    def read(self, path: Path) -> Dataset:
        columns = self._columns(path)
        if columns.time is None:
            self.console.print(f"{path.name}: no column 'time'; taken as settled, in the order of its rows")
        rows, report = read_csv(path, columns, settle_s=self._settle_s)
        self.console.print(describe(path, report), highlight=False)
        return rows

    @property
    def _settle_s(self) -> float:
        if self.settle_s is not None:
            return self.settle_s
        return SETTLE_S if self.file is None else self.file.settle_s

    def _columns(self, path: Path) -> Columns:
        """Return the columns of the file, or of the authors' data set, without the time where there is none."""
        if self.file is not None:
            return self.file.columns
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                header = next(csv.reader(file), [])
        except (OSError, UnicodeDecodeError, csv.Error):
            return Columns()  # whoever reads the rows says what is wrong
        return Columns() if Columns.time in header else Columns(time=None)


def _require_outlets(out: Path | None, publish: str | None, checkpoint: Path | None) -> None:
    """Find out before the training, not after it, that its result has nowhere to go.

    Raises:
        ConfigError: the folder of `out` or `checkpoint` cannot be made, or no broker answers.
    """
    for option, path in (("--out", out), ("--checkpoint", checkpoint)):
        if path is None:
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{option} {path}: {error.strerror}: {error.filename}") from error
    if publish:
        with_bus(_nothing)


async def _nothing(_: Bus) -> None:
    return None


def train_with_progress(
    rows: Dataset,
    config: training.TrainingConfig,
    console: Console,
    *,
    test: Dataset | None = None,
    checkpoint: Path | None = None,
    name: str = "unnamed",
) -> TrainedModel:
    """Train and show how far it is."""
    columns = (TextColumn("training"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=config.epochs, state="")

        def show(progress: training.Progress) -> None:
            state = f"epoch {progress.epoch} of {progress.epochs}, NLL {progress.nll:.3f}"
            bar.update(task, total=progress.epochs, completed=progress.epoch, state=state)

        return training.train(rows, config, test=test, progress=show, checkpoint=checkpoint, name=name)


def describe(path: Path, report: CleaningReport) -> str:
    """Return what was kept of a file, and why the rest was not."""
    return f"{path.name}: {report.kept} of {report.rows_read} rows kept; {report.dropped}"


def metrics_table(model: TrainedModel) -> Table:
    """Return the metrics of paper §VI-A1 for each part of the data, and the shares within central intervals."""
    table = Table(
        *("rows of", "rows", "NLL", "MSE", "MAE"),
        *(f"in {level:.0%}" for level in LEVELS),
        "PIT gap",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        title=f"slice model {model.name}",
        caption=f"{model.header.qos_metric} in {model.header.qos_unit}; in 90%: rows within the central 90 % of "
        "what was predicted for them",
    )
    for part, metrics in model.header.metrics.items():
        shares = (metrics.coverage_50, metrics.coverage_80, metrics.coverage_90)
        table.add_row(
            part,
            str(metrics.rows),
            *(f"{value:.3f}" for value in (metrics.nll, metrics.mse, metrics.mae)),
            *("" if share is None else f"{share:.1%}" for share in shares),
            "" if metrics.pit_distance is None else f"{metrics.pit_distance:.3f}",
        )
    return table


def _deliver(model: TrainedModel, out: Path | None, publish: str | None) -> None:
    if out:
        model_file.save(model, out)
        click.echo(f"wrote {out}")
    if publish:
        click.echo(with_bus(lambda bus: _publish(bus, publish, model_file.to_bytes(model))))


async def _publish(bus: Bus, name: str, data: bytes) -> str:
    """Publish where it has an effect: once a version is in force, what has none is not looked at."""
    route, _ = await routes.current(bus, name)
    if route is None or route.version == 0:
        return f"published {name}, sha256 {await model_store.publish(bus, name, data)}"
    version = await model_store.publish_version(bus, name, data, "microopt train")
    return (
        f"published {name} as version {version}, as version {route.version} is in force; "
        f"to put it in force: microopt model promote {name} {version}"
    )
