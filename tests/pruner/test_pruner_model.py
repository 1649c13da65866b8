"""The model stays a plain model, and may be cast, changed, frozen, compiled or wrapped while it is pruned."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from gpmt.core.schedule.schedule import ACDC, Gradual, OneShot
from gpmt.errors import MaskError
from gpmt.pruner.pruner import Pruner
from gpmt.warning import GpmtWarning

Make = Callable[..., torch.optim.Optimizer]


def test_model_stays_plain(toy: Any) -> None:
    model = toy.model()
    keys, objects = list(model.state_dict()), [id(p) for p in model.parameters()]
    attributes = {name: set(vars(module)) for name, module in model.named_modules()}
    run = toy.start(Gradual(0.9, end=3), model=model).steps(4)
    assert list(run.model.state_dict()) == keys
    assert [id(p) for p in run.model.parameters()] == objects
    assert all(p.is_leaf and p.requires_grad for p in run.model.parameters())
    for name, module in model.named_modules():
        assert set(vars(module)) == attributes[name]
        hooks = [value for key, value in vars(module).items() if "hooks" in key]
        assert not any(hooks)
    assert not any(p._backward_hooks or p._post_accumulate_grad_hooks for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_cast_model_stays_pruned(toy: Any, dtype: torch.dtype) -> None:
    run = toy.start(Gradual(0.9, end=6, initial=0.5)).steps(2)
    run.model.to(dtype)
    run.optimizer.state.clear()  # the moments are of the old type
    for _ in range(6):
        run.step()
        run.assert_zero_where_pruned()
    assert run.pruner.masks.total_pruned == 0.9 * toy.numel


@pytest.mark.gpu
@pytest.mark.parametrize(
    "kernel", [{}, {"foreach": True}, {"fused": True}], ids=["default", "foreach", "fused"]
)
def test_model_moved_to_a_gpu_stays_pruned(toy: Any, make: Make, kernel: dict[str, bool]) -> None:
    run = toy.start(Gradual(0.9, end=4, initial=0.5), make=lambda model: make(model, **kernel))
    masks = run.pruner.masks
    run.model.cuda()
    run.step()
    assert run.pruner.masks <= masks
    for _ in range(5):
        run.step()
        run.assert_zero_where_pruned()
    assert run.zeros() == 0.9 * toy.numel


@pytest.mark.gpu
def test_capturable_state_keeps_its_step(toy: Any) -> None:
    run = toy.start(
        OneShot(0.9),
        make=lambda model: torch.optim.Adam(model.parameters(), lr=0.01, capturable=True),
        model=toy.model().cuda(),
    )
    run.steps(3).assert_zero_where_pruned()
    assert all(state["step"] == 3 for state in run.optimizer.state.values())


def test_cast_that_makes_new_parameters_stays_pruned(toy: Any) -> None:
    run = toy.start(OneShot(0.9)).steps(2)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        run.model.to(torch.float64)
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)
    with torch.no_grad():
        run.model.head.weight.add_(1)
    run.optimizer.step()
    run.assert_zero_where_pruned()


def test_channels_last_weights_stay_pruned(toy: Any) -> None:
    plain = nn.Conv2d(4, 8, 3)
    layer = nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)
    layer.load_state_dict(plain.state_dict())
    run = toy.start(OneShot(0.75), model=layer)
    assert run.pruner.masks == toy.start(OneShot(0.75), model=plain).pruner.masks
    for _ in range(2):
        layer(torch.ones(1, 4, 5, 5)).square().sum().backward()
        run.optimizer.step()
        assert run.assert_zero_where_pruned() == 2
    assert not layer.weight.is_contiguous()
    assert int((layer.weight == 0).sum()) == 216


def test_replaced_parameter_stays_pruned(toy: Any) -> None:
    run = toy.start(OneShot(0.9)).steps(2)
    run.model.head.weight = nn.Parameter(torch.randn_like(run.model.head.weight))
    run.step()
    run.assert_zero_where_pruned()
    assert int((run.model.head.weight == 0).sum()) == 320 - run.pruner.masks.kept("head.weight")


def test_parameter_of_another_shape_is_an_error(toy: Any) -> None:
    run = toy.start(OneShot(0.9))
    run.model.head = nn.Linear(32, 7)
    with pytest.raises(MaskError, match=r"head\.weight has shape \[7, 32\], but its mask has \[10, 32\]"):
        run.optimizer.step()


def test_removed_layer_is_an_error(toy: Any) -> None:
    run = toy.start(OneShot(0.9))
    del run.model.head
    with pytest.raises(MaskError, match=r"head\.weight is pruned, but is no longer a parameter of the model"):
        run.optimizer.step()


def test_frozen_parameters_stay_pruned(toy: Any, make: Make) -> None:
    """Frozen weights keep their zeros, and the next pruning may take more of them."""
    run = toy.start(Gradual(0.9, end=6, interval=3, initial=0.3), make=make).steps(1)
    run.model.head.requires_grad_(False)
    run.model.stem.requires_grad_(False)
    run.steps(6).assert_zero_where_pruned()
    assert run.pruner.masks.total_pruned == 0.9 * toy.numel == run.zeros()


def test_parameters_that_the_optimiser_lacks_are_pruned(toy: Any) -> None:
    with pytest.warns(
        UserWarning, match=r"stem\.weight and 3 more can be trained, but not by SGD; if another"
    ):
        run = toy.start(
            OneShot(0.9), make=lambda model: torch.optim.SGD(model.head.parameters(), lr=0.1, momentum=0.9)
        )
    assert run.zeros() == run.steps(3).zeros() == 0.9 * toy.numel
    with torch.no_grad():
        run.model.stem.weight.fill_(1.0)  # by whatever else trains it
    run.step()
    run.assert_zero_where_pruned()


def test_parameters_unfrozen_later_train_under_their_mask(toy: Any) -> None:
    model = toy.model()
    model.stem.requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
    run = toy.run(model, optimizer, Pruner(model, optimizer, schedule=OneShot(0.9))).steps(2)
    model.stem.requires_grad_(True)
    before = model.stem.weight.detach().clone()
    optimizer.add_param_group({"params": list(model.stem.parameters())})
    run.steps(3)
    assert not torch.equal(model.stem.weight, before)
    run.assert_zero_where_pruned()
    assert model.stem.weight in optimizer.state


def test_layer_added_later_is_dense_until_the_next_pruning(toy: Any) -> None:
    class Longer(nn.Module):
        def __init__(self, base: nn.Module) -> None:
            super().__init__()
            self.base = base
            self.extra: nn.Module = nn.Identity()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.extra(self.base(images))

    model = Longer(toy.model())
    run = toy.start(Gradual(0.9, end=6, interval=3, initial=0.5), model=model).steps(1)
    model.extra = nn.Linear(68, 68, bias=False)
    run.optimizer.add_param_group({"params": list(model.extra.parameters())})
    run.steps(1)
    assert "extra.weight" not in run.pruner.masks
    assert bool((model.extra.weight != 0).all())
    with pytest.warns(GpmtWarning, match=r"no weight in 1 of 6 tensors \(extra\.weight\)"):
        run.steps(4)
    numel = toy.numel + 68 * 68
    assert run.pruner.masks.total_numel == numel
    assert run.pruner.masks.total_pruned == math.floor(numel * 9 // 10)
    assert run.pruner.masks.kept("extra.weight") < 68 * 68
    run.steps(2).assert_zero_where_pruned()


def test_tied_weights_are_pruned_once(toy: Any) -> None:
    first, second = nn.Linear(10, 10, bias=False), nn.Linear(10, 10, bias=False)
    second.weight = first.weight
    model = nn.Sequential(first, nn.ReLU(), second)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    pruner = Pruner(model, optimizer, schedule=OneShot(0.9))
    for _ in range(3):
        model(torch.ones(1, 10)).sum().backward()
        optimizer.step()
    assert pruner.masks.total_pruned == 90 == int((second.weight == 0).sum())
    assert first.weight is second.weight


@pytest.mark.parametrize(
    "schedule", [OneShot(0.9), Gradual(0.9, end=4, initial=0.2)], ids=["one-shot", "gradual"]
)
def test_compiled_model(toy: Any, schedule: Any) -> None:
    """A compiled model is pruned like the plain one, and no change of the masks compiles it again."""
    counter = CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()
    compiled = torch.compile(toy.model(), backend=counter)
    run = toy.start(schedule, model=compiled)
    assert all(not name.startswith("_orig_mod") for name in run.pruner.masks or ())
    plain = toy.start(schedule)
    for _ in range(6):
        run.optimizer.zero_grad()
        toy.loss_at(compiled, run.pruner.step_count).backward()
        run.optimizer.step()
        plain.step()
    assert counter.frame_count == 1
    inner = toy.run(compiled._orig_mod, run.optimizer, run.pruner)
    inner.assert_zero_where_pruned()
    assert run.pruner.masks.total_pruned == plain.pruner.masks.total_pruned == 0.9 * toy.numel


def test_autocast_bfloat16(toy: Any, make: Make) -> None:
    run = toy.start(Gradual(0.9, end=4, initial=0.2), make=make)
    for step in range(6):
        run.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = toy.loss_at(run.model, step)
        loss.backward()
        run.optimizer.step()
        run.assert_zero_where_pruned()
    assert run.zeros() == 0.9 * toy.numel


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "kernel", [{}, {"foreach": True}, {"fused": True}], ids=["default", "foreach", "fused"]
)
def test_grad_scaler(toy: Any, make: Make, kernel: dict[str, bool], dtype: torch.dtype) -> None:
    """Time stands still in steps that the scaler skips, fused or not; zeros stay zeros."""
    run = toy.start(Gradual(0.9, end=5, initial=0.2), make=lambda model: make(model, **kernel))
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    skipped = {1, 4}
    for batch in range(8):
        run.optimizer.zero_grad()
        with torch.autocast("cpu", dtype):
            loss = toy.loss_at(run.model, batch)
        scaler.scale(loss * math.inf if batch in skipped else loss).backward()
        before = run.tensors(), run.pruner.step_count, run.pruner.masks
        scaler.step(run.optimizer)
        scaler.update()
        if batch in skipped:
            assert run.pruner.step_count == before[1]
            assert run.pruner.masks is before[2]
            weights = {name: value for name, value in run.tensors().items() if name.endswith("weight")}
            assert all(torch.equal(value, before[0][name]) for name, value in weights.items())
        run.assert_zero_where_pruned()
    assert run.pruner.step_count == 6
    assert run.zeros() == 0.9 * toy.numel


def test_data_parallel_wrapper_is_taken_off(toy: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.DataParallel(toy.model())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pruner = Pruner(model, optimizer, schedule=ACDC.over(0.9, 10, unit="step"))
    assert pruner.masks is None
    for step in range(3):
        toy.loss_at(model.module, step).backward()
        optimizer.step()
        assert (pruner.masks is not None) == (step == 1)
