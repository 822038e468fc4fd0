import json

import msgspec
import pytest
import torch
from safetensors import torch as safetensors

from microopt.errors import ModelError
from microopt_optimizer.slice_model.model_file import (
    Metrics,
    ModelHeader,
    Range,
    ResourceInput,
    TrainedModel,
    load,
    save,
    to_bytes,
)
from microopt_optimizer.slice_model.network import Architecture, SliceModel


@pytest.fixture
def model():
    torch.manual_seed(0)
    network = SliceModel(Architecture(inputs=3))
    header = ModelHeader(
        architecture=network.architecture,
        resources=(
            ResourceInput(name="gnb_cpu", unit="millicores", trained=Range(500.0, 4000.0)),
            ResourceInput(name="transport_bandwidth", unit="Mbit/s", trained=Range(5.0, 40.0)),
        ),
        users=Range(1.0, 5.0),
        qos_metric="dl_thpt_per_ue",
        qos_unit="Mbit/s",
        higher_is_better=True,
        metrics={"validation": Metrics(rows=10, nll=0.3, mse=0.6, mae=0.4)},
        data_sha256="ab" * 32,
    )
    return TrainedModel(network, header, "eMBB")


def repacked(model, *, header=None, tensors=None):
    tensors = tensors or safetensors.load(to_bytes(model))
    return safetensors.save(tensors, {"microopt": header} if header else None)


def test_a_model_survives_its_file(model, tmp_path):
    save(model, tmp_path / "embb.safetensors")
    again = load(tmp_path / "embb.safetensors")
    inputs = torch.tensor([1.0, 2.0]).double(), torch.tensor([[1000.0, 10.0], [2000.0, 20.0]]).double()
    assert again.header == model.header
    assert again.digest == model.digest
    for before, after in zip(model(*inputs), again(*inputs), strict=True):
        assert torch.equal(before, after)
        assert after.dtype == torch.float64
    assert [path.name for path in tmp_path.iterdir()] == ["embb.safetensors"]


def test_the_digest_changes_with_a_weight(model):
    before = model.digest
    model.network.qos_offset.fill_(1.0)
    assert TrainedModel(model.network, model.header).digest != before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "not a safetensors file"),
        (lambda data: b"\x80\x05pickled" * 100, "not a safetensors file"),
        (lambda data: data[:200], "cut off within its header, after 200 bytes"),
        (lambda data: data[:-10], "cut off or damaged"),
        (lambda data: data[:8] + b"{" * 40 + data[48:], "not a safetensors file"),
    ],
)
def test_a_damaged_file_is_named_with_its_trouble(model, damage, message):
    with pytest.raises(ModelError, match=f"model embb: {message}"):
        load(damage(to_bytes(model)), "embb")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"none\.safetensors: cannot be read"):
        load(tmp_path / "none.safetensors")


def test_safetensors_of_something_else_are_refused(model):
    with pytest.raises(ModelError, match="has no 'microopt' header"):
        load(repacked(model))


def test_a_header_that_lacks_a_field_is_refused(model):
    header = json.loads(msgspec.json.encode(model.header))
    del header["qos_unit"]
    with pytest.raises(ModelError, match=r"its header cannot be used: .*qos_unit"):
        load(repacked(model, header=json.dumps(header)))


def test_a_header_of_a_later_format_is_refused(model):
    header = json.loads(msgspec.json.encode(model.header)) | {"format": 3}
    with pytest.raises(ModelError, match="its header cannot be used"):
        load(repacked(model, header=json.dumps(header)))


def test_weights_of_another_architecture_are_refused(model):
    other = SliceModel(Architecture(inputs=3, width=8)).state_dict()
    header = msgspec.json.encode(model.header).decode()
    with pytest.raises(ModelError, match="of another architecture"):
        load(repacked(model, header=header, tensors=other))


def test_an_unknown_activation_is_refused(model):
    header = json.loads(msgspec.json.encode(model.header))
    header["architecture"]["activation"] = "swish"
    with pytest.raises(ModelError, match="Invalid enum value 'swish'"):
        load(repacked(model, header=json.dumps(header)))


def test_resources_and_inputs_must_agree(model):
    header = json.loads(msgspec.json.encode(model.header))
    header["resources"].pop()
    with pytest.raises(ModelError, match="3 inputs, but users and 1 resources"):
        load(repacked(model, header=json.dumps(header)))


def test_weights_that_are_not_finite_are_refused(model):
    tensors = safetensors.load(to_bytes(model))
    tensors["qos_offset"].fill_(torch.nan)
    header = msgspec.json.encode(model.header).decode()
    with pytest.raises(ModelError, match="not finite"):
        load(repacked(model, header=header, tensors=tensors))


def test_other_resources_than_trained_for_are_refused(model):
    model.require_resources(["transport_bandwidth", "gnb_cpu"])
    message = (
        r"model eMBB was trained for resources \['gnb_cpu', 'transport_bandwidth'\], the slice needs \['prb'\]"
    )
    with pytest.raises(ModelError, match=message):
        model.require_resources(["prb"])
