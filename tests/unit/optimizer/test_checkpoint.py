"""A training that was interrupted and goes on."""

import msgspec
import numpy as np
import pytest
from safetensors import torch as safetensors

from microopt.errors import ConfigError
from microopt_optimizer.slice_model.dataset import dataset_from_arrays
from microopt_optimizer.slice_model.training import FAST, PAPER, train

CONFIG = msgspec.structs.replace(
    FAST, epochs=5, spread_epochs=3, batch_size=64, input_noise=0.2, components=2, members=2, teachers=2, seed=3
)


class InterruptedTraining(Exception):
    """Stands for a process that is killed."""


def measured(rows=300, noise=0.3):
    rng = np.random.default_rng(0)
    users, resources = rng.integers(1, 6, rows), rng.uniform(4.0, 40.0, (rows, 2))
    qos = resources.min(axis=1) / users + rng.normal(0.0, noise, rows) + 2.0
    return dataset_from_arrays(users, resources, qos.clip(0.0), names=("a", "b"), units=("x", "y"))


def interrupted_at(epoch, path, config=CONFIG):
    def stop(progress):
        if progress.epoch == epoch:
            raise InterruptedTraining

    with pytest.raises(InterruptedTraining):
        train(measured(), config, progress=stop, checkpoint=path)


@pytest.mark.parametrize("epoch", [1, 5, 6, 10, 11, 13])
def test_a_resumed_training_gives_the_same_model_bit_for_bit(tmp_path, epoch):
    """Whether it was interrupted in its teachers' epochs (1 to 5), its own (to 10) or those of the spread."""
    check_resumed(tmp_path, epoch, CONFIG)


@pytest.mark.parametrize("epoch", [1, 3, 4])
def test_the_paper_preset_can_be_resumed_as_well(tmp_path, epoch):
    check_resumed(tmp_path, epoch, msgspec.structs.replace(PAPER, epochs=4, batch_size=64))


def check_resumed(tmp_path, epoch, config):
    curve, again = [], []
    whole = train(measured(), config, progress=curve.append)
    interrupted_at(epoch, tmp_path / "training", config)
    resumed = train(measured(), config, progress=again.append, checkpoint=tmp_path / "training")
    assert resumed.digest == whole.digest
    assert again == curve


def test_a_training_that_ran_out_of_patience_is_resumed_as_well(tmp_path):
    config = msgspec.structs.replace(CONFIG, epochs=60, learning_rate=0.1, schedule="step", patience=4)
    curve = []
    whole = train(measured(), config, progress=curve.append)
    assert curve[-1].epochs < 60 + 60 + 3
    interrupted_at(curve[-2].epoch, tmp_path / "training", config)
    assert train(measured(), config, checkpoint=tmp_path / "training").digest == whole.digest


def test_training_on_other_rows_or_otherwise_does_not_go_on_from_it(tmp_path):
    path = tmp_path / "training"
    interrupted_at(2, path)
    with pytest.raises(ConfigError, match="training with other data; delete it, or name another file"):
        train(measured(noise=0.2), CONFIG, checkpoint=path)
    with pytest.raises(ConfigError, match="training with other configuration"):
        train(measured(), msgspec.structs.replace(CONFIG, epochs=9), checkpoint=path)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "training"
    interrupted_at(2, path)
    whole = path.read_bytes()
    for damaged in (whole[:-20], whole[:50], b"", b"\x80\x05pickled" * 30):
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match="not that of a training, or damaged"):
            train(measured(), CONFIG, checkpoint=path)


def test_a_checkpoint_without_its_random_state_is_refused(tmp_path):
    path = tmp_path / "training"
    interrupted_at(2, path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    metadata = msgspec.json.decode(content[8 : 8 + length])["__metadata__"]
    tensors = safetensors.load(content)
    del tensors["draws"]
    path.write_bytes(safetensors.save(tensors, metadata))
    with pytest.raises(ConfigError, match="lacks a part of the training"):
        train(measured(), CONFIG, checkpoint=path)


def test_a_checkpoint_that_cannot_be_written_is_said(tmp_path):
    with pytest.raises(ConfigError, match="cannot be written"):
        train(measured(), CONFIG, checkpoint=tmp_path / "none" / "training")
