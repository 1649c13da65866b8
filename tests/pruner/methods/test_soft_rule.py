"""Soft masks: the model is T of dense weights that train on, with exact counts at every step."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.oracle import keep
from tests.threads import one_thread
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

import gpmt
from gpmt.core.blocks.blocks import WHOLE, Blocks, Split
from gpmt.core.schedule.schedule import ACDC, Gradual, OneShot, Schedule
from gpmt.errors import MaskError, WeightsError

VALUES = st.sampled_from([0.0, 0.5, -0.5, 1.0, -2.0]) | st.floats(-4, 4, width=16)
METHODS: list[gpmt.Method] = [
    gpmt.Feather(),
    gpmt.Feather(theta=0.5, power=2),
    gpmt.ST3(),
    gpmt.ST3(rescale=False),
    gpmt.ST3(flat=True),
]


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    with one_thread():
        yield


class Net(nn.Module):
    """Convolution, norm and linear: 72 + 320 prunable weights."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(1, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.head(torch.tanh(self.norm(self.conv(images))).flatten(1))
        return features


NUMEL = 392


def loss_at(model: nn.Module, step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(6, 1, 4, 4, generator=generator)
    return F.cross_entropy(model(images), torch.randint(10, (6,), generator=generator))


class Run:
    """A training under way."""

    def __init__(
        self,
        method: gpmt.Method | str = "feather",
        schedule: Schedule | None = None,
        *,
        model: nn.Module | None = None,
        make: Callable[..., torch.optim.Optimizer] = torch.optim.SGD,
        **options: Any,
    ) -> None:
        self.model = Net() if model is None else model
        given = {"momentum": 0.9} if make is torch.optim.SGD else {}
        self.optimizer = make(self.model.parameters(), lr=0.05, weight_decay=1e-2, **given)
        schedule = Gradual(0.9, end=4) if schedule is None else schedule
        self.pruner = gpmt.Pruner(self.model, self.optimizer, schedule=schedule, method=method, **options)
        self.done = 0

    def steps(self, count: int = 1) -> Run:
        for _ in range(count):
            self.optimizer.zero_grad()
            loss_at(self.model, self.done).backward()
            self.optimizer.step()
            self.done += 1
        return self

    def dense(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = self.pruner.state_dict()["method"].get("dense", {})
        return found

    def tensors(self) -> dict[str, Tensor]:
        found = {**self.model.state_dict(), **{f"dense.{n}": value for n, value in self.dense().items()}}
        for index, state in self.optimizer.state_dict()["state"].items():
            found |= {f"{index}.{key}": value for key, value in state.items() if value is not None}
        return {name: value.detach().clone() for name, value in found.items()}

    def assert_exact(self, pruned: int) -> None:
        """Check that the masks are those of the dense weights, and the zeros of the model are theirs."""
        masks = self.pruner.masks
        assert masks is not None
        assert masks.total_pruned == pruned
        for name, mask in masks.items():
            weight = self.model.get_parameter(name).detach()
            assert torch.equal(weight != 0, mask), name
            assert not weight[~mask].signbit().any()
            assert torch.equal(weight.sign()[mask], self.dense()[name].sign()[mask])


def assert_same(one: Run, other: Run) -> None:
    left, right = one.tensors(), other.tensors()
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert torch.equal(value, right[name]), name
    assert one.pruner.masks == other.pruner.masks
    assert one.pruner.step_count == other.pruner.step_count


@settings(max_examples=30)
@given(st.data())
def test_weights_are_those_of_a_full_sort(data: st.DataObject) -> None:
    """Blocks, ties and floors; the threshold of a block is below its smallest kept weight, as no other is given."""
    model, blocks = nn.Module(), {}
    for name in ("a", "b"):
        rows, columns = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
        layer = nn.Linear(columns, rows, bias=False)
        values = data.draw(st.lists(VALUES, min_size=rows * columns, max_size=rows * columns))
        layer.weight = nn.Parameter(torch.tensor(values).view(rows, columns))
        model.add_module(name, layer)
        if rows > 1 and data.draw(st.booleans()):
            blocks[f"{name}.weight"] = Blocks((Split(0, (1, rows - 1)),))
    dense = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    floor = data.draw(st.integers(0, 1))
    sparsity = data.draw(st.sampled_from(["0.1", "0.5", "0.7"]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    views = [view for name, w in dense.items() for view in blocks.get(name, WHOLE).views(w)]
    numel, floors = sum(v.numel() for v in views), [min(floor, v.numel()) for v in views]
    total = numel - int(float(sparsity) * numel)
    if sum(floors) > total:
        return
    with warnings.catch_warnings(action="ignore"):
        pruner = gpmt.Pruner(
            model,
            optimizer,
            schedule=OneShot(sparsity),
            method=gpmt.ST3(rescale=False),
            min_kept=floor,
            blocks=blocks,
        )
    masks = keep([v.flatten().double().numpy() for v in views], total=total, floors=floors)
    shown = [v for name, w in model.named_parameters() for v in blocks.get(name, WHOLE).views(w.detach())]
    # One threshold of all blocks that no floor binds: just below the smallest weight kept by the ranking.
    assert pruner.plan is not None
    for view, now, mask, row in zip(views, shown, masks, pruner.plan.blocks, strict=True):
        kept = torch.from_numpy(mask).view(view.shape)
        assert torch.equal(now != 0, kept & (view != 0))
        if kept.all() or not kept.any():
            assert torch.equal(now, view * kept)
            continue
        limit = view.abs()[kept].min() if row.binds else torch.tensor(pruner.plan.threshold or 0.0)
        if not row.binds and pruner.plan.threshold is None:
            continue
        lost = (view - now).abs()[kept & (view != 0)]
        assert torch.allclose(lost, limit, atol=1e-6)


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize(
    "options", [{}, {"min_kept": 20}, {"within": "tensor"}, {"allocation": "erk"}], ids=str
)
def test_counts_are_exact_at_every_step(method: gpmt.Method, options: dict[str, Any]) -> None:
    run = Run(method, Gradual(0.9, end=4, initial=0.3), **options)
    schedule = run.pruner.schedule
    assert schedule is not None
    seen = set()
    for step in range(8):
        event = schedule.event(min(step, 4))
        assert event is not None
        assert event.sparsity is not None
        sizes = [72, 320] if options.get("within") else [NUMEL]
        run.assert_exact(sum(int(event.sparsity * size) for size in sizes))
        assert run.pruner.plan is not None
        assert run.pruner.plan.masks() == run.pruner.masks
        seen.add(run.pruner.masks.digest())
        run.steps()
    assert len(seen) > 5  # also after the last event


class StraightThrough(torch.autograd.Function):
    """A layer's weight as Feather defines it, by autograd and sorting."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, threshold: Tensor, theta: float) -> Tensor:
        kept = weight.abs() > threshold
        ctx.scale = torch.where(kept, 1.0, theta)
        return torch.where(kept, weight.sign() * (weight.abs() ** 3 - threshold**3) ** (1 / 3), 0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0] * ctx.scale, None, None


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
def test_training_is_that_of_a_straight_through_estimator(make: Any) -> None:
    run = Run(gpmt.Feather(theta=0.5), OneShot(0.8), make=make)
    twin = Net()
    given = {"momentum": 0.9} if make is torch.optim.SGD else {}
    optimizer = make(twin.parameters(), lr=0.05, weight_decay=1e-2, **given)
    names = ["conv.weight", "head.weight"]
    for step in range(5):
        weights = {name: twin.get_parameter(name) for name in names}
        magnitudes = torch.cat([w.detach().abs().flatten() for w in weights.values()])
        threshold = torch.nextafter(magnitudes.sort().values[int(0.8 * NUMEL)], torch.zeros(()))
        used = {name: StraightThrough.apply(w, threshold, 0.5) for name, w in weights.items()}
        for name, weight in used.items():
            torch.testing.assert_close(run.model.get_parameter(name), weight, rtol=2e-3, atol=1e-3)
        optimizer.zero_grad()
        others = {name: p for name, p in twin.named_parameters() if name not in names}
        generator = torch.Generator().manual_seed(step)
        images = torch.randn(6, 1, 4, 4, generator=generator)
        labels = torch.randint(10, (6,), generator=generator)
        F.cross_entropy(torch.func.functional_call(twin, {**used, **others}, images), labels).backward()
        optimizer.step()
        run.steps()
        for name in names:
            torch.testing.assert_close(run.dense()[name], twin.get_parameter(name), rtol=1e-3, atol=1e-3)


def test_theta_scales_gradients_of_pruned_weights_only() -> None:
    run = Run(gpmt.Feather(theta=0.25), OneShot(0.8))
    run.optimizer.zero_grad()
    loss_at(run.model, 0).backward()
    gradient = run.model.head.weight.grad
    assert gradient is not None
    before, mask = gradient.clone(), run.model.head.weight != 0
    run.optimizer.step()
    assert torch.equal(gradient, torch.where(mask, before, before * 0.25))


def test_a_closure_sees_the_sparse_network() -> None:
    plain, closed = Run(gpmt.Feather(theta=0.5)).steps(6), Run(gpmt.Feather(theta=0.5))
    for step in range(6):

        def closure(step: int = step) -> Tensor:
            closed.optimizer.zero_grad()
            loss = loss_at(closed.model, step)
            loss.backward()
            return loss

        closed.optimizer.step(closure)
    assert_same(plain, closed)


def test_steps_of_a_subclass_that_call_the_base_class() -> None:
    class Twice(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            found = super().step(closure)
            with torch.no_grad():
                for parameter in self.param_groups[0]["params"]:
                    parameter.mul_(0.99)
            return found

    run = Run(make=Twice).steps(6)
    run.assert_exact(int(0.9 * NUMEL))
    twin = Run()
    for _ in range(6):
        before = {name: run.dense()[name] for name in run.dense()}
        twin.steps()
    assert before.keys() == {"conv.weight", "head.weight"}
    assert any(not torch.equal(twin.dense()[name], before[name]) for name in before)


def test_several_optimisers_each_train_their_own() -> None:
    model = Net()
    parts = [
        torch.optim.SGD(model.conv.parameters(), lr=0.05, momentum=0.9),
        torch.optim.Adam([*model.norm.parameters(), *model.head.parameters()], lr=0.01),
    ]
    method = gpmt.Feather(theta=0.5)
    pruner = gpmt.Pruner(model, parts, schedule=OneShot(0.8), method=method)
    for step in range(3):
        for part in parts:
            part.zero_grad()
        loss_at(model, step).backward()
        head = model.head.weight
        assert head.grad is not None
        before, mask = head.grad.clone(), head.detach() != 0
        for part in parts:
            part.step()
            masks = pruner.masks
            assert masks is not None
            assert masks.total_pruned == int(0.8 * NUMEL)
            assert all(torch.equal(model.get_parameter(name) != 0, mask) for name, mask in masks.items())
        assert torch.equal(head.grad, torch.where(mask, before, before * 0.5))  # once
    assert pruner.step_count == 3


@pytest.mark.parametrize("fused", [False, True])
def test_skipped_steps_of_a_scaler_change_nothing(fused: bool) -> None:
    run = Run(gpmt.Feather(theta=0.5), Gradual(0.9, end=3, initial=0.5), make=_adam(fused))
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    for step in range(6):
        run.optimizer.zero_grad()
        loss = loss_at(run.model, step)
        before = run.tensors()
        scaler.scale(loss * torch.inf if step in (1, 4) else loss).backward()
        scaler.step(run.optimizer)
        scaler.update()
        same = [torch.equal(value, before[name]) for name, value in run.tensors().items() if name in before]
        assert all(same) == (step in (1, 4))
    assert run.pruner.step_count == 4
    run.assert_exact(int(0.9 * NUMEL))


def _adam(fused: bool) -> Callable[..., torch.optim.Optimizer]:
    return lambda parameters, **options: torch.optim.AdamW(parameters, fused=fused, **options)


def test_gradients_that_accumulate_are_scaled_once() -> None:
    whole, halves = Run(gpmt.Feather(theta=0.5)).steps(4), Run(gpmt.Feather(theta=0.5))
    for step in range(4):
        halves.optimizer.zero_grad()
        for _ in range(2):
            halves.model.norm.eval() if _ else halves.model.norm.train()
            (loss_at(halves.model, step) / 2).backward()
        halves.model.norm.train()
        halves.optimizer.step()
        halves.assert_exact(halves.pruner.masks.total_pruned)  # type: ignore[union-attr]
    assert halves.pruner.step_count == whole.pruner.step_count == 4


@pytest.mark.parametrize("method", METHODS[:3], ids=str)
@pytest.mark.parametrize("at", [1, 5])
@pytest.mark.parametrize(
    "schedule",
    [
        Gradual(0.9, start=2, end=4),
        ACDC(0.8, start=1, period=4, sparse=2, last_restore=3, end=6, unit="step"),
    ],
    ids=["gradual", "acdc"],
)
def test_a_run_that_is_resumed_ends_with_the_same_bits(
    method: gpmt.Method, at: int, schedule: Schedule
) -> None:
    whole = Run(method, schedule).steps(at)
    file = io.BytesIO()
    parts = {"model": whole.model, "optimizer": whole.optimizer, "pruner": whole.pruner}
    torch.save({name: part.state_dict() for name, part in parts.items()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = Run(method, schedule, model=Net(seed=1))
    resumed.model.load_state_dict(saved["model"])
    resumed.optimizer.load_state_dict(saved["optimizer"])
    resumed.pruner.load_state_dict(saved["pruner"])
    resumed.done = at
    assert_same(whole, resumed)
    assert_same(whole.steps(7 - at), resumed.steps(7 - at))


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda parts: pickle.loads(pickle.dumps(parts))], ids=["deepcopy", "pickle"]
)
@pytest.mark.parametrize("at", [0, 3])
def test_copies_go_on_as_the_originals(duplicate: Callable[[Any], Any], at: int) -> None:
    run = Run().steps(at)
    twin = Run()
    twin.model, twin.optimizer, twin.pruner = duplicate((run.model, run.optimizer, run.pruner))
    twin.done = at
    before = run.tensors()
    assert twin.pruner.masks == run.pruner.masks
    twin.steps(4)
    assert all(torch.equal(value, before[name]) for name, value in run.tensors().items())
    assert_same(run.steps(4), twin)


def test_averages_are_zero_where_the_model_is() -> None:
    run = Run(schedule=Gradual(0.9, end=4, initial=0.2))
    average = AveragedModel(run.model)
    run.pruner.track(average)
    for _ in range(7):
        run.steps()
        for _ in range(2):  # before and after it is updated
            assert run.pruner.masks is not None
            for name, mask in run.pruner.masks.items():
                assert not average.module.get_parameter(name)[~mask].any()
            average.update_parameters(run.model)
    assert not torch.equal(average.module.head.weight, run.model.head.weight)


def test_the_network_is_dense_until_the_first_event_and_between_those_of_acdc() -> None:
    run = Run(schedule=ACDC(0.8, start=1, period=4, sparse=2, last_restore=3, end=6, unit="step"))
    counts = []
    for _ in range(8):
        counts.append(sum(int((w == 0).sum()) for n, w in run.model.named_parameters() if w.ndim > 1))
        assert (run.pruner.masks is None) == (counts[-1] == 0)
        assert (run.pruner.plan is None) == (counts[-1] == 0)
        run.steps()
    pruned = int(0.8 * NUMEL)
    assert counts == [0, pruned, pruned, 0, 0, 0, pruned, pruned]


def test_the_dense_weights_come_back_where_acdc_lifts_the_masks() -> None:
    run = Run(schedule=ACDC(0.8, start=0, period=4, sparse=2, last_restore=2, end=6, unit="step"))
    dense = Net()
    run.steps(2)
    for name in ("conv.weight", "head.weight"):
        weight = run.model.get_parameter(name)
        assert (weight != 0).all()
        assert (
            torch.nn.functional.cosine_similarity(
                weight.flatten(), dense.get_parameter(name).flatten(), dim=0
            )
            > 0.5
        )


def test_finish_leaves_a_plain_sparse_network_under_hard_masks() -> None:
    run = Run().steps(6)
    weights = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    masks = run.pruner.masks
    assert masks is not None
    run.pruner.finish()
    assert all(torch.equal(p, weights[name]) for name, p in run.model.named_parameters())
    assert run.dense() == {}
    run.steps(3)
    assert run.pruner.masks == masks
    for name, mask in masks.items():
        weight = run.model.get_parameter(name)
        assert torch.equal(weight != 0, mask)
        assert not run.optimizer.state[weight]["momentum_buffer"][~mask].any()
    state = run.pruner.state_dict()
    other = Run()
    other.model.load_state_dict(run.model.state_dict())
    other.pruner.load_state_dict(state)
    assert other.pruner.masks == masks
    other.steps(2)
    assert other.pruner.masks == masks
    run.pruner.masks = None  # may be set by now


def test_close_finishes() -> None:
    run = Run().steps(5)
    weights = run.model.state_dict()
    run.pruner.close()
    assert run.pruner.finished
    assert run.pruner.state_dict()["method"] == {"finished": True}
    assert all(torch.equal(value, weights[name]) for name, value in run.model.state_dict().items())
    run.pruner.close()


def test_what_is_written_to_the_model_between_steps_counts() -> None:
    """The rest of the dense weights stays: an average that is swapped in and out leaves no trace."""
    run, twin = Run().steps(5), Run().steps(5)
    held = {name: value.clone() for name, value in run.model.state_dict().items()}
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.add_(1)
    run.model.load_state_dict(held)
    assert_same(run.steps(2), twin.steps(2))
    with torch.no_grad():
        run.model.head.weight[0] = 5.0
    before = run.dense()["head.weight"]
    assert (before[0] == 5).all()
    assert torch.equal(before[1:], twin.dense()["head.weight"][1:])
    run.steps()
    assert (run.model.head.weight[0] != 0).all()


def test_a_model_that_is_cast_stays_soft() -> None:
    run = Run().steps(4)
    run.model.double()
    dense = run.dense()
    assert dense["head.weight"].dtype == torch.float64
    pruned = dense["head.weight"][run.model.head.weight == 0]
    assert (pruned != 0).all()
    images = torch.randn(3, 1, 4, 4).double()
    run.optimizer.zero_grad()
    run.model(images).square().sum().backward()
    run.optimizer.step()
    run.assert_exact(int(0.9 * NUMEL))


def test_layers_may_come_but_not_go() -> None:
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pruner = gpmt.Pruner(model, optimizer, schedule=OneShot(0.5), method="st-3")
    model.append(nn.Linear(8, 8, bias=False))
    optimizer.add_param_group({"params": model[2].parameters()})
    for _ in range(2):
        model(torch.ones(1, 8)).sum().backward()
        optimizer.step()
    assert sum(int((p == 0).sum()) for p in model.parameters()) == 96
    assert pruner.masks is not None
    assert list(pruner.masks) == ["0.weight", "1.weight", "2.weight"]
    del model[2]
    with pytest.raises(MaskError, match=r"2\.weight is pruned, but is no longer a parameter of the model"):
        optimizer.step()


def test_a_frozen_tensor_is_pruned_as_the_threshold_moves() -> None:
    model = Net()
    model.conv.weight.requires_grad_(False)
    with torch.no_grad():
        model.conv.weight.mul_(0.5)
    run = Run(model=model).steps(6)
    run.assert_exact(int(0.9 * NUMEL))
    assert torch.equal(run.dense()["conv.weight"], Net().conv.weight * 0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_are_exact_too(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16, dtype=dtype)).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for method in ("feather", "st-3"):
        pruner = gpmt.Pruner(model, optimizer, schedule=OneShot(0.75), method=method)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(2, 16, dtype=dtype)).square().sum().backward()
            optimizer.step()
            assert pruner.masks is not None
            assert pruner.masks.total_pruned == 384
            assert all(torch.equal(model.get_parameter(n) != 0, mask) for n, mask in pruner.masks.items())
        pruner.close()


def test_channels_last_weights_give_the_same_network() -> None:
    plain = Run("st-3").steps(5)
    last = Run("st-3", model=Net().to(memory_format=torch.channels_last))
    last.steps(5)
    assert last.pruner.masks == plain.pruner.masks
    torch.testing.assert_close(last.model.conv.weight, plain.model.conv.weight.contiguous())


def test_a_compiled_model_trains_alike() -> None:
    plain, compiled = Run().steps(5), Run()
    network = torch.compile(compiled.model, backend="eager")
    pruner = compiled.pruner
    for step in range(5):
        compiled.optimizer.zero_grad()
        loss_at(network, step).backward()
        compiled.optimizer.step()
    assert_same(plain, compiled)
    assert pruner.step_count == 5


def test_weights_that_are_not_finite_are_named() -> None:
    run = Run().steps(3)
    run.optimizer.zero_grad()
    (loss_at(run.model, 3) * torch.nan).backward()
    with pytest.raises(WeightsError, match=r"conv\.weight has 72 NaN or infinite of 72 weights"):
        run.optimizer.step()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("dense"), "the state of the method has the keys"),
        (
            lambda state: state["dense"].update({"head.weight": torch.zeros(2, 2)}),
            r"the state has dense weights of head\.weight in the shape \[2, 2\]",
        ),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change: Callable[[Any], Any], message: str) -> None:
    run = Run().steps(3)
    state = run.pruner.state_dict()
    change(state["method"])
    before = run.tensors()
    with pytest.raises(MaskError, match=message):
        run.pruner.load_state_dict(state)
    assert all(torch.equal(value, before[name]) for name, value in run.tensors().items())


def test_a_snapshot_does_not_change_with_the_run() -> None:
    run = Run().steps(3)
    state = run.pruner.state_dict()
    kept = copy.deepcopy(state)
    run.steps(2)
    for name, tensor in kept["method"]["dense"].items():
        assert torch.equal(state["method"]["dense"][name], tensor)


def test_methods_end_at_other_networks() -> None:
    ends = [Run(method).steps(5).model.head.weight for method in METHODS]
    assert all(not torch.equal(one, other) for one, other in itertools.combinations(ends, 2))
