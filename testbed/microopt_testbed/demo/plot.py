"""The picture of a demo: traffic and forecast, allocations and cost, QoS against its threshold."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from microopt.messages import Forecast
from microopt_testbed.demo import scenario
from microopt_testbed.demo.run import DemoRun
from microopt_testbed.demo.summary import SliceDay, degradation, index_of
from microopt_testbed.surface import GNB_CPU, TRANSPORT_BANDWIDTH

mpl.use("Agg")

from matplotlib import pyplot as plt  # after the choice of a backend that needs no screen
from matplotlib.axes import Axes

BLUE, ORANGE, GREEN, GREY, RED = "#1f5fa8", "#d9822b", "#2e8b57", "#8a8a8a", "#c0392b"


def draw(run: DemoRun, days: Mapping[str, SliceDay], peak: Mapping[str, float], path: Path) -> None:
    """Write the picture to `path` as PNG: a column for each slice."""
    figure, rows = plt.subplots(3, len(days), figsize=(6.6 * len(days), 8.4), sharex=True, squeeze=False)
    for column, (name, day) in enumerate(days.items()):
        hours = (
            (np.arange(day.users.size) + 0.5) * 24.0 / (run.plan.slots_per_interval * run.plan.intervals_per_day)
        )
        sla = scenario.SLAS[name]
        rows[0][column].set_title(
            f"slice {name}: at least {sla.qos_threshold:g} Mbit/s per user, missed in at most "
            f"{sla.degradation_threshold:.0%} of user-time",
            fontsize=10,
        )
        _traffic(rows[0][column], hours, day, run, name)
        _allocation(rows[1][column], hours, day, peak)
        _qos(rows[2][column], hours, day, name)
        for event in run.events:
            _mark(rows, column, event.interval * 24.0 / run.plan.intervals_per_day, event.what)
        rows[2][column].set_xlabel("hour of the day")
        rows[2][column].set_xlim(0, 24.0 * run.plan.intervals / run.plan.intervals_per_day)
    figure.align_ylabels()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _traffic(axes: Axes, hours: Any, day: SliceDay, run: DemoRun, name: str) -> None:
    axes.plot(hours, day.users, ".", color=GREY, markersize=2, label="users in a slot")
    starts, means, highs = [], [], []
    scale = 24.0 / run.plan.intervals_per_day
    for forecast in run.record.forecasts:
        index = index_of(forecast.interval.start, run.start_s, run.plan)
        if forecast.slice == name and 0 <= index < run.plan.intervals:
            starts.append(index * scale)
            means.append(forecast.traffic.mean)
            highs.append(quantile(forecast, 0.95))
    edges = [*starts, *(start + scale for start in starts[-1:])]
    for series, alpha, label in ((means, 1.0, "forecast, mean"), (highs, 0.4, "forecast, 95 %")):
        axes.step(edges, [*series, *series[-1:]], where="post", color=BLUE, alpha=alpha, label=label)
    axes.set_ylabel("users")
    axes.legend(loc="upper left", fontsize=8, ncols=3)
    axes.set_ylim(-0.2, max(6.6, 1.3 * max(highs, default=5.0)))


def _allocation(axes: Axes, hours: Any, day: SliceDay, peak: Mapping[str, float]) -> None:
    for resource, color, unit in ((TRANSPORT_BANDWIDTH, GREEN, "Mbit/s"), (GNB_CPU, ORANGE, "millicores")):
        share = scenario.WEIGHTS[resource]
        axes.plot(hours, day.values[resource] * share, color=color, label=f"{resource} / {1 / share:g} {unit}")
        axes.axhline(peak[resource] * share, color=color, linestyle=":", linewidth=1)
    axes.plot(hours, day.cost, color="black", linewidth=1, label="cost")
    axes.axhline(sum(scenario.WEIGHTS[r] * v for r, v in peak.items()), color="black", linestyle=":", linewidth=1)
    axes.set_ylabel("normalised allocation\n(dotted: Peak-alloc)")
    axes.legend(loc="upper left", fontsize=8, ncols=3)
    axes.set_ylim(0, 2.15)


def _qos(axes: Axes, hours: Any, day: SliceDay, name: str) -> None:
    sla = scenario.SLAS[name]
    missed = day.qos <= sla.qos_threshold
    axes.plot(hours[~missed], day.qos[~missed], ".", color=BLUE, markersize=2)
    axes.plot(hours[missed], day.qos[missed], ".", color=RED, markersize=3)
    axes.axhline(sla.qos_threshold, color=RED, linewidth=1)
    axes.set_ylabel("throughput per user, Mbit/s")
    axes.text(
        0.985, 0.95, f"missed in {degradation(day, sla.qos_threshold):.1%} of user-time",
        transform=axes.transAxes, va="top", ha="right", fontsize=9, color=RED,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8},
    )  # fmt: skip
    axes.set_ylim(bottom=0)


def _mark(rows: Any, column: int, hour: float, what: str) -> None:
    for row in rows:
        row[column].axvline(hour, color=GREY, linestyle="--", linewidth=0.8)
    rows[1][column].text(hour, 1.66, f" {what}", fontsize=8, color=GREY, va="bottom", ha="left")


def quantile(forecast: Forecast, share: float) -> float:
    """Return the smallest number of users that is not exceeded with probability `share`."""
    order = np.argsort(forecast.traffic.users)
    users, weights = np.asarray(forecast.traffic.users)[order], np.asarray(forecast.traffic.weights)[order]
    place = int(np.searchsorted(np.cumsum(weights), share - 1e-9))
    return float(users[min(place, users.size - 1)])
