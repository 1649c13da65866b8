"""Everything that only a GPU can show, in one command of less than eight minutes.

    python benchmarks/gpu.py                        # all checks, on the first GPU; results also in gpu.json
    python benchmarks/gpu.py --only graph scaler    # some of them
    python benchmarks/gpu.py --device cpu           # what of them means something on a CPU, to test the checks

It needs PyTorch and what gpmt itself needs, but no installation of gpmt and no network. A check that lacks something
is listed as not run, with the reason. Without a GPU all are, and the exit code is 0; it is 1 if a check failed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for deterministic mode, before CUDA starts

import torch  # noqa: E402

import gpu_precision_checks  # noqa: E402, F401 - each of these registers its checks
import gpu_selection_checks  # noqa: E402, F401
import gpu_training_checks  # noqa: E402, F401
from gpu_check import CHECKS, Result, run_checks  # noqa: E402

SECONDS = 400.0
"""No check starts after so long; the longest takes less than the rest of eight minutes."""

ORDER = ("masks", "apply", "stream"), ("graph", "processes", "tests")
"""Checks to run first, and last: these may damage what the others need, or take long."""


def machine(device: torch.device | None) -> dict[str, Any]:
    gpu = torch.cuda.get_device_name(device) if device is not None and device.type == "cuda" else None
    return {
        "gpu": gpu,
        "device": None if device is None else str(device),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
    }


def show(result: Result) -> None:
    print(f"{result.status:8} {result.name:15} {result.seconds:6.1f} s  {result.title}")
    if result.detail:
        print(f"{'':33}{result.detail}")
    if result.trace:
        print(result.trace)
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [each.name for each in CHECKS]
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--only", nargs="+", choices=names, metavar="CHECK", help=", ".join(names))
    parser.add_argument("--seconds", type=float, default=SECONDS, help="start no check after so long")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="file for the results")
    options = parser.parse_args(arguments)

    device = torch.device(options.device) if options.device == "cpu" or torch.cuda.is_available() else None
    about = machine(device)
    print(", ".join(f"{key} {value}" for key, value in about.items() if value is not None))
    if device is None:
        print(
            "PyTorch finds no GPU here, so no check is run; --device cpu runs what means something on a CPU"
        )
    checks = [each for each in CHECKS if not options.only or each.name in options.only]
    checks.sort(key=lambda each: (each.name in ORDER[1]) - (each.name in ORDER[0]))
    results = []
    for result in run_checks(checks, device, options.seconds):
        show(result)
        results.append(result)
        # After each check, so that nothing is lost where the machine is taken away.
        text = json.dumps({"machine": about, "checks": [asdict(each) for each in results]}, indent=2)
        options.json.write_text(text + "\n", encoding="utf-8")
    counts = {
        status: sum(each.status == status for each in results) for status in ("ok", "FAILED", "not run")
    }
    print(", ".join(f"{count} {status}" for status, count in counts.items()))
    return 1 if counts["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())
