"""Adapters are left alone by default."""

import pytest
import torch
from tests.core.networks import names
from torch import nn

import gpmt
from gpmt.core.layers.adapters import in_adapter
from gpmt.errors import ScopeError


class LoraLinear(nn.Module):
    """A layer as peft wraps it: the frozen one, and adapters by name, the second of them zero."""

    adapter_layer_names = ("lora_A", "lora_B", "turned")

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base.requires_grad_(False)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(base.in_features, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(2, base.out_features, bias=False)})
        self.turned = nn.ModuleDict({"default": nn.Linear(2, 2)})
        nn.init.zeros_(self.lora_B["default"].weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base_layer(x) + self.lora_B["default"](self.lora_A["default"](x))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(LoraLinear(nn.Linear(8, 8)), nn.ReLU(), LoraLinear(nn.Linear(8, 4)))


BASE = ["0.base_layer.weight", "2.base_layer.weight"]
ADAPTERS = [f"{layer}.lora_{part}.default.weight" for layer in (0, 2) for part in "AB"]


def test_adapters_are_out_of_the_default_scope():
    model = network()
    assert names(model) == names(model, scope="*") == names(model, scope="type:Linear") == BASE
    del model[0].turned, model[2].turned
    assert names(model.state_dict()) == BASE


def test_adapters_can_be_named():
    model = network()
    assert names(model, scope="*lora*") == names(model, scope="re:lora_") == ADAPTERS
    assert names(model, scope=["*.lora_A.*", *BASE]) == sorted([*BASE, *ADAPTERS[::2]])
    assert names(model, scope=ADAPTERS[0]) == ADAPTERS[:1]


def test_a_file_of_adapters_alone_says_how_to_name_them():
    state = {name: tensor for name, tensor in network().state_dict().items() if "lora" in name}
    with pytest.raises(
        ScopeError, match=r"others have to be named, such as scope='0\.lora_A\.default\.weight'"
    ):
        gpmt.plan(state, sparsity=0.5)


def test_training_adapters_under_a_pruner_keeps_them_whole():
    model = network()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.1)
    pruner = gpmt.Pruner(model, optimizer, schedule=gpmt.OneShot(0.5), min_kept=4)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(5, 8)).square().sum().backward()
        optimizer.step()
    assert list(pruner.masks) == BASE
    assert all(bool(model.get_parameter(name).all()) for name in ADAPTERS)


def test_adapters_that_are_asked_for_and_still_zero_are_warned_of():
    model = network()
    with pytest.warns(
        gpmt.GpmtWarning, match=r"^0\.lora_B.default.weight, 2\.lora_B.default.weight were all zero"
    ):
        gpmt.plan(model, sparsity=0.5, scope="*lora*")


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.layers.0.q_proj.lora_A.weight",
        "layers.0.lora_b.weight",
        "unet.to_q.lora.down.weight",
        "lora_unet_down.lora_up.weight",
        "attn.processor.to_q_lora.up.weight",
        "bert.layer.0.output.adapters.task.adapter_down.0.weight",
        "q_proj.oft_R.default.weight",
    ],
)
def test_names_of_adapters(name: str):
    assert in_adapter(name, {})


@pytest.mark.parametrize(
    "name",
    ["explorable.weight", "adapter.layers.0.conv.weight", "flora.weight", "lora_A", "florals.0.weight"],
)
def test_names_of_other_layers(name: str):
    assert not in_adapter(name, {})
