"""What a check of gpu.py is: a function of a device that returns what it found, and how checks are run one by one."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import gpmt

Function = Callable[[torch.device], str]


class NotRun(Exception):
    """A check cannot be run here; the text says why."""


@dataclass(frozen=True)
class Check:
    """A check: its name on the command line, what it shows, and its function."""

    name: str
    title: str
    function: Function


@dataclass(frozen=True)
class Result:
    """What came of a check; `status` is "ok", "FAILED" or "not run", `detail` a finding, an error or a reason."""

    name: str
    title: str
    status: str
    seconds: float
    detail: str
    trace: str = ""


CHECKS: list[Check] = []


def check(name: str) -> Callable[[Function], Function]:
    """Register a function as a check; the first line of its docstring is the title."""

    def register(function: Function) -> Function:
        CHECKS.append(Check(name, (function.__doc__ or name).splitlines()[0], function))
        return function

    return register


def run_checks(checks: Iterable[Check], device: torch.device | None, seconds: float) -> Iterator[Result]:
    """Run checks one after the other, as long as the time allows; without a device none is run."""
    start = time.monotonic()
    broken = ""
    for each in checks:
        if device is None:
            yield _not_run(each, "there is no GPU here")
        elif broken:
            yield _not_run(each, f"the GPU's context is damaged since {broken}")
        elif time.monotonic() - start > seconds:
            yield _not_run(each, f"{seconds:g} seconds are over")
        else:
            result = _run(each, device)
            if result.status == "FAILED" and "CUDA error" in result.trace:
                broken = each.name  # every later call would fail too
            yield result


def _run(each: Check, device: torch.device) -> Result:
    start = time.monotonic()
    status, trace = "ok", ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", gpmt.GpmtWarning
            )  # of tensors that keep next to nothing, as they shall
            detail = each.function(device)
            wait(device)
    except NotRun as reason:
        status, detail = "not run", str(reason)
    except Exception as error:
        status, trace = "FAILED", traceback.format_exc()
        detail = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    return Result(each.name, each.title, status, time.monotonic() - start, detail, trace)


def _not_run(each: Check, reason: str) -> Result:
    return Result(each.name, each.title, "not run", 0.0, reason)


def verified(target: nn.Module | Mapping[str, Tensor] | Path, **request: Any) -> None:
    """Verify a pruned network; the error is the report."""
    result = gpmt.verify(target, **request)
    if not result:
        raise AssertionError(str(result).replace("\n", "; "))


def need_gpu(device: torch.device, what: str) -> None:
    """Raise `NotRun` unless `device` is a GPU."""
    if device.type != "cuda":
        raise NotRun(f"{what} need a GPU")


def wait(device: torch.device) -> None:
    """Wait for all that was queued on a device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def no_waiting(device: torch.device) -> Iterator[None]:
    """Make it an error to wait for the GPU inside the block."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
