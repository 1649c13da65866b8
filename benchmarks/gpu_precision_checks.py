"""Checks of gpu.py about float16 and bfloat16: scaled gradients, steps that are left out, whole trainings."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import gpmt
from gpu_check import NotRun, check, verified
from gpu_training_checks import Network, adam, batch, check_zeros, has_pydantic, network, sgd

INFINITE = {1, 4}
"""Batches of infinite gradients, whose steps a `GradScaler` leaves out."""


@check("scaler")
def grad_scaler(device: torch.device) -> str:
    """fp16 with a GradScaler and forced infinities: fused, foreach and default SGD and Adam"""
    for make in (sgd, adam):
        for kernel in ({}, {"foreach": True}, {"fused": True}):
            for reported in (False, True):
                _scale(device, make, kernel, reported=reported)
    model = network(device)
    optimizer = sgd(model, fused=True)
    pruner = gpmt.Pruner(model, optimizer, schedule=gpmt.OneShot(0.9), min_kept=5)
    scaler = torch.amp.GradScaler(device.type)
    scaler.scale(torch.zeros((), device=device))
    scaler.step(optimizer)  # without any gradient
    assert pruner.step_count == 1
    return "12 trainings, and a fused step without gradients"


def _scale(device: torch.device, make: Any, kernel: dict[str, bool], *, reported: bool) -> None:
    model = network(device)
    optimizer = make(model, **kernel)
    schedule = gpmt.Gradual(0.9, end=8 if reported else 6, initial=0.2)
    pruner = gpmt.Pruner(model, optimizer, schedule=schedule, min_kept=5)
    scaler = torch.amp.GradScaler(device.type, init_scale=64.0)
    for number in range(8):
        images, labels = batch(device, number)
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.float16):
            loss = F.cross_entropy(model(images), labels)
        before, count = model.head.weight.detach().clone(), pruner.step_count
        scaler.scale(loss * math.inf if number in INFINITE else loss).backward()  # type: ignore[no-untyped-call]
        scaler.step(optimizer)
        scaler.update()
        if number in INFINITE:
            assert torch.equal(before, model.head.weight), "the step was left out"
            assert pruner.step_count == count, "time stood still"
            if reported:
                pruner.skip_step()
        check_zeros(pruner, model, optimizer)
    assert pruner.step_count == (8 if reported else 6)
    verified(model, masks=pruner.masks, sparsity=0.9)


def accelerator_of(device: torch.device, precision: str) -> Any:
    """Return an `Accelerator`; on a CPU, to which Accelerate gives no fp16, one that only scales the gradients."""
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise NotRun(f"Accelerate cannot be imported ({error})") from None
    from gpmt.extras_private import reset_accelerator_state

    reset_accelerator_state()
    if device.type == "cuda":
        return Accelerator(mixed_precision=precision)
    scaled = precision == "fp16"
    accelerator = Accelerator(cpu=True, mixed_precision="no" if scaled else precision)
    if scaled:
        accelerator.scaler = torch.amp.GradScaler("cpu")
        accelerator.native_amp = True
        accelerator.state._mixed_precision = "fp16"
    return accelerator


@check("clip")
def clipping_in_two_phases(device: torch.device) -> str:
    """fp16 with clip_norm over two phases, by Accelerate: the gradients of both are unscaled once"""
    from gpmt.extras_private import forget_optimizer

    def train(*, clip: bool) -> Network:
        accelerator = accelerator_of(device, "fp16")
        model = network(device)
        for phase in range(2):
            optimizer = accelerator.prepare_optimizer(sgd(model))
            if phase == 1:
                gpmt.Pruner(model, optimizer, schedule=gpmt.OneShot(0.5))
            for number in range(4):
                images, labels = batch(device, number)
                optimizer.zero_grad()
                accelerator.backward(F.cross_entropy(model(images), labels))
                if clip:
                    accelerator.clip_grad_norm_(model.parameters(), 1e6)  # no gradient is so long
                optimizer.step()
            forget_optimizer(accelerator, optimizer)
        assert accelerator.scaler.get_scale() == 2.0**16, "no step was left out"
        return model

    plain, clipped = train(clip=False), train(clip=True)
    start = network(device)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(clipped.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    assert not torch.equal(plain.head.weight, start.head.weight)
    return "the weights are those without clipping"


@dataclass(frozen=True)
class Settings:
    """What the training loop reads of a recipe's phase."""

    batch_size: int = 64
    accumulate: int = 1
    clip_norm: float | None = 5.0

    def learning_rate(self, epoch: int, step: int = 0, steps: int = 1) -> float:
        return 0.05


@check("digits-loop")
def digits_without_recipes(device: torch.device) -> str:
    """The digits, trained by gpmt's loop in bf16 and fp16 with a resume in the middle; verified, saved and loaded"""
    try:
        found = [f"{kind} {_train_digits(device, kind)}" for kind in _precisions(device)]
    except ImportError as error:
        raise NotRun(f"a library is missing ({error})") from None
    return ", ".join(found)


def _precisions(device: torch.device) -> list[str]:
    return ["bf16", "fp16"] if device.type == "cuda" else ["bf16"]


def _train_digits(device: torch.device, precision: str) -> str:
    from gpmt.extras_private import forget_optimizer
    from gpmt.training.data import datasets
    from gpmt.training.models import construct
    from gpmt.training.run.loop import evaluate, seed_everything, train_epoch
    from gpmt.training.run.objective import Objective

    accelerator = accelerator_of(device, precision)
    limit = None if device.type == "cuda" else 128  # a CPU may have no instructions for this type
    source = datasets.load("digits", root=None, train_limit=limit, test_limit=limit)
    source = source.placed(device, rank=0, processes=1)
    steps = source.train_steps(Settings.batch_size)
    epochs = 4

    def start() -> tuple[nn.Module, Any, gpmt.Pruner]:
        seed_everything((0,))
        net = construct("mobilenet-digits", num_classes=10, input_shape=source.input_shape)
        model = accelerator.prepare(net.to(device).to(memory_format=torch.channels_last))
        optimizer = accelerator.prepare_optimizer(sgd(model))
        schedule = gpmt.Gradual(0.9, start=steps, end=epochs * steps, interval=steps // 2)
        return model, optimizer, gpmt.Pruner(model, optimizer, schedule=schedule, min_kept="0.25%")

    with tempfile.TemporaryDirectory() as folder:
        model, optimizer, pruner = start()
        for epoch in range(1, epochs + 1):

            def after_step(pruner: gpmt.Pruner = pruner, done: list[int] = [pruner.step_count]) -> None:  # noqa: B006
                if pruner.step_count == done[0]:
                    pruner.skip_step()
                done[0] = pruner.step_count

            train_epoch(
                model,
                optimizer,
                source,
                accelerator,
                settings=Settings(),  # type: ignore[arg-type]
                epoch=epoch,
                objective=Objective(),
                seed=(0, epoch),
                advance=lambda images, loss=None: None,
                after_step=after_step,
            )
            if pruner.masks is not None:
                check_zeros(pruner, model, optimizer)
            if epoch == 2:  # resume: everything anew, from a file
                parts = [model, optimizer, pruner]
                parts += [] if accelerator.scaler is None else [accelerator.scaler]
                path = Path(folder, "state.pt")
                torch.save([part.state_dict() for part in parts], path)
                forget_optimizer(accelerator, optimizer)
                model, optimizer, pruner = parts[:3] = start()
                for part, state in zip(parts, torch.load(path, weights_only=True), strict=True):
                    part.load_state_dict(state)
        forget_optimizer(accelerator, optimizer)
        assert pruner.step_count == epochs * steps
        verified(model, masks=pruner.masks, sparsity=0.9, min_kept="0.25%")
        score = evaluate(model, source, accelerator, advance=lambda images: None)
        assert limit or score.top1 > 0.5, score
        size = gpmt.save_sparse(model, Path(folder, "a.sparse.safetensors"), masks=pruner.masks)
        again = gpmt.load_sparse(Path(folder, "a.sparse.safetensors"))
        for name, value in model.state_dict().items():
            assert torch.equal(again[name], value.cpu()), name
        assert gpmt.load(Path(folder, "a.sparse.safetensors")).masks == pruner.masks
    return f"top-1 {score.top1:.1%}, {size.bytes:,} bytes"


@check("digits")
def digits_recipe(device: torch.device) -> str:
    """The recipe digits in bf16 and fp16, stopped and resumed, verified, saved as a sparse file and loaded"""
    if not has_pydantic():
        raise NotRun("pydantic, which checks recipes, is not installed; digits-loop does the same without")
    try:
        found = [f"{kind} {_run_digits(device, kind)}" for kind in _precisions(device)]
    except ImportError as error:
        raise NotRun(f"a library is missing ({error})") from None
    return ", ".join(found)


def _run_digits(device: torch.device, precision: str) -> str:
    from gpmt.training.recipes.files import load_recipe
    from gpmt.training.run.run import Stopped, run

    settings = [f"compute.precision={precision}", "dense.epochs=3", "finetune.epochs=3", "dense.clip_norm=5"]
    settings += ["schedule=gradual", "end=3", "finetune.clip_norm=5"]
    if device.type == "cpu":
        settings += ["compute.device=cpu", "data.train_limit=128", "data.test_limit=64"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "run")
        try:
            run(load_recipe("digits", settings), out, max_epochs=4)
        except Stopped:
            metrics = run(load_recipe("digits", settings), out, resume=True)
        assert metrics["machine"]["mixed_precision"] == precision
        assert metrics["verification"]["ok"], metrics["verification"]
        weights = gpmt.load(out / "model.pt")
        masks = gpmt.Masks.load(out / "masks.safetensors", of=weights.state_dict)
        verified(out / "model.pt", masks=masks, sparsity=0.93, min_kept="0.25%")
        gpmt.save_sparse(weights.state_dict, Path(folder, "a.sparse.safetensors"), masks=masks)
        again = gpmt.load_sparse(Path(folder, "a.sparse.safetensors"))
        assert all(torch.equal(again[name], value) for name, value in weights.state_dict.items())
    return f"top-1 {metrics['finetuned']['top1']:.1%}"
