"""All passes: the operators of whole networks, legal graphs after each pass, and the same results."""

import pytest
import torch
from hypothesis import given, settings
from tests.runtime.networks import check, kinds, noise, optimize_checked, scramble
from tests.runtime.random_networks import networks
from tests.runtime.reference import run
from torch import nn

from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.ir.operators import Fallback
from gpmt.runtime.ir.torch_calls_encoding import encode_calls
from gpmt.runtime.passes.pipeline import optimize
from gpmt.training import models

IMAGE = noise(2, 4, 6, 6)


def torchvision_network(name):
    return pytest.importorskip("torchvision").models.get_model(name, weights=None)


def timm_network(name, **options):
    return pytest.importorskip("timm").create_model(name, pretrained=False, **options)


def gpmt_network(name, shape):
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
    "wrn-10-2": (gpmt_network, CIFAR, native(10, Affine=3)),
    "resnet20": (gpmt_network, CIFAR, native(21)),
    "cifar-resnet18": (gpmt_network, CIFAR, native(20)),
    "cifar-mobilenetv2": (gpmt_network, CIFAR, native(57)),
    "lenet5-caffe": (gpmt_network, (1, 28, 28), {"Conv": 2, "Pool": 2, "Reshape": 1, "Linear": 2}),
}
SLOW = {
    "resnet18",
    "mobilenet_v3_small",
    "vgg11_bn",
    "efficientnet_lite0",
    "tf_efficientnet_lite0",
    "cifar-mobilenetv2",
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in NETWORKS]
)
def test_convolutional_networks(name):
    make, shape, expected = NETWORKS[name]
    torch.manual_seed(0)
    network = make(name, shape) if make is gpmt_network else make(name)
    check(scramble(network), noise(1 if shape[-1] > 64 else 2, *shape), optimized=expected)


def test_vision_transformer():
    torch.manual_seed(0)
    network = timm_network("vit_tiny_patch16_224", img_size=32, depth=3).eval()
    graph = check(network, noise(2, 3, 32, 32))
    assert kinds(graph) == {
        "Conv": 1, "PixelsToTokens": 1, "PlaceTokens": 1, "LayerNorm": 7, "Linear": 3 * 4 + 1, "Attention": 3,
        "Slice": 1, "Reshape": 1,
    }  # fmt: skip


def test_bert():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=100
    )
    network = transformers.BertForSequenceClassification(config).eval()
    inputs = {"input_ids": torch.arange(16).view(2, 8), "attention_mask": torch.ones(2, 8, dtype=torch.long)}
    inputs["attention_mask"][1, 5:] = 0
    graph, signature = capture(network, inputs)
    graph = optimize(graph)
    with torch.no_grad():
        expected = network(**inputs)
    result = signature.rebuild(run(graph, signature.flatten((), inputs)))
    assert type(result) is type(expected)
    assert torch.allclose(result.logits, expected.logits, atol=1e-6)
    counts = kinds(graph)
    assert [counts[name] for name in ("Linear", "Attention", "LayerNorm")] == [2 * 6 + 2, 2, 5]
    assert sum(isinstance(operator, Fallback) for operator in graph.operators) == 1
    assert all(encode_calls(operator.calls) for operator in graph.operators if isinstance(operator, Fallback))


def test_graphs_are_not_changed():
    network = scramble(nn.Sequential(nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3), nn.ReLU()))
    graph, _ = capture(network, IMAGE)
    before = kinds(graph), run(graph, [IMAGE])[0]
    assert kinds(optimize(graph)) == {"Conv": 1}
    assert kinds(graph) == before[0]
    assert torch.equal(run(graph, [IMAGE])[0], before[1])
    assert kinds(optimize(optimize(graph))) == {"Conv": 1}


@settings(max_examples=30)
@given(networks(most=12))
def test_graphs_of_random_networks_are_legal_after_each_pass(case):
    network, inputs = case
    optimize_checked(capture(network, tuple(inputs)).graph)
