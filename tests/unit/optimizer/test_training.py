import math

import msgspec
import numpy as np
import pytest
import torch

from microopt.errors import ConfigError
from microopt_optimizer.slice_model.dataset import dataset_from_arrays
from microopt_optimizer.slice_model.training import FAST, PAPER, train

QUICK = msgspec.structs.replace(FAST, epochs=60, batch_size=128, seed=1)
STD = 0.4


def measured(rows=2000, seed=0, scale=1.0):
    """A slice whose users share the lesser of bandwidth and half of the CPU."""
    rng = np.random.default_rng(seed)
    users = rng.integers(1, 6, rows).astype(float)
    resources = rng.uniform(4.0, 40.0, (rows, 2))
    qos = np.minimum(resources[:, 0], 0.5 * resources[:, 1]) / users + rng.normal(0.0, STD, rows) + 2.0
    return dataset_from_arrays(
        users,
        resources,
        scale * qos.clip(0.0),
        names=("transport_bandwidth", "gnb_cpu"),
        units=("Mbit/s", "cores"),
    )


@pytest.fixture(scope="module")
def trained():
    torch.set_num_threads(1)
    return train(measured(), QUICK, test=measured(500, seed=1), name="embb")


def test_the_noise_is_learnt_and_little_more_error_is_left(trained):
    noise = math.log(STD * math.sqrt(2.0 * math.pi * math.e))
    for part in ("train", "validation", "test"):
        assert trained.header.metrics[part].nll < noise + 0.25
        assert trained.header.metrics[part].mse < 1.5 * STD**2


def test_the_header_says_what_the_model_is_of(trained):
    header = trained.header
    assert header.resource_names == ("transport_bandwidth", "gnb_cpu")
    assert (header.users.low, header.users.high) == (1.0, 5.0)
    assert 4.0 <= header.resources[0].trained.low < header.resources[0].trained.high <= 40.0
    assert header.data_sha256 == measured().sha256()
    assert header.metrics["train"].rows + header.metrics["validation"].rows == 2000
    assert trained.name == "embb"


def test_the_same_data_and_seed_give_the_same_model():
    config = msgspec.structs.replace(QUICK, epochs=2)
    state = torch.random.get_rng_state()
    first, second = train(measured(300), config), train(measured(300), config)
    assert first.digest == second.digest
    assert train(measured(300), msgspec.structs.replace(config, seed=2)).digest != first.digest
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_unit_of_the_qos_does_not_matter_to_the_fast_preset():
    config = msgspec.structs.replace(QUICK, epochs=15)
    plain, scaled = train(measured(1000), config), train(measured(1000, scale=1000.0), config)
    ratio = scaled.header.metrics["train"].mae / plain.header.metrics["train"].mae
    assert ratio == pytest.approx(1000.0, rel=0.05)


def test_the_paper_preset_is_the_printed_schedule():
    assert (PAPER.epochs, PAPER.learning_rate, PAPER.schedule, PAPER.drop) == (3000, 1e-3, "step", 0.1)
    reports = []
    train(measured(300), msgspec.structs.replace(PAPER, epochs=4), progress=reports.append)
    assert [report.epoch for report in reports] == [1, 2, 3, 4]
    assert reports[-1].nll < reports[0].nll


def test_progress_comes_about_a_hundred_times():
    reports = []
    train(measured(64), msgspec.structs.replace(QUICK, epochs=250), progress=reports.append)
    assert len(reports) == 125
    assert reports[-1].epoch == reports[-1].epochs == 250


def test_too_few_rows_are_refused():
    with pytest.raises(ConfigError, match="at least 32"):
        train(measured(20), QUICK)


def test_a_test_set_of_other_resources_is_refused():
    other = dataset_from_arrays([1.0], [[1.0]], [1.0], names=["prb"], units=["PRB"])
    with pytest.raises(ConfigError, match="prb"):
        train(measured(100), QUICK, test=other)


def test_training_that_diverges_is_said():
    with pytest.raises(ConfigError, match="diverged in epoch"):
        train(measured(100), msgspec.structs.replace(QUICK, learning_rate=1e30, schedule="step"))
