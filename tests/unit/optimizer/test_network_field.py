import itertools

import pytest
import torch

from microopt_optimizer.slice_model.distribution import normal
from microopt_optimizer.slice_model.network import Architecture, SliceModel
from microopt_optimizer.solver.field import ROWS_PER_CALL, FunctionField
from microopt_optimizer.solver.network_field import NetworkField
from microopt_optimizer.solver.networks import stack

SHAPES = [
    {
        "activation": activation,
        "monotone": monotone,
        "components": components,
        "members": members,
        "per_user": per_user,
    }
    for activation, monotone, components, members, per_user in itertools.product(
        ("relu", "mixed", "tanh"), ("no", "rising", "falling"), (1, 3), (1, 2), (False, True)
    )
]


def network(seed, resources=2, **shape):
    torch.manual_seed(seed)
    model = SliceModel(Architecture(inputs=resources + 1, **shape))
    model.norm.running_mean.uniform_(3.0, 8.0)
    model.norm.running_var.uniform_(10.0, 30.0)
    if model.norm.affine:
        model.norm.weight.data.uniform_(0.5, 2.0)
        model.norm.bias.data.normal_()
    model.qos_offset.fill_(1.0 + seed)
    model.qos_scale.fill_(2.0)
    model.users_floor.fill_(0.5)
    return model.double().eval().requires_grad_(False)


def traffic(slices, atoms=4):
    users, weights = torch.rand(slices, atoms).double() * 5.0, torch.rand(slices, atoms).double()
    users[:, -1] = 0.0
    return users, weights, torch.rand(slices).double() * 3.0


@pytest.mark.parametrize("higher_is_better", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join(map(str, shape.values())))
def test_the_written_gradient_is_the_automatic_one_for_every_architecture(shape, higher_is_better):
    models = [network(seed, **shape) for seed in range(3)]
    users, weights, threshold = traffic(3)
    field = NetworkField.of(stack(models), users, weights, threshold, higher_is_better)
    allocations = torch.rand(3, 7, 2).double() * 10.0
    value, slope = field.value_and_slope(allocations)
    for row, model in enumerate(models):
        part = slice(row, row + 1)
        exact = FunctionField(model, users[part], weights[part], threshold[part], higher_is_better)
        expected_value, expected_slope = exact.value_and_slope(allocations[part])
        torch.testing.assert_close(value[part], expected_value, rtol=0.0, atol=1e-13)
        torch.testing.assert_close(slope[part], expected_slope, rtol=1e-9, atol=1e-12)


def test_slices_can_be_taken_out_in_any_order():
    models = [network(seed, members=2) for seed in range(4)]
    field = NetworkField.of(stack(models), *traffic(4), True)
    allocations = torch.rand(4, 5, 2).double() * 10.0
    torch.testing.assert_close(field.select([3, 1]).value(allocations[[3, 1]]), field.value(allocations)[[3, 1]])


def test_what_is_cut_into_parts_for_the_cache_is_the_same():
    models = [network(seed) for seed in range(3)]
    field = NetworkField.of(stack(models), *traffic(3), True)
    many = ROWS_PER_CALL // 4 + 17  # of four atoms: more than one call for each slice
    allocations = torch.rand(3, many, 2).double() * 10.0
    value, slope = field.value_and_slope(allocations)
    few_value, few_slope = field.value_and_slope(allocations[:, -5:])
    torch.testing.assert_close(value[:, -5:], few_value)
    torch.testing.assert_close(slope[:, -5:], few_slope)


def test_single_precision_is_near():
    field = NetworkField.of(stack([network(0)]), *traffic(1), True)
    allocations = torch.rand(1, 1000, 2).double() * 10.0
    assert float((field.single().value(allocations) - field.value(allocations)).abs().max()) < 2e-6


def test_a_network_that_says_nothing_is_degraded():
    model = network(0)
    model.qos_scale.fill_(torch.nan)
    value, slope = NetworkField.of(stack([model]), *traffic(1), True).value_and_slope(torch.ones(1, 3, 2).double())
    assert (value == 1.0).all()
    assert (slope == 0.0).all()


def test_a_model_that_knows_no_resources_has_no_slope():
    def model(users, resources):
        mean = torch.zeros(torch.broadcast_shapes(users.shape, resources.shape[:-1]), dtype=torch.float64)
        return normal(mean, torch.ones_like(mean))

    value, slope = FunctionField(model, *traffic(1), True).value_and_slope(torch.ones(1, 3, 2).double())
    assert (value > 0.0).all()
    assert (slope == 0.0).all()
