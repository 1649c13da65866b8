"""Kernels for aarch64 in an emulator, on copies of the memory that tests have between guard pages."""

import signal
import subprocess
from pathlib import Path

import numpy as np
from tests.runtime import aarch64

SOURCE = Path(__file__).with_suffix(".c")


def harness(folder):
    """Compile emulated.c, and return the command that runs it."""
    return aarch64.program(folder, SOURCE)


class Emulator:
    """A process that runs kernels; it is started when it is needed.

    Args:
        command: the harness.
        folder: for files of the linker.
    """

    def __init__(self, command, folder):
        self._command, self._folder = command, folder
        self._codes, self._functions = {}, {}
        self._process = None

    def compiled(self, ir):
        """Return the machine code of the function `kernel` of a module of LLVM IR."""
        if ir not in self._functions:
            self._functions[ir] = aarch64.flat_code(ir, self._folder)
        return self._functions[ir]

    def run(self, code, words, areas, order):
        """Run a kernel, and change the areas as it does.

        Args:
            code: the parameters of its machine code.
            words: its arguments.
            areas: what they may point into, as `guarded.Area`.
            order: the items, in this order.

        Raises:
            AssertionError: it crashed.
        """
        if repr(code) not in self._codes:
            self._codes[repr(code)] = self.compiled(code.emit())
        machine_code = self._codes[repr(code)]
        places = [next(((i, w - a.first) for i, a in enumerate(areas) if w in a), (-1, w)) for w in words]
        used = sorted({i for i, _ in places if i >= 0})
        places = [(used.index(i) if i >= 0 else -1, offset) for i, offset in places]
        assert all(i >= 0 or abs(offset) < 1 << 32 for i, offset in places), "memory that is not guarded"
        areas = [areas[i] for i in used]
        page = areas[0].page if areas else 4096
        numbers = [page, len(areas), len(words), len(order), len(machine_code)]
        numbers += [number for area in areas for number in (len(area.content) // page, area.is_code)]
        numbers += [number for place in places for number in place] + order
        parts = [np.array(numbers, np.int64).tobytes(), machine_code]
        answer = self._ask(parts + [a.content for a in areas], [a.content for a in areas if not a.is_code])
        for area, content in zip([a for a in areas if not a.is_code], answer, strict=True):
            area.content[:] = content

    def _ask(self, parts, expected):
        if self._process is None:
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process = self._process
        try:
            for part in parts:
                process.stdin.write(part)
            process.stdin.flush()
            answer = [process.stdout.read(len(part)) for part in expected]
            broken = any(len(a) != len(part) for a, part in zip(answer, expected, strict=True))
        except BrokenPipeError:
            broken = True
        if broken or process.poll() is not None:
            code = self.close()
            name = signal.Signals(-code).name if code < 0 else f"code {code}"
            raise AssertionError(f"the emulator ended with {name}")
        return [np.frombuffer(part, np.uint8) for part in answer]

    def close(self):
        """End the process, and return its exit code; 0 where there is none."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.communicate()
        return process.returncode
