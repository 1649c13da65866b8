"""Whole programs against eager: usual networks over sparsities, batches, threads and sizes, and random ones."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from tests.runtime.networks import noise, scramble
from tests.runtime.random_networks import exact, more, networks
from torch import nn
from torch.utils._pytree import tree_leaves

import gpmt
from gpmt.errors import RuntimeProgramError
from gpmt.training import models

TOLERANCE = 1e-4  # of the largest output
SPARSITIES = [0.0, 0.5, 0.8, 0.9, 0.95, 0.98]

# Completely native ones, with an odd size of images.
NATIVE = {
    "torchvision:resnet18": (3, 75, 53),
    "torchvision:resnet50": (3, 65, 81),
    "wrn-28-8": (3, 32, 32),
    "resnet20": (3, 31, 33),
    "timm:mobilenetv1_100": (3, 97, 65),
    "timm:mobilenetv2_100": (3, 71, 90),
    "torchvision:mobilenet_v2": (3, 65, 65),
    "timm:efficientnet_lite0": (3, 67, 85),
    "timm:tf_efficientnet_lite0": (3, 60, 85),
    "torchvision:vgg16": (3, 224, 224),
    "torchvision:mobilenet_v3_small": (3, 65, 70),
    "timm:efficientnet_b0": (3, 65, 80),
    "torchvision:regnet_y_400mf": (3, 64, 75),
}
# With something on PyTorch, or nearly so.
MIXED = {
    "torchvision:densenet121": (3, 65, 79),
    "torchvision:googlenet": (3, 77, 65),
    "torchvision:resnext50_32x4d": (3, 65, 47),
    "torchvision:shufflenet_v2_x0_5": (3, 65, 70),
    "torchvision:convnext_tiny": (3, 64, 40),
    "torchvision:squeezenet1_1": (3, 75, 61),
}


def pruned(name, shape, sparsity):
    torch.manual_seed(0)
    network = scramble(models.construct(name, num_classes=10, input_shape=shape))
    if sparsity:
        gpmt.prune_(network, sparsity=sparsity, allocation="uniform")
    return network


def close(results, expected, right):
    """Compare results with eager in float32 and in float64."""
    for result, want, truth in zip(
        tree_leaves(results), tree_leaves(expected), tree_leaves(right), strict=True
    ):
        assert (result.shape, result.dtype) == (want.shape, want.dtype)
        scale = truth.abs().max()
        assert (result - want).abs().max() <= TOLERANCE * scale
        assert (result - truth).abs().max() <= 1e-5 * scale + 2 * (want - truth).abs().max()


def check(network, program, *inputs):
    with torch.no_grad():
        expected = network(*inputs)
    close(program(*inputs), expected, exact(network, inputs))


@pytest.mark.parametrize(
    ("name", "shape", "sparsity", "threads"),
    [
        ("resnet20", (3, 31, 33), 0.9, 2),
        ("resnet20", (3, 17, 20), 0.0, 1),
        pytest.param("torchvision:mobilenet_v2", (3, 33, 47), 0.8, 1, marks=pytest.mark.slow),
        ("torchvision:mobilenet_v3_small", (3, 40, 33), 0.8, 2),
        pytest.param("torchvision:shufflenet_v2_x0_5", (3, 32, 50), 0.9, 2, marks=pytest.mark.slow),
    ],
)
def test_small_ones(name, shape, sparsity, threads):
    network = pruned(name, shape, sparsity)
    program = gpmt.compile(network, noise(2, *shape), threads=threads, tune=False)
    check(network, program, noise(2, *shape, seed=1))
    if not program.fallbacks:
        check(network, program, noise(1, *shape, seed=2))
        check(network, program, noise(5, *shape, seed=3))


@pytest.mark.slow
@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("name", NATIVE)
def test_native_networks(name, sparsity):
    shape, threads = NATIVE[name], [1, 2, 4][SPARSITIES.index(sparsity) % 3]
    network = pruned(name, shape, sparsity)
    for first in (1, 3):
        program = gpmt.compile(network, noise(first, *shape), threads=threads, tune=False)
        assert not program.fallbacks
        for batch in (1, 2, 3, 5):
            check(network, program, noise(batch, *shape, seed=batch))


@pytest.mark.slow
@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("name", MIXED)
def test_networks_with_something_on_pytorch(name, sparsity):
    shape, threads = MIXED[name], [1, 2, 4][SPARSITIES.index(sparsity) % 3]
    network = pruned(name, shape, sparsity)
    for batch in (1, 3):
        program = gpmt.compile(network, noise(batch, *shape), threads=threads, tune=False)
        check(network, program, noise(batch, *shape, seed=batch))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:mobilenetv2_100", "torchvision:densenet121"])
def test_measured_kernels(name):
    network = pruned(name, (3, 64, 64), 0.9)
    program = gpmt.compile(network, noise(1, 3, 64, 64), threads=2)
    check(network, program, noise(1, 3, 64, 64, seed=1))


@pytest.mark.slow
@pytest.mark.parametrize("sparsity", [0.0, 0.9])
@pytest.mark.parametrize("batch", [1, 3])
def test_vision_transformer(sparsity, batch):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=4).eval()
    if sparsity:
        gpmt.prune_(network, sparsity=sparsity, allocation="uniform")
    program = gpmt.compile(network, noise(batch, 3, 64, 64), threads=2, tune=False)
    check(network, program, noise(batch, 3, 64, 64, seed=1))


@pytest.mark.slow
@pytest.mark.parametrize("sparsity", [0.0, 0.9])
def test_bert(sparsity):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=2, intermediate_size=128, vocab_size=100
    )
    network = transformers.BertForSequenceClassification(config).eval()
    if sparsity:
        gpmt.prune_(network, sparsity=sparsity, allocation="uniform")
    inputs = {"input_ids": torch.arange(24).view(3, 8), "attention_mask": torch.ones(3, 8, dtype=torch.long)}
    program = gpmt.compile(network, inputs, threads=2, tune=False)
    inputs["input_ids"] = inputs["input_ids"].flip(0) + 7
    inputs["attention_mask"][1, 5:] = 0
    with torch.no_grad():
        expected = network(**inputs)
    result = program(**inputs)
    assert type(result) is type(expected)
    assert (result.logits - expected.logits).abs().max() <= TOLERANCE * expected.logits.abs().max()


@pytest.mark.parametrize(
    ("network", "shape", "kind"),
    [
        (nn.Conv2d(1, 2, (1, 1500)), (1, 1, 1, 2000), "native"),
        (nn.Conv2d(1, 2, (1, 300), stride=(1, 2)), (1, 1, 2, 4000), "native"),
        (nn.Conv2d(3, 2, (1, 2), dilation=(1, 900)), (1, 3, 2, 1000), "native"),
        (nn.Conv2d(2, 2, (1, 501), padding=(0, 250), groups=2), (1, 2, 2, 600), "native"),
        (nn.Conv2d(2, 3, 3, stride=(1, 40_000), padding=1), (1, 2, 3, 60_000), "native"),
        (nn.MaxPool2d(1, (1, 300_000)), (1, 2, 4, 4), "native"),
        (nn.AvgPool2d((2, 3), (1, 300_000)), (1, 2, 4, 4), "native"),
        (nn.AvgPool2d((2, 500)), (1, 2, 4, 500), "on PyTorch"),
        (nn.MaxPool2d((1, 2), (1, 9_000)), (1, 2, 2, 16_000), "on PyTorch"),
        (nn.MaxPool2d((1, 2)), (1, 2, 2, 20_000), "on PyTorch"),
    ],
)
def test_far_reaching_windows(network, shape, kind):
    program = gpmt.compile(network.eval(), noise(*shape), threads=2, tune=False)
    assert bool(program.fallbacks) == (kind == "on PyTorch")
    check(network, program, noise(*shape, seed=1))


@pytest.mark.parametrize(
    "part",
    [
        nn.Conv2d(4, 6, 3, padding=1),
        nn.Conv2d(4, 6, 1, bias=False),
        nn.Conv2d(4, 6, 3, stride=2, groups=2),
        nn.Conv2d(4, 4, 3, groups=4, padding=1),
        nn.Linear(9, 5),
    ],
)
def test_layers_without_weights(part):
    with torch.no_grad():
        part.weight.zero_()
    network = nn.Sequential(part, nn.ReLU()).eval()
    program = gpmt.compile(network, noise(2, 4, 8, 9), threads=2, tune=False)
    for batch in (2, 3):
        images = noise(batch, 4, 8, 9, seed=1)
        with torch.no_grad():
            assert torch.equal(program(images), network(images))


def compare_random(case):
    """Compile a random network and compare it with eager; also again, after another call, and for other batches."""
    network, inputs = case
    with torch.no_grad():
        expected = network(*inputs)
    right = exact(network, inputs)
    before = [tensor.clone() for tensor in inputs]
    program = gpmt.compile(network, inputs, threads=1, tune=False)
    results = program(*inputs)
    compare(results, expected, right)
    assert all(torch.equal(one, other) for one, other in zip(inputs, before, strict=True))
    given = {tensor.untyped_storage().data_ptr() for tensor in inputs}
    assert not any(result.untyped_storage().data_ptr() in given for result in results)
    kept = [result.clone() for result in results]
    program(*more(inputs, len(inputs[0])))
    again = program(*inputs)
    for one, other, third in zip(kept, results, again, strict=True):
        assert torch.equal(one, other), "a later call has overwritten a result"
        assert torch.equal(one, third), "two runs differ"
    for batch in (1, 4):
        others = more(inputs, batch, seed=5)
        try:
            results = program(*others)
        except RuntimeProgramError as error:
            if "has the shape" not in str(error):
                raise
            return
        with torch.no_grad():
            compare(results, network(*others), exact(network, others))


def compare(results, expected, right):
    for result, want, truth in zip(results, expected, right, strict=True):
        assert (result.shape, result.dtype) == (want.shape, want.dtype)
        assert (result - truth).abs().max() <= 1e-5 * max(1.0, truth.abs().max())


@settings(max_examples=10, suppress_health_check=list(HealthCheck))
@given(networks())
def test_random_networks(case):
    compare_random(case)


@pytest.mark.slow
@settings(max_examples=1000, suppress_health_check=list(HealthCheck))
@given(networks(most=16))
def test_many_random_networks(case):
    compare_random(case)
