import pytest
import torch

from gpmt.errors import RecipeError
from gpmt.training.models import FACTORIES, build, check_name, construct, usual_shape

IMAGES = sorted(set(FACTORIES) - {"fastgrnn", "cifar-resnet34", "cifar-resnet101", "cifar-resnet152"})


@pytest.mark.parametrize("name", [*IMAGES, "wrn-10-1", "wrn-16-2"])
@pytest.mark.parametrize("input_shape", [(1, 28, 28), (3, 32, 24)])
def test_every_network_takes_other_images_and_classes(name, input_shape):
    network = build(name, num_classes=7, input_shape=input_shape)
    assert all(module.training for module in network.modules())
    assert network(torch.randn(2, *input_shape)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("resnet22", r"^model is resnet22, which is not known; did you mean resnet"),
        ("wrn-28", r"^model is wrn-28, which is not known; did you mean wrn-28-8\?$"),
        ("zzz", r"^model is zzz, which is not known; known are cifar-mobilenetv2, .* torchvision:NAME, wrn-"),
        ("wrn-27-8", r"^model is wrn-27-8, .*: depth is 27, but must be 6n \+ 4, such as 16, 22 or 28$"),
        ("wrn-4-8", r"depth is 4, but must be 6n \+ 4"),
        ("wrn-16-0", r"width is 0, but must be at least 1"),
    ],
)
def test_unknown_names_are_answered_with_close_ones(name, sentence):
    with pytest.raises(RecipeError, match=sentence):
        check_name(name)
    with pytest.raises(RecipeError, match=sentence):
        build(name, num_classes=10, input_shape=(3, 32, 32))


@pytest.mark.parametrize(
    ("name", "input_shape", "sentence"),
    [
        ("lenet5-caffe", (1, 8, 8), "images are 8×8, but LeNet-5-Caffe needs at least 16×16"),
        ("resnet20", (128, 9), r"it takes images \(channels, height, width\), not inputs of shape 128x9"),
        ("wrn-10-1", (128,), "it takes images .*, not inputs of shape 128"),
        ("fastgrnn", (3, 32, 32), r"it takes series \(steps, features\), not inputs of shape 3x32x32"),
    ],
)
def test_a_network_that_cannot_take_the_inputs(name, input_shape, sentence):
    with pytest.raises(RecipeError, match=f"^model is {name}, which does not fit the data: {sentence}$"):
        build(name, num_classes=10, input_shape=input_shape)


def test_the_reason_is_all_of_the_line_that_pytorch_says(tmp_path, monkeypatch):
    code = "from torch import nn\n\ndef make():\n    return nn.Sequential(nn.MaxPool2d(5), nn.Linear(1, 2))\n"
    (tmp_path / "net_with_a_wide_pool.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    sentence = (
        r"it does not run on an input of shape 3x4x4 \(Given input size: .* Output size is too small\)$"
    )
    with pytest.raises(RecipeError, match=sentence):
        build("net_with_a_wide_pool:make", num_classes=2, input_shape=(3, 4, 4))


def test_trying_a_network_changes_nothing():
    torch.manual_seed(0)
    tried = build("wrn-10-1", num_classes=3, input_shape=(3, 8, 8))
    after = torch.rand(1)
    torch.manual_seed(0)
    untried = construct("wrn-10-1", num_classes=3, input_shape=(3, 8, 8))
    assert torch.equal(after, torch.rand(1))
    torch.testing.assert_close(tried.state_dict(), untried.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("name", [*IMAGES, "fastgrnn", "wrn-10-1"])
def test_every_network_takes_inputs_of_its_usual_shape(name):
    shape = usual_shape(name)
    assert build(name, num_classes=3, input_shape=shape)(torch.randn(2, *shape)).shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("torchvision:resnet50", (3, 224, 224)),
        ("torchvision:inception_v3", (3, 299, 299)),
        ("torchvision:r3d_18", None),
        ("timm:efficientnet_b2", (3, 256, 256)),
        ("package.module:factory", None),
    ],
)
def test_networks_of_libraries_have_the_shape_of_their_published_weights(name, shape):
    pytest.importorskip("torchvision")
    pytest.importorskip("timm")
    assert usual_shape(name) == shape
