"""Fine-tuning on fresh slots: better where the slice has changed, and offered only then."""

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from microopt.errors import ConfigError
from microopt_optimizer.slice_model import model_file
from microopt_optimizer.slice_model.dataset import dataset_from_arrays
from microopt_optimizer.slice_model.training import FAST, train
from microopt_optimizer.tuner import tuning
from microopt_optimizer.tuner.drift import Window
from microopt_optimizer.tuner.followed import reference_of
from microopt_optimizer.tuner.fresh import Row
from microopt_optimizer.tuner.settings import OriginalData
from microopt_optimizer.tuner.tuning import fine_tune, nlls, time_blocks

NAMES, UNITS = ("transport_bandwidth", "gnb_cpu"), ("Mbit/s", "millicores")


def measured(count=1500, rate=1.0, seed=0):
    """Users share the lesser of bandwidth and a hundredth of the CPU, times `rate`; a slot a second."""
    rng = np.random.default_rng(seed)
    users = rng.integers(1, 6, count).astype(float)
    resources = np.column_stack([rng.uniform(5.0, 50.0, count), rng.uniform(500.0, 4500.0, count)])
    qos = rate * np.minimum(resources[:, 0], resources[:, 1] / 100.0) / users + rng.normal(0.0, 0.3, count)
    times = np.arange(count, dtype=float)
    return dataset_from_arrays(users, resources, qos.clip(0.0), names=NAMES, units=UNITS, time_s=times)


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    config = replace(FAST, epochs=60, batch_size=128, teachers=0, input_noise=0.0, spread_epochs=0)
    return train(measured(), config, name="embb")


def as_rows(data):
    return [
        Row(t, u, tuple(r), q)
        for t, u, r, q in zip(data.time_s, data.users, data.resources, data.qos, strict=True)
    ]


def drifted(model, fresh):
    window = Window(reference_of(model.header), margin=0.3, samples=100, judged=300, kept=5000)
    rows = as_rows(fresh)
    window.add(rows, nlls(model, rows))
    return window.has_drifted


def test_drift_is_found_where_the_slice_has_changed_and_not_where_it_has_not(model):
    assert not drifted(model, measured(seed=5))
    assert drifted(model, measured(seed=5, rate=0.7))


def test_the_tuned_model_is_better_on_slots_that_nobody_trained_on_and_the_old_one_is_as_it_was(model):
    before = model_file.to_bytes(model)
    outcome = fine_tune(model, measured(seed=5, rate=0.7))
    assert outcome.is_better(0.3)
    unseen = as_rows(measured(seed=9, rate=0.7))
    assert np.mean(nlls(outcome.model, unseen)) < np.mean(nlls(model, unseen)) - 0.3
    assert model_file.to_bytes(model) == before


def test_on_a_slice_that_has_not_changed_nothing_is_better_by_the_margin(model):
    assert not fine_tune(model, measured(seed=5)).is_better(0.2)


def test_a_model_that_has_become_worse_is_not_better(model):
    outcome = fine_tune(model, measured(seed=5), measured(seed=6, rate=3.0))
    assert outcome.new_nll > outcome.old_nll + 0.3
    assert not outcome.is_better(0.05)
    assert not tuning.Outcome(model, 1.0, float("nan"), 1, 1).is_better(0.05)


def test_a_tuning_that_diverges_is_an_error_and_no_model(model):
    with pytest.raises(ConfigError, match="training diverged in epoch"):
        fine_tune(model, measured(seed=5), learning_rate=1.0)


def test_the_new_models_header_says_what_it_was_made_of_and_how_well_it_does(model):
    fresh = measured(seed=5, rate=0.7)
    fresh.users[0] = 9.0
    fresh.resources[1, 0] = 80.0
    outcome = fine_tune(model, fresh)
    header = model_file.load(model_file.to_bytes(outcome.model)).header
    assert header.users.high == 9.0
    assert header.resources[0].trained.high == 80.0
    assert header.resources[1].trained.low <= model.header.resources[1].trained.low
    assert header.metrics["validation"].nll == pytest.approx(outcome.new_nll)
    assert header.metrics["validation"].rows == outcome.held_out_rows
    assert header.training["fine_tuned_from"] == model.digest


def test_with_original_data_the_model_keeps_what_it_knew_elsewhere(model):
    fresh = measured(seed=5, rate=0.7)
    narrow = fresh.rows(fresh.resources[:, 0] < 15.0)
    far = measured(seed=9)
    elsewhere = as_rows(far.rows(far.resources[:, 0] > 30.0))
    alone = fine_tune(model, narrow)
    beside = fine_tune(model, narrow, measured())
    assert beside.trained_rows <= 2 * alone.trained_rows
    assert np.mean(nlls(beside.model, elsewhere)) < np.mean(nlls(alone.model, elsewhere))


def test_blocks_of_time_are_held_out_whole_and_the_latest_is_among_them():
    fresh = measured(1000)
    rows, held_out = time_blocks(fresh)
    assert len(held_out) == 250
    assert set(rows.time_s) | set(held_out.time_s) == set(fresh.time_s)
    assert held_out.time_s.max() == fresh.time_s.max()
    begins = np.flatnonzero(np.diff(np.sort(held_out.time_s)) > 1.0)
    assert len(begins) == 4


def test_too_few_rows_are_refused(model):
    with pytest.raises(ConfigError, match="2 fresh rows are too few"):
        fine_tune(model, measured(2))


def test_original_data_comes_in_the_models_order_and_other_units_are_refused(model, tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("n_users,cpu,bw,qos,time\n" + "".join(f"2,1500,{20 + n},9,{60 * n}\n" for n in range(9)))
    config = tmp_path / "train.yaml"
    text = (
        "time: time\nusers: n_users\nqos: {column: qos, metric: dl_thpt_per_ue, unit: Mbit/s, "
        "higher_is_better: true}\nresources:\n  gnb_cpu: {column: cpu, unit: UNIT}\n"
        "  transport_bandwidth: {column: bw, unit: Mbit/s}\n"
    )
    config.write_text(text.replace("UNIT", "millicores"))
    data = tuning.original(OriginalData(csv=str(path), config=str(config)), model.header)
    assert data.resource_names == NAMES
    assert data.resources[3].tolist() == [23.0, 1500.0]
    config.write_text(text.replace("UNIT", "cores"))
    with pytest.raises(ConfigError, match=r"data.csv: has .*cores.* the model has .*millicores"):
        tuning.original(OriginalData(csv=str(path), config=str(config)), model.header)
