"""Rows and N:M patterns: plans over blocks, layouts, floors and scores against a sort of every run."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gpmt
from gpmt.core.blocks.blocks import WHOLE, Blocks, Split
from gpmt.core.layers.axes import Axes
from gpmt.errors import BudgetError, PlanError, ScopeError, ScoresError, WeightsError
from gpmt.planning.decide import check_request, decide
from gpmt.planning.plan import Plan

HEADS = Blocks((Split(0, (2, 1), ("q", "k"), repeats=2),))


@st.composite
def networks(draw, multiple=1):
    """Small integers, so that weights tie often; some blocks, memory formats and types."""
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    last, wide = draw(st.booleans()), multiple * draw(st.integers(1, 3))
    middle = multiple * draw(st.integers(1, 3))
    up, down = (2, 2 * middle, wide), (2, wide, middle)
    shapes = {
        "conv.weight": (draw(st.integers(1, 4)), multiple * draw(st.integers(1, 3)), 1, 2),
        "qk.weight": (6, multiple * draw(st.integers(1, 3))),
        "experts.gate_up_proj": (up[0], up[2], up[1]) if last else up,
        "experts.down_proj": (down[0], down[2], down[1]) if last else down,
    }
    state = {
        name: torch.randint(-3, 4, shape, generator=generator).to(dtype) for name, shape in shapes.items()
    }
    if draw(st.booleans()):
        state["conv.weight"] = state["conv.weight"].to(memory_format=torch.channels_last)
    return state


def places_of(axes, shape):
    """Yield the runs of a row each: flat positions by output, then [input, tap] in order."""
    rows = {}
    for flat, index in enumerate(itertools.product(*map(range, shape))):
        layer, *rest = index if axes.stacked else (0, *index)
        output, channel, *tap = rest if axes.output == axes.stacked else (rest[1], rest[0], *rest[2:])
        rows.setdefault((layer, output), []).append((channel, tuple(tap), flat))
    return rows.values()


def runs_of(axes, shape, pattern):
    """Yield the flat positions of the weights that are compared."""
    for row in places_of(axes, shape):
        if pattern is None:
            yield [flat for _, _, flat in row]
            continue
        for tap in sorted({tap for _, tap, _ in row}):
            inputs = [flat for _, one, flat in sorted(row) if one == tap]
            for start in range(0, len(inputs), pattern):
                yield inputs[start : start + pattern]


def slow(found, blocks, ranks, kept_of, pattern):
    """Return masks by a sort of every run."""
    masks = {}
    for name, rank in ranks.items():
        masks[name] = torch.zeros(rank.shape, dtype=torch.bool)
        division = blocks.get(name, WHOLE)
        views, shapes = division.views(rank), division.shapes(rank.shape)
        names, marks = division.names(name), division.views(masks[name])
        for block, view, mask, shape in zip(names, views, marks, shapes, strict=True):
            values, bits = view.reshape(-1).tolist(), torch.zeros(view.numel(), dtype=torch.bool)
            for run in runs_of(found.axes[name], shape, pattern):
                order = sorted(run, key=lambda place: (-values[place], place))
                bits[order[: kept_of(block, len(run))]] = True
            mask.copy_(bits.view(mask.shape))
    return masks


@settings(max_examples=30)
@given(networks(multiple=4), st.sampled_from([(2, 4), (1, 4), (1, 2), (3, 4)]), st.booleans(), st.data())
def test_patterns_are_those_of_a_sort(state, pattern, scored, data):
    kept, of = pattern
    found = gpmt.find_scope(state, blocks={"qk.weight": HEADS})
    scores = {name: -weight + 1 for name, weight in state.items()} if scored else None
    minimum = data.draw(st.sampled_from([0, 1]))
    options = {
        "pattern": f"{kept}:{of}",
        "blocks": {"qk.weight": HEADS},
        "min_kept": minimum,
        "scores": scores,
    }
    sparsity = data.draw(st.sampled_from([None, f"{of - kept}/{of}"]))
    check_request(state, sparsity=sparsity, **options)
    [plan] = decide(state, [sparsity], **options)
    ranks = scores or {name: weight.double().abs() for name, weight in state.items()}
    expected = slow(found, found.blocks, ranks, lambda *_: kept, of)
    masks = plan.masks()
    assert all(torch.equal(masks[name], mask) for name, mask in expected.items())
    assert plan.kept * of == plan.numel * kept
    assert all(block.kept * of == block.numel * kept for block in plan.blocks)
    [group] = plan.groups
    assert (group.label, group.threshold, plan.pattern) == (None, None, f"{kept}:{of}")


@settings(max_examples=30)
@given(networks(), st.booleans(), st.data())
def test_rows_are_those_of_a_sort(state, scored, data):
    blocks = {"qk.weight": HEADS}
    found = gpmt.find_scope(state, blocks=blocks)
    scores = {name: -weight + 1 for name, weight in state.items()} if scored else None
    request = data.draw(st.sampled_from([{"*": 0}, {"*": 45}, {"experts.*": 80, "*": 30}]))
    minimum = data.draw(st.integers(0, 2))

    def kept_of(block, length):
        share = request["experts.*" if block.startswith("experts") and len(request) > 1 else "*"]
        return length - length * share // 100

    sparsity = {pattern: f"{share}%" for pattern, share in request.items()}
    options = {"within": "row", "blocks": blocks, "min_kept": minimum, "scores": scores}
    rows = {}
    for name, weight in state.items():
        division = found.blocks.get(name, WHOLE)
        for block, shape in zip(division.names(name), division.shapes(weight.shape), strict=True):
            rows[block] = [len(run) for run in runs_of(found.axes[name], shape, None)]
    if any(min(minimum, row[0]) > kept_of(block, row[0]) for block, row in rows.items()):
        with pytest.raises(
            BudgetError, match=r"within rows keeps .* weights of each row of .*, but the minimum of"
        ):
            decide(state, [sparsity], **options)
        with pytest.raises(BudgetError, match="within rows keeps"):
            check_request(state, sparsity=sparsity, **options)
        return
    check_request(state, sparsity=sparsity, **options)
    [plan] = decide(state, [sparsity], **options)
    ranks = scores or {name: weight.double().abs() for name, weight in state.items()}
    masks = plan.masks()
    expected = slow(found, found.blocks, ranks, kept_of, None)
    assert all(torch.equal(masks[name], mask) for name, mask in expected.items())
    assert {block.name: (block.kept, block.floor) for block in plan.blocks} == {
        block: (len(row) * kept_of(block, row[0]), len(row) * min(minimum, row[0]))
        for block, row in rows.items()
    }
    assert sorted(group.label for group in plan.groups) == sorted(sparsity)


def test_every_kind_of_layer():
    torch.manual_seed(0)
    model = nn.ModuleDict(
        {
            "conv": nn.Conv2d(4, 6, 3),
            "up": nn.ConvTranspose1d(8, 3, 2),
            "cell": nn.LSTM(4, 5),
            "bilinear": nn.Bilinear(4, 3, 2),
        }
    )
    plan = gpmt.prune_(model, within="row", sparsity=0.5)
    assert (model["conv"].weight == 0).flatten(1).sum(1).tolist() == [18] * 6
    assert (model["up"].weight == 0).sum((0, 2)).tolist() == [8] * 3
    assert (model["cell"].weight_hh_l0 == 0).sum(1).tolist() == [2] * 20
    assert "the same share of every row" in plan.summary()
    pairs = gpmt.prune_(model, pattern="2:4", exclude=["cell.weight_hh_l0"])
    masks = pairs.masks()
    assert masks["up.weight"].view(2, 4, 3, 2).sum(1).unique().tolist() == [2]
    assert masks["conv.weight"].sum(1).unique().tolist() == [2]
    assert masks["bilinear.weight"].sum(1).unique().tolist() == [2]
    assert ", 2:4 of the inputs of every output" in pairs.summary()


def test_random_pruning_within_rows():
    state = {"a.weight": torch.ones(50, 20)}
    masks = gpmt.plan(state, within="row", sparsity=0.75, allocation="random", seed=1).masks()["a.weight"]
    assert masks.sum(1).tolist() == [5] * 50
    assert len({tuple(row) for row in masks.tolist()}) > 40
    assert not torch.equal(
        masks, gpmt.plan(state, within="row", sparsity=0.75, allocation="random").masks()["a.weight"]
    )


def test_a_list_of_sparsities():
    state = {"a.weight": torch.randn(5, 10)}
    plans = gpmt.plan(state, within="row", sparsity=[0.1, 0.55])
    assert [plan.pruned for plan in plans] == [5, 25]
    assert plans[1].masks()["a.weight"].sum(1).tolist() == [5] * 5


@pytest.mark.parametrize(
    "options", [{"pattern": "1:2"}, {"within": "row", "sparsity": {"a": 0.3, "*": 0.7}, "min_kept": 1}]
)
def test_plans_are_saved_and_bound(tmp_path, options):
    state = {"a.weight": torch.randn(3, 6), "b.weight": torch.randn(5, 4)}
    plan = gpmt.plan(state, **options)
    plan.save(tmp_path / "plan.json")
    again = Plan.load(tmp_path / "plan.json")
    assert again.masks(state) == plan.masks()
    assert (again.pattern, again.within, again.summary()) == (plan.pattern, plan.within, plan.summary())
    with pytest.raises(PlanError, match="says how many weights every block keeps; plan again"):
        again.with_kept({"a.weight": 3})
    text = (tmp_path / "plan.json").read_text()
    number = plan.tensors[1].kept
    edited = text.replace(f'"numel": 20, "kept": {number}', f'"numel": 20, "kept": {number - 1}')
    edited = edited.replace(f'"kept": {plan.kept}', f'"kept": {plan.kept - 1}')
    (tmp_path / "plan.json").write_text(edited)
    with pytest.raises(PlanError):
        Plan.load(tmp_path / "plan.json")


def test_reparametrised_weights_keep_their_norms():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    assert gpmt.prune_(layer, pattern="2:4").kept == 6
    assert gpmt.prune_(layer, within="row", sparsity=0.75).kept == 3
    other = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3), dim=1)
    with pytest.raises(ScopeError, match="reparametrised with norms that are not those of its outputs"):
        gpmt.prune_(other, pattern="2:4")


def weights():
    return {"a.weight": torch.ones(4, 8), "b.weight": torch.ones(2, 6)}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, BudgetError, "there is no sparsity; give one, such as sparsity=0.9, or max_macs, a pattern"),
        ({"pattern": "4:2"}, BudgetError, "pattern is '4:2', but must be N:M"),
        (
            {"pattern": "2:4", "sparsity": 0.9},
            BudgetError,
            r"sparsity is 0\.9, but pattern 2:4 prunes 2 of every 4",
        ),
        ({"pattern": "2:4", "sparsity": {"*": 0.9}}, BudgetError, r"sparsity is 0\.9, but pattern 2:4"),
        (
            {"pattern": "2:4"},
            ScopeError,
            r"needs a multiple of 4 inputs, which these do not have: b.weight \(6\); leave them out with "
            r"exclude=\['b.weight'\]",
        ),
        ({"pattern": "1:2", "within": "row"}, BudgetError, 'so within="row" has no meaning with it'),
        ({"pattern": "1:2", "granularity": "row"}, BudgetError, 'granularity "row" has no meaning with it'),
        ({"pattern": "1:2", "allocation": "erk"}, BudgetError, 'allocation "erk" has nothing to decide'),
        (
            {"pattern": "1:2", "max_macs": "10%", "macs": {}},
            BudgetError,
            "cannot be combined with pattern '1:2'",
        ),
        (
            {"pattern": "1:2", "min_kept": 17},
            BudgetError,
            "keeps 16 of the 32 weights of a.weight, but the minimum",
        ),
        (
            {"within": "row", "sparsity": 0.5, "granularity": "1x4"},
            BudgetError,
            'within="row" compares single',
        ),
        (
            {"within": "row", "sparsity": 0.5, "allocation": "uniform"},
            BudgetError,
            '"uniform" has nothing to decide',
        ),
        (
            {"within": "row", "sparsity": 0.5, "min_kept": 4},
            BudgetError,
            r"within rows keeps 3 of the 6 weights of each row of b.weight, but the minimum of 4 needs 4; "
            r"ask for a sparsity of at most 0\.3333",
        ),
        ({"within": "row", "sparsity": 0.5, "min_kept": "60% of tensor"}, BudgetError, "needs 5; ask for"),
    ],
)
def test_bad_requests_say_the_numbers_and_change_nothing(options, error, message):
    state = weights()
    with pytest.raises(error, match=message):
        gpmt.prune_(state, **options)
    with pytest.raises(error, match=message):
        check_request(state, **{"sparsity": None} | options)
    assert all(tensor.all() for tensor in state.values())


@pytest.mark.parametrize("options", [{"pattern": "1:2"}, {"within": "row", "sparsity": 0.5}])
def test_what_cannot_be_ranked_is_refused_before_anything_changes(options):
    state = weights()
    state["b.weight"][1, 2] = float("nan")
    with pytest.raises(WeightsError, match=r"b\.weight has 1 NaN or infinite of 12 weights"):
        gpmt.prune_(state, **options)
    scores = {name: torch.ones_like(weight) for name, weight in weights().items()}
    scores["a.weight"][0, 1] = float("nan")
    with pytest.raises((ScoresError, WeightsError), match=r"scores of a\.weight have 1 NaN of 32"):
        gpmt.plan(weights(), scores=scores, **options)
    scores["a.weight"][0, :] = float("inf")
    with pytest.raises(BudgetError, match=r"in a\.weight are inf, which are always kept, but only"):
        gpmt.plan(weights(), scores=scores, **options)
    scores["a.weight"][0, :] = -float("inf")
    with pytest.raises(BudgetError, match=r"in a\.weight are -inf, which are always pruned, but only"):
        gpmt.plan(weights(), scores=scores, **options)


def test_weights_changed_after_planning_are_noticed():
    state = weights()
    plan = gpmt.plan(state, pattern="1:2")
    state["a.weight"].mul_(2)
    with pytest.raises(WeightsError, match=r"the weights of a\.weight have changed .*; plan again"):
        plan.masks()


def test_experts_of_unknown_orientation_are_refused():
    state = {"experts.down_proj": torch.ones(2, 4, 4)}
    with pytest.raises(
        ScopeError, match=r"nothing tells which dimension of experts\.down_proj counts its outputs"
    ):
        gpmt.plan(state, pattern="2:4")
    assert gpmt.find_scope(state).axes == {"experts.down_proj": Axes(1, stacked=True, told=False)}
