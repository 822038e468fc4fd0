import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from microopt_optimizer.solver.base import Clock
from microopt_optimizer.solver.batch import Batch
from microopt_optimizer.solver.field import FunctionField
from microopt_optimizer.solver.screen import screen
from microopt_optimizer.solver.slp import cheapest_step, walk

VALUES = st.floats(-1.0, 1.0).map(lambda value: round(value, 3))


@st.composite
def knapsacks(draw):
    count = draw(st.integers(1, 6))
    return (
        [draw(st.floats(0.0, 1.0)) for _ in range(count)],
        draw(VALUES),
        [draw(VALUES) for _ in range(count)],
        [draw(st.floats(0.0, 1.0).map(lambda value: round(value, 3))) for _ in range(count)],
        draw(st.sampled_from([0.01, 0.1, 0.5])),
    )


@settings(max_examples=300, deadline=None)
@given(knapsacks())
def test_the_step_is_the_linear_programs(knapsack):
    points, excess, slope, units, radius = knapsack
    tensors = [torch.tensor(values, dtype=torch.float64).view(1, 1, -1) for values in (points, slope, units)]
    step, price = cheapest_step(
        tensors[0],
        torch.full((1, 1), excess, dtype=torch.float64),
        tensors[1],
        tensors[2],
        torch.full((1, 1), radius, dtype=torch.float64),
    )
    step, slope, units = step.flatten().numpy(), np.array(slope), np.array(units)
    bounds = [(max(-radius, -point), min(radius, 1.0 - point)) for point in points]
    for value, (low, high) in zip(step, bounds, strict=True):
        assert low - 1e-12 <= value <= high + 1e-12
    exact = linprog(units, A_ub=[slope], b_ub=[-excess], bounds=bounds)
    if exact.status == 2:  # nothing within the radius holds the constraint: as little excess as possible
        least = linprog(slope, bounds=bounds)
        assert slope @ step == pytest.approx(least.fun, abs=1e-9)
    else:
        assert excess + slope @ step <= 1e-9
        assert units @ step == pytest.approx(exact.fun, abs=1e-8)
        assert float(price) == pytest.approx(-exact.ineqlin.marginals[0], abs=1e-6) or _degenerate(exact)


def _degenerate(exact):
    """Where the constraint is met with every resource at a bound of its own, its price is not unique."""
    at_bound = (np.abs(exact.lower.residual) < 1e-9) | (np.abs(exact.upper.residual) < 1e-9)
    return bool(at_bound.all())


def batch(model, resources, beta=0.1):
    one = torch.ones(1, resources, dtype=torch.float64)
    field = FunctionField(model, one[:, :1] * 2.0, one[:, :1], torch.tensor([3.0]).double(), True)
    threshold = torch.tensor([beta], dtype=torch.float64)
    return Batch(
        field=field,
        position=(0,),
        columns=torch.arange(resources).unsqueeze(0),
        floors=0.5 * one,
        ceilings=100.0 * one,
        prices=one,
        threshold=threshold,
    )


@pytest.mark.parametrize("start", [0.01, 0.1, 0.5, 1.0])
def test_walks_end_at_the_optimum_from_near_and_far(cobb_douglas, start):
    model = cobb_douglas()
    asked = batch(model, 2)
    walked = walk(asked, torch.full((1, 1, 2), start).double(), Clock(60.0), steps=60)
    exact = model.cheapest(2.0, 3.0, {"gnb_cpu": 1.0, "transport_bandwidth": 1.0})
    points, _, settled = walked.best()
    allocation = asked.allocations(points.unsqueeze(1)).flatten()
    assert bool(settled)
    assert float(allocation.sum()) == pytest.approx(sum(exact.values()), rel=1e-4)
    assert float(asked.degradation(points.unsqueeze(1))) <= 0.1


def test_a_walk_without_time_is_not_settled(cobb_douglas):
    walked = walk(batch(cobb_douglas(), 2), torch.full((1, 1, 2), 0.5).double(), Clock(0.0))
    assert not bool(walked.settled.any())


@pytest.mark.parametrize("count", [1, 2, 5])
def test_as_many_starts_as_asked_for_are_picked(cobb_douglas, count):
    asked = batch(cobb_douglas(), 2)
    starts = screen(asked, 64).starts(asked, count)
    assert starts.shape == (1, count, 2)
    # The first is feasible.
    assert float(asked.degradation(starts)[0, 0]) <= 0.1
