"""The devices and processes of a run, through Accelerate."""

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import SGD

from gpmt.errors import RecipeError
from gpmt.extras_private import forget_optimizer, reset_accelerator_state
from gpmt.training.recipes.schema import Recipe

PRECISIONS = {"float32": "no", "bf16": "bf16", "fp16": "fp16", None: None}


def computes_on_cpu(recipe: Recipe) -> bool:
    """Return whether a run of `recipe` computes on the CPU here.

    Raises RecipeError where the recipe asks for what the machine lacks.
    """
    compute = recipe.compute
    has_gpu = torch.accelerator.is_available()
    if recipe.expects.device == "gpu" and compute.device == "auto" and not has_gpu:
        short = recipe.expects.on_cpu
        instead = f"run the CPU version, `gpmt run {short}`, or " if short else ""
        raise RecipeError(
            f"{recipe.title} is for a GPU, but PyTorch finds none here; {instead}use the CPU with "
            "compute.device=cpu"
        )
    on_cpu = compute.device == "cpu" or not has_gpu
    if compute.precision == "fp16" and on_cpu:
        raise RecipeError("compute.precision is fp16, which needs a GPU; on a CPU give bf16 or float32")
    return on_cpu


def make_accelerator(recipe: Recipe) -> Accelerator:
    """Return the `Accelerator` that places a run of `recipe` on devices and connects its processes.

    Raises RecipeError where the recipe asks for what the machine lacks.
    """
    compute, on_cpu = recipe.compute, computes_on_cpu(recipe)
    plugin = None
    if compute.sharding == "fsdp2":
        _check_sharding(recipe)
        plugin = _sharding_plugin()
    # A process may carry out several runs; Accelerate keeps the precision and plugins of its first.
    reset_accelerator_state()
    # In a torchrun without GPUs, Accelerate connects the processes only if `cpu` is given.
    accelerator = Accelerator(cpu=on_cpu, mixed_precision=PRECISIONS[compute.precision], fsdp_plugin=plugin)
    if plugin is not None and accelerator.num_processes == 1:
        raise RecipeError(
            "compute.sharding is fsdp2, but there is one process; start several with torchrun, or give ddp"
        )
    return accelerator


def prepare(model: nn.Module, accelerator: Accelerator, *, compiled: bool) -> nn.Module:
    """Place the network on the device and let the processes train it together."""
    if accelerator.is_fsdp2:
        # Accelerate shards a network and its optimiser together only; the phases make their own optimisers.
        prepared, optimizer = accelerator.prepare(model, SGD(model.parameters(), lr=1.0))
        forget_optimizer(accelerator, optimizer)
    else:
        prepared = accelerator.prepare(model)
    network: nn.Module = prepared
    return torch.compile(network) if compiled else network  # type: ignore[return-value]


def _check_sharding(recipe: Recipe) -> None:
    if recipe.finetune.ema is not None or recipe.dense.ema is not None:
        raise RecipeError("ema is given, but does not go with compute.sharding fsdp2; leave one of them out")


def _sharding_plugin() -> object:
    from accelerate import FullyShardedDataParallelPlugin

    return FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="no_wrap")
