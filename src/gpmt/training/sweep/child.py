"""A run in a process of its own, so that its crash or its memory is not that of the program that started it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from gpmt.system import core_count

PATIENCE_SECONDS = 30
"""How long a child that is asked to end may take before it is killed."""


class Child:
    """``gpmt run`` with these arguments, all that it says in the file `log`.

    It inherits the open files `keep`. `slot` says which of `jobs` places beside each other it takes.
    """

    def __init__(
        self, arguments: Sequence[str], *, log: Path, slot: int, jobs: int, keep: Sequence[int] = ()
    ) -> None:
        self.log, self.slot = log, slot
        self._start = time.monotonic()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gpmt", "run", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(slot, jobs),
                pass_fds=keep,
            )

    @property
    def seconds(self) -> float:
        """Time since it was started."""
        return time.monotonic() - self._start

    @property
    def running(self) -> bool:
        """Whether it is still at work."""
        return self._process.poll() is None

    def failure(self) -> str:
        """Say in one sentence why it ended without a result."""
        code = self._process.wait()
        if code < 0:
            memory = ", often for want of memory" if -code == signal.SIGKILL else ""
            return f"killed by {signal.Signals(-code).name}{memory}; {self.log} has its last words"
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        for line in reversed(lines):
            if line.startswith("error: "):
                return line.removeprefix("error: ")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "nothing was said")
        return f"{said}; {self.log} has the rest"

    def ask_to_end(self) -> None:
        """Have it stop as if interrupted."""
        self._process.terminate()

    def wait_for_end(self) -> None:
        """Return when it has ended, which it will."""
        try:
            self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def environment(slot: int, jobs: int) -> dict[str, str]:
    """Return the environment for one of `jobs` processes beside each other, with its share of cores and GPUs.

    More threads than cores would wait for each other most of the time. What the user set is left alone.
    """
    variables = dict(os.environ)
    if jobs > 1:
        variables.setdefault("OMP_NUM_THREADS", str(max(1, core_count() // jobs)))
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = named.split(",") if named else [str(index) for index in range(torch.cuda.device_count())]
        if len(gpus) > 1:
            variables["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    return variables
