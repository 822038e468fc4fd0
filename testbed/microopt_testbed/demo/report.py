"""The demo on the terminal: a live table while it runs, a summary after it."""

import math
from datetime import timedelta

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from microopt_testbed.demo import scenario
from microopt_testbed.demo.run import DemoRun
from microopt_testbed.demo.summary import Summary, degradation, slice_day
from microopt_testbed.surface import GNB_CPU, TRANSPORT_BANDWIDTH


def live(run: DemoRun) -> RenderableType:
    """Return the table of this moment."""
    table = Table(title=_title(run), title_justify="left")
    columns = ("slice", "users", "forecast", "Mbit/s", "millicores", "by", "QoS Mbit/s", "SLA", "degradation")
    for name in columns:
        table.add_column(name, justify="left" if name in ("slice", "by", "SLA") else "right")
    for name in scenario.SLAS:
        table.add_row(*_row(run, name))
    events = [Text(f"{_clock(run, e.interval)}  {e.what}", style="yellow") for e in run.events]
    look = Text(f"look around: NATS_URL={run.url} microopt status", style="dim") if run.url else Text("")
    return Group(table, *events, look)


def _title(run: DemoRun) -> str:
    if run.phase != "running" or run.interval < 0:
        return f"pool {scenario.POOL}: {run.phase if run.phase != 'running' else 'about to begin'}"
    interval = min(run.interval, run.plan.intervals - 1)
    return f"pool {scenario.POOL}, {_clock(run, interval)}, interval {interval + 1} of {run.plan.intervals}"


def _row(run: DemoRun, name: str) -> tuple[str | Text, ...]:
    sample, forecast = run.record.last("telemetry", name), run.record.last("forecasts", name)
    allocation = run.record.last("allocations", name)
    sla = scenario.SLAS[name]
    day = slice_day(run.record, name, run.start_s, run.plan) if not math.isnan(run.start_s) else None
    realised = math.nan if day is None or not day.users.size else degradation(day, sla.qos_threshold)
    style = "" if not realised > sla.degradation_threshold else "red"
    return (
        name,
        _number(sample and sample.users, 0),
        _number(forecast and forecast.traffic.mean, 1),
        _number(allocation and allocation.values.get(TRANSPORT_BANDWIDTH), 1),
        _number(allocation and allocation.values.get(GNB_CPU), 0),
        allocation.optimizer if allocation else "-",
        _number(sample and sample.qos, 1),
        f"≥ {sla.qos_threshold:g} for {1 - sla.degradation_threshold:.0%}",
        Text(f"{_number(realised, 3)} of {sla.degradation_threshold:g}", style=style),
    )


def print_summary(summary: Summary, run: DemoRun, console: Console) -> None:
    """Print what the day came to."""
    console.print()
    cost = Table(title=f"{summary.intervals} intervals of one day, pool {scenario.POOL}", title_justify="left")
    for column in ("allocated by", "mean cost", "against Peak-alloc"):
        cost.add_column(column, justify="left" if column == "allocated by" else "right")
    for who, value in (
        ("Peak-alloc, static (5 users, 5 Mbit/s, 1 %)", summary.cost_peak),
        ("static for 5 users at each slice's own SLA", summary.cost_peak_own_sla),
        ("microopt, on forecasts", summary.cost),
        ("oracle that knows traffic and truth", summary.cost_oracle),
    ):
        cost.add_row(who, f"{value:.3f}", f"{value / summary.cost_peak - 1:+.1%}")
    console.print(cost)
    slices = Table("slice", "SLA", "realised degradation", "allowed", "assurance")
    for name in summary.slices:
        realised, allowed = summary.degradation[name], summary.threshold[name]
        slices.add_row(
            name,
            f"≥ {scenario.SLAS[name].qos_threshold:g} Mbit/s per user",
            f"{realised:.3f}",
            f"{allowed:g}",
            "FULFILLED" if realised <= allowed else "NOT_FULFILLED",
        )
    console.print(slices)
    console.print(
        f"forecast to applied: {summary.forecast_to_applied_ms_p50:.0f} ms (median), "
        f"{summary.forecast_to_applied_ms_p99:.0f} ms (99 %)",
        highlight=False,
    )
    console.print(f"traffic: {summary.traffic}; slice model: trained on {summary.model}", highlight=False)
    for event in summary.events:
        console.print(f"{_clock(run, event.interval)} {event.what}", highlight=False, style="yellow")
        for name, effect in event.effect.items():
            console.print(f"      {name}: {effect}", highlight=False)
    for problem in summary.problems:
        console.print(f"problem: {problem}", style="red", highlight=False)


def _clock(run: DemoRun, interval: int) -> str:
    """Return the emulated time of day at which an interval begins."""
    return str(timedelta(hours=24 * interval / run.plan.intervals_per_day))[:-3].zfill(5)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"
