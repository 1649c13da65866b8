"""Scopes of networks made at random."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.networks import DEFAULT, Net, names
from torch import nn

from gpmt.core.scope.scope import find_scope
from gpmt.errors import ScopeError

LAYER_KINDS = st.sampled_from(["conv", "linear", "norm", "embedding", "lstm", "again"])


def build(kinds):
    """A network of such layers; "again" repeats the layer before it."""
    layers = []
    for kind in kinds:
        new = {
            "conv": lambda: nn.Conv1d(2, 3, 2),
            "linear": lambda: nn.Linear(2, 3),
            "norm": lambda: nn.LayerNorm([2, 3]),
            "embedding": lambda: nn.Embedding(3, 2),
            "lstm": lambda: nn.LSTM(2, 2),
            "again": lambda: layers[-1] if layers else nn.ReLU(),
        }[kind]
        layers.append(new())
    return nn.Sequential(*layers)


@given(st.lists(LAYER_KINDS, max_size=8))
def test_scope_is_the_ordered_unique_weights(kinds):
    model = build([*kinds, "linear"])
    weights = (
        (name, tensor)
        for name, tensor in model.named_parameters()
        if isinstance(model[int(name.split(".")[0])], (nn.Conv1d, nn.Linear, nn.LSTM)) and "weight" in name
    )
    expected = dict(weights)
    scope = find_scope(model)
    assert list(scope.tensors) == list(expected)
    assert all(scope.tensors[name] is expected[name] for name in expected)
    assert scope.numel == sum(tensor.numel() for tensor in expected.values())
    every_name = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    for first, others in scope.aliases.items():
        assert all(every_name.index(first) < every_name.index(other) for other in others)
        assert all(model.get_parameter(other) is scope.tensors[first] for other in others)


@given(
    st.lists(LAYER_KINDS, max_size=6),
    st.sets(st.integers(0, 6), min_size=1),
    st.sets(st.integers(0, 6)),
)
def test_include_then_exclude(kinds, include, exclude):
    model = build(["conv", *(kind for kind in kinds if kind != "again")])
    default = names(model)
    index = [str(i) for i in range(len(model))]
    asked = [f"{i}.*" for i in index if int(i) in include and any(n.startswith(f"{i}.") for n in default)]
    removed = [i for i in index if int(i) in exclude]
    expected = [
        name
        for name in default
        if (f"{name.split('.')[0]}.*" in asked or not asked) and name.split(".")[0] not in removed
    ]
    keywords = {"scope": asked or None, "exclude": removed}
    if expected:
        assert names(model, **keywords) == expected
    else:
        with pytest.raises(ScopeError, match="exclude takes away every tensor"):
            find_scope(model, **keywords)


@given(st.permutations(range(5)))
def test_order_of_patterns_does_not_matter(order):
    patterns = ["head", "body.conv1", "re:conv2", "mixing", nn.Embedding]
    assert names(Net(), scope=[patterns[i] for i in order]) == ["mixing", "tokens.weight", *DEFAULT]
