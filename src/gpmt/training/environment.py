"""What a result depends on beside its recipe: versions and machine."""

import platform
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate import Accelerator


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide the numbers."""
    packages = {name: version(name) for name in ("gpmt", "torchvision", "accelerate", "numpy")}
    return {"python": platform.python_version(), "torch": torch.__version__, **packages}


def machine(accelerator: Accelerator) -> dict[str, str | int]:
    """Return processor, threads, and the device and processes that train."""
    device = accelerator.device
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": accelerator.num_processes,
        "mixed_precision": accelerator.mixed_precision,
    }


def cpu_name() -> str:
    """Return what the processor calls itself, else its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
