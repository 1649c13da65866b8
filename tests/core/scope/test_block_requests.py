"""Divisions that the user asks for."""

import re

import pytest
import torch
from torch import nn

from gpmt.core.blocks.blocks import Blocks, Split
from gpmt.core.scope.scope import find_scope
from gpmt.errors import ScopeError


def network() -> nn.Module:
    """Return two fused projections, a convolution, and an attention that is known."""
    return nn.ModuleDict(
        {
            "a": nn.ModuleDict({"qkv": nn.Linear(4, 12)}),
            "b": nn.ModuleDict({"qkv": nn.Linear(4, 12), "conv": nn.ConvTranspose2d(4, 6, 3)}),
            "attn": nn.MultiheadAttention(4, 2),
        }
    )


QKV = ("q", "k", "v")


def test_labels_a_number_splits_and_one_block() -> None:
    split = Split(1, (1, 3))
    rules = {
        "a.qkv": list(QKV),
        "*.qkv.weight": 4,
        "re:conv": 2,
        "type:MultiheadAttention": None,
        "attn.out_proj": split,
    }
    found = find_scope(network(), blocks=rules).blocks
    assert found == {
        "a.qkv.weight": Blocks((Split(0, (4, 4, 4), QKV),)),
        "b.qkv.weight": Blocks((Split(0, (3, 3, 3, 3)),)),
        "b.conv.weight": Blocks((Split(1, (3, 3)),)),
        "attn.out_proj.weight": Blocks((split,)),
    }


def test_several_splits_and_what_is_known_otherwise() -> None:
    both = Blocks((Split(0, (6, 6)), Split(1, (2, 2))))
    found = find_scope(network(), blocks={"a.qkv.weight": both}).blocks
    assert found["a.qkv.weight"] == both
    assert found["attn.in_proj_weight"].splits[0].labels == QKV
    assert find_scope(network(), blocks={}).blocks == find_scope(network()).blocks


def test_state_dicts_and_tensors_outside_the_scope() -> None:
    state = network().state_dict()
    found = find_scope(state, scope="a", blocks={"*.qkv.weight": QKV}).blocks
    assert list(found) == ["a.qkv.weight"]
    with pytest.raises(ScopeError, match=r"blocks pattern 'type:Linear' needs a model"):
        find_scope(state, blocks={"type:Linear": 2})


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"c.qkv": 3}, r"blocks pattern 'c\.qkv' matches nothing; close names are .*"),
        (
            {"*.qkv": 5},
            r"blocks pattern '\*\.qkv' does not fit a\.qkv\.weight of shape 12×4: a dimension of 12 cannot be "
            r"divided into 5 equal parts",
        ),
        ({"a.qkv": Split(0, (4, 4))}, r"blocks pattern 'a\.qkv' does not fit a\.qkv\.weight of .*: .*8 elem.*"),
        ({"a.qkv": ("q", "k", "q")}, r".*the labels \('q', 'k', 'q'\) are not all different"),
        ({"a.qkv": "qkv"}, r".*a division must be labels of equal parts, their number, .* not 'qkv'"),
        ({"a.qkv": 2.0}, r".*a division must be labels .* not 2\.0"),
        ({"a.qkv": True}, r".*a division must be labels .* not True"),
        ({"a.qkv": ()}, r".*a division must be labels .* not \(\)"),
        ({"a.qkv": 0}, r".*a dimension of 12 cannot be divided into 0 equal parts"),
        (
            {"*.bias": 2},
            r"blocks pattern '\*\.bias' matches only tensors outside the scope, such as a\.qkv\.bias; take it into "
            "the scope, or leave the pattern out",
        ),
        ({3: 2}, r"blocks pattern 3 is not valid; give the name.*"),
        ([("a.qkv", 3)], r"blocks is of type list, but must be a mapping from patterns to divisions, such as .*"),
    ],
)  # fmt: skip
def test_what_does_not_fit(rules: dict[str, int], message: str) -> None:
    with pytest.raises(ScopeError, match=f"^{message}$") as caught:
        find_scope(network(), blocks=rules)
    assert not re.search(r"\n|\bNone\)", str(caught.value))


def test_embeddings_in_scope_can_be_divided() -> None:
    net = nn.ModuleDict({"embed": nn.Embedding(6, 4), "fc": nn.Linear(4, 6)})
    found = find_scope(net, scope=["embed", "fc"], blocks={"embed": 3}).blocks
    assert found == {"embed.weight": Blocks((Split(0, (2, 2, 2)),))}


def test_lazy_tensors_are_refused_before() -> None:
    with pytest.raises(ScopeError, match="not initialised"):
        find_scope(nn.LazyLinear(4), blocks={"weight": 2})


def test_a_division_is_of_views() -> None:
    net = network()
    found = find_scope(net, blocks={"a.qkv": QKV})
    with torch.no_grad():
        found.blocks["a.qkv.weight"].views(found.tensors["a.qkv.weight"])[1].zero_()
    assert not net["a"]["qkv"].weight[4:8].any()  # type: ignore[index]
