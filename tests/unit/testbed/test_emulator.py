import numpy as np
import pytest

from microopt.errors import PermanentError
from microopt_testbed.emulator import EmulatedSlice
from microopt_testbed.surface import QosSurface

SURFACE = QosSurface.shipped()
AMPLE = {"gnb_cpu": 4000.0, "transport_bandwidth": 40.0}
SCARCE = {"gnb_cpu": 1000.0, "transport_bandwidth": 10.0}


def slots(emulated, users, count=200):
    return np.array([emulated.slot(users) for _ in range(count)])


def test_a_slot_without_users_has_no_qos():
    assert EmulatedSlice(SURFACE, AMPLE).slot(0) is None


def test_the_same_seed_gives_the_same_qos_and_another_seed_another():
    first, again, other = (slots(EmulatedSlice(SURFACE, AMPLE, seed=seed), 3) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_qos_follows_the_resources_in_force():
    emulated = EmulatedSlice(SURFACE, AMPLE, seed=5)
    before = slots(emulated, 3)
    for name, value in SCARCE.items():
        emulated.set_resource(name, value)
    after = slots(emulated, 3)
    assert before.min() > 6.0
    assert after.max() < 5.0


def test_degradation_over_many_slots_is_what_the_surface_says():
    emulated = EmulatedSlice(SURFACE, {"gnb_cpu": 2200.0, "transport_bandwidth": 23.0}, seed=6)
    seen = np.mean(slots(emulated, 4, count=5_000) <= 4.0)
    assert seen == pytest.approx(float(SURFACE.degradation(4.0, 4, 2200.0, 23.0)), abs=0.03)


def test_a_resource_reads_back_as_it_was_set():
    emulated = EmulatedSlice(SURFACE, AMPLE)
    emulated.set_resource("gnb_cpu", 1234.5)
    assert emulated.get_resource("gnb_cpu") == 1234.5
    assert emulated.get_resource("transport_bandwidth") == 40.0


def test_no_resource_at_all_gives_no_throughput():
    emulated = EmulatedSlice(SURFACE, AMPLE | {"transport_bandwidth": 0.0})
    assert emulated.slot(2) == 0.0


def test_an_unknown_resource_is_refused_by_name():
    emulated = EmulatedSlice(SURFACE, AMPLE)
    with pytest.raises(PermanentError, match="'gpu'"):
        emulated.set_resource("gpu", 1.0)
    with pytest.raises(PermanentError, match="'gpu'"):
        emulated.get_resource("gpu")
    with pytest.raises(PermanentError, match="'gpu'"):
        EmulatedSlice(SURFACE, AMPLE | {"gpu": 1.0})


def test_a_slice_without_all_its_resources_does_not_start():
    with pytest.raises(PermanentError, match="transport_bandwidth"):
        EmulatedSlice(SURFACE, {"gnb_cpu": 1000.0})


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_a_value_that_is_no_quantity_is_refused_and_changes_nothing(bad):
    emulated = EmulatedSlice(SURFACE, AMPLE)
    with pytest.raises(PermanentError, match="'gnb_cpu'"):
        emulated.set_resource("gnb_cpu", bad)
    assert emulated.get_resource("gnb_cpu") == 4000.0
    with pytest.raises(PermanentError, match="users"):
        emulated.slot(bad)
