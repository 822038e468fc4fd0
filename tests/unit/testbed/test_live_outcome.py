"""What a closed loop came to is judged by what users got, and what was in force."""

from datetime import UTC, datetime, timedelta

import pytest

from microopt.messages import Actuation
from microopt_testbed.live.loop import LoopRun
from microopt_testbed.live.loop_plan import SLICES, LoopPlan
from microopt_testbed.live.outcome import degradation, judge
from microopt_testbed.live.scale import Scale

SCALE = Scale(factor=1.0, millicores_per_mbps=4.0)
PEAK = {"transport_bandwidth": 40.0, "gnb_cpu": 200.0}
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def run(telemetry):
    """Build a run of one phase: ten slots of each slice, of which `missed` are below every threshold."""

    def build(missed: int = 0, slots: int = 10, states=("applied", "verified", "effective")) -> LoopRun:
        plan = LoopPlan(scale=SCALE, slas=tuple(SCALE.slas[:2]), intervals=2, slots_per_interval=5)
        record = LoopRun(plan, START.timestamp(), PEAK).record
        found = LoopRun(plan, START.timestamp(), PEAK, record=record)
        half = {name: value / 2 for name, value in PEAK.items()}
        for name in SLICES:
            for n in range(slots):
                qos = 1.0 if n < missed else 9.0
                record.telemetry.append(telemetry(n, slice=name, users=2.0, qos=qos, allocation=half))
        record.actuations.extend(
            Actuation(
                slice=SLICES[0],
                resource="gnb_cpu",
                epoch=1,
                state=state,
                requested=1.0,
                observed=1.0,
                driver="cgroup",
                at=START,
            )
            for state in states
        )
        return found

    return build


def test_degradation_weighs_slots_by_their_users(telemetry):
    slots = [telemetry(0, users=3.0, qos=1.0), telemetry(1, users=1.0, qos=5.0), telemetry(2, users=4.0, qos=None)]
    assert degradation(slots, 2.0) == 0.75
    assert degradation(slots, 1.0) == 0.75  # at the threshold is missed, as in eq. (1)
    assert degradation(slots, 0.5) == 0.0


def test_a_run_that_keeps_its_slas_has_no_problems(run):
    outcome = judge(run(missed=1), "x")
    assert outcome.problems == []
    assert [one.degradation for one in outcome.pairs] == [0.1, 0.1]
    assert [one.paper_qos_threshold for one in outcome.pairs] == [3.0, 3.0]
    assert outcome.pairs[0].saving == pytest.approx(0.5)
    assert outcome.saving_vs_peak == pytest.approx(0.5)
    assert outcome.states == {"applied": 1, "verified": 1, "effective": 1}


def test_what_did_not_work_is_said(run):
    outcome = judge(run(missed=4, slots=8, states=("applied",)), "x")
    text = "\n".join(outcome.problems)
    assert "slice 1-000001, at least 3 Mbit/s, missed 0.1: degradation 0.500" in text
    assert "only 8 of 10 slots are known" in text
    assert "no allocation was verified" in text
    assert "no allocation was effective" in text
    assert "no allocation was applied" not in text


def test_slots_of_which_nothing_is_known_do_not_count_and_are_missed(run, telemetry):
    found = run(slots=6)
    for n, (users, qos) in enumerate([(None, None), (2.0, None), (None, 5.0), (0.0, None)], start=6):
        allocation = {name: value / 2 for name, value in PEAK.items()}
        slot = telemetry(n, slice=SLICES[0], users=users, qos=qos, allocation=allocation)
        found.record.telemetry += [slot, slot]  # as after a redelivery
    outcome = judge(found, "x")
    assert outcome.pairs[0].slots == 7
    assert any("only 7 of 10 slots are known" in problem for problem in outcome.problems)


def test_slots_of_another_phase_do_not_count(run, telemetry):
    found = run()
    late = START + timedelta(seconds=10)
    found.record.telemetry.append(telemetry(0, time=late, slice=SLICES[0], users=9.0, qos=0.0))
    assert judge(found, "x").pairs[0].degradation == 0.0


def test_a_static_plan_that_is_not_enough_is_said(run):
    found = run()
    found.peak_lacks = "it gets its ceilings"
    assert judge(found, "x").problems == ["Peak-alloc: it gets its ceilings"]


def test_without_telemetry_nothing_is_claimed(run):
    outcome = judge(run(slots=0), "x")
    assert any("degradation nan" in problem for problem in outcome.problems)
