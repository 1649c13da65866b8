"""Networks of libraries: every operator has a rule, and without pruning every weight is on a path."""

from typing import Any

import pytest
import torch
from torch import nn

import gpmt
from gpmt.masks import Masks

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


def torchvision(name: str, **options: Any) -> nn.Module:
    models = pytest.importorskip("torchvision").models
    network: nn.Module = getattr(models, name)(**options)
    return network


def timm(name: str, **options: Any) -> nn.Module:
    network: nn.Module = pytest.importorskip("timm").create_model(name, **options)
    return network


def transformers(kind: str, **options: Any) -> nn.Module:
    library = pytest.importorskip("transformers")
    made = getattr(library, kind)
    network: nn.Module = made(made.config_class(**SMALL | options))
    return network


IMAGES = {
    "resnet18": (lambda: torchvision("resnet18"), 64),
    "mobilenet_v2": (lambda: torchvision("mobilenet_v2"), 64),
    "mobilenet_v3": (lambda: torchvision("mobilenet_v3_small"), 96),
    "densenet121": (lambda: torchvision("densenet121"), 64),
    "shufflenet": (lambda: torchvision("shufflenet_v2_x0_5"), 64),
    "swin": (lambda: torchvision("swin_t"), 64),
    "vit_b_16": (lambda: torchvision("vit_b_16", image_size=32), 32),
    "convnext": (lambda: timm("convnext_atto"), 128),
    "efficientnet": (lambda: timm("efficientnet_b0"), 96),
}


def check(model: nn.Module, example: Any) -> None:
    # Not by the weights, some of which are zero by chance.
    tensors = gpmt.find_scope(model).tensors
    masks = Masks.from_dense({name: torch.ones(t.shape, dtype=torch.bool) for name, t in tensors.items()})
    found = gpmt.effective_sparsity(model, example, masks=masks)
    assert found.conservative == ()
    assert [row.name for row in found.tensors if row.active < row.numel] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGES)
def test_networks_for_images(name: str) -> None:
    make, size = IMAGES[name]
    check(make(), torch.zeros(1, 3, size, size))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("BertForSequenceClassification", {"vocab_size": 20}),
        ("LlamaForCausalLM", {"vocab_size": 20, "num_key_value_heads": 1}),
        ("GPT2LMHeadModel", {"vocab_size": 20, "bos_token_id": 0, "eos_token_id": 0}),
    ],
)
def test_networks_for_texts(kind: str, options: dict[str, Any]) -> None:
    check(transformers(kind, **options), {"input_ids": torch.zeros(1, 6, dtype=torch.long)})


@pytest.mark.slow
def test_a_channel_of_a_residual_network_lives_by_its_shortcut() -> None:
    model = torchvision("resnet18")
    kept = {name: tensor.ne(0) for name, tensor in gpmt.find_scope(model).tensors.items()}
    kept["layer1.0.conv2.weight"][5] = False  # the shortcut keeps the channel
    kept["layer1.1.conv1.weight"][7] = False  # nothing else writes this one
    found = gpmt.effective_sparsity(model, torch.zeros(1, 3, 64, 64), masks=Masks.from_dense(kept))
    lost = {row.name: row.kept - row.active for row in found.tensors if row.kept > row.active}
    assert lost == {"layer1.1.conv2.weight": 64 * 9}
    assert found.dead_outputs == 2
