"""Checks of gpu.py about training: what a step waits for, determinism, graphs, processes, and what it costs."""

from __future__ import annotations

import copy
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gpmt
from gpu_check import NotRun, check, need_gpu, no_waiting, verified, wait
from gpu_selection_checks import stream

ROOT = Path(__file__).resolve().parents[1]
CLASSES = 10

Make = Callable[..., torch.optim.Optimizer]


class Network(nn.Module):
    """Convolutions, one of them depthwise, norms and a linear layer: nothing that has no deterministic kernel."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.pointwise = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.head = nn.Linear(4 * width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        features = torch.relu(self.norm(self.stem(images)))
        features = torch.relu(self.pointwise(self.depthwise(features)))
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


def network(device: torch.device, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return Network(64 if device.type == "cuda" else 8).to(device)


def batch(device: torch.device, seed: int = 0, count: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, 8, 8, generator=generator)
    return images.to(device), torch.randint(CLASSES, (count,), generator=generator).to(device)


def sgd(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3, **options)


def adam(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=1e-3, **options)


KERNELS: tuple[dict[str, bool], ...] = ({}, {"foreach": True}, {"fused": True})


def check_zeros(pruner: gpmt.Pruner, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Check that weights and optimiser state are +0.0 where the masks prune."""
    assert pruner.masks is not None
    for name, mask in pruner.masks.items():
        weight = model.get_parameter(name)
        state = [value for value in optimizer.state[weight].values() if isinstance(value, Tensor)]
        for tensor in [weight.detach(), *(value for value in state if value.shape == weight.shape)]:
            pruned = tensor.cpu()[~mask]
            assert not pruned.any(), name
            assert not pruned.signbit().any(), name


@check("no-waiting")
def no_waiting_between_events(device: torch.device) -> str:
    """20 steps of SGD and Adam (default, foreach, fused) do not wait for the GPU between the schedule's events"""
    images, labels = batch(device)
    schedule = gpmt.Gradual(0.9, start=5, end=20, interval=5, initial=0.3)
    for make in (sgd, adam):
        for kernel in KERNELS:
            model = network(device)
            optimizer = make(model, **kernel)
            pruner = gpmt.Pruner(model, optimizer, schedule=gpmt.OneShot(0.2), min_kept=5)
            for _ in range(3):  # state, plans of cuDNN and cuBLAS
                F.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            pruner.detach()
            pruner = gpmt.Pruner(model, optimizer, schedule=schedule, min_kept=5)
            for step in range(1, 21):
                with no_waiting(device) if schedule.event(step) is None else open_():
                    optimizer.zero_grad()
                    F.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
            check_zeros(pruner, model, optimizer)
            verified(model, masks=pruner.masks, sparsity=0.9)
    return "6 optimisers"


@contextmanager
def open_() -> Iterator[None]:
    yield


@check("data")
def data_and_metrics(device: torch.device) -> str:
    """Batches held on the GPU, and the counting of hits, do not wait for it"""
    try:
        from gpmt.training.data.in_memory_source import InMemorySource, Split
        from gpmt.training.run.score import Meter
    except ImportError as error:
        raise NotRun(f"a library is missing ({error})") from None
    pixels = torch.randint(256, (256, 32, 32, 3), dtype=torch.uint8)
    split = Split(pixels, torch.arange(256) % CLASSES)
    numbers = ((0.5, 0.4, 0.3), (0.2, 0.3, 0.2))
    source = InMemorySource(split, split, ("",) * CLASSES, *numbers, crop_padding=4, flip=True)
    placed = source.placed(device, rank=0, processes=1)
    meter = Meter(device, num_classes=CLASSES)
    for batches in (placed.train_batches(64, seed=(0,)), placed.test_batches(64)):
        next(batches)
        with no_waiting(device):
            for images, labels in batches:
                assert isinstance(images, Tensor)
                meter.add(images.flatten(1)[:, :CLASSES], labels)
    on_cpu = source.placed(torch.device("cpu"), rank=0, processes=1)
    for one, other in zip(placed.test_batches(64), on_cpu.test_batches(64), strict=True):
        assert isinstance(one[0], Tensor)
        torch.testing.assert_close(one[0].cpu(), other[0])
    return "training and test batches"


@check("deterministic")
def deterministic(device: torch.device) -> str:
    """In deterministic mode, pruning and training raise nothing, and two runs end with the same bits"""
    ends = []
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(2):
            model = network(device)
            optimizer = adam(model)
            pruner = gpmt.Pruner(model, optimizer, schedule=gpmt.Gradual(0.9, end=8, interval=2), min_kept=5)
            for step in range(10):
                images, labels = batch(device, step)
                optimizer.zero_grad()
                F.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            check_zeros(pruner, model, optimizer)
            verified(model, masks=pruner.masks, sparsity=0.9, min_kept=5)
            ends.append(({name: value.cpu() for name, value in model.state_dict().items()}, pruner.masks))
    finally:
        torch.use_deterministic_algorithms(False)
    assert ends[0][1] == ends[1][1], "masks"
    for name, value in ends[0][0].items():
        assert torch.equal(value, ends[1][0][name]), name
    return "10 steps of Adam"


@check("compiled-step")
def compiled_step(device: torch.device) -> str:
    """A step of the optimiser compiled by torch.compile is pruned, and the hook compiles nothing"""
    images, labels = batch(device)
    model = network(device)
    optimizer = adam(model)
    pruner = gpmt.Pruner(model, optimizer, schedule=gpmt.Gradual(0.9, end=4, initial=0.3), min_kept=5)
    torch._dynamo.reset()
    step = torch.compile(optimizer.step, backend="eager")
    for _ in range(6):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        step()
    assert pruner.step_count == 6
    check_zeros(pruner, model, optimizer)
    verified(model, masks=pruner.masks, sparsity=0.9)
    return "backend eager"


@check("graph")
def captured_graph(device: torch.device) -> str:
    """A captured step keeps pruned weights at zero in replays, under other masks too"""
    need_gpu(device, "CUDA graphs")
    images, labels = batch(device)
    for make, options in ((sgd, {}), (adam, {"capturable": True})):
        model = network(device)
        optimizer = make(model, **options)
        pruner = gpmt.Pruner(model, optimizer, schedule=gpmt.OneShot(0.9), min_kept=5)

        def step(model: nn.Module = model, optimizer: torch.optim.Optimizer = optimizer) -> None:
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        side = stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream(device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        count = pruner.step_count
        before = model.head.weight.detach().clone()
        for _ in range(3):
            graph.replay()
        assert not torch.equal(before, model.head.weight), "replays train"
        assert pruner.step_count == count, "time stands still in replays"
        check_zeros(pruner, model, optimizer)
        pruner.masks = gpmt.plan(model, sparsity=0.95, min_kept=5).masks()
        churn = [
            torch.randn(1 << 20, device=device) for _ in range(50)
        ]  # over memory that was freed by mistake
        for _ in range(3):
            graph.replay()
        check_zeros(pruner, model, optimizer)
        verified(model, masks=pruner.masks, sparsity=0.95)
        del churn
    return "SGD, and Adam with capturable=True"


@check("processes")
def processes(device: torch.device) -> str:
    """DistributedDataParallel and FSDP2, with CPU offload too, in a group of one process"""
    dist: Any = torch.distributed
    if not dist.is_available():
        raise NotRun("this PyTorch is built without distributed")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import CPUOffloadPolicy, fully_shard
    from torch.nn.parallel import DistributedDataParallel

    gpu = device.type == "cuda"
    images, labels = batch(device)
    expected = gpmt.plan(network(device), sparsity=0.9, min_kept=5).masks()

    def train(model: Any) -> None:
        optimizer = sgd(model)
        pruner = gpmt.Pruner(model, optimizer, schedule=gpmt.OneShot(0.9), min_kept=5)
        assert pruner.masks == expected
        for _ in range(3):
            F.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    for backend in ("nccl", "cpu:gloo,cuda:nccl") if gpu else ("gloo",):
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
        try:
            try:
                dist.all_reduce(torch.ones(1, device=device))
                wait(device)
            except RuntimeError as error:
                raise NotRun(f"{backend} does not start here ({str(error).splitlines()[0]})") from None
            mesh = init_device_mesh(device.type, (1,))
            train(DistributedDataParallel(network(device), device_ids=[0] if gpu else None))
            train(fully_shard(network(device), mesh=mesh))
            if gpu:
                offloaded = fully_shard(network(device), mesh=mesh, offload_policy=CPUOffloadPolicy())
                sentence = ""
                try:
                    train(offloaded)
                except gpmt.GpmtError as error:
                    sentence = str(error)
                assert ("init_process_group('cpu:gloo,cuda:nccl')" in sentence) == (backend == "nccl"), (
                    sentence
                )
        finally:
            dist.destroy_process_group()
    return "nccl, and cpu:gloo,cuda:nccl" if gpu else "gloo, without CPU offload"


@check("step-cost")
def cost_of_a_step(device: torch.device) -> str:
    """What the Pruner adds to a step of ResNet-50, by turns; and what pruning it takes"""
    try:
        from torchvision.models import resnet50
    except ImportError:
        try:
            from timm.models.resnet import resnet50
        except ImportError as error:
            raise NotRun(f"there is neither torchvision nor timm ({error})") from None
    gpu = device.type == "cuda"
    count, size, turns = (64, 224, 20) if gpu else (2, 32, 1)
    torch.manual_seed(0)
    plain = resnet50().to(device, memory_format=torch.channels_last)
    models = {"plain": plain, "pruned": copy.deepcopy(plain)}
    optimizers = {name: sgd(model) for name, model in models.items()}
    start = time.perf_counter()
    pruner = gpmt.Pruner(models["pruned"], optimizers["pruned"], schedule=gpmt.OneShot(0.9), min_kept=5)
    wait(device)
    pruning = time.perf_counter() - start
    images = torch.randn(count, 3, size, size, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(1000, (count,), device=device)
    times: dict[str, list[float]] = {name: [] for name in models}
    warm_up = 2 if gpu else 0
    for turn in range(turns + warm_up):
        for name in sorted(models, reverse=turn % 2 == 1):
            model, optimizer = models[name], optimizers[name]
            wait(device)
            start = time.perf_counter()
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=gpu):
                loss = F.cross_entropy(model(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            wait(device)
            times[name].append(time.perf_counter() - start)
    kept = {name: own[warm_up:] for name, own in times.items()}
    added = statistics.median(b - a for a, b in zip(kept["plain"], kept["pruned"], strict=True))
    plain_ms, pruned_ms = (1e3 * statistics.median(kept[name]) for name in ("plain", "pruned"))
    verified(models["pruned"], masks=pruner.masks, sparsity=0.9)
    share = added / statistics.median(kept["plain"])
    return (
        f"batch {count} at {size}×{size}: {plain_ms:.2f} ms without, {pruned_ms:.2f} ms with, {1e3 * added:+.2f} ms "
        f"({share:+.1%}); making the Pruner {1e3 * pruning:.0f} ms"
    )


@check("tests")
def marked_tests(device: torch.device) -> str:
    """The tests marked gpu"""
    need_gpu(device, "these")
    for library in ("pytest", "hypothesis"):
        try:
            __import__(library)
        except ImportError:
            raise NotRun(f"{library} is not installed") from None
    files = marked_files(ROOT / "tests")
    left_out = [] if has_pydantic() else [path for path in files if "training" in path.parts]
    files = [path for path in files if path not in left_out]
    paths = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-m",
            "gpu",
            "-W",
            "default",
            "-p",
            "no:cacheprovider",
            *files,
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=240,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode:
        raise AssertionError("\n".join(["the tests failed", *lines[-60:], done.stderr[-2000:]]))
    note = f"; without pydantic, {len(left_out)} files were left out" if left_out else ""
    return f"{lines[-1]}{note}"


def marked_files(folder: Path) -> list[Path]:
    """Return the test files with tests marked gpu."""
    return [
        path
        for path in sorted(folder.rglob("test_*.py"))
        if "@pytest.mark.gpu" in path.read_text(encoding="utf-8")
    ]


def has_pydantic() -> bool:
    try:
        import pydantic  # noqa: F401
    except ImportError:
        return False
    return True
