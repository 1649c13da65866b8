"""Scripts that several processes run together, one rank each."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch


def run_ranks(script: Path, folder: Path, *, count: int = 2, seconds: float = 300) -> list[dict[str, Any]]:
    """Run a script as so many processes; return what each saved as rankN.pt in the folder.

    The script gets its rank, the number of processes, and the folder. Where a process fails, the message is what it
    wrote to standard error.
    """
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context((folder / f"errors{rank}").open("w+")) for rank in range(count)]
        processes = [
            subprocess.Popen([sys.executable, str(script), str(rank), str(count), str(folder)], stderr=file)
            for rank, file in enumerate(files)
        ]
        for process in processes:
            stack.callback(process.wait)
            stack.callback(process.kill)
        for process, errors in zip(processes, files, strict=True):
            assert process.wait(timeout=seconds) == 0, Path(errors.name).read_text()
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(count)]


def module_of(script: Path) -> ModuleType:
    """Return a script as a module, to compare with what one process finds."""
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
