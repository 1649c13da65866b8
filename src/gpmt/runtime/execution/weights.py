"""The constant arrays of a network's kernels, in one block of memory."""

from __future__ import annotations

from collections.abc import Sequence

from gpmt.runtime.lowering.candidates import Candidate
from gpmt.runtime.machine_code.executable_memory import ExecutableMemory
from gpmt.runtime.threads.arena import Arena, arena_size

_MAX_COMPARED = 1 << 16  # bytes; equal arrays up to this size are stored once


class Weights:
    """The constant arrays of kernels; small ones that are equal are stored once.

    Args:
        choices: the kernel of every native step.

    Attributes:
        addresses: for each kernel, the addresses of its arrays by argument.
        sizes: for each kernel, the bytes of its arrays and of the code that is made for its weights.
        size: bytes.

    Raises:
        RuntimeProgramError: there is not enough memory.
    """

    def __init__(self, choices: Sequence[Candidate]) -> None:
        groups = [choice.arrays() for choice in choices]
        self._arena = Arena(arena_size(array.nbytes for group in groups for array in group.values()))
        made = [choice.code() if choice.code else None for choice in choices]
        codes = [code for code in made if code is not None]
        self.sizes = [
            sum(array.nbytes for array in group.values()) + (0 if code is None else code.nbytes)
            for group, code in zip(groups, made, strict=True)
        ]
        self._code = ExecutableMemory(codes) if codes else None
        self.size = self._arena.size + (self._code.size if self._code else 0)
        self.addresses: list[dict[str, int]] = []
        stored: dict[bytes, int] = {}
        for group in groups:
            addresses = {}
            for name, array in group.items():
                content = array.tobytes() if array.nbytes < _MAX_COMPARED else b""
                addresses[name] = stored[content] if content in stored else self._arena.store(array)
                if content:
                    stored[content] = addresses[name]
            self.addresses.append(addresses)
        if self._code:
            coded = [own for own, choice in zip(self.addresses, choices, strict=True) if choice.code]
            for own, address in zip(coded, self._code.addresses, strict=True):
                own["code"] = address
