"""Scores in place of magnitudes, against a full sort of signed numbers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.oracle import keep
from torch import nn

import gpmt
from gpmt.core.blocks.blocks import Blocks, Split
from gpmt.errors import BudgetError, PlanError, ScoresError, WeightsError
from gpmt.planning.decide import decide

SCORES = st.sampled_from([-1.0, 0.0, -0.0, 2.0, math.inf, -math.inf]) | st.floats(-8, 8, width=16)


@settings(max_examples=150)
@given(
    st.lists(st.lists(SCORES, min_size=1, max_size=12), min_size=1, max_size=3),
    st.integers(0, 99),
    st.integers(0, 3),
    st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
)
def test_the_masks_are_those_of_a_full_sort_of_signed_scores(values, percent, minimum, dtype):
    scores = {f"t{i}.weight": torch.tensor([row], dtype=dtype) for i, row in enumerate(values)}
    weights = {name: torch.ones_like(score, dtype=torch.float32) for name, score in scores.items()}
    sizes = [score.numel() for score in scores.values()]
    floors = [min(size, minimum) for size in sizes]
    numel = sum(sizes)
    total = numel - numel * percent // 100
    go = [sum(value == -math.inf for value in row) for row in values]
    stay = [sum(value == math.inf for value in row) for row in values]
    possible = (
        sum(floors) <= total <= numel - sum(go)
        and all(floor <= size - out for floor, size, out in zip(floors, sizes, go, strict=True))
        and sum(max(pair) for pair in zip(floors, stay, strict=True)) <= total
    )
    if not possible:
        with pytest.raises(BudgetError):
            decide(weights, [f"{percent}%"], min_kept=minimum, scores=scores)
        return
    [plan] = decide(weights, [f"{percent}%"], min_kept=minimum, scores=scores)
    ranked = [score.double().flatten().numpy() for score in scores.values()]
    expected = keep(ranked, total=total, floors=floors, signed=True)
    for mask, score, wanted in zip(plan.masks().values(), scores.values(), expected, strict=True):
        assert mask.flatten().tolist() == wanted.tolist()
        assert mask[score == math.inf].all()
        assert not mask[score == -math.inf].any()


def test_scores_rank_within_blocks():
    scores = {"w.weight": torch.tensor([[-5.0, -6.0], [-3.0, 2.0], [9.0, 0.0]])}
    weights = {"w.weight": torch.ones(3, 2)}
    plan = gpmt.plan(weights, sparsity=0.5, scores=scores)
    assert plan.masks()["w.weight"].tolist() == [[False, False], [False, True], [True, True]]
    assert (plan.threshold, plan.scored, plan.to_dict()["ranked_by"]) == (0.0, True, "scores")
    blocks = {"w.weight": Blocks((Split(0, (1, 2), ("a", "b")),))}
    plan = gpmt.plan(weights, sparsity=0.5, scores=scores, blocks=blocks, min_kept=1)
    assert plan.masks()["w.weight"].tolist() == [[True, False], [False, True], [True, False]]


def test_a_plan_that_scores_have_ranked_is_not_saved_nor_applied_to_other_weights(tmp_path):
    weights = {"w.weight": torch.ones(2, 2)}
    plan = gpmt.plan(weights, sparsity=0.5, scores=weights)
    with pytest.raises(PlanError, match="ranked by scores cannot be saved"):
        plan.save(tmp_path / "plan.json")
    assert not list(tmp_path.iterdir())
    with pytest.raises(PlanError, match="ranked by scores, which it does not hold"):
        gpmt.prune_(weights, plan=plan)


def test_a_function_of_the_model_gives_the_scores_at_every_pruning():
    model, seen = nn.Linear(4, 4), []

    def scores(network):
        seen.append(network.weight.clone())
        return {"weight": network.weight.detach().abs()}

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = gpmt.Gradual(0.75, end=4, interval=2)
    pruner = gpmt.Pruner(model, optimizer, schedule=schedule, scores=scores)
    for _ in range(4):
        model(torch.ones(1, 4)).sum().backward()
        optimizer.step()
    assert len(seen) == 2
    assert not torch.equal(*seen)
    assert int((model.weight == 0).sum()) == 12
    assert pruner.state_dict()["settings"]["scores"] == "given"


def test_scores_of_a_tied_tensor_go_by_any_of_its_names():
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    model["b"].weight = model["a"].weight
    score = torch.tensor([[1.0, 4.0], [3.0, 2.0]])
    assert gpmt.plan(model, sparsity=0.5, scores={"b.weight": score}).masks()["a.weight"].tolist() == [
        [False, True],
        [True, False],
    ]


@pytest.mark.parametrize(
    ("scores", "error", "message"),
    [
        ({}, ScoresError, "there are no scores of fc.weight; give scores of every prunable"),
        ({"fc.weigth": torch.ones(2, 4)}, ScoresError, r"no scores of fc.weight \(but of fc.weigth\)"),
        ({"fc.weight": torch.ones(4, 2)}, ScoresError, r"the shape \[4, 2\], but the tensor has \[2, 4\]"),
        ({"fc.weight": torch.ones(2, 4, dtype=torch.int64)}, ScoresError, "are torch.int64, but must be"),
        ({"fc.weight": torch.ones(2, 4, device="meta")}, ScoresError, "score of fc.weight has no data"),
        ({"fc.weight": [1.0] * 8}, ScoresError, "are list, but must be a tensor"),
        (3, ScoresError, "scores are of type int"),
        (lambda model: None, ScoresError, "scores are of type NoneType"),
        (
            {"fc.weight": torch.full((2, 4), -math.inf)},
            BudgetError,
            "8 scores are -inf, .* prunes only 4 of 8",
        ),
        ({"fc.weight": torch.full((2, 4), math.inf)}, BudgetError, "8 scores are inf, .* keeps only 4 of 8"),
        (
            {"fc.weight": torch.full((2, 4), math.nan)},
            WeightsError,
            "the scores of fc.weight have 8 NaN of 8",
        ),
    ],
)
def test_scores_that_cannot_rank_are_refused_and_nothing_is_changed(scores, error, message):
    weights = {"fc.weight": torch.ones(2, 4)}
    with pytest.raises(error, match=message):
        gpmt.prune_(weights, sparsity=0.5, scores=scores)
    assert weights["fc.weight"].all()


def test_a_minimum_among_scores_that_always_go_is_refused():
    scores = {"a.weight": torch.tensor([[-math.inf, 1.0]]), "b.weight": torch.ones(1, 6)}
    with pytest.raises(BudgetError, match=r"a.weight has 1 scores of -inf, .* among 2, but a minimum of 2"):
        gpmt.plan(scores, sparsity=0.25, min_kept=2, scores=scores)


@pytest.mark.parametrize(
    ("options", "what"),
    [({"granularity": "column"}, 'granularity "column"'), ({"allocation": "lamp"}, 'allocation "lamp"')],
)
def test_what_scores_cannot_rank_is_refused(options, what):
    weights = {"fc.weight": torch.ones(2, 4)}
    with pytest.raises(BudgetError, match=f"they have no meaning for {what}"):
        gpmt.plan(weights, sparsity=0.5, scores=weights, **options)


def test_scores_of_a_reparametrised_weight_are_refused():
    model = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
    with pytest.raises(ScoresError, match="is reparametrised, and scores rank plain weights only"):
        gpmt.plan(model, sparsity=0.5, scores={})
