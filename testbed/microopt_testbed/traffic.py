"""Users per slot, from the Milan traces of Telecom Italia where present, else from a fitted profile."""

import csv
import os
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from importlib import resources
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from microopt.errors import ConfigError

SQUARES = (4159, 5161)
STEP_S = 600.0
HOURS_A_WEEK = 168

# The measured period lies in winter time, so that Europe/Rome is one hour ahead of UTC throughout.
MILAN_TIME = timezone(timedelta(hours=1), "CET")
FIRST_MONDAY = datetime(2013, 11, 4, tzinfo=MILAN_TIME)

Floats = NDArray[np.float64]


class SquareStatistics(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was fitted to one square: a mean week of seven days by 24 hours, and the noise around it."""

    square: int
    residual_std: float
    residual_lag1: float
    weekly: list[list[float]]


class MilanStatistics(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shipped file `data/milan_profile.json`, written by `python -m microopt_testbed.derive`."""

    source: str
    licence: str
    method: list[str]
    squares: list[SquareStatistics]


@dataclass(frozen=True)
class SlotCalendar:
    """The slots of an experiment: how a day is cut, and when in the week (0 is Monday) the first one begins."""

    slots_per_interval: int
    intervals_per_day: int = 24
    days: int = 1
    weekday: int = 0
    hour: float = 0.0

    def __post_init__(self) -> None:
        if min(self.slots_per_interval, self.intervals_per_day, self.days) < 1:
            raise ValueError("slots_per_interval, intervals_per_day and days must be at least 1")
        if not (0 <= self.weekday < 7 and 0.0 <= self.hour < 24.0):
            raise ValueError(f"weekday {self.weekday} must be 0 to 6 and hour {self.hour:g} in [0, 24)")

    @property
    def n_slots(self) -> int:
        """Return the number of slots of all days."""
        return self.slots_per_interval * self.intervals_per_day * self.days

    @property
    def slot_s(self) -> float:
        """Return the length of a slot in seconds of Milan's time, however fast it is played."""
        return 86_400.0 / (self.slots_per_interval * self.intervals_per_day)

    def hours(self) -> Floats:
        """Return the middle of each slot (n_slots,), in hours since the Monday before."""
        start_h = self.weekday * 24.0 + self.hour
        return np.asarray(start_h + (np.arange(self.n_slots) + 0.5) * self.slot_s / 3600.0, float)


@dataclass(frozen=True)
class MilanProfile:
    """A square's mean week (168,) with maximum 1, and the relative AR(1) noise of 10-minute steps around it."""

    square: int
    weekly: Floats
    residual_std: float
    residual_lag1: float

    @classmethod
    def shipped(cls, square: int) -> Self:
        """Return the shipped profile of a square.

        Raises:
            ConfigError: there is none for this square.
        """
        for row in load_statistics().squares:
            if row.square == square:
                weekly = np.asarray(row.weekly, float).ravel()
                return cls(square, weekly, row.residual_std, row.residual_lag1)
        raise ConfigError(f"square {square}: no Milan profile is shipped for it; take one of {SQUARES}")

    def level(self, calendar: SlotCalendar, rng: np.random.Generator) -> Floats:
        """Return the level of each slot (n_slots,): the mean week times 1 plus the noise, never below 0."""
        correlation = self.residual_lag1 ** (calendar.slot_s / STEP_S)
        noise = ar1(calendar.n_slots, self.residual_std, correlation, rng)
        return np.maximum(interpolate_week(self.weekly, calendar.hours()) * (1.0 + noise), 0.0)


@dataclass(frozen=True)
class MilanTrace:
    """A square's measured activity at the middles of its 10-minute steps, in hours since FIRST_MONDAY."""

    square: int
    hours: Floats
    activity: Floats

    def level(self, calendar: SlotCalendar) -> Floats:
        """Return the measured level of each slot (n_slots,), scaled so that its maximum is 1.

        The first day is that of the calendar's weekday in the first week from FIRST_MONDAY.

        Raises:
            ConfigError: the trace ends before the calendar does, or holds no activity in it.
        """
        hours = calendar.hours()
        half_step_h = STEP_S / 7200.0  # a step's value holds for all of it
        if hours[0] < self.hours[0] - half_step_h or hours[-1] > self.hours[-1] + half_step_h:
            raise ConfigError(
                f"square {self.square}: the trace does not cover {calendar.days} days from weekday "
                f"{calendar.weekday}; ask for fewer days"
            )
        level = np.interp(hours, self.hours, self.activity)
        if level.max() <= 0.0:
            raise ConfigError(f"square {self.square}: no activity in the days asked for")
        return np.asarray(level / level.max(), float)


@dataclass(frozen=True)
class UsersPerSlot:
    """The users of each slot (n_slots,), and where they come from."""

    users: NDArray[np.int64]
    source: str


def users_per_slot(
    square: int, calendar: SlotCalendar, *, peak_users: int = 5, seed: int = 0, data: Path | None = None
) -> UsersPerSlot:
    """Return users by the square's trace if it is present, else by its profile; `source` says which.

    The trace is looked for below `data`, by default below `data_folder()`. The same seed gives the same users.

    Raises:
        ConfigError: the trace is unreadable or too short, or there is neither trace nor profile.
    """
    rng = np.random.default_rng([seed, square])
    path = trace_path(data_folder() if data is None else data, square)
    if path.is_file():
        level, source = milan_trace(path, square).level(calendar), f"Milan trace of square {square}"
    else:
        profile = MilanProfile.shipped(square)
        level, source = profile.level(calendar, rng), f"profile fitted to Milan square {square}"
    return UsersPerSlot(draw_users(level * peak_users, peak_users, rng), source)


def draw_users(level_users: Floats, peak_users: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Round each level (n,) up or down at random so that it is met on average, and clip to 0..peak_users."""
    rounded = np.floor(level_users + rng.random(level_users.shape))
    return np.clip(rounded, 0, peak_users).astype(np.int64)


def ar1(size: int, std: float, correlation: float, rng: np.random.Generator) -> Floats:
    """Return a stationary Gaussian AR(1) series (size,) of the given deviation and lag-1 correlation."""
    shocks = rng.normal(0.0, std, size)
    shocks[1:] *= np.sqrt(1.0 - correlation**2)
    series = np.empty(size)
    value = 0.0
    for step, shock in enumerate(shocks):
        value = correlation * value + shock
        series[step] = value
    return series


def interpolate_week(weekly: Floats, hours: Floats) -> Floats:
    """Return the mean week (168,) at `hours` since any Monday, linear between the middles of its hours."""
    middles = np.arange(HOURS_A_WEEK) + 0.5
    return np.interp(hours, middles, weekly, period=HOURS_A_WEEK)


def milan_trace(path: Path, square: int) -> MilanTrace:
    """Read a square's csv file with columns `time_ms` (UTC) and `internet`.

    Raises:
        ConfigError: a column is missing, a value is no number or negative, or the steps are not 10 minutes.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [(float(row["time_ms"]), float(row["internet"])) for row in csv.DictReader(file)]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path.name}: needs numbers in columns time_ms and internet ({error!r})") from error
    table = np.asarray(rows, float).reshape(-1, 2)
    regular = len(table) > 1 and np.all(np.diff(table[:, 0]) == STEP_S * 1000.0)
    if not regular or not np.all(np.isfinite(table)) or np.any(table[:, 1] < 0.0):
        raise ConfigError(f"{path.name}: needs 10-minute steps without gaps, and finite internet >= 0")
    hours = (table[:, 0] / 1000.0 + STEP_S / 2.0 - FIRST_MONDAY.timestamp()) / 3600.0
    return MilanTrace(square, hours, table[:, 1])


def data_folder() -> Path:
    """Return where measured data are looked for: `MICROOPT_DATA`, else `../shared/data`."""
    return Path(os.environ.get("MICROOPT_DATA") or "../shared/data")


def trace_path(data: Path, square: int) -> Path:
    """Return where a square's trace lies below the data folder."""
    return data / "milan" / f"ts_full_square_{square}.csv"


def load_statistics() -> MilanStatistics:
    """Read the shipped profiles.

    Raises:
        ConfigError: the file is not what `microopt_testbed.derive` writes.
    """
    file = resources.files("microopt_testbed") / "data" / "milan_profile.json"
    try:
        return msgspec.json.decode(file.read_bytes(), type=MilanStatistics)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{file.name}: {error}; write it anew with microopt_testbed.derive") from error
