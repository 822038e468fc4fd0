import statistics

import pytest
import torch

from microopt_optimizer.slice_model.distribution import normal
from microopt_optimizer.solver.base import Clock
from microopt_optimizer.solver.batch import Batch
from microopt_optimizer.solver.descent import descend
from microopt_optimizer.solver.field import FunctionField
from microopt_optimizer.solver.hops import refined
from microopt_optimizer.solver.screen import screen
from microopt_optimizer.solver.slp import walk

USERS, QOS, STD = 2.0, 3.0, 0.5
UNSURE = torch.tensor([True])
QUANTILE = statistics.NormalDist().inv_cdf(0.9)


def leontief(resources):
    """A batch of one slice whose scarcest resource decides, its prices [K], and its one cheapest allocation [K].

    The optimum is a corner of K planes: no step along a single tangent leads into it.
    """
    per_unit = torch.linspace(0.5, 2.0, resources, dtype=torch.float64)
    prices = torch.linspace(1.0, 2.0, resources, dtype=torch.float64)

    def model(users, allocation):
        mean = (per_unit * allocation).amin(-1) / users
        return normal(mean, torch.full_like(mean, STD))

    return asked_of(model, prices), prices, USERS * (QOS + QUANTILE * STD) / per_unit


def asked_of(model, prices):
    resources = prices.shape[0]
    one = torch.ones(1, resources, dtype=torch.float64)
    return Batch(
        field=FunctionField(model, USERS * one[:, :1], one[:, :1], torch.tensor([QOS]).double(), True),
        position=(0,),
        columns=torch.arange(resources).unsqueeze(0),
        floors=0.5 * one,
        ceilings=20.0 * one,
        prices=prices.unsqueeze(0),
        threshold=torch.tensor([0.1], dtype=torch.float64),
    )


@pytest.mark.parametrize("resources", [2, 3, 4, 8])
def test_the_corner_of_many_planes_is_found(resources):
    asked, prices, exact = leontief(resources)
    found = descend(asked, Clock(60.0))
    allocation = asked.allocations(found.points.unsqueeze(1)).flatten()
    assert bool(found.feasible)
    assert float(allocation @ prices) == pytest.approx(float(exact @ prices), rel=1e-3)
    assert allocation.tolist() == pytest.approx(exact.tolist(), rel=0.01)


def test_without_hops_it_is_missed():
    asked, prices, exact = leontief(8)
    walked = walk(asked, screen(asked, 1024).starts(asked, 16), Clock(60.0))
    alone = walked.best()[0]
    hopped, _ = refined(asked, walked, UNSURE, Clock(60.0), 16)
    cost, better = (
        float(asked.allocations(one.unsqueeze(1)).flatten() @ prices) for one in (alone, hopped.best()[0])
    )
    assert cost > 1.1 * float(exact @ prices)
    assert better < 1.01 * float(exact @ prices)


def test_without_time_nothing_is_begun():
    asked, _, _ = leontief(4)
    walked = walk(asked, screen(asked, 64).starts(asked, 2), Clock(60.0))
    again, ended = refined(asked, walked, UNSURE, Clock(0.0), 2)
    assert again is walked
    assert not bool(ended)


class ShortHops(Clock):
    """Has time for the first walks, but none for hops."""

    def part(self, share):
        return Clock(0.0)


def test_what_is_cut_short_is_not_called_settled(cobb_douglas):
    model = cobb_douglas(exponents={"gnb_cpu": 0.5, "transport_bandwidth": 0.5, "upf_cpu": 0.5})
    asked = asked_of(model, torch.ones(3, dtype=torch.float64))
    assert bool(descend(asked, Clock(60.0)).settled)
    found = descend(asked, ShortHops(60.0))
    assert bool(found.feasible)
    assert bool(found.walked.best()[2])
    assert not bool(found.settled)
