import sys

import pytest
import torch

from gpmt.core.scope.scope import find_scope
from gpmt.errors import RecipeError
from gpmt.training.models import build, check_name, construct, logits

torchvision = pytest.importorskip("torchvision")
timm = pytest.importorskip("timm")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("torchvision:resnet50", 25_557_032),
        ("timm:mobilenetv1_100", 4_231_976),  # 4.2 M
        ("timm:efficientnet_b2", 9_109_994),  # 9.1 M
    ],
)
def test_parameter_counts_are_the_published_ones(name, parameters):
    network = construct(name, num_classes=1000, input_shape=(3, 224, 224))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_resnet50_has_54_prunable_tensors():
    found = find_scope(construct("torchvision:resnet50", num_classes=1000, input_shape=(3, 224, 224)))
    assert (len(found.tensors), found.numel) == (54, 25_502_912)


def test_the_networks_are_those_of_the_libraries():
    network = build("torchvision:squeezenet1_1", num_classes=4, input_shape=(3, 64, 64))
    assert list(network.state_dict()) == list(torchvision.models.squeezenet1_1(num_classes=4).state_dict())
    network = build("timm:resnet10t", num_classes=4, input_shape=(1, 32, 32))
    assert type(network) is timm.models.ResNet
    own = timm.create_model("resnet10t", num_classes=4, in_chans=1)
    assert {k: v.shape for k, v in network.state_dict().items()} == {
        k: v.shape for k, v in own.state_dict().items()
    }
    assert network(torch.randn(2, 1, 32, 32)).shape == (2, 4)


def test_logits_beside_those_of_an_auxiliary_head():
    network = build("torchvision:googlenet", num_classes=3, input_shape=(3, 64, 64))
    assert network.training
    images = torch.randn(2, 3, 64, 64)
    assert not isinstance(network(images), torch.Tensor)
    assert logits(network, images).shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("torchvision:resnet51", "is not known; did you mean torchvision:resnet"),
        ("torchvision:fcn_resnet50", "is not known; did you mean"),  # segmentation, and it would download
        ("timm:mobilenetv1_10", "is not known; did you mean timm:mobilenetv1_100"),
        ("timm:hf-hub:timm/resnet18", "is not known; "),
        ("torchvison:resnet50", r"there is no module torchvison, .*; did you mean torchvision:NAME\?"),
    ],
)
def test_unknown_names_are_answered_with_close_ones(name, sentence):
    with pytest.raises(RecipeError, match=f"^model is {name}, .*{sentence}"):
        check_name(name)


@pytest.mark.parametrize(
    ("name", "input_shape", "sentence"),
    [
        ("torchvision:resnet18", (1, 28, 28), "torchvision's networks take 3 channels, not 1"),
        ("torchvision:alexnet", (3, 16, 16), r"it does not run on an input of shape 3x16x16 \(.*\)"),
        (
            "timm:vit_tiny_patch16_224",
            (3, 32, 32),
            r"it does not run on an input of shape 3x32x32 \(.*doesn't match model.*\)",
        ),
    ],
)
def test_a_network_that_cannot_take_the_images(name, input_shape, sentence):
    with pytest.raises(RecipeError, match=f"^model is {name}, which does not fit the data: {sentence}$"):
        build(name, num_classes=10, input_shape=input_shape)


@pytest.mark.parametrize(
    ("library", "name", "extra"),
    [
        ("torchvision", "torchvision:resnet18", "train"),
        ("timm", "timm:resnet18", "train"),
        ("transformers", "hf:folder", "hf"),
    ],
)
def test_a_missing_library_is_named(library, name, extra, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text("{}")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(RecipeError, match=rf"^{library} is not installed; .* pip install '\.\[{extra}\]' in"):
        check_name(name)
