"""Compute the statistics that ship with the testbed from the measured data, which do not ship.

Run it as `python -m microopt_testbed.derive --data DIR`.
"""

import csv
import json
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import click
import msgspec
import numpy as np

from microopt.errors import ConfigError
from microopt_testbed.surface import QosCell, QosStatistics
from microopt_testbed.traffic import (
    HOURS_A_WEEK,
    SQUARES,
    Floats,
    MilanStatistics,
    SquareStatistics,
    data_folder,
    interpolate_week,
    milan_trace,
    trace_path,
)

TRANSIENT_S = 12.0
LEVELS = (0.0, 0.01, 0.02, 0.05, *(k / 10 for k in range(1, 10)), 0.95, 0.98, 0.99, 1.0)
WEEKS = 6

_GAP_S = 5.0  # samples come each second; a longer pause hides a change of settings
_DIGITS = 4

Settings = tuple[float, float, float]
Row = tuple[float, Settings, float]

_QOS_SOURCE = (
    "sulaimanalmani/5G-resource-allocation-dataset at commit 4f85305e, train_dataset.csv: "
    "per-user downlink throughput in Mbit/s, 1 Hz, 2024-05-18"
)
_QOS_REMOVED = [
    "exact duplicates",
    f"first {TRANSIENT_S:g} s of each run of equal (cpu, bw, n_users): they still show the last bandwidth",
]
_QOS_LICENCE = "none stated; these are statistics of the data set, which is itself not part of this project"
_MILAN_SOURCE = (
    "Telecom Italia, Telecommunications - SMS, Call, Internet - MI (doi 10.7910/DVN/EGZHFV), internet "
    "activity in 10-minute steps, as kept in Yunis-konda001/Milan-mobile-traffic-forecasting at commit 6042fb01"
)
_MILAN_METHOD = [
    f"the {WEEKS} whole weeks from Monday 2013-11-04 local time, before the Christmas season",
    "weekly: mean of each local hour (Europe/Rome), one row a day from Monday, divided by the largest",
    "residual: each 10-minute value over the mean week, linear between the middles of its hours, minus 1",
]


def read_qos_rows(path: Path) -> list[Row]:
    """Return the distinct rows sorted by time, as (time in s, (users, millicores, Mbit/s), QoS in Mbit/s).

    Raises:
        ConfigError: a column is missing or a value is no number or time.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return sorted({_qos_row(row) for row in csv.DictReader(file)})
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path.name}: needs columns time, cpu, bw, n_users and qos ({error!r})") from error


def _qos_row(row: dict[str, str]) -> Row:
    whole, _, fraction = row["time"].partition(".")
    time_s = datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")
    settings = (float(row["n_users"]), float(row["cpu"]), float(row["bw"]))
    return time_s, settings, float(row["qos"])


def without_transients(rows: list[Row]) -> list[Row]:
    """Return the rows that come TRANSIENT_S or later after the beginning of their run of equal settings.

    A pause longer than a few seconds begins a run too. So does the first row of all, as nothing says how long
    its settings had been in force.
    """
    if not rows:
        return []
    start_s, kept = rows[0][0], []
    for previous, row in pairwise([rows[0], *rows]):
        if row[1] != previous[1] or row[0] - previous[0] > _GAP_S:
            start_s = row[0]
        if row[0] - start_s >= TRANSIENT_S:
            kept.append(row)
    return kept


def qos_statistics(rows: list[Row]) -> QosStatistics:
    """Return the quantiles of the QoS for each setting of the sorted, distinct rows.

    The axes are those of all rows, so that a setting with nothing left after its transient keeps its place.
    """
    cells: dict[Settings, list[float]] = {}
    for _, settings, qos in without_transients(rows):
        cells.setdefault(settings, []).append(qos)
    axes = [sorted({settings[axis] for _, settings, _ in rows}) for axis in range(3)]
    return QosStatistics(
        source=_QOS_SOURCE,
        licence=_QOS_LICENCE,
        removed=_QOS_REMOVED,
        users=axes[0],
        gnb_cpu_millicores=axes[1],
        transport_bandwidth_mbps=axes[2],
        levels=list(LEVELS),
        cells=[
            QosCell(*settings, len(values), _rounded(np.quantile(values, LEVELS)))
            for settings, values in sorted(cells.items())
        ],
    )


def milan_statistics(data: Path) -> MilanStatistics:
    """Return the mean week and the noise of each square whose trace lies below `data`."""
    return MilanStatistics(
        source=_MILAN_SOURCE,
        licence="ODbL 1.0 (Open Database License); these are statistics of the database",
        method=_MILAN_METHOD,
        squares=[_square_statistics(data, square) for square in SQUARES],
    )


def _square_statistics(data: Path, square: int) -> SquareStatistics:
    trace = milan_trace(trace_path(data, square), square)
    chosen = (trace.hours > 0.0) & (trace.hours < WEEKS * HOURS_A_WEEK)
    hours, activity = trace.hours[chosen], trace.activity[chosen]
    hour_of_week = np.floor(hours).astype(int) % HOURS_A_WEEK
    weekly = np.bincount(hour_of_week, activity, HOURS_A_WEEK) / np.bincount(hour_of_week, minlength=HOURS_A_WEEK)
    residual = activity / interpolate_week(weekly, hours) - 1.0
    return SquareStatistics(
        square=square,
        residual_std=round(float(residual.std()), _DIGITS),
        residual_lag1=round(float(np.corrcoef(residual[:-1], residual[1:])[0, 1]), _DIGITS),
        weekly=[_rounded(day) for day in (weekly / weekly.max()).reshape(7, 24)],
    )


def _rounded(values: Floats) -> list[float]:
    return [round(float(value), _DIGITS) for value in values]


def to_text(statistics: QosStatistics | MilanStatistics) -> str:
    """Return JSON with one row a cell or day, so that the file can be read and its changes reviewed."""
    return _indented(msgspec.to_builtins(statistics), 0) + "\n"


def _indented(value: object, depth: int) -> str:
    """Return JSON that breaks objects and the lists that hold strings or objects, or the rows of a table."""
    pad = "  " * (depth + 1)
    if isinstance(value, dict):
        rows = [f"{json.dumps(key)}: {_indented(item, depth + 1)}" for key, item in value.items()]
        opening, closing = "{", "}"
    elif isinstance(value, list) and all(isinstance(item, str | dict | list) for item in value):
        rows = [_indented(item, depth + 1) if isinstance(item, dict) else json.dumps(item) for item in value]
        opening, closing = "[", "]"
    else:
        return json.dumps(value)
    body = ",\n".join(pad + row for row in rows)
    return f"{opening}\n{body}\n{'  ' * depth}{closing}"


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=None, help="Folder of the measured data.")
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "data", show_default=False)
def main(data: Path | None, out: Path) -> None:
    """Write qos_quantiles.json and milan_profile.json from the measured data."""
    folder = data_folder() if data is None else data
    needed = [folder / "microopt_authors" / "train_dataset.csv", *(trace_path(folder, s) for s in SQUARES)]
    missing = [str(path) for path in needed if not path.is_file()]
    if missing:
        raise click.ClickException(f"missing {', '.join(missing)}; name the folder with --data or MICROOPT_DATA")
    try:
        qos, milan = qos_statistics(read_qos_rows(needed[0])), milan_statistics(folder)
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    out.mkdir(parents=True, exist_ok=True)
    for name, statistics in (("qos_quantiles.json", qos), ("milan_profile.json", milan)):
        (out / name).write_text(to_text(statistics), encoding="utf-8")
        click.echo(f"wrote {out / name}")


if __name__ == "__main__":
    main()
