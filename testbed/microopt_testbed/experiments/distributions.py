"""The ten slice traffic distributions of §VI-A3, from a week of one Milan cell."""

from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Final

import numpy as np
from msgspec import Struct

from microopt_testbed.experiments.settings import Scale, Setting
from microopt_testbed.traffic import (
    FIRST_MONDAY,
    HOURS_A_WEEK,
    SQUARES,
    Floats,
    MilanProfile,
    SlotCalendar,
    milan_trace,
    trace_path,
)

PEAK_USERS: Final = 5
"""The trace's largest value is taken as this many users, the most of the paper's testbed and of its data."""
STEPS_AN_HOUR: Final = 6
SLOTS_AN_INTERVAL: Final = 3_600
"""Of one second in one hour; numbers of users that are expected in less than one of them are left out."""
CHOSEN_SQUARE: Final = SQUARES[0]
CHOSEN_READING: Final = "hour of the day"


class Reading(Struct, frozen=True, kw_only=True):
    """One way to understand "the mean and max standard deviation of this data", in users."""

    name: str
    meaning: str
    sigma_mean: float
    sigma_max: float


@dataclass(frozen=True)
class Week:
    """One week of one cell in 10-minute steps from Monday (1008,), scaled to a peak of PEAK_USERS."""

    square: int
    users: Floats
    source: str

    def readings(self) -> list[Reading]:
        """Return the readings of §VI-A3: the spread within what stretch of time the paper means is not printed."""
        days = self.users.reshape(7, 24, STEPS_AN_HOUR)
        spreads = {
            "hour of the week": ("within each single hour", days.std(axis=2)),
            CHOSEN_READING: ("within each hour of the day, over the seven days", days.std(axis=(0, 2))),
            "day": ("within each day", days.std(axis=(1, 2))),
        }
        return [
            Reading(name=name, meaning=meaning, sigma_mean=float(std.mean()), sigma_max=float(std.max()))
            for name, (meaning, std) in spreads.items()
        ]

    def chosen(self) -> Reading:
        """Return the reading that figures 7, 8 and 10 use."""
        return next(reading for reading in self.readings() if reading.name == CHOSEN_READING)


def week(data: Path, square: int = CHOSEN_SQUARE, seed: int = 0) -> Week:
    """Return the first whole week of a square's trace below `data`, else one drawn from its fitted profile.

    Raises:
        ConfigError: the trace is there but cannot be used.
    """
    calendar = SlotCalendar(slots_per_interval=STEPS_AN_HOUR, days=7)
    path = trace_path(data, square)
    if path.is_file():
        level = milan_trace(path, square).level(calendar)
        source = f"trace of Milan square {square}, week from Monday {FIRST_MONDAY:%Y-%m-%d}"
    else:
        level = MilanProfile.shipped(square).level(calendar, np.random.default_rng([seed, square]))
        source = f"week drawn from the profile fitted to Milan square {square}"
    if level.size != HOURS_A_WEEK * STEPS_AN_HOUR:
        raise ValueError(f"a week has {HOURS_A_WEEK * STEPS_AN_HOUR} steps, not {level.size}")
    return Week(square, PEAK_USERS * level / level.max(), source)


def truncated_normal(centre_users: float, sigma_users: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return whole numbers of users from 1 to PEAK_USERS, and weights: a normal distribution truncated to them.

    What is expected in less than one slot of an interval is left out: nobody should have to plan for it.
    """
    normal = NormalDist(centre_users, sigma_users)
    mass = {users: normal.cdf(users + 0.5) - normal.cdf(users - 0.5) for users in range(1, PEAK_USERS + 1)}
    total = sum(mass.values())
    kept = {users: share for users, share in mass.items() if share / total >= 1 / SLOTS_AN_INTERVAL}
    total = sum(kept.values())
    return tuple(float(users) for users in kept), tuple(share / total for share in kept.values())


def spread_settings(
    scale: Scale, sigma_users: float, qos_threshold: float, degradation_threshold: float
) -> list[Setting]:
    """Return a setting for each centre of the traffic."""
    return [
        Setting(*truncated_normal(centre, sigma_users), qos_threshold, degradation_threshold)
        for centre in scale.users
    ]
