"""Fusing: counts of operators in whole networks, the same results, and each pattern with what must not match it."""

import numpy as np
import pytest
import torch
from tests.runtime.networks import Lambda, check, kinds, noise, scramble
from tests.runtime.reference import run
from torch import nn
from torch.nn import functional as F

from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.operators import Add, Affine, Conv, Fallback, Linear
from gpmt.runtime.ir.torch_calls_encoding import encode_calls
from gpmt.runtime.ir.values import Value
from gpmt.runtime.passes.fuse import fuse
from gpmt.training import models

IMAGE = noise(2, 4, 6, 6)


def torchvision_network(name):
    return pytest.importorskip("torchvision").models.get_model(name, weights=None)


def timm_network(name, **options):
    return pytest.importorskip("timm").create_model(name, pretrained=False, **options)


def own(name, shape):
    return models.build(name, num_classes=10, input_shape=shape)


def vgg(name):
    """VGG-11 with a classifier of one layer, made without drawing its 120 million weights."""
    with torch.device("meta"):
        network = torchvision_network(name)
    network.classifier = nn.Linear(512 * 7 * 7, 10)
    network.features.to_empty(device="cpu")
    for part in network.features:
        if isinstance(part, nn.Conv2d):
            part.reset_parameters()
    return network


def native(convolutions, **others):
    return {"Conv": convolutions, "GlobalMean": 1, "Linear": 1} | others


SMALL, CIFAR = (3, 64, 64), (3, 32, 32)
NETWORKS = {
    "resnet18": (torchvision_network, SMALL, native(20, Pool=1)),
    "resnet50": (torchvision_network, SMALL, native(53, Pool=1)),
    "mobilenet_v2": (torchvision_network, SMALL, native(52)),
    "mobilenet_v3_small": (torchvision_network, SMALL, native(52, GlobalMean=10, Multiply=9, Linear=2)),
    "vgg11_bn": (vgg, (3, 224, 224), {"Conv": 8, "Pool": 5, "Reshape": 1, "Linear": 1}),
    "mobilenetv1_100": (timm_network, SMALL, native(27)),
    "efficientnet_lite0": (timm_network, SMALL, native(49)),
    "tf_efficientnet_lite0": (timm_network, SMALL, native(49)),
    "wrn-10-2": (own, CIFAR, native(10, Affine=3)),
    "resnet20": (own, CIFAR, native(21)),
    "cifar-resnet18": (own, CIFAR, native(20)),
    "cifar-mobilenetv2": (own, CIFAR, native(57)),
    "lenet5-caffe": (own, (1, 28, 28), {"Conv": 2, "Pool": 2, "Reshape": 1, "Linear": 2}),
}
SLOW = {"resnet18", "mobilenet_v3_small", "tf_efficientnet_lite0", "cifar-mobilenetv2"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in NETWORKS]
)
def test_convolutional_networks(name):
    make, shape, expected = NETWORKS[name]
    torch.manual_seed(0)
    network = make(name, shape) if make is own else make(name)
    check(scramble(network), noise(1 if shape[-1] > 64 else 2, *shape), fused=expected)


def test_vision_transformer():
    torch.manual_seed(0)
    network = timm_network("vit_tiny_patch16_224", img_size=32, depth=3).eval()
    graph = check(network, noise(2, 3, 32, 32))
    assert sum(isinstance(operator, Linear) for operator in graph.operators) == 3 * 4 + 1
    on_torch = [operator.target for operator in graph.operators if isinstance(operator, Fallback)]
    assert on_torch[2] == "add, layer_norm"
    assert len(on_torch) == 3 * 4 + 1


def test_bert():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=100
    )
    network = transformers.BertForSequenceClassification(config).eval()
    inputs = {"input_ids": torch.arange(16).view(2, 8), "attention_mask": torch.ones(2, 8, dtype=torch.long)}
    inputs["attention_mask"][1, 5:] = 0
    whole = capture(network, inputs)
    graph = fuse(whole.graph)
    with torch.no_grad():
        expected = network(**inputs)
    result = whole.rebuild(run(graph, whole.flatten((), inputs)))
    assert type(result) is type(expected)
    assert torch.allclose(result.logits, expected.logits, atol=1e-6)
    assert sum(isinstance(operator, Linear) for operator in graph.operators) == 2 * 6 + 2
    assert sum(isinstance(operator, Fallback) for operator in graph.operators) == 2 * 4 + 2
    assert all(encode_calls(operator.calls) for operator in graph.operators if isinstance(operator, Fallback))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_batch_norm_keeps_zeros(groups):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 8, 3, groups=groups, bias=groups == 2)
    with torch.no_grad():
        conv.weight.mul_(torch.rand_like(conv.weight) < 0.3)
        conv.weight[3] = 0
    norm = nn.BatchNorm2d(8)
    network = scramble(nn.Sequential(conv, norm, nn.ReLU6()))
    with torch.no_grad():
        norm.weight[1] *= -1
    graph = check(network, IMAGE, captured={"Conv": 1, "Affine": 2}, fused={"Conv": 1})
    (fused,) = graph.operators
    assert (fused.activation.low, fused.activation.high) == (0, 6)
    assert np.array_equal(fused.weight != 0, conv.weight.detach().numpy() != 0)
    exact = (
        conv.weight.double()
        * (norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt())[:, None, None, None]
    )
    assert (
        np.abs(fused.weight - exact.detach().numpy()).max() <= 2.0**-23 * np.abs(exact.detach().numpy()).max()
    )


def test_graphs_are_not_changed():
    network = scramble(nn.Sequential(nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3), nn.ReLU()))
    whole = capture(network, IMAGE)
    before = kinds(whole.graph), run(whole.graph, [IMAGE])[0]
    assert kinds(fuse(whole.graph)) == {"Conv": 1}
    assert kinds(whole.graph) == before[0]
    assert torch.equal(run(whole.graph, [IMAGE])[0], before[1])
    assert kinds(fuse(fuse(whole.graph))) == {"Conv": 1}


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda s, x: s.norm(s.one(x)).relu(), {"Conv": 1}),
        (lambda s, x: (lambda y: (s.norm(y), y))(s.one(x)), {"Conv": 1, "Affine": 1}),  # read twice
        (lambda s, x: s.norm(s.one(x).relu()), {"Conv": 1, "Affine": 1}),  # batch-norm behind an activation
        (lambda s, x: s.norm(x), {"Affine": 1}),
        (lambda s, x: s.one(s.norm(x)), {"Conv": 1, "Affine": 1}),  # padding is zero after batch-norm
        (lambda s, x: s.norm(s.norm(x)), {"Affine": 1}),
        (lambda s, x: s.one(x) + x, {"Conv": 1}),
        (lambda s, x: x + s.one(x), {"Conv": 1}),
        (lambda s, x: (s.one(x) + s.two(x)).relu(), {"Conv": 2}),
        (lambda s, x: (lambda y: y + s.two(y))(s.one(x)), {"Conv": 2}),
        (
            lambda s, x: (lambda y, z: F.max_pool2d(z, 3, 1, 1) + y)(s.one(x), s.two(x)),
            {"Conv": 2, "Pool": 1},
        ),
        (lambda s, x: s.one(x).relu() + s.two(x), {"Conv": 2}),
        (lambda s, x: s.one(x).relu() + s.two(x).relu(), {"Conv": 2, "Add": 1}),
        (lambda s, x: (s.one(x).relu() + s.two(x).relu()).relu(), {"Conv": 2, "Add": 1}),
        (lambda s, x: (lambda y: y + y)(s.one(x)), {"Conv": 1, "Add": 1}),
        (lambda s, x: s.one(x) + x + s.two(x), {"Conv": 2}),
        (lambda s, x: s.norm(s.one(x) + x), {"Conv": 1, "Affine": 1}),
        (lambda s, x: (s.one(x) + x.relu()).clamp(-1, 1).relu(), {"Affine": 1, "Conv": 1}),
        (lambda s, x: s.one(x) * 1 + 0, {"Conv": 1}),
        (lambda s, x: s.pointwise(x[:, :, ::2, ::2]), {"Conv": 1}),
        (lambda s, x: s.one(x[:, :, ::2, ::2]), {"Conv": 1, "Pool": 1}),
        (lambda s, x: s.one(x)[:, :, ::2, ::2][:, :, ::2], {"Conv": 1}),
        (lambda s, x: (s.one(x) + x)[:, :, ::2], {"Conv": 1, "Pool": 1}),
        (lambda s, x: F.avg_pool2d(x, 3, 2, 1)[:, :, :, ::2], {"Pool": 1}),
        (lambda s, x: s.one(x).flatten(1).view(2, 12, -1).flatten(1), {"Conv": 1, "Reshape": 1}),
        (lambda s, x: s.one(x).flatten(1).view(2, 4, 6, 6), {"Conv": 1}),
        (lambda s, x: (s.one(x), s.two(x))[0], {"Conv": 1}),
        (lambda s, x: s.vectors(s.linear(x.mean((2, 3)))).relu(), {"GlobalMean": 1, "Linear": 1}),
        (lambda s, x: s.linear(x.mean((2, 3))).sigmoid(), {"GlobalMean": 1, "Linear": 1}),
        (
            lambda s, x: (lambda y: (y.relu(), y))(s.linear(x.mean((2, 3)))),
            {"GlobalMean": 1, "Linear": 1, "relu": 1},
        ),
        (lambda s, x: F.relu6(x.relu()), {"Affine": 1}),
    ],
)
def test_patterns(function, expected):
    torch.manual_seed(0)
    parts = {
        "one": nn.Conv2d(4, 4, 3, padding=1),
        "two": nn.Conv2d(4, 4, 1),
        "pointwise": nn.Conv2d(4, 3, 1, 2),
    }
    norms = {"norm": nn.BatchNorm2d(4), "linear": nn.Linear(4, 5), "vectors": nn.BatchNorm1d(5)}
    network = scramble(Lambda(function, **parts, **norms))
    check(network, IMAGE, fused=expected)


def test_linear_of_images_in_another_order():
    """Where channels come last, an operator on images must not fold along another dimension."""
    torch.manual_seed(0)
    linear = nn.Linear(4, 4)
    x = noise(2, 4, 4, 4)
    check(Lambda(lambda s, x: F.hardsigmoid(s.linear(x)), linear=linear), x)
    check(scramble(Lambda(lambda s, x: s.norm(s.linear(x)), linear=linear, norm=nn.BatchNorm2d(4))), x)
    check(Lambda(lambda s, x: F.relu(s.linear(x)), linear=linear), x, fused={"Linear": 1})


def test_infinite_scales_do_not_touch_zeros():
    zeros, ones = np.zeros(2, np.float32), np.ones(2, np.float32)
    values = {name: Value(name, (1, 2, 3, 3)) for name in "xyz"}
    conv = Conv("x", "y", np.zeros((2, 2, 1, 1), np.float32), ones)
    scale = np.array([np.inf, 1], np.float32)
    graph = fuse(Graph(values, [conv, Affine("y", "z", scale, zeros)], ["x"], ["z"]))
    assert kinds(graph) == {"Conv": 1, "Affine": 1}


def test_operators_stay_in_order():
    """The sum of a convolution and something later moves the convolution behind it."""
    torch.manual_seed(0)
    network = Lambda(lambda s, x: s.one(x) + F.max_pool2d(x, 3, 1, 1).relu(), one=nn.Conv2d(4, 4, 1))
    graph = check(network, IMAGE, fused={"Pool": 1, "Affine": 1, "Conv": 1})
    assert isinstance(graph.operators[-1], Conv)
    assert not any(isinstance(operator, Add) for operator in graph.operators)


def test_dead_operators_and_values_go():
    torch.manual_seed(0)
    network = Lambda(
        lambda s, x: (s.one(x), s.two(x.sin()).relu(), s.c.sum() + x.sum())[0],
        one=nn.Conv2d(4, 4, 1),
        two=nn.Conv2d(4, 4, 1),
        c=noise(3),
    )
    graph = fuse(capture(network, IMAGE).graph)
    assert kinds(graph) == {"Conv": 1}
    assert graph.values.keys() == {"inputs_0", graph.outputs[0]}
    assert not graph.constants
