import dataclasses
import math

import msgspec
import numpy as np
import pytest
import torch

from microopt.errors import ConfigError
from microopt_optimizer.slice_model.dataset import dataset_from_arrays
from microopt_optimizer.slice_model.fitting import begin, proceed
from microopt_optimizer.slice_model.training import FAST, PAPER, train

QUICK = msgspec.structs.replace(
    FAST, epochs=50, spread_epochs=15, batch_size=128, seed=1, teachers=0, components=1
)
SHORT = msgspec.structs.replace(QUICK, epochs=3, spread_epochs=2)
STD = 0.4


def measured(rows=1200, seed=0, scale=1.0):
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
    config = msgspec.structs.replace(QUICK, epochs=80, input_noise=0.05)
    return train(measured(), config, test=measured(500, seed=1), name="embb")


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
    assert header.metrics["train"].rows + header.metrics["validation"].rows == 1200
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
    assert (PAPER.patience, PAPER.input_noise, PAPER.spread_epochs, PAPER.teachers) == (None, 0.0, 0, 0)
    assert (PAPER.width, PAPER.depth, PAPER.activation, PAPER.components, PAPER.members) == (16, 3, "relu", 1, 1)
    assert reports[-1].nll < reports[0].nll


def test_progress_comes_about_a_hundred_times():
    reports = []
    config = msgspec.structs.replace(QUICK, epochs=200, spread_epochs=50, patience=None)
    train(measured(64), config, progress=reports.append)
    assert 100 <= len(reports) <= 130
    assert reports[-1].epoch == reports[-1].epochs == 250


def test_the_learning_curve_has_errors_of_training_and_validation_rows():
    reports = []
    model = train(measured(600), msgspec.structs.replace(SHORT, patience=None), progress=reports.append)
    for part, nll, mse in (
        ("train", reports[-1].nll, reports[-1].mse),
        ("validation", reports[-1].validation_nll, reports[-1].validation_mse),
    ):
        assert nll == pytest.approx(model.header.metrics[part].nll, rel=1e-4)
        assert mse == pytest.approx(model.header.metrics[part].mse, rel=1e-4)
    assert reports[-1].mse < reports[0].mse


def test_without_validation_rows_the_curve_says_that_there_are_none():
    reports = []
    config = msgspec.structs.replace(SHORT, validation_share=0.0, patience=None)
    model = train(measured(100), config, progress=reports.append)
    assert reports[-1].validation_nll is None
    assert list(model.header.metrics) == ["train"]


def test_patience_stops_the_training_and_goes_back_to_the_best_weights():
    reports = []
    config = msgspec.structs.replace(SHORT, epochs=500, learning_rate=0.1, schedule="step", patience=20)
    config = msgspec.structs.replace(config, spread_epochs=0, input_noise=0.0)
    model = train(measured(150), config, progress=reports.append)
    nlls = [report.validation_nll for report in reports]
    best = reports[nlls.index(min(nlls))]
    assert reports[-1].epoch < 500
    assert reports[-1].epoch - best.epoch >= 20
    assert model.header.metrics["validation"].nll == pytest.approx(best.validation_nll, rel=1e-4)


def test_patience_without_validation_rows_is_refused():
    with pytest.raises(ConfigError, match="raise validation_share above 0, or set patience to null"):
        train(measured(100), msgspec.structs.replace(SHORT, validation_share=0.0, patience=5))


def test_the_last_epochs_train_nothing_but_the_spread():
    config = msgspec.structs.replace(SHORT, patience=None)
    before = train(measured(300), msgspec.structs.replace(config, spread_epochs=0)).network.state_dict()
    after = train(measured(300), msgspec.structs.replace(config, spread_epochs=3)).network.state_dict()
    changed = {name.split(".")[0] for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed == {"std"}


def test_noise_on_the_inputs_makes_the_spread_too_wide_until_it_is_trained_without():
    config = msgspec.structs.replace(QUICK, input_noise=0.3, patience=None)
    wide = train(measured(1000), msgspec.structs.replace(config, spread_epochs=0)).header.metrics["train"]
    right = train(measured(1000), msgspec.structs.replace(config, spread_epochs=40)).header.metrics["train"]
    assert wide.coverage_80 > 0.85
    assert right.coverage_80 == pytest.approx(0.8, abs=0.05)


def test_a_network_says_between_the_cells_of_a_grid_what_its_teachers_say():
    rng = np.random.default_rng(0)
    users, cells = rng.integers(1, 3, 600).astype(float), rng.choice([5.0, 20.0, 35.0], (600, 2))
    qos = cells.min(axis=1) / users + rng.normal(0.0, 0.1, 600)
    data = dataset_from_arrays(users, cells, qos, names=("a", "b"), units=("x", "y"))
    fit = begin(data, data.rows(np.zeros(600, dtype=bool)), msgspec.structs.replace(QUICK, teachers=4))
    for _ in proceed(fit):
        pass
    users, resources = (
        torch.ones(200),
        5.0 + 30.0 * torch.rand((200, 2), generator=torch.Generator().manual_seed(0)),
    )
    with torch.no_grad():
        taught, teachers = (part(users, resources).expectation for part in (fit.network, fit.teacher.network))
    assert float((taught - teachers).abs().mean()) < 0.1 * float(qos.std())


def test_a_shorter_training_shortens_the_epochs_for_the_spread_in_proportion():
    short = FAST.shortened(FAST.epochs // 10)
    assert (short.epochs, short.spread_epochs) == (FAST.epochs // 10, FAST.spread_epochs // 10)
    assert PAPER.shortened(10).spread_epochs == 0


def test_the_curve_goes_on_from_the_teachers_to_the_network():
    reports = []
    config = msgspec.structs.replace(SHORT, teachers=2, patience=None)
    model = train(measured(200), config, progress=reports.append)
    assert [(report.epoch, report.epochs) for report in reports] == [(n, 8) for n in range(1, 9)]
    assert model.header.architecture.members == 1


@pytest.mark.parametrize("change", [{"members": 3}, {"monotone": True, "per_user": True}, {"components": 3}])
def test_the_architecture_follows_the_configuration(change):
    model = train(measured(200), msgspec.structs.replace(SHORT, **change))
    expected = change | ({"monotone": "rising"} if "monotone" in change else {})
    assert {name: getattr(model.header.architecture, name) for name in expected} == expected
    assert model.header.training["members"] == change.get("members", SHORT.members)


def test_members_of_an_ensemble_are_different_and_better_together():
    config = msgspec.structs.replace(SHORT, epochs=10, members=4, patience=None)
    network = train(measured(600), config).network
    data = measured(600, seed=2)
    users, resources, qos = (torch.tensor(values) for values in (data.users, data.resources, data.qos))
    each = network.each(users.expand(4, -1), resources.expand(4, -1, -1))
    errors = [float((mean - qos).square().mean()) for mean in each.expectation]
    assert len(set(errors)) == 4
    assert float((network(users, resources).expectation - qos).square().mean()) < sum(errors) / 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qos": 5.0}, "dl_thpt_per_ue is 5 Mbit/s in all rows: there is nothing to learn"),
        ({"users": 2.0}, r"users \(2\) is the same in all rows"),
        (
            {"resources": (10.0, 8.0), "users": 2.0},
            "all rows have the same users and resources, users .2., transp",
        ),
    ],
)
def test_rows_that_say_nothing_are_refused_with_a_remedy(change, message):
    data = measured(100)
    constant = {name: np.broadcast_to(value, getattr(data, name).shape) for name, value in change.items()}
    with pytest.raises(ConfigError, match=message):
        train(dataclasses.replace(data, **constant), SHORT)


def latency(rows=800, seed=0):
    """A queue's delay in ms: long where what is offered comes near to what there is."""
    rng = np.random.default_rng(seed)
    users = rng.integers(1, 6, rows).astype(float)
    resources = np.column_stack([rng.uniform(8.0, 40.0, rows), rng.uniform(500.0, 4000.0, rows)])
    rate = np.minimum(resources[:, 0], resources[:, 1] / 100.0)
    delay_ms = 5.0 + 60.0 * users / rate
    return dataset_from_arrays(
        users,
        resources,
        delay_ms * rng.gamma(50.0, 1.0 / 50.0, rows),
        names=("transport_bandwidth", "gnb_cpu"),
        units=("Mbit/s", "millicores"),
        qos_metric="delay",
        qos_unit="ms",
        higher_is_better=False,
    )


def test_a_latency_is_learnt_and_never_rises_with_a_resource_where_that_is_asked_for():
    config = msgspec.structs.replace(QUICK, monotone=True, per_user=True, activation="mixed")
    model = train(latency(), config, test=latency(400, seed=1))
    assert model.header.architecture.monotone == "falling"
    assert (model.header.qos_metric, model.header.qos_unit) == ("delay", "ms")
    assert model.header.metrics["test"].mse < 0.15 * latency().qos.var()
    ladder = torch.tensor([[8.0 + 2.0 * k, 500.0 + 150.0 * k] for k in range(15)]).double()
    missed = model(torch.tensor([5.0]).double(), ladder).missed(30.0, higher_is_better=False)
    assert (missed.diff() <= 1e-12).all()
    assert float(missed[0]) > 0.95
    assert float(missed[-1]) < 0.05


def test_a_test_set_of_other_resources_is_refused():
    other = dataset_from_arrays([1.0], [[1.0]], [1.0], names=["prb"], units=["PRB"])
    with pytest.raises(ConfigError, match="prb"):
        train(measured(100), QUICK, test=other)


def test_training_that_diverges_is_said():
    with pytest.raises(ConfigError, match="diverged in epoch"):
        train(measured(100), msgspec.structs.replace(QUICK, learning_rate=1e30, schedule="step"))
