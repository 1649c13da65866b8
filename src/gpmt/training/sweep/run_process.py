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

TERMINATION_SECONDS = 30
"""How long a process that is asked to stop may take before it is killed."""


class RunProcess:
    """``gpmt run`` with these arguments in a process that writes all its output to the file `log`.

    It inherits the file descriptors `keep_open`. `slot` is its index among the `jobs` processes that run at the
    same time.
    """

    def __init__(
        self, arguments: Sequence[str], *, log: Path, slot: int, jobs: int, keep_open: Sequence[int] = ()
    ) -> None:
        self.log, self.slot = log, slot
        self._start = time.monotonic()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gpmt", "run", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=process_environment(slot, jobs),
                pass_fds=keep_open,
            )

    @property
    def seconds(self) -> float:
        """Time since it was started."""
        return time.monotonic() - self._start

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def failure(self) -> str:
        """Say in one sentence why it ended without a result."""
        code = self._process.wait()
        if code < 0:
            memory = ", often because memory ran out" if -code == signal.SIGKILL else ""
            return f"killed by {signal.Signals(-code).name}{memory}; see {self.log}"
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        for line in reversed(lines):
            if line.startswith("error: "):
                return line.removeprefix("error: ")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
        return f"{last}; see {self.log}"

    def terminate(self) -> None:
        """Ask it to stop, as an interrupt does."""
        self._process.terminate()

    def wait(self) -> None:
        """Return when it has ended; kill it if it does not end in time."""
        try:
            self._process.wait(TERMINATION_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def process_environment(slot: int, jobs: int) -> dict[str, str]:
    """Return the environment variables for one of `jobs` parallel processes, with its share of cores and GPUs.

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
