"""The process whose time and memory are measured: many slices, forecast interval after interval.

python -m forecast.scale_process SLICES DAYS INTERVALS
"""

import asyncio
import json
import sys
import time
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from forecast.traces import DAY_S, Floats
from microopt import codec
from microopt.messages import Forecast, Interval, Telemetry
from microopt.specs import Bounds, Sla, SliceSpec
from microopt_forecaster import checkpoint
from microopt_forecaster.calibration import WINDOW
from microopt_forecaster.computing import one_thread
from microopt_forecaster.followed import Expected, FollowedSlice
from microopt_forecaster.history import History, summed
from microopt_forecaster.settings import ForecasterSettings

SLOT_S, INTERVAL_S = 60.0, 3600.0
SLOTS = 60
BEGIN = 400_000
"""The first interval that is measured."""
FOLDED = 8
"""Slices whose calibration is folded over their history; the others get copies of it, which cost as much."""


def main(slices: int, days: int, intervals: int) -> None:
    """Print the times and the memory."""
    followed = [_followed(number, days) for number in range(slices)]
    traffic = [_users(number, days + 2)[days * 24 * SLOTS :] for number in range(slices)]
    cold_s = _begin(followed)
    before_mb = _peak_mb()
    seconds = []
    with one_thread() as thread:
        asyncio.run(_update(followed, BEGIN, thread))  # not counted: all are fitted at once, as after a start
        for number in range(intervals):
            _hear(followed, traffic, number)
            began = time.perf_counter()
            asyncio.run(_update(followed, BEGIN + number + 1, thread))
            seconds.append(time.perf_counter() - began)
    found = {"slices": slices, "days": days, "intervals": intervals, "update_s": max(seconds)}
    found |= {"update_mean_s": float(np.mean(seconds)), "update_median_s": float(np.median(seconds))}
    found |= {"rss_mb": _peak_mb(), "rss_before_mb": before_mb, "cold_start_of_one_s": cold_s}
    print(json.dumps(found))


def _users(number: int, days: int) -> Floats:
    """Return slots of a slice with a scale, a phase, a weekend and a noise of its own."""
    rng = np.random.default_rng(number)
    hour = np.arange(days * 24 * SLOTS) / SLOTS + rng.uniform(0.0, 24.0)
    week = np.where(hour // 24 % 7 >= 5, rng.uniform(0.4, 1.2), 1.0)
    shape = (
        1.2 + np.sin(2.0 * np.pi * hour / 24.0) + 0.3 * np.sin(4.0 * np.pi * hour / 24.0 + rng.uniform(0.0, 6.0))
    )
    slow = np.interp(hour - hour[0], np.arange(days * 24 + 1), rng.normal(0.0, 0.1, days * 24 + 1))
    noise = rng.normal(0.0, rng.uniform(0.05, 0.3), len(hour))
    return rng.lognormal(3.0, 1.0) * shape.clip(0.05) * week * np.exp(slow + noise)


def _followed(number: int, days: int) -> FollowedSlice:
    """Return a slice with its history up to a slot before the first interval, as a checkpoint restores it."""
    spec = SliceSpec(
        slice=f"1-{number:06x}",
        pool="pool",
        sla=Sla(qos_threshold=4.0, degradation_threshold=0.1),
        bounds={"cpu": Bounds(floor=1.0, ceiling=2.0)},
        model="model",
        interval_s=INTERVAL_S,
        slot_s=SLOT_S,
        season_s=DAY_S,
    )
    followed = FollowedSlice(spec, ForecasterSettings())
    history = History(followed.grid, followed.horizon_s)
    slots = _users(number, days + 2)[: days * 24 * SLOTS]
    steps = followed.grid.steps
    by_step = slots.reshape(-1, SLOTS // steps)
    numbers = np.arange(BEGIN * steps - len(by_step), BEGIN * steps)
    means, counts, recent, sums = history.arrays()
    means[numbers % history.capacity] = by_step.mean(axis=1)
    counts[numbers % history.capacity] = SLOTS // steps
    recent[numbers[-len(recent) :] % len(recent)] = by_step[-len(recent) :]
    newest = BEGIN - 1
    for interval in range(newest - WINDOW + 1, newest + 1):
        begin = (interval - newest - 1) * SLOTS
        sums[interval % WINDOW] = summed(slots[begin : begin + SLOTS or None])
    history.set_arrays(int(numbers[-1]), means, counts, recent, sums)
    followed.restore(history, 0, BEGIN * INTERVAL_S)
    return followed


def _begin(followed: list[FollowedSlice]) -> float:
    """Let all slices have been forecast before, and return how long it took one that never was."""
    folded, seconds = followed[:FOLDED], []
    for one in folded:
        began = time.perf_counter()
        snapshot = one.snapshot()
        one.outlook.catch_up(snapshot.steps, snapshot.slots.get, snapshot.complete)
        seconds.append(time.perf_counter() - began)
    states = [checkpoint.take(one) for one in folded]
    for number, one in enumerate(followed[FOLDED:]):
        checkpoint.restore_outlook(one, states[number % len(states)])
    return float(np.median(seconds))


def _hear(followed: list[FollowedSlice], traffic: list[Floats], interval: int) -> None:
    """Note all slots of an interval."""
    begin_s = (BEGIN + interval) * INTERVAL_S
    times = [datetime.fromtimestamp(begin_s + slot * SLOT_S, UTC) for slot in range(SLOTS)]
    for one, users in zip(followed, traffic, strict=True):
        mine = users[interval * SLOTS : (interval + 1) * SLOTS].tolist()
        for slot, (at, value) in enumerate(zip(times, mine, strict=True)):
            note = Telemetry(slice=one.slice, time=at, slot_s=SLOT_S, users=value, qos=5.0)
            one.note(note, interval * SLOTS + slot + 1)


async def _update(followed: list[FollowedSlice], interval: int, thread: Executor) -> None:
    """Forecast an interval of every slice as the agent does, but for the bus."""

    async def one(this: FollowedSlice) -> None:
        snapshot = this.snapshot()
        expected = await asyncio.get_running_loop().run_in_executor(thread, this.expect, interval, snapshot)
        assert expected is not None
        codec.encode(_message(this.slice, interval, expected))

    await asyncio.gather(*(one(this) for this in followed))


def _message(slice: str, interval: int, expected: Expected) -> Forecast:
    start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=interval * INTERVAL_S)
    return Forecast(
        slice=slice,
        interval=Interval(start, INTERVAL_S),
        traffic=expected.traffic,
        model=expected.prediction.model,
        made_at=datetime.now(UTC),
        bands=expected.prediction.bands(),
        raised_from=expected.raised_from,
    )


def _peak_mb() -> float:
    """Return the most memory that was resident at once; getrusage would count the parent's before the fork."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024.0


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
