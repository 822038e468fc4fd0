"""A followed slice's state as it is kept in KV: history, records and calibration, bit for bit."""

import zlib
from typing import Annotated, Any, Final

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from microopt.errors import InvalidMessageError
from microopt.messages import Message, SliceId
from microopt_forecaster.calibration import COVERAGES, LEVELS, PHASES, WINDOW, Calibration
from microopt_forecaster.followed import FollowedSlice
from microopt_forecaster.history import SLOTS, History
from microopt_forecaster.outlook import Outlook
from microopt_forecaster.records import Record

MAX_BYTES: Final = 8 * 1024 * 1024
"""Of one array, unpacked: what claims more is not one of ours."""

Packed = Annotated[bytes, Meta(max_length=MAX_BYTES)]


class CalibrationState(Struct, frozen=True, kw_only=True):
    """A `Calibration`; arrays as deflated little-endian doubles."""

    levels: Packed
    size: float
    sizes: Packed
    scaled: Packed
    inside: Packed
    count: int


class Checkpoint(Message, frozen=True, tag="microopt.forecaster-state.v1"):
    """A `FollowedSlice`, with the sequence of the last telemetry in it."""

    slice: SliceId
    slot_s: float
    interval_s: float
    season_s: float
    sequence: int
    heard_until_s: float
    newest: int | None
    means: Packed
    counts: Packed
    recent: Packed
    summed: Packed
    models: tuple[str, ...]
    through: int | None
    intervals: tuple[int, ...]
    candidate_levels: Packed
    actual: Packed
    spread: Packed
    slot: CalibrationState
    mean: CalibrationState


def take(followed: FollowedSlice) -> Checkpoint:
    """Return the state of `followed`."""
    history, outlook, records = followed.history, followed.outlook, list(followed.outlook.records)
    means, counts, recent, summed = history.arrays()
    return Checkpoint(
        slice=followed.slice,
        slot_s=followed.grid.slot_s,
        interval_s=followed.grid.interval_s,
        season_s=followed.grid.season_s,
        sequence=followed.sequence,
        heard_until_s=followed.heard_until_s,
        newest=history.newest,
        means=_pack(means),
        counts=_pack(counts),
        recent=_pack(recent),
        summed=_pack(summed),
        models=_names(outlook),
        through=outlook.through,
        intervals=tuple(record.interval for record in records),
        candidate_levels=_pack(np.array([record.levels for record in records])),
        actual=_pack(np.array([record.actual for record in records])),
        spread=_pack(np.array([record.spread for record in records])),
        slot=_calibration(outlook.slot),
        mean=_calibration(outlook.mean),
    )


def restore(followed: FollowedSlice, state: Checkpoint) -> None:
    """Put `state` into `followed`: the history, and what was learned where it is of the same models and grid.

    Raises:
        InvalidMessageError: an array is damaged, or not of the size that the rest says; nothing was changed.
    """
    former = FollowedSlice(followed.spec_with(state.slot_s, state.interval_s, state.season_s), followed.settings)
    former.history.set_arrays(
        state.newest,
        _unpack(state.means, "means", np.float32, former.history.capacity),
        _unpack(state.counts, "counts", np.uint32, former.history.capacity),
        _unpack(state.recent, "recent", np.float32, *former.history.recent_shape),
        _unpack(state.summed, "summed", np.float32, WINDOW, SLOTS),
    )
    same = former.grid == followed.grid and state.models == _names(followed.outlook)
    learned = _learned(state, followed) if same else None
    followed.restore(_kept(former.history, followed), state.sequence, state.heard_until_s)
    if learned is not None:
        followed.outlook.restore(state.through, *learned)


def restore_outlook(followed: FollowedSlice, state: Checkpoint) -> None:
    """Put what was learned into `followed` and leave its history, where models and grid are the same.

    Raises:
        InvalidMessageError: an array is damaged; nothing was changed.
    """
    grid = (followed.grid.slot_s, followed.grid.interval_s, followed.grid.season_s)
    if (state.slot_s, state.interval_s, state.season_s) == grid and state.models == _names(followed.outlook):
        followed.outlook.restore(state.through, *_learned(state, followed))


def _kept(history: History, followed: FollowedSlice) -> History:
    if history.grid == followed.grid and history.capacity == followed.history.capacity:
        return history
    return history.resampled(followed.grid, followed.horizon_s)


def _learned(state: Checkpoint, followed: FollowedSlice) -> tuple[list[Record], Calibration, Calibration]:
    candidates, count = len(state.models), len(state.intervals)
    if count > WINDOW:
        raise InvalidMessageError(f"field 'intervals': {count} of at most {WINDOW}")
    levels = _unpack(state.candidate_levels, "candidate_levels", np.float64, count, candidates)
    actual = _unpack(state.actual, "actual", np.float64, count).tolist()
    spread = _unpack(state.spread, "spread", np.float64, count, SLOTS)
    records = [Record(*fields) for fields in zip(state.intervals, levels, actual, spread, strict=True)]
    season = followed.grid.season
    return records, _calibrated(state.slot, season, SLOTS), _calibrated(state.mean, season, 1)


def _names(outlook: Outlook) -> tuple[str, ...]:
    return tuple(model.name for model in outlook.candidates.models)


def _calibration(calibration: Calibration) -> CalibrationState:
    return CalibrationState(
        levels=_pack(calibration.levels),
        size=calibration.size,
        sizes=_pack(calibration.sizes),
        scaled=_pack(calibration.scaled),
        inside=_pack(calibration.inside),
        count=calibration.count,
    )


def _calibrated(state: CalibrationState, season: int, width: int) -> Calibration:
    found = Calibration(season, width)
    found.levels = _unpack(state.levels, "levels", np.float64, len(LEVELS))
    found.size = state.size
    found.sizes = _unpack(state.sizes, "sizes", np.float64, min(season, PHASES))
    found.scaled = _unpack(state.scaled, "scaled", np.float64, WINDOW, width)
    found.inside = _unpack(state.inside, "inside", np.float64, WINDOW, len(COVERAGES))
    found.count = state.count
    return found


def _pack(array: NDArray[Any]) -> bytes:
    return zlib.compress(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes(), 1)


def _unpack(data: bytes, field: str, dtype: type[np.generic], *shape: int) -> NDArray[Any]:
    wanted = np.dtype(dtype).newbyteorder("<")
    size = int(np.prod(shape)) * wanted.itemsize
    inflater = zlib.decompressobj()
    try:
        found = inflater.decompress(data, min(size, MAX_BYTES) + 1)
    except zlib.error as error:
        raise InvalidMessageError(f"field {field!r}: damaged: {error}") from error
    if len(found) != size:
        raise InvalidMessageError(f"field {field!r}: expected {size} bytes, got {len(found)} or more")
    return np.frombuffer(found, wanted).astype(dtype).reshape(shape)
