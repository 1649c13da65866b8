"""What a plan keeps too little of, on every way to prune."""

import re
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import gpmt
from gpmt import allocations
from gpmt.planning.decide import decide
from gpmt.planning.shortage import Shortage


def network() -> nn.Module:
    """Return layers of 12, 64, 64 and 24 weights; those in the middle are the smallest."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 16), nn.Linear(16, 4), nn.Linear(4, 6))
    with torch.no_grad():
        for layer, scale in zip(model, (1, 0.01, 0.02, 1), strict=True):
            layer.weight.uniform_(0.5 * scale, scale)
    return model


DEAD = (
    "sparsity 0.8 leaves no weight in 2 of 4 tensors (1.weight, 2.weight); a min_kept of 1 would prevent it"
)


def test_dead_tensors_are_named_with_the_minimum_that_prevents_it():
    with pytest.warns(gpmt.GpmtWarning) as caught:
        plan = gpmt.plan(network(), sparsity=0.8)
    assert [str(warning.message) for warning in caught] == list(plan.warnings) == [DEAD]
    assert plan.to_dict()["warnings"] == [DEAD]
    assert caught[0].filename == __file__
    assert gpmt.plan(network(), sparsity=0.8, min_kept=1).warnings == ()


def test_pruning_in_place_warns_too():
    with pytest.warns(gpmt.GpmtWarning, match=re.escape(DEAD)):
        gpmt.prune_(network(), sparsity=0.8)


def test_each_sparsity_of_a_list_warns_for_itself():
    with pytest.warns(gpmt.GpmtWarning) as caught:
        gpmt.plan(network(), sparsity=[0.1, 0.8, 0.9])
    assert [str(warning.message).split(" leaves")[0] for warning in caught] == [
        "sparsity 0.8",
        "sparsity 0.9",
    ]


def test_a_last_layer_whose_outputs_mostly_have_no_weight():
    model = network()
    model[3].weight.data *= 0.001
    model[3].weight.data[0, :2] = 9
    with pytest.warns(gpmt.GpmtWarning) as caught:
        gpmt.plan(model, sparsity=0.5)
    assert [str(warning.message) for warning in caught] == [
        "sparsity 0.5 leaves only 2 of 24 weights in the last layer 3.weight, which has 6 outputs; "
        "a min_kept of 3 would prevent it"
    ]
    gpmt.plan(model, sparsity=0.5, min_kept=3)


def test_a_first_layer_whose_outputs_mostly_have_no_weight():
    weights = {
        "a.weight": torch.full((8, 3), 0.1),
        "b.weight": torch.ones(6, 5),
        "c.weight": torch.ones(2, 6),
    }
    weights["a.weight"][0] = 2.0
    with pytest.warns(
        gpmt.GpmtWarning, match="only 3 of 24 weights in the first layer a.weight, which has 8"
    ):
        gpmt.plan(weights, sparsity="32%")


def test_layers_that_are_not_the_ends_of_the_network_may_be_thin():
    model = network()
    gpmt.plan(model, sparsity=0.9, scope=["1", "2"], min_kept=1)
    with pytest.warns(gpmt.GpmtWarning, match=r"only \d of 24 weights in the last layer 3.weight"):
        gpmt.plan(model, sparsity=0.97, scope=["2", "3"], min_kept=1)


def test_the_outputs_of_a_transposed_convolution_are_counted_in_its_second_dimension():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.ConvTranspose1d(3, 20, 1))
    model[1].weight.data *= 0.01
    with pytest.warns(gpmt.GpmtWarning, match="the last layer 1.weight, which has 20 outputs"):
        gpmt.plan(model, sparsity=0.8)


def test_where_no_minimum_helps_the_largest_sparsity_is_named():
    weights = {f"{i}.weight": torch.full((1, 10), float(i + 1)) for i in range(10)}
    with pytest.warns(gpmt.GpmtWarning) as caught:
        gpmt.plan(weights, sparsity=0.95)
    text = str(caught[0].message)
    assert text.startswith(
        "sparsity 0.95 leaves no weight in 9 of 10 tensors (0.weight, 1.weight, 2.weight and 6 "
    )
    assert text.endswith("; a min_kept of 1 would prevent it at a sparsity of at most 0.9")
    gpmt.plan(weights, sparsity=0.9, min_kept=1)


def test_columns_are_counted_in_columns():
    weights = {
        f"{name}.weight": torch.full((40, 6), scale)
        for name, scale in zip("abc", (1.0, 0.1, 1.0), strict=True)
    }
    with pytest.warns(gpmt.GpmtWarning, match=r"no column in 1 of 3 tensors \(b\.weight\); a min_kept of 1 "):
        gpmt.plan(weights, sparsity=0.5, granularity="column")
    gpmt.plan(weights, sparsity=0.5, granularity="column", min_kept=1)


def test_tensors_that_are_zero_already_are_named():
    model = network()
    nn.init.zeros_(model[1].weight)
    with pytest.warns(gpmt.GpmtWarning) as caught:
        gpmt.plan(model, sparsity=0.4)
    assert [str(warning.message) for warning in caught] == [
        "1.weight was all zero before pruning, so that magnitudes do not tell which weights matter and nearly all "
        "stay zero: exclude it, or prune after training"
    ]
    gpmt.plan(model, sparsity=0.4, exclude="1")
    gpmt.plan(model, sparsity=0)


def test_a_pruner_warns_once_of_the_same_tensors():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    schedule = gpmt.Gradual(0.8, initial=0.7, end=4)

    def train() -> None:
        gpmt.Pruner(model, optimizer, schedule=schedule)
        for _ in range(5):
            model(torch.ones(1, 3)).sum().backward()
            optimizer.step()

    with pytest.warns(gpmt.GpmtWarning) as caught:
        train()
    texts = [str(warning.message) for warning in caught]
    assert [re.sub(r"sparsity \S+", "", text).split(";")[0].strip() for text in texts] == [
        "leaves no weight in 1 of 4 tensors (1.weight)",
        "leaves no weight in 1 of 4 tensors (2.weight)",
    ]


layers = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 12), st.integers(0, 3)), min_size=2, max_size=6)


@settings(max_examples=200)
@given(layers, st.integers(1, 99), st.integers(0, 99), st.sampled_from(allocations.names()))
def test_the_minimum_that_is_named_prevents_it(layers, percent, seed, allocation):
    assume(allocation != "reference")  # whose minimum is not kept exactly
    torch.manual_seed(seed)
    weights = {
        f"{i}.weight": torch.randn(rows, columns) * 10.0**-scale
        for i, (rows, columns, scale) in enumerate(layers)
    }
    [plan] = decide(weights, [f"{percent}%"], allocation=allocation)
    rows = [row for row in plan.tensors if not row.kept]
    assert plan.shortages[0].dead == [row.name for row in rows]
    ends = [plan.tensors[0], plan.tensors[-1]]
    assert plan.shortages[0].thin == [row.name for row in ends if 0 < row.kept < (row.shape[0] + 1) // 2]
    if not plan.warnings:
        return
    minimum = plan.shortages[0].min_kept()
    if minimum is not None:
        assert not decide(weights, [f"{percent}%"], min_kept=minimum, allocation=allocation)[0].warnings
        return
    found = re.search(
        r"a min_kept of (\d+) would prevent it at a sparsity of at most (\S+)", plan.warnings[0]
    )
    assert not decide(weights, [found[2]], min_kept=int(found[1]), allocation=allocation)[0].warnings


def test_nothing_is_said_where_nothing_is_short():
    shortage = Shortage(Fraction(0), "", {"a": 4}, {"a": 4}, {}, {}, {}, ["a"], "weights")
    assert (shortage.sentences(), shortage.names) == ([], frozenset())
