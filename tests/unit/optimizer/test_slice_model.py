import math

import pytest
import torch

from microopt_optimizer.slice_model.distribution import QosDistribution, expected_degradation, normal
from microopt_optimizer.slice_model.network import Architecture, MemberLinear, SliceModel


def constant(mean, std):
    def model(users, resources):
        shape = (users + resources[..., 0]).shape
        return normal(torch.full(shape, mean, dtype=torch.float64), torch.full(shape, std, dtype=torch.float64))

    return model


def linear(users, resources):
    mean = resources.sum(-1) / users.clamp(min=1e-9)
    return normal(mean, 0.5 + 0.0 * mean)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_the_network_is_the_papers():
    model = SliceModel(Architecture(inputs=3))
    shapes = [tuple(layer.weight.shape) for layer in model.modules() if isinstance(layer, MemberLinear)]
    assert shapes == [(1, *shape) for shape in [(3, 16), (16, 16), (16, 16), (16, 16), (16, 1), (16, 16), (16, 1)]]


def test_leading_dimensions_broadcast():
    model = SliceModel(Architecture(inputs=3)).eval()
    assert {part.shape for part in model(torch.rand(4, 1, 7), torch.rand(5, 1, 2))} == {(4, 5, 7, 1)}
    assert {part.shape for part in model(torch.tensor(1.0), torch.tensor([0.5, 0.5]))} == {(1,)}


def test_the_standard_deviation_is_positive_however_certain_the_network_is():
    model = SliceModel(Architecture(inputs=2)).eval()
    model.std[-1].bias.data.fill_(-1e4)
    assert float(model(torch.tensor(1.0), torch.tensor([1.0])).std.detach()) > 0.0


def test_degradation_is_the_chance_to_miss_on_either_side():
    assert float(normal(tensor(3.0), tensor(1.0)).missed(3.0)) == pytest.approx(0.5)
    low = float(normal(tensor(5.0), tensor(1.0)).missed(3.0))
    assert low == pytest.approx(0.5 * math.erfc(2.0 / math.sqrt(2.0)))
    assert float(normal(tensor(5.0), tensor(1.0)).missed(3.0, False)) == pytest.approx(1.0 - low)


def test_slots_weigh_by_their_users():
    # 1 user: certain to be fine (10 / 1); 9 users: certain to miss (10 / 9).
    value = expected_degradation(linear, tensor(1.0, 9.0), tensor(0.5, 0.5), tensor(5.0, 5.0), 5.0)
    assert float(value) == pytest.approx(0.9, abs=1e-6)


def test_sampling_as_in_equation_1_agrees_with_the_closed_form():
    generator = torch.Generator().manual_seed(0)
    users, weights, resources = tensor(1.0, 2.0, 4.0), tensor(0.2, 0.5, 0.3), tensor(4.0, 3.0)
    slots = users[torch.multinomial(weights, 200_000, replacement=True, generator=generator)]
    mixture = linear(slots, resources)
    qos = mixture.expectation + mixture.deviation * torch.randn(
        slots.shape, generator=generator, dtype=torch.float64
    )
    sampled = float((slots * (qos <= 3.0)).sum() / slots.sum())
    exact = float(expected_degradation(linear, users, weights, resources, 3.0))
    assert exact == pytest.approx(sampled, abs=0.005)


def test_padding_changes_nothing():
    short = expected_degradation(linear, tensor(1.0, 3.0), tensor(0.4, 0.6), tensor(4.0, 3.0), 3.0)
    long = expected_degradation(linear, tensor(1.0, 3.0, 0.0), tensor(0.4, 0.6, 0.0), tensor(4.0, 3.0), 3.0)
    assert float(long) == pytest.approx(float(short), rel=1e-15)


def test_slices_and_candidates_batch():
    users, weights = torch.rand(3, 1, 5).double() + 1, torch.full((3, 1, 5), 0.2).double()
    resources, thresholds = torch.rand(3, 8, 2).double() * 5, tensor(1.0, 2.0, 3.0).unsqueeze(1)
    batched = expected_degradation(linear, users, weights, resources, thresholds)
    assert batched.shape == (3, 8)
    one = expected_degradation(linear, users[2, 0], weights[2, 0], resources[2, 4], 3.0)
    assert float(batched[2, 4]) == pytest.approx(float(one), rel=1e-12)


@pytest.mark.parametrize(("users", "weights"), [((0.0, 0.0), (0.5, 0.5)), ((2.0, 3.0), (0.0, 0.0))])
def test_nobody_is_degraded_where_nobody_is(users, weights):
    value = expected_degradation(constant(0.0, 1.0), tensor(*users), tensor(*weights), tensor(1.0), 3.0)
    assert float(value) == 0.0


def test_more_resources_lower_it_along_its_gradient():
    resources = tensor(3.0, 3.0).requires_grad_(True)
    value = expected_degradation(linear, tensor(1.0, 2.0), tensor(0.5, 0.5), resources, 3.0)
    (slope,) = torch.autograd.grad(value, resources)
    assert (slope < 0.0).all()


def test_a_mixture_is_its_components_in_their_shares():
    mixture = QosDistribution(tensor(0.25, 0.75), tensor(1.0, 5.0), tensor(0.5, 2.0))
    assert float(mixture.expectation) == pytest.approx(4.0)
    generator = torch.Generator().manual_seed(0)
    chosen = torch.multinomial(mixture.weight, 200_000, replacement=True, generator=generator)
    noise = torch.randn(chosen.shape, generator=generator, dtype=torch.float64)
    qos = mixture.mean[chosen] + mixture.std[chosen] * noise
    assert float(mixture.deviation) == pytest.approx(float(qos.std()), rel=0.01)
    assert float(mixture.missed(3.0)) == pytest.approx(float((qos <= 3.0).double().mean()), abs=0.005)
    assert float(mixture.missed(3.0, False)) == pytest.approx(1.0 - float(mixture.missed(3.0)))
    # The density is the slope of the distribution.
    slope = (mixture.below(tensor(3.0) + 1e-5) - mixture.below(tensor(3.0) - 1e-5)) / 2e-5
    assert float(mixture.log_density(tensor(3.0)).exp()) == pytest.approx(float(slope), rel=1e-6)


def network(seed, **architecture):
    torch.manual_seed(seed)
    model = SliceModel(Architecture(**{"inputs": 3, **architecture}))
    model.norm.running_mean.fill_(5.0)
    model.norm.running_var.fill_(20.0)
    return model.double().eval().requires_grad_(False)


@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("activation", ["relu", "mixed", "tanh"])
def test_an_ensemble_mixes_its_members_in_equal_parts(components, activation):
    model = network(0, members=4, components=components, activation=activation, per_user=True)
    users, resources = torch.rand(10).double() * 5, torch.rand(10, 2).double() * 10
    mixture = model(users, resources)
    assert mixture.weight.shape == (10, 4 * components)
    torch.testing.assert_close(mixture.weight.sum(-1), torch.ones(10).double())
    each = model.each(users.expand(4, -1), resources.expand(4, -1, -1))
    torch.testing.assert_close(mixture.expectation, each.expectation.mean(0))
    torch.testing.assert_close(mixture.below(1.0), each.below(1.0).mean(0))


@pytest.mark.parametrize("monotone", ["rising", "falling"])
@pytest.mark.parametrize("activation", ["relu", "mixed", "tanh"])
@pytest.mark.parametrize("seed", range(5))
def test_more_of_a_resource_never_hurts_a_monotone_network(seed, activation, monotone):
    model = network(seed, monotone=monotone, activation=activation, components=3, members=2, per_user=True)
    users = torch.rand(200).double() * 8
    less = torch.rand(200, 2).double() * 10
    more = less + torch.rand(200, 2).double() * 5
    for threshold in (-0.5, 0.0, 0.5):
        before = model(users, less).missed(threshold, monotone == "rising")
        after = model(users, more).missed(threshold, monotone == "rising")
        assert (after <= before + 1e-12).all()
        assert (after < before).any()
