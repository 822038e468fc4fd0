"""The data set of a live sweep: rows in the columns of the paper's authors, appended cell by cell."""

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from microopt.errors import ConfigError

COLUMNS: Final = ("time", "total_bandwidth_usage", "cpu", "bw", "n_users", "qos")

TRAIN_FILE: Final = """\
# How `microopt train` reads the measurements beside this file; what had not settled is not in them.
users: n_users
time: time
qos: {column: qos, metric: dl_thpt_per_ue, unit: Mbit/s, higher_is_better: true}
resources:
  gnb_cpu: {column: cpu, unit: millicores}
  transport_bandwidth: {column: bw, unit: Mbit/s}
settle_s: 0
training: {per_user: true}  # UEs share what their slice has
"""


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """A point of the grid."""

    bandwidth_mbps: float
    cpu_millicores: float
    users: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One slot at a point."""

    time_s: float
    qos_mbps: float


class SweepFile:
    """The csv file; a cell is in it wholly or not at all, for its rows are written together.

    Raises:
        ConfigError: there is another file of that name.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        if not file.exists():
            file.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
        _drop_cut_line(file)
        self.rows = self._counted()

    def _counted(self) -> Counter[Cell]:
        with self._file.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise ConfigError(f"{self._file}: has columns {reader.fieldnames}, not those of a live sweep")
            try:
                return Counter(
                    Cell(float(row["bw"]), float(row["cpu"]), int(row["n_users"])) for row in reader
                )  # fmt: skip
            except (TypeError, ValueError) as error:
                raise ConfigError(f"{self._file}: line {reader.line_num}: {error}; remove that line") from error

    def append(self, cell: Cell, samples: list[Sample]) -> None:
        """Add the rows of one cell."""
        point = f"{cell.cpu_millicores:g},{cell.bandwidth_mbps:g},{cell.users}"
        lines = (
            f"{one.time_s:.3f},{one.qos_mbps * cell.users:.4f},{point},{one.qos_mbps:.4f}\n" for one in samples
        )
        with self._file.open("ab", buffering=0) as file:
            file.write("".join(lines).encode())
        self.rows[cell] += len(samples)


def _drop_cut_line(file: Path) -> None:
    """Remove what a full disk or a power cut has left of a last line."""
    data = file.read_bytes()
    if data and not data.endswith(b"\n"):
        with file.open("r+b") as cut:
            cut.truncate(data.rfind(b"\n") + 1)
