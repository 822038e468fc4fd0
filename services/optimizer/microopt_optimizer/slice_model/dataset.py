"""Measurements to train a slice model on, in memory, and their split into training and validation rows."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from microopt.errors import ConfigError

Floats = npt.NDArray[np.float64]

Split = Literal["time_blocks", "cells"]

_BLOCK_ROWS = 10


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Rows of one slice: what it had and what its users got.

    `users` and `qos` have shape [n], `resources` [n, K] in the order of `resource_names` (units beside them),
    `time_s` [n] in seconds or None where only the order of the rows is known.

    Raises:
        ConfigError: shapes or names disagree, or a value is negative or not finite.
    """

    users: Floats
    resources: Floats
    qos: Floats
    resource_names: tuple[str, ...]
    resource_units: tuple[str, ...]
    time_s: Floats | None = None
    qos_metric: str = "dl_thpt_per_ue"
    qos_unit: str = "Mbit/s"
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        count = len(self.resource_names)
        if count == 0 or len(self.resource_units) != count or len(set(self.resource_names)) != count:
            raise ConfigError(
                f"dataset: resource_names {self.resource_names} and resource_units {self.resource_units} must "
                "be as many as each other, at least one, and the names distinct"
            )
        rows = self.users.shape[0]
        shapes = {"users": (rows,), "resources": (rows, count), "qos": (rows,)}
        for name, shape in shapes.items():
            values = getattr(self, name)
            if values.shape != shape:
                raise ConfigError(f"dataset: {name} has shape {values.shape}, must be {shape}")
            if not (np.isfinite(values).all() and (values >= 0).all()):
                raise ConfigError(f"dataset: {name} has values that are negative or not finite; drop them")
        if self.time_s is not None and self.time_s.shape != (rows,):
            raise ConfigError(f"dataset: time_s has shape {self.time_s.shape}, must be {(rows,)}")

    def __len__(self) -> int:
        return int(self.users.shape[0])

    def rows(self, chosen: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> "Dataset":
        """Return the chosen rows, by index or mask."""
        return replace(
            self,
            users=self.users[chosen],
            resources=self.resources[chosen],
            qos=self.qos[chosen],
            time_s=None if self.time_s is None else self.time_s[chosen],
        )

    def sha256(self) -> str:
        """Return the digest of names, units and values, which identifies what a model was trained on."""
        names = "\0".join((*self.resource_names, *self.resource_units, self.qos_metric, self.qos_unit))
        digest = hashlib.sha256(names.encode())
        for values in (self.users, self.resources, self.qos):
            digest.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
        return digest.hexdigest()


def dataset_from_arrays(
    users: npt.ArrayLike,
    resources: npt.ArrayLike,
    qos: npt.ArrayLike,
    *,
    names: Sequence[str],
    units: Sequence[str],
    time_s: npt.ArrayLike | None = None,
    qos_metric: str = "dl_thpt_per_ue",
    qos_unit: str = "Mbit/s",
    higher_is_better: bool = True,
) -> Dataset:
    """Build a dataset from anything array-like, such as a sweep of an emulated slice.

    Raises:
        ConfigError: see `Dataset`.
    """
    return Dataset(
        users=np.asarray(users, dtype=np.float64),
        resources=np.asarray(resources, dtype=np.float64),
        qos=np.asarray(qos, dtype=np.float64),
        resource_names=tuple(names),
        resource_units=tuple(units),
        time_s=None if time_s is None else np.asarray(time_s, dtype=np.float64),
        qos_metric=qos_metric,
        qos_unit=qos_unit,
        higher_is_better=higher_is_better,
    )


def split(
    dataset: Dataset, validation_share: float, seed: int, *, by: Split = "time_blocks"
) -> tuple[Dataset, Dataset]:
    """Split into training and validation rows, the same for the same seed; a cell is one of users and resources.

    `time_blocks` holds out blocks of successive rows of each cell: neighbours in time are alike (in the authors'
    data 22 % are identical), so rows drawn one by one would put near copies of training rows into the validation
    set. `cells` holds out whole cells: how well the model knows what lies between those it has seen, and beyond
    where a cell at the edge is drawn.

    Raises:
        ConfigError: `validation_share` is not in [0, 1), or there is but one cell to hold out.
    """
    if not 0.0 <= validation_share < 1.0:
        raise ConfigError(f"validation_share is {validation_share:g}, must be at least 0 and below 1")
    groups = _cells(dataset) if by == "cells" else _blocks(dataset)
    if by == "cells" and validation_share > 0.0 and groups.max(initial=-1) < 1:
        raise ConfigError("split 'cells' needs more than one cell of users and resources; split by 'time_blocks'")
    order = np.random.default_rng(seed).permutation(int(groups.max(initial=-1)) + 1)
    sizes = np.bincount(groups, minlength=order.size)
    # The running sum before a group decides, so the share is met without ever taking the last one.
    before = np.cumsum(sizes[order]) - sizes[order]
    chosen = order[before + sizes[order] <= validation_share * len(dataset)]
    held_out = np.isin(groups, chosen)
    return dataset.rows(~held_out), dataset.rows(held_out)


def _cells(dataset: Dataset) -> npt.NDArray[np.intp]:
    """Return for each row the number of its cell."""
    inputs = np.column_stack([dataset.users, dataset.resources])
    _, cell = np.unique(inputs, axis=0, return_inverse=True)
    return np.asarray(cell.reshape(-1), dtype=np.intp)


def _blocks(dataset: Dataset) -> npt.NDArray[np.intp]:
    """Return for each row the number of its block: up to ten successive rows of one cell."""
    cell = _cells(dataset)
    time_s = np.arange(len(dataset)) if dataset.time_s is None else dataset.time_s
    order = np.lexsort((time_s, cell))
    sizes = np.bincount(cell) if len(dataset) else np.zeros(0, dtype=np.intp)
    rank = np.arange(len(dataset)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    key = np.column_stack([cell[order], rank // _BLOCK_ROWS])
    _, block = np.unique(key, axis=0, return_inverse=True)
    result = np.empty(len(dataset), dtype=np.intp)
    result[order] = block.reshape(-1)
    return result
