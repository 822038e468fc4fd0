"""When a slice model has drifted, and which slots tell."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from microopt.specs import PoolSpec, ResourceSpec
from microopt_optimizer.slice_model.model_file import Metrics, TrainedModel
from microopt_optimizer.tuner.drift import CAP, Window, most_excessive
from microopt_optimizer.tuner.followed import Followed, reference_of, unfit
from microopt_optimizer.tuner.fresh import Row, Settled, is_known, row
from microopt_optimizer.tuner.metrics import TunerMetrics
from microopt_optimizer.tuner.settings import TunerSettings

START = datetime(2026, 1, 1, tzinfo=UTC)
HERE = {"gnb_cpu": 2000.0, "transport_bandwidth": 20.0}
PARTS = {"train": 1.0, "test": 2.0, "validation": 3.0}
THERE = {"gnb_cpu": 1000.0, "transport_bandwidth": 20.0}


def rows(count, first=0):
    return [Row(START + timedelta(seconds=first + n), 3.0, (1.0,), 4.0) for n in range(count)]


def window(reference=1.0, margin=0.3, samples=20, judged=50, kept=500):
    return Window(reference, margin=margin, samples=samples, judged=judged, kept=kept)


def noisy(mean, count, seed=0):
    drawn = random.Random(seed)
    return [mean + drawn.gauss(0.0, 1.0) for _ in range(count)]


def test_a_model_that_predicts_as_in_validation_has_not_drifted():
    one = window(judged=200)
    one.add(rows(5000), noisy(1.0, 5000))
    assert not one.has_drifted
    assert one.fresh_nll == pytest.approx(1.0, abs=0.2)
    assert len(one) == 500


def test_a_model_that_predicts_worse_by_more_than_the_margin_has_drifted_and_recovers():
    one = window()
    one.add(rows(200), [1.0] * 200)
    one.add(rows(60, 200), [2.0] * 60)
    assert one.has_drifted
    assert one.fresh_nll == pytest.approx(2.0)
    one.add(rows(60, 300), [1.0] * 60)
    assert not one.has_drifted


def test_it_has_drifted_only_after_the_set_number_of_slots_in_a_row():
    one = window(judged=10, samples=20)
    one.add(rows(10), [1.0] * 10)
    # The mean of ten passes 1.3 with the fourth slot of 2.0.
    one.add(rows(22, 10), [2.0] * 22)
    assert not one.has_drifted
    one.add(rows(1, 40), [2.0])
    assert one.has_drifted


def test_fewer_slots_than_are_to_be_judged_do_not_tell():
    one = window(judged=100, samples=1)
    one.add(rows(99), [9.0] * 99)
    assert not one.has_drifted
    one.add(rows(1, 99), [9.0])
    assert one.has_drifted


def test_one_wild_slot_is_no_drift():
    one = window(judged=100, samples=1)
    one.add(rows(99), [1.0] * 99)
    one.add(rows(1, 99), [1e12])
    assert one.fresh_nll == pytest.approx(1.0 + CAP / 100)
    assert not one.has_drifted


def test_without_a_reference_nothing_is_judged():
    one = window(reference=None, samples=1, judged=5)
    one.add(rows(50), [100.0] * 50)
    assert not one.has_drifted
    assert one.since_drift == []
    assert one.fresh_nll == pytest.approx(100.0)


def test_the_rows_since_the_drift_are_those_after_the_change():
    one = window()
    one.add(rows(300), noisy(1.0, 300))
    one.add(rows(100, 300), noisy(3.0, 100))
    begin = one.since_drift[0].time
    assert abs((begin - START).total_seconds() - 300) <= 5


def test_the_most_excessive_suffix():
    assert most_excessive([0.0, 0.0, 3.0, 0.5, 3.0], 1.0) == 2
    assert most_excessive([0.0, 0.5], 1.0) == 2
    assert most_excessive([], 1.0) == 0


def slots(telemetry, *allocations, step_s=1.0):
    return [
        telemetry(n, allocation=allocation, time=START + timedelta(seconds=n * step_s))
        for n, allocation in enumerate(allocations)
    ]


def test_slots_after_a_change_are_left_out_until_the_allocation_has_settled(telemetry):
    settled = Settled(3.0)
    takes = [settled.takes(s) for s in slots(telemetry, *[HERE] * 5, *[THERE] * 5)]
    assert takes == [False, False, False, True, True] * 2


def test_a_slot_that_is_delivered_again_or_late_is_not_taken_twice(telemetry):
    settled = Settled(0.0)
    first, second = slots(telemetry, HERE, HERE)
    assert [settled.takes(s) for s in (first, second, second, first)] == [True, True, False, False]


def test_after_a_gap_nobody_knows_what_was_in_force(telemetry):
    settled = Settled(3.0)
    before = slots(telemetry, *[HERE] * 5)
    assert [settled.takes(s) for s in before][-1]
    assert not settled.takes(telemetry(100, allocation=HERE))


@pytest.mark.parametrize(
    "change",
    [{"users": None}, {"users": 0.0}, {"qos": None}, {"quality": "partial"}, {"allocation": {}}],
    ids=lambda change: next(iter(change)),
)
def test_a_slot_of_which_something_is_not_known_tells_nothing(telemetry, change):
    assert is_known(telemetry(allocation=HERE))
    assert not is_known(telemetry(**{"allocation": HERE, **change}))


def test_a_row_has_the_resources_in_the_models_order_or_is_none(telemetry):
    slot = telemetry(allocation=HERE)
    assert row(slot, ("transport_bandwidth", "gnb_cpu")) == Row(slot.time, 3.0, (20.0, 2000.0), 4.5)
    assert row(slot, ("transport_bandwidth", "upf_cpu")) is None


def test_telemetry_in_other_units_or_of_another_qos_tells_nothing(random_network, make_slice, make_pool):
    header = random_network(0).header
    assert unfit(make_slice(), make_pool(), header) == ""
    other = PoolSpec(
        pool="edge",
        resources={
            "gnb_cpu": ResourceSpec(unit="cores", weight=1.0, capacity=9.0),
            "transport_bandwidth": ResourceSpec(unit="Mbit/s", weight=1.0, capacity=9.0),
        },
    )
    assert unfit(make_slice(), other, header) == (
        "the model takes gnb_cpu in millicores, pool edge has it in cores"
    )
    assert "pool edge is not known" in unfit(make_slice(), None, header)


def test_the_reference_is_of_rows_that_were_not_trained_on(random_network):
    header = random_network(0).header
    parts = {part: Metrics(rows=1, nll=nll, mse=0.0, mae=0.0) for part, nll in PARTS.items()}
    for known, reference in ((["train"], None), (["train", "test"], 2.0), (list(PARTS), 3.0)):
        assert reference_of(replace(header, metrics={part: parts[part] for part in known})) == reference


@pytest.mark.parametrize(
    ("changes", "kept"),
    [({}, 1), ({"qos_unit": "kbit/s"}, 0), ({"higher_is_better": False}, 0), ({"resources": ...}, 0)],
)
def test_rows_are_measured_again_by_a_version_for_which_their_numbers_mean_the_same(random_network, changes, kept):
    followed, former, latter = Followed("embb", TunerSettings()), random_network(0), random_network(1)
    followed.begin(former, None)
    followed.window.add(rows(1), [1.0])
    if "resources" in changes:
        cpu, *others = latter.header.resources
        changes = {"resources": (replace(cpu, unit="cores"), *others)}
    version = TrainedModel(latter.network, replace(latter.header, **changes))
    assert len(followed.begin(version, None)) == kept


def test_a_model_that_was_never_measured_can_be_forgotten():
    """With every client of Prometheus that is allowed: older ones mind."""
    registry = CollectorRegistry()
    metrics = TunerMetrics(registry)
    metrics.drifted.labels("other").set(1.0)
    metrics.drifted.labels("gone").set(1.0)
    for model in ("gone", "never-measured"):
        metrics.forget(model)
    assert registry.get_sample_value("microopt_model_drifted", {"model": "other"}) == 1.0
    assert registry.get_sample_value("microopt_model_drifted", {"model": "gone"}) is None


def test_more_rows_than_the_window_holds_are_refused():
    with pytest.raises(ValueError, match="tune_rows is 1000, more than the window's 600 slots"):
        TunerSettings(window=600)
