"""Compensation of whole networks."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gpmt
from gpmt.compensation import compensate as module
from gpmt.errors import CalibrationError, MaskError, ScopeError, WeightsError
from gpmt.warning import GpmtWarning


def alike(*shape: int) -> Tensor:
    """Return inputs whose features depend on one another."""
    return torch.randn(*shape[:-1], 4) @ torch.randn(4, shape[-1]) + 0.3 * torch.randn(*shape)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 4, 2, stride=2, bias=False),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, groups=4, dilation=2),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def images() -> list[Tensor]:
    torch.manual_seed(1)
    return [alike(20, 4, 8, 8), alike(12, 4, 8, 8)]


def outputs(layer: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    return torch.func.functional_call(layer, {"weight": weight}, x)


@pytest.mark.parametrize("solver", ["sparsegpt", "exact"])
def test_a_network_of_many_layers(solver: str):
    model, batches = network(), images()
    dense = copy.deepcopy(model).eval()
    masks = gpmt.plan(model, sparsity=0.6).masks()
    calls = []
    report = gpmt.compensate(model, masks, batches, solver=solver, progress=lambda *each: calls.append(each))
    names = ["0.weight", "3.weight", "5.weight", "7.weight"]
    assert [layer.name for layer in report.layers] == names
    assert calls == [(layer, number, 4) for number, layer in enumerate(report.layers, 1)]
    x = torch.cat(batches)
    for name, layer in zip(names, report.layers, strict=True):
        # Every layer is fitted to the outputs of the layers before it as they are now.
        index = int(name[0])
        weights, new = dense[index].weight.detach(), model[index].weight.detach()
        assert torch.equal(new != 0, masks[name])
        assert not torch.signbit(new[~masks[name]]).any()
        with torch.no_grad():
            inputs = model.eval()[:index](x)
            want = outputs(dense[index], inputs, weights)
            energy = outputs(dense[index], inputs, weights) - outputs(dense[index], inputs, 0 * weights)
            errors = [
                ((outputs(dense[index], inputs, other) - want).square().sum() / energy.square().sum()).item()
                for other in (weights * masks[name], new)
            ]
        assert [layer.masked, layer.compensated] == pytest.approx(errors, rel=1e-3)
        assert layer.compensated < layer.masked
    others = {name: value for name, value in model.state_dict().items() if name not in names}
    assert all(torch.equal(value, dense.state_dict()[name]) for name, value in others.items())


def test_a_layer_lies_between_the_mask_and_the_optimum():
    torch.manual_seed(0)
    layer, x = nn.Linear(24, 6), alike(200, 24)
    masks = gpmt.plan(layer, sparsity=0.5).masks()
    found = {}
    for solver in ("sparsegpt", "exact"):
        (found[solver],) = gpmt.compensate(
            copy.deepcopy(layer), masks, [x], solver=solver, damping=1e-6
        ).layers
    weight, mask, optimum = layer.weight.detach(), masks["weight"], 0.0
    for row, keep in zip(weight, mask, strict=True):
        target = x @ row
        optimum += (
            (x[:, keep] @ torch.linalg.lstsq(x[:, keep], target[:, None]).solution[:, 0] - target)
            .square()
            .sum()
        )
    optimum = (optimum / (x @ weight.T).square().sum()).item()
    assert found["exact"].compensated == pytest.approx(optimum, rel=1e-2)
    assert optimum < found["sparsegpt"].compensated < found["sparsegpt"].masked


def test_an_output_that_would_be_worse_keeps_its_weights():
    # As in test_solvers.py: x0 = 10 (x1 - x2), of which only x1 is kept.
    torch.manual_seed(0)
    x1 = torch.randn(100)
    x = torch.stack([10 * (x1 - (x2 := x1 + 0.1 * torch.randn(100))), x1, x2], dim=1)
    layer = nn.Linear(3, 1)
    nn.init.ones_(layer.weight)
    mask = torch.tensor([[False, True, False]])
    (done,) = gpmt.compensate(layer, {"weight": mask}, [x], damping=1e-4, solver="sparsegpt").layers
    assert layer.weight.tolist() == [[0.0, 1.0, 0.0]]
    assert done.compensated == done.masked
    nn.init.ones_(layer.weight)
    (done,) = gpmt.compensate(layer, {"weight": mask}, [x], damping=1e-4, solver="exact").layers
    assert done.compensated < done.masked


def test_attention_recurrence_and_a_shared_layer():
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.lstm = nn.LSTM(8, 8, batch_first=True)
            self.shared = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            x = self.attention(self.shared(x), x, x)[0]
            return self.shared(self.lstm(x)[0])

    torch.manual_seed(0)
    model = Mixed()
    masks = gpmt.plan(model, sparsity=0.5).masks()
    report = gpmt.compensate(model, masks, [alike(16, 5, 8)])
    errors = {layer.name: (layer.compensated, layer.masked) for layer in report.layers}
    assert errors.keys() == masks.keys()
    assert all(after < before for after, before in errors.values())
    weights = dict(model.named_parameters())
    assert all(torch.equal(weights[name] != 0, mask) for name, mask in masks.items())
    positions = {layer.name: layer.positions for layer in report.layers}
    assert positions["shared.weight"] == 2 * 16 * 5
    assert positions["lstm.weight_hh_l0"] == 16 * 5


@pytest.mark.parametrize("memory", [1 << 30, 1])
@pytest.mark.parametrize("implementation", ["eager", "grouped_mm"])
def test_experts(memory: int, implementation: str, monkeypatch: pytest.MonkeyPatch):
    transformers = pytest.importorskip("transformers")
    monkeypatch.setattr(module, "_MEMORY", memory)
    settings = transformers.MixtralConfig(
        vocab_size=32,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=3,
    )
    torch.manual_seed(0)
    model = transformers.MixtralForCausalLM(settings)
    model.set_experts_implementation(implementation)
    masks = gpmt.plan(model, sparsity=0.5, scope="*experts*").masks()
    report = gpmt.compensate(model, masks, [{"input_ids": torch.arange(32).view(2, 16)}])
    assert [layer.name.rsplit(".")[-1] for layer in report.layers] == ["gate_up_proj", "down_proj"]
    assert all(layer.compensated < layer.masked and layer.positions == 64 for layer in report.layers)
    weights = dict(model.named_parameters())
    assert all(torch.equal(weights[name] != 0, mask) for name, mask in masks.items())


def test_wrappers_inference_tensors_and_channels_last():
    torch.manual_seed(0)
    x = alike(30, 4, 6, 6)
    plain = nn.Conv2d(4, 4, 3)
    masks = gpmt.plan(plain, sparsity=0.5).masks()
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        inference = copy.deepcopy(plain)
        inference.weight = nn.Parameter(plain.weight.clone(), requires_grad=False)
    wrapped = torch.compile(copy.deepcopy(plain), backend="eager")
    networks = (plain, last, inference, wrapped)
    for model in networks:
        gpmt.compensate(model, masks, [x])
    for model in networks[1:]:
        assert torch.allclose(model.weight, plain.weight, atol=1e-5)


def test_half_precision_is_rounded_once():
    torch.manual_seed(0)
    exact, x = nn.Linear(16, 4), alike(50, 16).bfloat16().float()
    exact.weight.data = exact.weight.bfloat16().float()
    half = copy.deepcopy(exact).bfloat16()
    masks = gpmt.plan(exact, sparsity=0.5).masks()
    gpmt.compensate(exact, masks, [x])
    gpmt.compensate(half, masks, [x])
    assert torch.equal(half.weight, exact.weight.bfloat16())


def test_the_outputs_of_a_network_stay_nearer():
    torch.manual_seed(0)
    x, dense = alike(400, 16), nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 3))
    masks = gpmt.plan(dense, sparsity=0.5).masks()
    masked, compensated = copy.deepcopy(dense), copy.deepcopy(dense)
    masks.apply_(masked)
    gpmt.compensate(compensated, masks, [x[:200]])
    held_out = x[200:]
    errors = [F.mse_loss(model(held_out), dense(held_out)).item() for model in (compensated, masked)]
    assert errors[0] < 0.5 * errors[1]


def test_names_of_wrappers_and_names_like_them():
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.module = nn.Linear(6, 6), nn.ModuleDict({"fc": nn.Linear(6, 6)})

        def forward(self, x):
            return self.module["fc"](self.fc(x))

    model, x = Nested(), torch.randn(20, 6)
    masks = {f"{name}.weight": torch.eye(6) == value for name, value in (("fc", 0), ("module.fc", 1))}
    gpmt.compensate(model, masks, [x])
    assert torch.equal(model.fc.weight != 0, masks["fc.weight"])
    assert torch.equal(model.module["fc"].weight != 0, masks["module.fc.weight"])
    layer = nn.Linear(6, 6)
    gpmt.compensate(nn.Sequential(layer), {"module.0.weight": masks["fc.weight"]}, [x])
    assert torch.equal(layer.weight != 0, masks["fc.weight"])


def masked(model: nn.Module) -> gpmt.Masks:
    return gpmt.plan(model, sparsity=0.5).masks()


def add_idle_layer(model: nn.Module) -> None:
    model[2].idle = nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("change", "arguments", "error", "text"),
    [
        (None, {"solver": "obs"}, CalibrationError, r"^solver 'obs' is unknown; known are auto, exact, sparsegpt$"),
        (None, {"damping": 0}, CalibrationError, r"^damping is 0, but must be a number of at least 0.000001; 0.01"),
        (None, {"damping": float("nan")}, CalibrationError, "damping is nan"),
        (None, {"damping": True}, CalibrationError, "damping is True"),
        (None, {"damping": "1%"}, CalibrationError, "damping is '1%'"),
        (None, {"batches": iter(images())}, CalibrationError, "^batches is an iterator, which gives its batches"),
        (None, {"batches": []}, CalibrationError, "^batches is empty"),
        (None, {"batches": 3}, CalibrationError, "^batches is of type int"),
        (None, {"batches": [torch.ones(2, 3)]}, CalibrationError, "^the network does not run on batch 1"),
        (None, {"batches": [torch.full((2, 4, 8, 8), torch.nan)]}, CalibrationError, "of 0.weight are not finite"),
        (None, {"masks": {}}, MaskError, "^there are no masks"),
        (None, {"masks": {"1.weight": torch.ones(8, dtype=torch.bool)}}, ScopeError, "1.weight"),
        (None, {"masks": {"7.weight": torch.ones(2, 2) > 0}}, MaskError, r"its mask has \[2, 2\]"),
        (None, {"masks": {"8.weight": torch.ones(2, 2) > 0}}, MaskError, "8.weight is missing"),
        (lambda model: model[7].weight.data[0].fill_(torch.inf), {}, WeightsError, "^7.weight has weights that"),
        (add_idle_layer, {"masks": {"2.idle.weight": torch.ones(2, 2) > 0}}, CalibrationError, "^no inputs of 2"),
    ],
)  # fmt: skip
def test_errors_change_nothing(change, arguments, error, text):
    model = network()
    masks = masked(model)
    if change is not None:
        change(model)
    before = copy.deepcopy(model.state_dict())
    arguments = {"masks": masks, "batches": images()} | arguments
    with pytest.raises(error, match=text):
        gpmt.compensate(model, **arguments)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())


def test_a_solver_that_fails_names_the_layer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "damped", lambda gram, positions, damping: -gram)
    with pytest.raises(
        CalibrationError,
        match=r"^the inputs of 0.weight are too few or too much alike for a damping of 0.01; give more data or a "
        r"larger damping, and load the network again: the 0 layers before this one are changed already$",
    ):
        gpmt.compensate(model := network(), masked(model), images())


def test_parts_that_overlap_are_refused():
    class Twice(nn.MultiheadAttention):
        def forward(self, x):
            return super().forward(super().forward(x, x, x)[0], x, x)

    model = Twice(8, 2)
    text = r"^in_proj_weight is used both as a whole and in parts, .*; leave it out of the masks$"
    with pytest.raises(CalibrationError, match=text):
        gpmt.compensate(model, masked(model), [torch.randn(3, 2, 8)])


def test_weights_that_are_zero_already_are_told():
    model = nn.Linear(6, 4)
    masks = masked(model)
    masks.apply_(model)
    before = model.weight.detach().clone()
    with pytest.warns(
        GpmtWarning, match=r"^all weights that the masks prune are zero already, so there is nothing to make"
    ):
        (done,) = gpmt.compensate(model, masks, [torch.randn(9, 6)]).layers
    assert torch.equal(model.weight, before)
    assert (done.masked, done.compensated) == (0.0, 0.0)


def test_experts_without_tokens_are_told_and_masked():
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up_proj = nn.Parameter(torch.randn(2, 3, 8))

        def forward(self, x):
            return x @ self.up_proj[0].T

    model = Idle()
    masks, dense = masked(model), model.up_proj.detach().clone()
    with pytest.warns(
        GpmtWarning, match=r"^24 of the 48 weights of up_proj had no inputs in the batches, .* only masked"
    ):
        gpmt.compensate(model, masks, [alike(40, 8)])
    assert torch.equal(model.up_proj[1], dense[1] * masks["up_proj"][1])
    assert torch.equal(model.up_proj != 0, masks["up_proj"])


def test_inputs_that_are_zero():
    model = nn.Linear(6, 4)
    masks, dense = masked(model), model.weight.detach().clone()
    (done,) = gpmt.compensate(model, masks, [torch.zeros(9, 6)]).layers
    assert torch.equal(model.weight, dense * masks["weight"])
    assert (done.masked, done.compensated) == (0.0, 0.0)


@pytest.mark.gpu
def test_a_gpu_finds_the_same():
    torch.manual_seed(0)
    cases = [(network(), images()), (nn.LSTM(8, 8), [alike(6, 20, 8)])]
    for model, batches in cases:
        masks, other = masked(model), copy.deepcopy(model).to("cuda")
        reports = [gpmt.compensate(each, masks, batches) for each in (model, other)]
        for here, there in zip(*(report.layers for report in reports), strict=True):
            assert (here.name, here.positions) == (there.name, there.positions)
            assert here.compensated == pytest.approx(there.compensated, rel=0.05)
        for name, tensor in other.named_parameters():
            assert name not in masks or torch.equal(tensor.cpu() != 0, masks[name])
