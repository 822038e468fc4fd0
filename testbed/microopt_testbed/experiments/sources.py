"""What the experiments' slice models are trained and tested on."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from msgspec import Struct

from microopt.errors import ConfigError
from microopt_optimizer.slice_model.dataset import Dataset, dataset_from_arrays
from microopt_optimizer.slice_model.dataset_csv import CleaningReport, read_csv
from microopt_testbed import sweep
from microopt_testbed.experiments.settings import UNITS
from microopt_testbed.surface import GNB_CPU, TRANSPORT_BANDWIDTH, Floats, QosSurface

REPOSITORY: Final = "https://github.com/sulaimanalmani/5G-resource-allocation-dataset"
COMMIT: Final = "4f85305e"
FOLDER: Final = "microopt_authors"
SHA256: Final = {
    "train_dataset.csv": "8ae8bbc1d54b3f300476b1d3173a71b0c64d6ba297ffafe7aef81a3f3aebccbf",
    "test_dataset.csv": "cbae5d27af06c0f09e71577cce0bb2f0f24dac5237423f1e28a4821b4d0cfb36",
}
_TRAIN, _TEST = SHA256

_OFF_GRID = (1750.0, 22.5)
"""Millicores and Mbit/s of the emulated test rows: a point that the sweep does not have."""
_TEST_SEED = 1


class Source(Struct, frozen=True, kw_only=True):
    """Where the rows come from: the authors' files in `folder`, or a sweep of the emulated slice.

    `settle_s` is how long the slice is given to settle after a change of resources; `samples` is the number of
    rows of each point of a sweep.
    """

    folder: str | None
    settle_s: float
    samples: int

    @property
    def is_emulated(self) -> bool:
        """Return whether the rows are a sweep of the emulated slice."""
        return self.folder is None


@dataclass(frozen=True)
class Rows:
    """Training rows (validation rows among them) and test rows, and what was dropped of each."""

    train: Dataset
    test: Dataset
    train_report: CleaningReport | None = None
    test_report: CleaningReport | None = None


def locate(data: Path, *, settle_s: float) -> Source:
    """Return the authors' files at or below a folder.

    Raises:
        ConfigError: they are not there; says where to get them and what to do without them.
    """
    for folder in (data / FOLDER, data):
        if all((folder / name).is_file() for name in SHA256):
            return Source(folder=str(folder), settle_s=settle_s, samples=0)
    files = "\n".join(f"  {name}  sha256 {digest}" for name, digest in SHA256.items())
    raise ConfigError(
        f"the measurements of the paper's authors are not in {data} (nor in {data / FOLDER}).\n"
        f"Get both files from {REPOSITORY}, commit {COMMIT}:\n{files}\n"
        "and name their folder with --data DIR or MICROOPT_DATA; or take --emulated, which trains on a sweep of "
        "the emulated slice instead"
    )


def emulated(samples: int) -> Source:
    """Return a sweep of the emulated slice, which settles at once."""
    return Source(folder=None, settle_s=0.0, samples=samples)


def read(source: Source) -> Rows:
    """Return the rows of a source.

    Raises:
        ConfigError: a file cannot be read.
    """
    if source.folder is None:
        table = sweep.sweep(samples=source.samples)
        return Rows(_dataset(table), _dataset(_off_grid(source.samples)))
    folder = Path(source.folder)
    train, train_report = read_csv(folder / _TRAIN, settle_s=source.settle_s)
    test, test_report = read_csv(folder / _TEST, settle_s=source.settle_s)
    return Rows(train, test, train_report, test_report)


def changed_files(source: Source) -> list[str]:
    """Return the names of files that are not, byte for byte, what the authors published."""
    if source.folder is None:
        return []
    folder = Path(source.folder)
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in SHA256}
    return [name for name, digest in digests.items() if digest != SHA256[name]]


def variance_within_cells(rows: Dataset) -> float:
    """Return the mean squared distance of the QoS from the mean of its cell: the least MSE on these rows."""
    inputs = np.column_stack([rows.users, rows.resources])
    _, cell = np.unique(inputs, axis=0, return_inverse=True)
    cell = cell.reshape(-1)
    mean = np.bincount(cell, rows.qos) / np.bincount(cell)
    return float(np.mean((rows.qos - mean[cell]) ** 2))


def _off_grid(samples: int) -> Floats:
    users = np.repeat(np.asarray(sweep.USERS, dtype=float), samples)
    cpu, bandwidth = (np.full(users.size, value) for value in _OFF_GRID)
    qos = QosSurface.shipped().sample(users, cpu, bandwidth, np.random.default_rng(_TEST_SEED))
    return np.column_stack([users, cpu, bandwidth, qos])


def _dataset(table: Floats) -> Dataset:
    names = (GNB_CPU, TRANSPORT_BANDWIDTH)
    units = [UNITS[name] for name in names]
    return dataset_from_arrays(table[:, 0], table[:, 1:3], table[:, 3], names=names, units=units)
