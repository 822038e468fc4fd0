"""What a training step learns from."""

import numpy as np
import pytest
import torch

from microopt_optimizer.slice_model.batches import Rows, partly_taught, taught, with_noise
from microopt_optimizer.slice_model.dataset import dataset_from_arrays
from microopt_optimizer.slice_model.network import Architecture, SliceModel

MEMBERS, SIZE = 3, 400


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    cells = rng.choice([10.0, 20.0], (500, 2))
    return Rows.of(
        dataset_from_arrays(rng.integers(1, 6, 500), cells, np.full(500, 7.0), names=("a", "b"), units=("x", "y"))
    )


@pytest.fixture
def batch(rows):
    return rows.batch(torch.randint(500, (MEMBERS, SIZE), generator=torch.Generator().manual_seed(1)))


@pytest.fixture
def draws():
    return torch.Generator().manual_seed(2)


@pytest.fixture
def teacher():
    """Two members that know nothing: QoS 100 of standard deviation 1, and 0 of standard deviation 3."""
    network = SliceModel(Architecture(inputs=3, members=2)).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.zero_()
    network.mean[-1].bias[0], network.std[-1].bias[0] = 100.0, 0.54
    network.std[-1].bias[1] = 2.95
    return network


def test_noise_is_as_large_as_asked_for_in_each_inputs_own_unit(rows, batch, draws):
    noisy = with_noise(rows, batch, 0.1, draws)
    assert torch.equal(noisy.qos, batch.qos)
    assert float((noisy.users - batch.users).std() / rows.users.std()) == pytest.approx(0.1, rel=0.1)
    for k in range(2):
        change = (noisy.resources - batch.resources)[..., k]
        assert float(change.std() / rows.resources[:, k].std()) == pytest.approx(0.1, rel=0.1)


def test_a_teacher_is_asked_about_measured_resources_and_as_often_about_any_within_their_ranges(
    rows, batch, teacher, draws
):
    asked = taught(rows, batch, teacher, draws)
    assert torch.equal(asked.users, batch.users)
    assert torch.equal(asked.resources[:, SIZE // 2 :], batch.resources[:, SIZE // 2 :])
    anywhere = asked.resources[:, : SIZE // 2]
    assert ((anywhere >= 10.0) & (anywhere <= 20.0)).all()
    assert float(anywhere.mean()) == pytest.approx(15.0, abs=0.5)
    assert not np.isin(anywhere.numpy(), (10.0, 20.0)).any()


def test_answers_are_drawn_from_the_mixture_of_all_teachers(rows, batch, teacher, draws):
    qos = taught(rows, batch, teacher, draws).qos
    high, low = qos[qos > 50.0], qos[qos <= 50.0]
    assert len(high) / (MEMBERS * SIZE) == pytest.approx(0.5, abs=0.05)
    assert (float(high.mean()), float(high.std())) == pytest.approx((100.0, 1.0), rel=0.1)
    assert float(low.mean()) == pytest.approx(0.0, abs=0.4)
    assert float(low.std()) == pytest.approx(3.0, rel=0.1)


def test_a_share_of_a_batch_can_be_the_teachers_and_the_rest_stays_as_measured(rows, batch, teacher, draws):
    mixed = partly_taught(rows, batch, teacher, draws, 0.25)
    assert mixed.qos.shape == (MEMBERS, SIZE)
    assert not (mixed.qos[:, :100] == 7.0).any()
    assert torch.equal(mixed.resources[:, 100:], batch.resources[:, 100:])
    assert torch.equal(mixed.qos[:, 100:], batch.qos[:, 100:])
    assert partly_taught(rows, batch, teacher, draws, 0.0) is batch
