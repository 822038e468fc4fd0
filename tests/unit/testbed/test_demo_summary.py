from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from msgspec.structs import replace

from microopt.messages import Actuation, Allocation, Forecast, Interval, Telemetry, Traffic
from microopt_testbed.demo import effects, plot, scenario, summary
from microopt_testbed.demo.run import DemoRun
from microopt_testbed.demo.scenario import BROWSING, VIDEO, Scenario
from microopt_testbed.observe import Record

PLAN = Scenario(intervals=4, intervals_per_day=24, interval_s=2.0, slots_per_interval=4)
START_S = 1_800_000_000.0
PEAK = {"transport_bandwidth": 40.0, "gnb_cpu": 3600.0}
HALF = {name: value / 2 for name, value in PEAK.items()}
EVENTS = [summary.Event("routed from peak to microopt", 1, {}), summary.Event("killed", 2, {})]


def at(slot: float) -> datetime:
    return datetime.fromtimestamp(START_S + slot * PLAN.slot_s, UTC)


def day(values=HALF, qos=5.0, users=2.0) -> Record:
    """A record in which both slices had `values` and `qos` in each slot."""
    record = Record()
    for name in (VIDEO, BROWSING):
        for slot in range(-2, 18):
            record.telemetry.append(
                Telemetry(slice=name, time=at(slot), slot_s=PLAN.slot_s, users=users, qos=qos, allocation=values)
            )
        for interval in range(PLAN.intervals):
            begins = at(4 * interval)
            record.forecasts.append(
                Forecast(
                    slice=name,
                    interval=Interval(begins, PLAN.interval_s),
                    traffic=Traffic((1.0, 2.0, 3.0), (0.25, 0.5, 0.25)),
                    model="test",
                    made_at=begins,
                )
            )
            record.allocations.append(
                Allocation(
                    slice=name,
                    pool=scenario.POOL,
                    interval=Interval(begins, PLAN.interval_s),
                    epoch=interval + 1,
                    values=values,
                    valid_until=begins + timedelta(seconds=2.2),
                    optimizer="microopt",
                    status="optimal",
                )
            )
            for delay_s, resource in ((0.1, "transport_bandwidth"), (0.3, "gnb_cpu")):
                record.actuations.append(report(name, resource, interval + 1, begins, delay_s))
    return record


def report(name, resource, epoch, made_at, delay_s, state="verified"):
    return Actuation(
        slice=name,
        resource=resource,
        epoch=epoch,
        state=state,
        requested=1.0,
        observed=1.0,
        driver="testbed",
        at=made_at + timedelta(seconds=delay_s),
        forecast_made_at=made_at,
    )


def summarised(record: Record) -> summary.Summary:
    days = summary.slice_days(record, START_S, PLAN)
    own = {VIDEO: PEAK, BROWSING: HALF}
    return summary.summarise(record, PLAN, START_S, PEAK, own, days, [], model="m", traffic="t")


def test_half_of_the_peak_allocation_saves_half():
    result = summarised(day())
    assert result.cost_peak == pytest.approx(2 * (40 / 50 + 3600 / 4500))
    assert result.cost_peak_own_sla == pytest.approx(0.75 * result.cost_peak)
    assert result.saving_vs_peak == pytest.approx(0.5)
    assert result.cost_vs_oracle == pytest.approx(result.cost / result.cost_oracle)
    assert result.problems == []


def test_degradation_is_weighted_by_users_and_leaves_out_what_is_unknown():
    slots = summary.SliceDay(
        interval=np.zeros(5, int),
        users=np.array([1.0, 3.0, 0.0, 2.0, np.nan]),
        qos=np.array([5.0, 4.0, np.nan, np.nan, 1.0]),
        cost=np.ones(5),
        values={},
    )
    assert summary.degradation(slots, qos_threshold=4.0) == pytest.approx(3 / 4)


def test_missed_thresholds_and_missing_telemetry_are_problems():
    missed = summarised(day(qos=2.9)).problems
    assert missed == [
        f"{VIDEO}: degradation 1.000 is above 0.120",
        f"{BROWSING}: degradation 1.000 is above 0.220",
    ]
    silent = day()
    silent.telemetry = [t for t in silent.telemetry if t.slice == VIDEO]
    silent.allocations = [a for a in silent.allocations if a.slice == VIDEO]
    silent.actuations = [a for a in silent.actuations if a.slice == VIDEO]
    problems = " ".join(summarised(silent).problems)
    for part in (
        "telemetry of 0 of 16",
        "allocations for 0 of 4",
        "no allocation was verified",
        "degradation nan",
    ):
        assert f"{BROWSING}: {part}" in problems
    assert VIDEO not in problems


def test_latency_counts_until_the_last_resource_and_only_the_first_report_of_each():
    made = at(0)
    record = Record()
    record.allocated_at = {(VIDEO, epoch): made + timedelta(seconds=0.15) for epoch in (3, 7)}
    for resource, state, took_s in (
        ("transport_bandwidth", "applied", 0.05),
        ("gnb_cpu", "verified", 0.01),
        ("transport_bandwidth", "verified", 5.0),
    ):
        late = report(VIDEO, resource, 7, made, 2.0, state)  # the interval began 2 s after the forecast
        record.actuations.append(replace(late, duration_s=took_s))
    record.actuations.append(report(VIDEO, "gnb_cpu", 3, made - timedelta(days=1), 9.0))
    assert summary.applied_after_ms(record, since=made) == [pytest.approx(200.0)]


def test_effects_say_when_the_allocation_came_and_what_it_cost():
    record = day()
    record.actuations = [
        a if a.epoch != 3 else report(a.slice, a.resource, 3, at(8), 1.5) for a in record.actuations
    ]
    days = summary.slice_days(record, START_S, PLAN)
    swapped, killed = effects.with_effects(EVENTS, record, days, START_S, PLAN)
    assert swapped.effect[VIDEO].startswith("allocation by microopt in force 0.3 s into the interval; until then")
    assert killed.effect[VIDEO].startswith("allocation by microopt in force 1.5 s into the interval; until then")
    assert "cost 0.80 → 0.80, degradation 0.000" in killed.effect[VIDEO]


def test_an_interval_without_allocation_is_said_to_be_ruled_by_the_blind_policy():
    record = day()
    record.allocations = [a for a in record.allocations if a.epoch != 3]
    days = summary.slice_days(record, START_S, PLAN)
    (killed,) = effects.with_effects(EVENTS[1:], record, days, START_S, PLAN)
    assert "no allocation for interval 2, so the blind policy ruled" in killed.effect[BROWSING]


def test_the_picture_is_drawn_for_a_whole_and_for_an_empty_day(tmp_path):
    for name, record in (("whole", day()), ("empty", Record())):
        run = DemoRun(PLAN, START_S, record, EVENTS)
        days = summary.slice_days(record, START_S, PLAN)
        plot.draw(run, days, PEAK, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
