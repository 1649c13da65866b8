from pathlib import Path

import pytest
import torch
from torch import nn

from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import load_checkpoint
from gpmt.training.models import construct
from gpmt.training.weights import load_weights


def resnet20(classes: int = 10) -> nn.Module:
    return construct("resnet20", num_classes=classes, input_shape=(3, 32, 32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.save({"state_dict": resnet20().state_dict()}, tmp_path / "ten.pt")
    return tmp_path / "ten.pt"


@pytest.mark.parametrize("assign", [False, True])
def test_values_come_over(path: Path, assign: bool):
    network, checkpoint = resnet20(), load_checkpoint(path)
    load_weights(network, checkpoint if assign else path, name="resnet20", assign=assign)
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, checkpoint.state_dict[key])
    shared = network.conv1.weight.data_ptr() == checkpoint.state_dict["conv1.weight"].data_ptr()
    assert shared == assign


def test_counters_of_batch_norms_may_be_missing(tmp_path: Path, path: Path):
    held = torch.load(path)["state_dict"]
    torch.save({k: v for k, v in held.items() if not k.endswith("num_batches_tracked")}, tmp_path / "old.pt")
    network = resnet20()
    load_weights(network, tmp_path / "old.pt", name="resnet20")
    assert torch.equal(network.conv1.weight, held["conv1.weight"])


def test_another_number_of_classes(path: Path):
    network = resnet20(100)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    sentence = (
        r"ten\.pt has linear\.weight of shape \(10, 64\), but resnet20 for data of 100 classes needs \(100, 64\); "
        r"check data and model$"
    )
    with pytest.raises(CheckpointError, match=sentence):
        load_weights(network, path, name="resnet20")
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda s: s.pop("bn1.weight"),
            r"a\.pt does not fit resnet20: tensors 1 missing \(bn1\.weight\); name the network it belongs to, "
            r"or give weights of this one$",
        ),
        (
            lambda s: [s.pop(f"layer1.0.bn{n}.{p}") for n in (1, 2) for p in ("weight", "bias")],
            r"tensors 4 missing \(layer1\.0\.bn1\.weight, layer1\.0\.bn1\.bias, layer1\.0\.bn2\.weight, \.\.\.\);",
        ),
        (lambda s: s.update(extra=torch.ones(1)), r"tensors 1 unexpected \(extra\);"),
        (
            lambda s: s.update({"conv1.weight": torch.ones(16, 3, 5, 5)}),
            r"tensors 1 of another shape \(conv1\.weight is \[16, 3, 5, 5\], not \[16, 3, 3, 3\]\);",
        ),
        (  # two numbers of outputs differ: these are not classes
            lambda s: s.update({"linear.bias": torch.ones(7), "bn1.weight": torch.ones(3)}),
            r"tensors 2 of another shape \(bn1\.weight is \[3\], not \[16\], linear\.bias is \[7\], not \[10\]\);",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path: Path, change, sentence: str):
    state = resnet20().state_dict()
    change(state)
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=sentence):
        load_weights(resnet20(), tmp_path / "a.pt", name="resnet20")
