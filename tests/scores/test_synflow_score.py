import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import gpmt
from gpmt.errors import CalibrationError, ScoresError
from gpmt.warning import GpmtWarning
from tests.calibration.networks import assert_same_state, make, state_of


def test_it_is_the_sum_over_all_paths() -> None:
    torch.manual_seed(0)
    sizes = (3, 4, 2, 3)
    layers = [nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(sizes)]
    model = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    expected = [torch.zeros_like(layer.weight, dtype=torch.float64) for layer in layers]
    for path in itertools.product(*map(range, sizes)):
        steps = list(itertools.pairwise(path))
        product = 1.0
        for layer, (source, target) in zip(layers, steps, strict=True):
            product *= abs(layer.weight[target, source].item())
        for scores, (source, target) in zip(expected, steps, strict=True):
            scores[target, source] += product
    found = gpmt.scores.synflow(model, (3,))
    assert list(found) == ["0.weight", "2.weight", "4.weight"]
    for scores, slow in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(scores, slow)


def slow(model: nn.Module, ones: Tensor) -> dict[str, Tensor]:
    """The authors' way: absolute values in the network itself, then weight times gradient."""
    model = copy.deepcopy(model).double().eval().requires_grad_(True)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            tensor.abs_()
            if name.endswith("running_mean"):
                tensor.zero_()
    model(ones.double()).sum().backward()
    return {
        name: weight.detach() * weight.grad for name, weight in model.named_parameters() if weight.ndim > 1
    }


@pytest.mark.parametrize("name", ["conv", "half"])
def test_networks_with_norms_and_biases(name: str) -> None:
    model, _ = make(name)
    before = state_of(model)
    found = gpmt.scores.synflow(model, (3, 4, 4))
    assert_same_state(before, state_of(model))
    for tensor, scores in slow(model, torch.ones(1, 3, 4, 4)).items():
        torch.testing.assert_close(found[tensor], scores)
        assert found[tensor].dtype == torch.float64
        assert (found[tensor] > 0).all()


def test_the_flow_into_every_layer_is_the_same() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 5, 2, bias=False),
        nn.AvgPool2d(2),
    )
    first, second = (scores.sum() for scores in gpmt.scores.synflow(model, (3, 5, 5)).values())
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize(
    "example",
    [(4,), torch.zeros(1, 4), {"x": torch.full((1, 4), -3.0)}],
)
def test_any_example_stands_for_ones(example: Any) -> None:
    model, _ = make("tied")
    found = gpmt.scores.synflow(model, example)
    assert list(found) == ["first.weight", "head.weight"]
    expected = gpmt.scores.synflow(model, [4])
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_integers_of_an_example_stay() -> None:
    class Indexed(nn.Linear):
        def forward(self, x: Tensor, index: Tensor) -> Tensor:
            return super().forward(x)[:, index]

    layer = Indexed(2, 3, bias=False)
    with_index = gpmt.scores.synflow(layer, {"x": torch.zeros(1, 2), "index": torch.tensor([1])})["weight"]
    torch.testing.assert_close(with_index[1], layer.weight[1].detach().abs().double())
    assert not with_index[[0, 2]].any()


def test_buffers_have_their_absolute_values_too() -> None:
    class Scaled(nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 2, bias=False)
            self.register_buffer("scale", torch.tensor([-3.0, 1.0]))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.scale

    layer = Scaled()
    expected = layer.weight.detach().abs().double() * torch.tensor([[3.0], [1.0]])
    torch.testing.assert_close(gpmt.scores.synflow(layer, (2,))["weight"], expected)
    assert layer.scale.tolist() == [-3.0, 1.0]


def test_the_means_of_frozen_norms_are_zero() -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("running_mean", torch.tensor([5.0, -5.0]))

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x - self.running_mean)

    layer = nn.Linear(2, 2, bias=False)
    found = gpmt.scores.synflow(nn.Sequential(layer, Frozen()), (2,))["0.weight"]
    torch.testing.assert_close(found, layer.weight.detach().abs().double())


def test_a_recurrent_network() -> None:
    model, _ = make("lstm")
    before = state_of(model)
    found = gpmt.scores.synflow(model, (5, 3))
    assert_same_state(before, state_of(model))
    for tensor, scores in slow(model, torch.ones(1, 5, 3)).items():
        torch.testing.assert_close(found[tensor], scores)


@pytest.mark.filterwarnings("ignore:sparsity .* leaves only .* weights in the first layer")
def test_rounds_keep_what_one_pass_would_empty() -> None:
    torch.manual_seed(0)
    first, second, third = (nn.Linear(a, b, bias=False) for a, b in ((10, 100), (100, 100), (100, 2)))
    model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)
    density = 0.005
    total = sum(weight.numel() for weight in model.parameters())
    at_once, in_rounds = copy.deepcopy(model), copy.deepcopy(model)
    with pytest.warns(GpmtWarning, match=r"leaves no weight in 2 of 3 tensors .0\.weight, 2\.weight"):
        gpmt.prune_(at_once, sparsity=1 - density, scores=lambda net: gpmt.scores.synflow(net, (10,)))
    for i in range(1, 21):
        gpmt.prune_(
            in_rounds, sparsity=1 - density ** (i / 20), scores=lambda net: gpmt.scores.synflow(net, (10,))
        )
    kept = [int((weight != 0).sum()) for weight in in_rounds.parameters()]
    assert sum(kept) == total - int((1 - density) * total)
    assert min(kept) > 5
    assert not at_once[2].weight.any()
    with pytest.raises(ScoresError, match="all SynFlow scores are 0"):
        gpmt.scores.synflow(at_once, (10,))


class Parts(nn.Module):
    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts, self.aside = nn.Sequential(*parts), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.parts(x)


def test_a_tensor_off_all_paths_scores_zero_with_a_warning() -> None:
    with pytest.warns(
        GpmtWarning, match=r"no path from input to output passes aside\.weight, so all scores there"
    ):
        found = gpmt.scores.synflow(Parts(nn.Linear(4, 2)), (4,))
    assert not found["aside.weight"].any()


class Constant(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("model", "error", "text"),
    [
        (
            nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2)),
            ScoresError,
            r"do not grow with every weight of 0\.weight, as with layer",
        ),
        (nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2), nn.Softmax(-1)), ScoresError, "SynFlow"),
        (nn.Sequential(nn.Linear(4, 8), nn.Hardtanh(0, 0.01)), ScoresError, "all SynFlow scores are 0"),
        (weight_norm(nn.Linear(4, 2)), ScoresError, r"original1 is reparametrised, and SynFlow"),
        (nn.Linear(5, 2), CalibrationError, r"does not run on batch 1, float64 \[1, 4\]"),
        (Constant(4, 4), ScoresError, "the output of Constant does not depend on its weights"),
        ({"weight": torch.ones(2, 2)}, ScoresError, "these scores run the network"),
    ],
)
def test_networks_it_is_not_for_are_refused(model: Any, error: type[Exception], text: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(error, match=text):
        gpmt.scores.synflow(model, (4,))


def test_scores_beyond_float64_are_refused() -> None:
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(12)))
    with torch.no_grad():
        for layer in model:
            layer.weight.fill_(1e30)
    with pytest.raises(ScoresError, match=r"scores of 0\.weight are beyond float64"):
        gpmt.scores.synflow(model, (2,))


def test_a_network_that_cannot_be_copied_is_refused() -> None:
    layer = nn.Linear(4, 2)
    layer.computed = layer.weight * 2
    with pytest.raises(ScoresError, match="Linear cannot be copied to float64, which SynFlow needs"):
        gpmt.scores.synflow(layer, (4,))


@pytest.mark.parametrize("example", [4, "4", (4, -1), (4.0,), None])
def test_an_example_that_is_none_is_refused(example: Any) -> None:
    with pytest.raises(ScoresError, match=r"but must be the shape of an input, such as \(3, 32, 32\)"):
        gpmt.scores.synflow(nn.Linear(4, 2), example)


def test_rounding_errors_are_no_scores() -> None:
    refused = 0
    for seed in range(30):
        torch.manual_seed(seed)
        with pytest.raises(ScoresError, match="SynFlow") as raised:
            gpmt.scores.synflow(nn.Sequential(nn.Linear(4, 2), nn.Softmax(-1)), (4,))
        refused += "do not grow" in str(raised.value)
    assert refused  # the others cancelled exactly
