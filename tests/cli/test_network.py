import pytest
import torch

from gpmt.cli.network import find_network
from gpmt.errors import CheckpointError, GpmtError, RecipeError
from gpmt.formats.checkpoint import load_checkpoint
from gpmt.training.models import construct


def saved(module: torch.nn.Module, **described: object):
    torch.save({"state_dict": module.state_dict(), "gpmt": described}, "model.pt")
    return load_checkpoint("model.pt")


def test_a_network_for_series():
    model = construct("fastgrnn", num_classes=6, input_shape=(5, 4))
    checkpoint = saved(model)
    network = find_network(checkpoint, model="fastgrnn", input_shape="5x4")
    assert network.macs["linear.weight"] == 6 * 80
    assert torch.equal(network.module.W1.weight, model.W1.weight)
    with pytest.raises(RecipeError, match=r"it takes series .*, not inputs of shape 3x32x32"):
        find_network(checkpoint, model="fastgrnn", input_shape="3x32x32")
    with pytest.raises(GpmtError, match=r"^--input is 5xa, but must be sizes such as 3x224x224"):
        find_network(checkpoint, model="fastgrnn", input_shape="5xa")


def test_a_text_classifier_is_built_without_a_shape():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        vocab_size=9,
        max_position_embeddings=16,
    )
    config.save_pretrained("bert")
    checkpoint = saved(construct("hf:bert", num_classes=3, input_shape=(16,)))
    network = find_network(checkpoint, model="hf:bert", input_shape=None)
    assert network.macs["bert.encoder.layer.0.output.dense.weight"] == 16 * 8 * 8
    assert network.macs["classifier.weight"] == 3 * 8
    shorter = find_network(checkpoint, model="hf:bert", input_shape="4")
    assert shorter.macs["bert.encoder.layer.0.output.dense.weight"] == 4 * 8 * 8
    with pytest.raises(RecipeError, match="takes texts"):
        find_network(checkpoint, model="hf:bert", input_shape="3x32x32")


def test_a_network_of_the_users_own(tmp_path):
    (tmp_path / "net_for_the_command_line.py").write_text(
        "from torch import nn\n\ndef make():\n    return nn.Sequential(nn.Linear(4, 3))\n"
    )
    checkpoint = saved(torch.nn.Sequential(torch.nn.Linear(4, 3)))
    network = find_network(checkpoint, model="net_for_the_command_line:make", input_shape="4")
    assert network.macs == {"0.weight": 12}


def test_a_file_cannot_choose_code_to_run(tmp_path):
    (tmp_path / "net_that_must_not_run.py").write_text("open('ran', 'w')\n")
    checkpoint = saved(torch.nn.Linear(4, 3), model={"name": "net_that_must_not_run:make"}, input_shape=[4])
    assert find_network(checkpoint, model=None, input_shape=None) is None
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["hf:gone", "resnet21", 7, None])
def test_a_name_in_a_file_that_stands_for_nothing_here_is_passed_over(name):
    checkpoint = saved(torch.nn.Linear(4, 3), model={"name": name}, input_shape=[4])
    assert find_network(checkpoint, model=None, input_shape=None) is None


@pytest.mark.parametrize(
    "shape",
    [
        5,
        "8x8",
        [],
        [3, 2**40, 2**40],
        [3, 2**16, 2**16],
        [3, -1, 2],
        [3, 0, 8],
        [1] * 5,
        [3.0, 8, 8],
        [True, 8, 8],
    ],
)
def test_a_shape_in_a_file_that_no_input_has_is_passed_over(shape):
    model = construct("wrn-10-1", num_classes=7, input_shape=(3, 8, 8))
    checkpoint = saved(model, model={"name": "wrn-10-1"}, input_shape=shape)
    found = find_network(checkpoint, model=None, input_shape=None)
    assert found.example.shape == (1, 3, 32, 32)  # that of CIFAR's images, which the network is for
    assert find_network(checkpoint, model=None, input_shape="3x8x8").macs["linear.weight"] == 7 * 64


def test_a_network_of_the_users_needs_a_shape(tmp_path, monkeypatch):
    (tmp_path / "own_network.py").write_text(
        "from torch import nn\n\ndef make():\n    return nn.Linear(4, 3)\n"
    )
    monkeypatch.chdir(tmp_path)
    checkpoint = saved(torch.nn.Linear(4, 3))
    with pytest.raises(
        GpmtError, match=r"^--model is own_network:make, but the shape of its input is not known; add"
    ):
        find_network(checkpoint, model="own_network:make", input_shape=None)
    assert find_network(checkpoint, model="own_network:make", input_shape="4").macs == {"weight": 12}


def test_weights_of_another_network():
    checkpoint = saved(torch.nn.Linear(4, 3))
    with pytest.raises(CheckpointError, match=r"model.pt does not fit wrn-10-1: tensors \d+ missing"):
        find_network(checkpoint, model="wrn-10-1", input_shape="3x8x8")


def test_a_finished_run_names_its_network():
    model = construct("wrn-10-1", num_classes=7, input_shape=(3, 8, 8))
    checkpoint = saved(model, model={"name": "wrn-10-1", "num_classes": 7}, input_shape=[3, 8, 8])
    network = find_network(checkpoint, model=None, input_shape=None)
    assert network.macs["linear.weight"] == 7 * 64
