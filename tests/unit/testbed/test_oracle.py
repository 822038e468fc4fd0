import numpy as np
import pytest

from microopt.errors import ConfigError
from microopt_testbed.oracle import cheapest_allocation
from microopt_testbed.surface import QosSurface

SURFACE = QosSurface.shipped()
WEIGHTS = {"gnb_cpu": 1 / 4500, "transport_bandwidth": 1 / 50}
BOUNDS = {"gnb_cpu": (500.0, 4500.0), "transport_bandwidth": (5.0, 50.0)}


def cheapest(users, qos_threshold=4.0, degradation_threshold=0.1, bounds=BOUNDS):
    return cheapest_allocation(SURFACE, users, qos_threshold, degradation_threshold, WEIGHTS, bounds)


def expected(users, allocation, qos_threshold):
    users = np.asarray(users, float)
    cpu, bandwidth = allocation["gnb_cpu"], allocation["transport_bandwidth"]
    each = SURFACE.degradation(qos_threshold, np.maximum(users, 1), cpu, bandwidth)
    return float(np.sum(users * each) / np.sum(users))


@pytest.mark.parametrize("users", [[1], [3] * 4, [5] * 12, [0, 0, 2, 3, 5], [1, 2, 3, 4, 5]])
@pytest.mark.parametrize(("qos_threshold", "degradation_threshold"), [(3.0, 0.2), (4.0, 0.1), (5.0, 0.3)])
def test_the_answer_is_feasible_and_nothing_on_a_grid_is_cheaper(users, qos_threshold, degradation_threshold):
    answer = cheapest(users, qos_threshold, degradation_threshold)
    assert expected(users, answer.allocation, qos_threshold) <= degradation_threshold
    assert answer.expected_degradation == pytest.approx(expected(users, answer.allocation, qos_threshold))
    cpu, bandwidth = np.meshgrid(np.linspace(500, 4500, 97), np.linspace(5, 50, 97))
    levels = np.asarray([u for u in users if u], float)
    each = SURFACE.degradation(qos_threshold, levels[:, None, None], cpu, bandwidth)
    beta = np.tensordot(levels / levels.sum(), each, axes=1)
    cost = cpu / 4500 + bandwidth / 50
    assert answer.cost <= cost[beta <= degradation_threshold].min() + 1e-4


def test_cost_is_the_weighted_sum_of_the_allocation():
    answer = cheapest([3])
    assert answer.cost == pytest.approx(sum(WEIGHTS[name] * value for name, value in answer.allocation.items()))


def test_slots_without_users_do_not_count():
    assert cheapest([0, 3, 0, 0]) == cheapest([3])


def test_an_interval_without_users_gets_the_floors():
    answer = cheapest([0, 0])
    assert answer.allocation == {"gnb_cpu": 500.0, "transport_bandwidth": 5.0}
    assert answer.expected_degradation == 0.0


def test_slots_weigh_by_their_users():
    few_at_peak = cheapest([1] * 30 + [5], degradation_threshold=0.2)
    crowd_at_peak = cheapest([1] * 10 + [5], degradation_threshold=0.2)
    assert few_at_peak.cost < 0.5 * crowd_at_peak.cost


def test_what_no_resources_can_reach_is_said_as_none():
    assert cheapest([5], qos_threshold=8.0) is None
    assert cheapest([3], bounds=BOUNDS | {"transport_bandwidth": (5.0, 10.0)}) is None


def test_peak_allocation_of_the_paper_is_feasible_on_the_truth():
    answer = cheapest([5], qos_threshold=5.0, degradation_threshold=0.01)
    assert answer.cost == pytest.approx(1.4965, abs=2e-3)


def test_a_looser_sla_never_costs_more():
    costs = [cheapest([2, 3, 4], q, beta).cost for q, beta in ((5, 0.1), (5, 0.3), (4, 0.3), (3, 0.3))]
    assert costs == sorted(costs, reverse=True)


def test_bounds_are_kept_even_where_less_would_do():
    answer = cheapest([1], qos_threshold=0.5, bounds={"gnb_cpu": [800, 900], "transport_bandwidth": [6, 7]})
    assert answer.allocation == {"gnb_cpu": 800.0, "transport_bandwidth": 6.0}


def test_resources_other_than_those_of_the_surface_are_refused():
    with pytest.raises(ConfigError, match="bounds name"):
        cheapest([1], bounds={"gnb_cpu": (500.0, 4500.0)})


@pytest.mark.parametrize("bad", [-1.0, float("nan")])
def test_users_that_are_no_number_of_users_are_refused(bad):
    with pytest.raises(ValueError, match="users_in_interval"):
        cheapest([3, bad])
