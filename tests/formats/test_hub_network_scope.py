"""A network of transformers and its files have the same scope: the layers decide for both, and names come close."""

import math
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.formats.architectures import base_networks, build
from torch import Tensor, nn

from gpmt.core.blocks.blocks import WHOLE
from gpmt.core.scope.described import Described
from gpmt.core.scope.scope import find_scope
from gpmt.errors import ScopeError
from gpmt.formats.hub_network import description_of, names_in
from gpmt.formats.load import load

transformers = pytest.importorskip("transformers", reason="gpmt[hf] is not installed")

# What only the classes of layers tell, by the base class of transformers.
UNTOLD_BY_NAMES = {
    "CTRLModel": "an embedding named w",
    "IBertModel": "linear layers of a class of its own",
    "LayoutLMv3Model": "linear layers without bias named rel_pos_bias",
    "Sam3LiteTextModel": "an embedding named reference_points, as linear layers are elsewhere",
    "Sam3Model": "an embedding named reference_points, as linear layers are elsewhere",
    "Sam3VideoModel": "an embedding named reference_points, as linear layers are elsewhere",
}

# Whose parts are not those that are saved.
SAVED_OTHERWISE = {
    "OlmoHybridModel": "a convolution of q, k and v of different lengths, saved in equal parts"
}

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
GROUPED = SMALL | {"num_key_value_heads": 1, "vocab_size": 30}
FEW: dict[str, tuple[str, dict[str, Any]]] = {
    "BertForPreTraining": ("BertConfig", SMALL | {"vocab_size": 30}),
    "GPT2LMHeadModel": ("GPT2Config", {"vocab_size": 30, "n_embd": 16, "n_layer": 2, "n_head": 2}),
    "T5ForConditionalGeneration": (
        "T5Config",
        {"vocab_size": 30, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2},
    ),
    "LlamaForCausalLM": ("LlamaConfig", GROUPED),
    "MixtralForCausalLM": ("MixtralConfig", GROUPED | {"num_local_experts": 3}),
    "ViTForImageClassification": ("ViTConfig", SMALL | {"image_size": 16, "patch_size": 8}),
    "ConvNextV2ForImageClassification": (
        "ConvNextV2Config",
        {"hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1]},
    ),
    "IBertModel": ("IBertConfig", SMALL | {"vocab_size": 30}),
    "DecisionTransformerModel": ("DecisionTransformerConfig", {"hidden_size": 16, "n_layer": 1, "n_head": 2}),
}


def numel(target: nn.Module | dict[str, Tensor]) -> int | str:
    """Return the weights in scope, or why there are none."""
    try:
        return find_scope(target).numel
    except ScopeError as error:
        return str(error)[:40]


def sizes(target: nn.Module | dict[str, Tensor]) -> Counter[int]:
    """Return how many blocks there are of each size."""
    found = find_scope(target)
    return Counter(
        math.prod(shape)
        for name, tensor in found.tensors.items()
        for shape in found.blocks.get(name, WHOLE).shapes(tensor.shape)
    )


@pytest.mark.parametrize("kind", FEW)
def test_a_folder_has_the_scope_of_its_network(tmp_path: Path, kind: str) -> None:
    config, settings = FEW[kind]
    made = getattr(transformers, config)(**settings, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    network = getattr(transformers, kind)(made)
    network.save_pretrained(tmp_path)
    found = find_scope(load(tmp_path).state_dict)
    assert (found.judged.by, found.judged.network) == ("layers", kind)
    assert found.numel == find_scope(network).numel
    names = names_in(network, found.tensors)
    assert {names[name] for name in found.tensors} == set(find_scope(network).tensors)


@pytest.mark.parametrize("kind", [kind for kind in FEW if kind not in UNTOLD_BY_NAMES])
def test_names_alone_give_the_same_scope(kind: str) -> None:
    config, settings = FEW[kind]
    network = build(getattr(transformers, kind), getattr(transformers, config)(**settings))
    by_name = find_scope(network.state_dict())
    assert by_name.judged.by == "names"
    assert set(by_name.tensors) == set(find_scope(network).tensors)


@pytest.mark.slow
def test_all_networks_that_can_be_built() -> None:
    """What `save_pretrained` would write, without data: its names, shapes and splitting."""
    saving = pytest.importorskip(
        "transformers.core_model_loading", reason="saves under other names since 5.0"
    )
    differ_by_layers, differ_by_names, count = {}, set(), 0
    with warnings.catch_warnings(action="ignore"):
        for kind, network in base_networks():
            count += 1
            state = network.state_dict()
            expected = numel(network)
            by_name = numel(state)
            if by_name != expected:
                differ_by_names.add(kind)
            try:
                stored = dict(saving.revert_weight_conversion(network, state))
            except Exception:  # some conversions need data
                stored = state
            known = Described(stored, lambda given, n=network: description_of(n, given))  # type: ignore[misc]
            if numel(known) != expected:
                differ_by_layers[kind] = (numel(known), expected)
            elif isinstance(expected, int) and kind not in SAVED_OTHERWISE and sizes(known) != sizes(network):
                differ_by_layers[kind] = (sizes(known), sizes(network))
    assert differ_by_layers == {}
    assert differ_by_names <= set(UNTOLD_BY_NAMES), differ_by_names
    assert count > 400
