"""Weights with weight_norm and spectral_norm: ranked as they are used, pruned in their direction."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, spectral_norm, weight_norm

import gpmt
from gpmt.core.scope.scope import find_scope
from gpmt.errors import BudgetError, ScopeError
from gpmt.planning.decide import decide

old_weight_norm = pytest.param(
    (weight_norm, "weight_v"),
    id="old weight_norm",
    marks=pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning"),
)
WEIGHT_NORMS = [
    old_weight_norm,
    pytest.param((parametrizations.weight_norm, "parametrizations.weight.original1"), id="weight_norm"),
]
NORMS = [
    *WEIGHT_NORMS,
    pytest.param((spectral_norm, "weight_orig"), id="old spectral_norm"),
    pytest.param((parametrizations.spectral_norm, "parametrizations.weight.original"), id="spectral_norm"),
]


@pytest.fixture(params=NORMS)
def norm(request):
    return request.param


def network(normed) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv1d(3, 8, 3), nn.Linear(8, 12), nn.ConvTranspose1d(8, 12, 3), nn.Linear(12, 12)
    model = nn.ModuleDict(
        {
            "conv": normed(layers[0]),
            "plain": layers[1],
            "back": normed(layers[2]),
            "square": normed(layers[3]),
        }
    )
    for _ in range(20):  # training is what finds the vectors of spectral norm
        weights(model)
    return model.eval()


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights as they are used."""
    with torch.no_grad():
        (
            model["conv"](torch.ones(1, 3, 3)),
            model["back"](torch.ones(1, 8, 3)),
            model["square"](torch.ones(12)),
        )
        return {f"{name}.weight": layer.weight.detach().clone() for name, layer in model.items()}


def test_the_scope_is_the_directions(norm):
    normed, stored = norm
    model = network(normed)
    expected = [f"conv.{stored}", "plain.weight", f"back.{stored}", f"square.{stored}"]
    for target in (model, model.state_dict()):
        found = find_scope(target)
        assert sorted(found.tensors) == sorted(expected)
        assert found.aliases == {}
        assert list(find_scope(target, scope="conv.weight").tensors) == [f"conv.{stored}"]
        assert f"back.{stored}" not in find_scope(target, exclude="back").tensors
    assert find_scope(model).kinds[f"back.{stored}"] == "ConvTranspose1d"
    assert f"conv.{stored}" in find_scope(model, scope="type:Conv1d").tensors


def test_the_ranking_is_that_of_the_weights_as_they_are_used(norm):
    normed, stored = norm
    model = network(normed)
    used = weights(model)
    [expected] = decide(used, ["60%"])
    for target in (model, model.state_dict()):
        [plan] = decide(target, ["60%"])
        masks = plan.masks()
        assert plan.pruned == expected.pruned
        for name, mask in expected.masks().items():
            stored_name = name if name.startswith("plain") else name.replace("weight", stored)
            assert torch.equal(masks[stored_name], mask)
            effective = find_scope(target).effective.get(stored_name)
            if effective is not None:
                torch.testing.assert_close(
                    effective.weight(find_scope(target).tensors[stored_name]), used[name]
                )


def test_the_memory_format_does_not_change_the_weight(norm):
    normed, stored = norm
    torch.manual_seed(0)
    layer = normed(nn.Conv2d(48, 64, 3))
    layer(torch.ones(1, 48, 3, 3))
    found = find_scope(layer)
    direction, effective = found.tensors[stored], found.effective[stored]
    other = direction.detach().contiguous(memory_format=torch.channels_last)
    assert torch.equal(effective.weight(direction), effective.weight(other))


def test_zeros_of_the_direction_are_zeros_of_the_weight(norm):
    normed, stored = norm
    model = network(normed)
    masks = gpmt.prune_(model, sparsity=0.6, min_kept=6).masks()
    for name, weight in weights(model).items():
        mask = masks[name if name.startswith("plain") else name.replace("weight", stored)]
        assert torch.equal(weight != 0, mask)
    assert gpmt.verify(model, sparsity=0.6, min_kept=6, masks=masks)
    assert gpmt.verify(model.state_dict(), sparsity=0.6, masks=masks)


def test_training_keeps_the_zeros(norm):
    normed, stored = norm
    torch.manual_seed(0)
    model = nn.Sequential(normed(nn.Linear(6, 8)), nn.ReLU(), normed(nn.Linear(8, 4)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    pruner = gpmt.Pruner(model, optimizer, schedule=gpmt.Gradual(0.7, initial=0.4, end=3), min_kept=4)
    before = copy.deepcopy(model.state_dict())
    for _ in range(6):
        optimizer.zero_grad()
        model(torch.randn(5, 6)).square().sum().backward()
        optimizer.step()
        for name, mask in pruner.masks.items():
            direction = model.get_parameter(name)
            assert torch.equal(direction != 0, mask)
            assert not optimizer.state[direction]["exp_avg"][~mask].any()
    model.eval()(torch.randn(1, 6))
    assert pruner.masks.total_pruned == 56
    assert int((model[0].weight == 0).sum() + (model[2].weight == 0).sum()) == 56
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())
    assert not torch.equal(before[f"0.{stored}"], model.state_dict()[f"0.{stored}"])


@pytest.mark.parametrize("norm", WEIGHT_NORMS, indirect=True)
@pytest.mark.parametrize("allocation", ["exact", "uniform", "erk", "lamp", "random"])
def test_no_norm_becomes_zero(norm, allocation):
    normed, stored = norm
    torch.manual_seed(0)
    small = nn.Linear(10, 8)
    with torch.no_grad():
        small.weight[:6] *= 1e-3
    model = nn.Sequential(normed(small), normed(nn.Linear(8, 5)))
    [plan] = decide(model, ["84%"], allocation=allocation)
    mask = plan.masks()[f"0.{stored}"]
    assert plan.pruned == 120 * 84 // 100
    assert bool(mask.any(1).all())
    weight = small.weight.detach().abs()
    if allocation == "exact":
        assert torch.equal(mask[:6].float().argmax(1), weight[:6].argmax(1))
    plan.masks().apply_(model)
    assert bool(model(torch.ones(2, 10)).isfinite().all())
    [again] = decide(model, ["84%"], allocation=allocation)
    assert again.masks() == plan.masks() or allocation in ("lamp", "random")


def test_fewer_weights_than_norms_are_refused():
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(2, 50)), nn.Linear(50, 4))
    with pytest.raises(
        BudgetError, match=r"of one for each norm of the reparametrised, needs 50 .* at most 0\.8333"
    ):
        gpmt.plan(model, sparsity=0.9)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(BudgetError, match="at most 0\\.8333"):
        gpmt.Pruner(model, optimizer, schedule=gpmt.OneShot(0.9, at=5))
    assert decide(model, ["83.33%"])[0].pruned == 249


@pytest.mark.parametrize("dim", [None, 0, 1, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_norms_over_any_dimensions_in_any_type(dim, dtype):
    torch.manual_seed(0)
    layer = parametrizations.weight_norm(nn.Conv1d(4, 3, 5, dtype=dtype), dim=dim)
    with torch.no_grad():
        layer.parametrizations.weight.original0.mul_(
            torch.rand_like(layer.parametrizations.weight.original0) + 1
        )
    [(name, direction)] = find_scope(layer).tensors.items()
    effective = find_scope(layer).effective[name]
    tolerance = {"rtol": 0.05, "atol": 0.01} if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(effective.weight(direction).to(dtype), layer.weight.detach(), **tolerance)
    assert effective.norms(direction.shape) == (1 if dim is None else direction.shape[dim])


def test_columns_are_of_plain_weights():
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 4))
    with pytest.raises(
        ScopeError, match=r"^0\.parametrizations\.weight\.original1 is reparametrised, and whole"
    ):
        gpmt.plan(model, sparsity=0.5, granularity="column")


def test_norms_over_others_are_not_known():
    class Half(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x / 2

    chained = parametrizations.weight_norm(nn.Linear(4, 4))
    parametrize.register_parametrization(chained, "weight", Half())
    other = nn.Linear(4, 4)
    parametrize.register_parametrization(other, "weight", Half())
    for layer in (chained, other):
        with pytest.raises(ScopeError, match=r"'weight' of the model is reparametrised .* or exclude it$"):
            find_scope(layer)
