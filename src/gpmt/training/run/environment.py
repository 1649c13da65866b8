"""The versions and the machine that a result depends on."""

import platform
from importlib.metadata import PackageNotFoundError, version

import torch
from accelerate import Accelerator

from gpmt.system import cpu_name


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that the result depends on."""
    packages = {name: _version(name) for name in ("gpmt", "torchvision", "accelerate", "numpy")}
    return {"python": platform.python_version(), "torch": torch.__version__, **packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # gpmt itself may run from its source
        return "not installed"


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
