import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gpmt
from gpmt.errors import BudgetError, CheckpointError, GpmtError, ScopeError, WeightsError
from gpmt.planning.decide import check_request, decide
from tests.core.networks import small_network


@pytest.fixture(scope="module")
def resnet50():
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    return torchvision.models.resnet50()


def test_resnet50_keeps_exactly_the_number_asked_for(resnet50):
    plan = gpmt.plan(resnet50, sparsity=0.9, min_kept="0.05%")
    assert (plan.numel, plan.pruned, plan.min_kept, len(plan.tensors)) == (25_502_912, 22_952_620, 12_751, 54)
    assert all(row.kept >= min(row.numel, 12_751) for row in plan.tensors)
    masks = plan.masks()
    assert masks.total_pruned == 22_952_620
    state = {name: tensor.clone() for name, tensor in resnet50.state_dict().items()}
    masks.apply_(state)
    assert sum(int((state[name] == 0).sum()) for name in masks) == 22_952_620
    for row in plan.tensors:
        assert int(state[row.name].count_nonzero()) == row.kept


def test_resnet50_in_bfloat16_on_one_plan_for_many_sparsities(resnet50):
    state = {
        name: tensor.bfloat16()
        for name, tensor in resnet50.state_dict().items()
        if tensor.is_floating_point()
    }
    wanted = [0.5, 0.8, 0.9, 0.953, 0.9805]
    plans = gpmt.plan(state, sparsity=wanted, min_kept=1000)
    assert [plan.pruned for plan in plans] == [12_751_456, 20_402_329, 22_952_620, 24_304_275, 25_005_605]
    assert plans[2].masks() == gpmt.plan(state, sparsity=0.9, min_kept=1000).masks()
    assert plans[4].masks() <= plans[3].masks() <= plans[0].masks()


def test_pruning_keeps_the_model_plain():
    model = small_network()
    keys, parameters = list(model.state_dict()), list(model.parameters())
    plan = gpmt.prune_(model, sparsity=0.9, min_kept=5)
    assert list(model.state_dict()) == keys
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert sum(int((p == 0).sum()) for p in (model[0].weight, model[4].weight)) == plan.pruned == 482
    assert model[1].weight.all()
    assert model[4].bias.any()


def test_a_second_run_over_the_first_changes_nothing():
    model = small_network()
    first = gpmt.prune_(model, sparsity=0.9, min_kept=5)
    pruned = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    second = gpmt.prune_(model, sparsity=0.9, min_kept=5)
    assert [row.kept for row in first.tensors] == [row.kept for row in second.tensors]
    assert all(torch.equal(tensor, pruned[name]) for name, tensor in model.state_dict().items())


@settings(max_examples=50)
@given(st.integers(0, 60), st.integers(60, 99))
def test_zeros_count_as_pruned_when_going_on(first, second):
    model = small_network()
    [once] = decide(model, [f"{second}%"])
    expected = once.masks()
    gpmt.prune_(model, sparsity=f"{first}%")
    [again] = decide(model, [f"{second}%"])
    assert again.masks() == expected


def test_a_state_dict_and_its_module_give_the_same_masks():
    model = small_network()
    assert gpmt.plan(model, sparsity=0.7).masks() == gpmt.plan(model.state_dict(), sparsity=0.7).masks()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_memory_format_does_not_matter(layout):
    model = small_network()
    expected = gpmt.plan(model, sparsity=0.7, min_kept=10).masks()
    assert gpmt.plan(model.to(memory_format=layout), sparsity=0.7, min_kept=10).masks() == expected


def test_tensors_of_inference_mode():
    with torch.inference_mode():
        model = small_network()
        plan = gpmt.prune_(model, sparsity=0.9)
    assert gpmt.verify(model, sparsity=0.9)
    assert plan.pruned == 482


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"sparsity": 1.5}, BudgetError, r"sparsity is 1\.5"),
        ({"sparsity": 0.5, "min_kept": -1}, BudgetError, r"min_kept is -1"),
        ({"sparsity": 0.99, "min_kept": 100}, BudgetError, r"ask for a sparsity of at most 0\.6268"),
        ({"sparsity": 0.5, "scope": "nothing"}, ScopeError, r"nothing"),
        ({"sparsity": 0.5, "exclude": ["0", "4"]}, ScopeError, r"exclude takes away every tensor"),
    ],
)
def test_a_bad_request_changes_nothing(arguments, error, text):
    model = small_network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(error, match=text):
        gpmt.prune_(model, **arguments)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_nan_weights_are_refused_and_nothing_is_changed():
    model = small_network()
    with torch.no_grad():
        model[4].weight[0, :3] = float("nan")
    with pytest.raises(WeightsError, match=r"4\.weight has 3 NaN or infinite of 320 weights"):
        gpmt.prune_(model, sparsity=0.5)
    assert model[0].weight.all()


def test_sparsity_zero_keeps_everything():
    model = small_network()
    plan = gpmt.prune_(model, sparsity=0)
    assert plan.pruned == 0
    assert model[0].weight.all()


@pytest.mark.parametrize("sparsity", [np.float32(0.9), torch.tensor(0.9), [np.float32(0.9)], np.float16(0.9)])
def test_a_sparsity_of_another_type_means_its_decimal(sparsity):
    plans = gpmt.plan(torch.nn.Linear(20, 15), sparsity=sparsity)
    [plan] = plans if isinstance(plans, list) else [plans]
    assert plan.pruned == 270


@pytest.mark.parametrize(
    "options",
    [
        {"sparsity": 1.5},
        {"sparsity": 0.99, "min_kept": 4},
        {"sparsity": 0.5, "min_kept": "many"},
        {"sparsity": 0.5, "allocation": "best"},
        {"sparsity": 0.5, "granularity": "pixel"},
        {"sparsity": 0.5, "granularity": "column", "allocation": "erk"},
        {"sparsity": 0.9, "granularity": "column", "min_kept": 5},
        {"sparsity": 0.5, "scope": "nothing"},
    ],
)
def test_a_request_is_checked_as_by_a_plan(options):
    model = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4))
    with pytest.raises(GpmtError) as planned:
        gpmt.plan(model, **options)
    with pytest.raises(GpmtError) as checked:
        check_request(model, **options)
    assert type(checked.value) is type(planned.value)
    assert str(checked.value) == str(planned.value)


def test_a_request_is_checked_without_reading_a_weight():
    model = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4))
    nn.init.constant_(model[0].weight, float("nan"))
    check_request(model, sparsity=0.5)
    check_request(model, sparsity=0.5, granularity="column")
    with pytest.raises(WeightsError, match=r"0\.weight has no data"):
        check_request(model.to("meta"), sparsity=0.5)


def test_a_plan_of_a_file_is_that_of_its_weights(tmp_path):
    model = small_network()
    torch.save(model.state_dict(), tmp_path / "model.pt")
    expected = gpmt.plan(model, sparsity=0.9, min_kept=5).masks()
    for path in (tmp_path / "model.pt", str(tmp_path / "model.pt")):
        assert gpmt.plan(path, sparsity=0.9, min_kept=5).masks() == expected
    assert [plan.pruned for plan in gpmt.plan(tmp_path / "model.pt", sparsity=[0.5, 0.9])] == [268, 482]
    with pytest.raises(CheckpointError, match=r"nosuch\.pt"):
        gpmt.plan(tmp_path / "nosuch.pt", sparsity=0.5)


def test_a_file_is_not_pruned_in_place(tmp_path):
    with pytest.raises(
        ScopeError, match=r"^prune_ changes a network in place, but 'model\.pt' is the name of a file"
    ):
        gpmt.prune_("model.pt", sparsity=0.5)
