"""Kept values in fewer bits: half precision, or eight bits with a scale for each channel.

Eight bits store a sign and one of 127 magnitudes, evenly spaced from the smallest to the largest of the kept weights
of a channel (an index of the first dimension). Magnitude pruning leaves no small weights, so these steps are finer
than those of a scale that starts at zero, and a kept weight never becomes zero. The error is at most half a step.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from gpmt.errors import WeightsError
from gpmt.formats.bits import integers
from gpmt.formats.masks import rice
from gpmt.formats.masks.rice import Bits
from gpmt.formats.sparse.types import DTYPES

LEVELS = 127
_CHUNK = 16 * rice.BLOCK


def gather(packed: Bits, weights: Tensor) -> Tensor:
    """Return the kept of flat contiguous weights, whose bits are set in `packed`."""
    return torch.from_numpy(rice.gather(packed, integers(weights))).view(weights.dtype)


class Rounding:
    """Conversion of weights to the type that is stored, and back.

    Args:
        name: the tensor, for messages.
        stored: type of the stored values, as safetensors names it; "I8" for eight bits on `scales`.
        shape: of the tensor.
        scales: float32 [2, channels] on the CPU: smallest magnitude and step of each channel, for "I8" only.
    """

    def __init__(self, name: str, stored: str, shape: tuple[int, ...], scales: Tensor | None = None) -> None:
        self.name = name
        self.dtype = DTYPES[stored]
        self._columns = max(1, int(np.prod(shape[1:], dtype=np.int64)))
        self._scales = None if scales is None else scales.numpy()

    def store(self, weights: Tensor, start: int, packed: Bits) -> tuple[Tensor, float]:
        """Return the kept of the flat `weights` as they are stored, and the largest error made.

        `weights` begin at flat index `start`, and `packed` are their mask's bits. Raises `WeightsError` for a kept
        weight that would become zero or infinite, or is not finite already.
        """
        if self._scales is not None:
            codes = torch.empty(weights.shape, dtype=torch.int8, device="cpu")
            exact = weights if weights.dtype in (torch.float32, torch.float64) else weights.float()
            low, step = self._scales
            error, lost = _quantise(exact.numpy(), start, self._columns, packed, low, step, codes.numpy())
            if lost >= 0:
                raise WeightsError(
                    f"{self.name} holds {weights[lost].item():g}, which would be 0 in 8 bits; store exact values "
                    "instead"
                )
            if exact is not weights:  # the result is rounded once more, to their type
                back = torch.empty_like(weights)
                self.restore(codes, start, back)
                difference = gather(packed, back).double() - gather(packed, weights).double()
                error = difference.abs().max().item() if len(difference) else 0.0
            return gather(packed, codes), float(error)
        kept = gather(packed, weights)
        if kept.dtype == self.dtype:
            return kept, 0.0
        stored = kept.to(self.dtype)
        lost = (stored == 0) & (kept != 0) | ~torch.isfinite(stored)
        if lost.any():
            raise WeightsError(
                f"{self.name} holds {kept[lost][0].item():g}, which would be {stored[lost][0].item():g} as "
                f"{str(self.dtype).removeprefix('torch.')}; store exact values instead"
            )
        return stored, (stored.double() - kept.double()).abs().max().item() if len(kept) else 0.0

    def restore(self, stored: Tensor, start: int, out: Tensor) -> None:
        """Write to the flat `out` the weights that `store` made `stored` of."""
        if self._scales is None:
            out.copy_(stored)
            return
        weights = (
            out if out.dtype == torch.float32 else torch.empty(out.shape, dtype=torch.float32, device="cpu")
        )
        low, step = self._scales
        _restore(stored.numpy(), start, self._columns, low, step, weights.numpy())
        if weights is not out:
            out.copy_(weights)


def find_scales(name: str, tensor: Tensor, packed: Bits) -> Tensor:
    """Return the float32 [2, channels] of a contiguous tensor: each channel's smallest kept magnitude, and its step.

    `packed` are the bits of its mask. Raises `WeightsError` for weights that are not finite.
    """
    channels, columns = len(tensor), tensor.numel() // max(len(tensor), 1)
    low, high = np.full(channels, np.inf, np.float32), np.zeros(channels, np.float32)
    for start in range(0, tensor.numel(), _CHUNK):
        weights = tensor.view(-1)[start : start + _CHUNK].float().numpy()
        _find_range(weights, start, columns, packed[start // 8 :], low, high)
    if not np.isfinite(high).all():
        raise WeightsError(
            f"{name} holds NaN, infinity or more than float32 can, which 8 bits cannot store; store exact "
            "values instead"
        )
    low[np.isinf(low)] = 0  # a channel that keeps nothing
    step = (high - low) / np.float32(LEVELS - 1)
    with np.errstate(over="ignore"):
        while (infinite := np.isinf(low + np.float32(LEVELS - 1) * step)).any():  # a step that was rounded up
            step[infinite] = np.nextafter(step[infinite], np.float32(0))
    return torch.from_numpy(np.stack([low, step]))


def check_codes(codes: Tensor, scales: Tensor) -> str:
    """Return what is wrong with eight-bit values and their scales, or ""; makes nothing as large as they are."""
    numbers = codes.numpy()
    if np.count_nonzero(numbers) < numbers.size:
        return "a value in 8 bits is 0"
    if numbers.size and numbers.min() < -LEVELS:
        return f"a value in 8 bits is {numbers.min()}"
    if not (torch.isfinite(scales) & (scales >= 0)).all():
        return "a scale is negative or not finite"
    return ""


_jit = numba.njit(nogil=True, cache=True)


@numba.njit(nogil=True, inline="always")
def _channel(start, first, columns, size):  # type: ignore[no-untyped-def]
    """Return the channel of the weight `first` of a piece that begins at `start`, and where the piece leaves it."""
    channel = (start + first) // columns
    return channel, min(size, (channel + 1) * columns - start)


@_jit
def _find_range(weights, start, columns, packed, low, high):  # type: ignore[no-untyped-def]
    first = 0
    while first < weights.size:
        channel, last = _channel(start, first, columns, weights.size)
        for i in range(first, last):
            if packed[i >> 3] >> (i & 7) & 1:
                magnitude = np.abs(weights[i])
                if not magnitude < np.inf:
                    high[channel] = np.inf
                high[channel] = max(high[channel], magnitude)
                low[channel] = min(low[channel], magnitude)
        first = last


@_jit
def _quantise(weights, start, columns, packed, low, step, codes):  # type: ignore[no-untyped-def]
    """Write the codes of weights; return the largest error among the kept, and which would become zero, or -1."""
    error, lost = 0.0, -1
    first = 0
    while first < weights.size:
        channel, last = _channel(start, first, columns, weights.size)
        smallest, scale = low[channel], np.float32(1)
        if step[channel] > 0:
            scale = step[channel]
        for i in range(first, last):
            level = np.rint((np.abs(np.float32(weights[i])) - smallest) / scale)
            level = min(max(level, np.float32(0)), np.float32(LEVELS - 1))
            codes[i] = np.int8(-level - 1 if np.signbit(weights[i]) else level + 1)
            if packed[i >> 3] >> (i & 7) & 1:
                magnitude = smallest + level * step[channel]
                if magnitude == 0 and weights[i] != 0:
                    lost = i
                error = max(error, np.abs(np.float64(magnitude) - np.abs(np.float64(weights[i]))))
        first = last
    return error, lost


@_jit
def _restore(codes, start, columns, low, step, weights):  # type: ignore[no-untyped-def]
    first = 0
    while first < codes.size:
        channel, last = _channel(start, first, columns, codes.size)
        for i in range(first, last):
            code = np.int32(codes[i])
            magnitude = low[channel] + np.float32(abs(code) - 1) * step[channel]
            signed = -magnitude if code < 0 else magnitude
            weights[i] = signed if code != 0 else np.float32(0)
        first = last
