"""Checks of gpu.py about deciding, applying and storing: the results of a CPU, in the caller's stream."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import gpmt
from gpmt import allocations
from gpu_check import NotRun, check, need_gpu, verified, wait

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
SPARSITIES = [0.0, 0.5, 0.9, 0.995]
sleep: Any = torch.cuda._sleep
stream: Any = torch.cuda.Stream
LONG = 400_000_000
"""Clock cycles, about 0.2 s: long enough that what does not wait for it comes first."""


def weights(dtype: torch.dtype, seed: int = 0) -> dict[str, Tensor]:
    """Tensors on the CPU of odd sizes, of several pieces, in channels-last order, with many ties and both zeros."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    tied = normal(257, 131).round(decimals=1)
    tied[0] = -0.0
    state = {
        "large.weight": normal(1025, 1031),
        "image.weight": normal(129, 127, 3, 3).to(memory_format=torch.channels_last),
        "tied.weight": tied,
        "small.weight": normal(5, 3),
        "turned.weight": normal(33, 65).T,
        "half_ties.weight": normal(64, 513).round(decimals=2),
    }
    return {name: tensor.to(dtype) for name, tensor in state.items()}


def on(device: torch.device, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.to(device, copy=True) for name, tensor in state.items()}


@check("masks")
def masks_of_a_cpu(device: torch.device) -> str:
    """The masks are those of a CPU, bit for bit: four types, ties, floors, odd sizes, channels last"""
    compared = 0
    for dtype in DTYPES:
        state = weights(dtype)
        there = on(device, state)
        for min_kept in (0, 100):
            plans = gpmt.plan(state, sparsity=SPARSITIES, min_kept=min_kept)
            others = gpmt.plan(there, sparsity=SPARSITIES, min_kept=min_kept)
            for one, other in zip(plans, others, strict=True):
                assert one.to_dict() == other.to_dict()
                assert one.masks() == other.masks()
                compared += 1
        for name in allocations.names():
            one, other = (gpmt.plan(each, sparsity=0.9, allocation=name) for each in (state, there))
            assert one.masks() == other.masks(), name
            compared += 1
    matrices = {name: tensor for name, tensor in weights(torch.float32).items() if tensor.ndim == 2}
    one, other = (
        gpmt.plan(each, sparsity=0.9, granularity="column") for each in (matrices, on(device, matrices))
    )
    assert one.masks() == other.masks(), "columns"
    return f"{compared + 1} pairs of masks are equal"


@check("apply")
def applying(device: torch.device) -> str:
    """Masks apply to tensors of any type and order, of inference mode too, and the result verifies"""
    for dtype in DTYPES:
        for inference in (False, True):
            state = weights(dtype)
            with torch.inference_mode(inference):
                there = on(device, state)
            masks = gpmt.plan(there, sparsity=0.9, min_kept=10).masks()
            masks.apply_(there)
            for name, tensor in there.items():
                expected = torch.where(masks[name], state[name], 0)
                assert torch.equal(tensor.cpu(), expected), (name, dtype, inference)
            verified(there, masks=masks, sparsity=0.9, min_kept=10)
    return "float64, float32, float16, bfloat16"


@check("stream")
def side_stream(device: torch.device) -> str:
    """On a stream of the caller, weights that a queued kernel has yet to write are waited for"""
    need_gpu(device, "streams")
    old, new = weights(torch.float32, 0), weights(torch.float32, 1)
    expected = gpmt.plan(new, sparsity=0.9, min_kept=10).masks()
    for threaded in (False, True):
        there, staged = on(device, old), on(device, new)
        wait(device)
        found: list[gpmt.Masks] = []

        def decide(
            there: dict[str, Tensor] = there,
            staged: dict[str, Tensor] = staged,
            found: list[gpmt.Masks] = found,
        ) -> None:
            with torch.cuda.stream(stream(device)):
                sleep(LONG)
                for name, tensor in there.items():
                    tensor.copy_(staged[name])
                masks = gpmt.plan(there, sparsity=0.9, min_kept=10).masks()
                sleep(LONG)
                for name, tensor in there.items():
                    tensor.copy_(staged[name])
                masks.apply_(there)
                found.append(masks)

        if threaded:
            thread = threading.Thread(target=decide)
            thread.start()
            thread.join()
        else:
            decide()
        wait(device)
        assert found, "the thread failed"
        assert found[0] == expected
        for name, tensor in there.items():
            assert torch.equal(tensor.cpu(), torch.where(expected[name], new[name], 0)), name
    return "in the main thread and in another"


@check("memory")
def memory_of_deciding(device: torch.device) -> str:
    """Deciding about 75 million weights takes less than 64 MiB of the GPU's memory"""
    need_gpu(device, "measurements of its memory")
    generator = torch.Generator(device).manual_seed(0)
    state = {
        f"layer{index}.weight": torch.randn(1024, 1024, 3, 3, device=device, generator=generator)
        for index in range(8)
    }
    wait(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    gpmt.plan(state, sparsity=SPARSITIES[1:], min_kept="0.05%")[-1].masks()
    taken = torch.cuda.max_memory_allocated(device) - before
    assert taken < 64 << 20, f"{taken / 2**20:.1f} MiB"
    return f"{taken / 2**20:.1f} MiB"


@check("default-device")
def default_device(device: torch.device) -> str:
    """With the device as PyTorch's default, files are written and read on the CPU as ever"""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(200, 300), nn.Linear(300, 10))
    gpmt.prune_(network, sparsity=0.9)
    expected = network.state_dict()
    other = "meta" if device.type == "cpu" else str(device)
    before = torch.get_default_device()
    torch.set_default_device(other)
    try:
        with tempfile.TemporaryDirectory() as folder:
            for values in ("exact", "int8"):
                path = Path(folder, f"{values}.sparse.safetensors")
                size = gpmt.save_sparse(network, path, values=values)
                for state in (gpmt.load_sparse(path), gpmt.load(path).state_dict):
                    for name, tensor in state.items():
                        assert tensor.device.type == "cpu", name
                        assert (tensor - expected[name]).abs().max() <= size.error, name
            for tensor in (nn.Linear(3, 3).weight, torch.ones(1)):
                assert tensor.device.type == other.partition(":")[0]
            torch.save(expected, Path(folder, "a.pt"))
            assert all(
                value.device.type == "cpu" for value in gpmt.load(f"{folder}/a.pt").state_dict.values()
            )
    finally:
        torch.set_default_device(None if before.type == "cpu" else before)
    return f"default device {other}"


@check("offloaded")
def offloaded_weights(device: torch.device) -> str:
    """Weights that Accelerate has offloaded are refused by name, and prune once they are back"""
    try:
        from accelerate import cpu_offload
        from accelerate.hooks import remove_hook_from_submodules
    except ImportError as error:
        raise NotRun(f"Accelerate cannot be imported ({error})") from None
    network = nn.Sequential(nn.Linear(20, 20), nn.Linear(20, 20))
    masks = gpmt.plan(network, sparsity=0.5).masks()
    cpu_offload(network, execution_device=device)
    try:
        masks.apply_(network)
    except gpmt.GpmtError as error:
        sentence = str(error)
    else:
        raise AssertionError("the masks were applied to nothing")
    remove_hook_from_submodules(network)
    masks.apply_(network)
    verified(network, masks=masks, sparsity=0.5)
    return sentence
