"""Images in another size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gpmt.runtime.onnx_frontend.call import Call, NotSupported, check_size, constant
from gpmt.runtime.onnx_frontend.registry import operator

_ROUNDING: dict[str, Callable[[float], int]] = {
    "floor": math.floor,
    "ceil": math.ceil,
    "round_prefer_floor": lambda place: math.ceil(place - 0.5),
    "round_prefer_ceil": lambda place: math.floor(place + 0.5),
}
_INTERPOLATION = {"linear": "bilinear", "cubic": "bicubic"}
_MAX_LENGTH = 2**20


@operator("Upsample", 7, 9)
def _upsample(call: Call) -> Tensor:
    source = call.tensor(0)
    scales = call.node.attributes.get("scales") if call.version < 9 else call.numbers(1)
    mode = call.text("mode", "nearest")
    if mode != "nearest":
        raise NotSupported(f"its mode is {mode!r}, not nearest")
    scales = _checked(scales, source.ndim)
    sizes = [math.floor(length * scale) for length, scale in zip(source.shape, scales, strict=True)]
    return _nearest(source, sizes, scales, "asymmetric", "floor")


@operator("Resize", 10, 11, 13, 18, 19)
def _resize(call: Call) -> Tensor:
    source, mode = call.tensor(0), call.text("mode", "nearest")
    if call.version == 10:
        place, rounding, scales = "asymmetric", "floor", call.numbers(1)
        sizes = None
    else:
        place = call.text("coordinate_transformation_mode", "half_pixel")
        rounding = call.text("nearest_mode", "round_prefer_floor")
        scales = call.numbers(2) if call.optional(2) is not None else []
        sizes = call.integers(3) if call.optional(3) is not None else None
    for name, default in (("antialias", 0), ("exclude_outside", 0)):
        if call.integer(name, default) != default:
            raise NotSupported(f"its attribute {name} is {call.integer(name, default)}")
    if call.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise NotSupported("it keeps the aspect ratio")
    axes = call.axes(call.integer_list("axes") or range(source.ndim), source.ndim)
    whole: list[Any] = list(source.shape)
    if sizes:
        if len(sizes) != len(axes):
            raise NotSupported(f"it has {len(sizes)} sizes for {len(axes)} axes")
        for axis, size in zip(axes, sizes, strict=True):
            whole[axis] = size
        factors = [size / length if length else 1.0 for size, length in zip(whole, source.shape, strict=True)]
    else:
        factors = [1.0] * source.ndim
        for axis, scale in zip(axes, _checked(scales, len(axes)), strict=True):
            factors[axis] = scale
        whole = [math.floor(length * scale) for length, scale in zip(source.shape, factors, strict=True)]
    if mode == "nearest":
        return _nearest(source, whole, factors, place, rounding)
    return _interpolated(call, source, whole, factors, place, mode)


def _checked(scales: Any, count: int) -> list[float]:
    """Return scales as numbers; one that is near an integer's inverse may be rounded in float32."""
    if not isinstance(scales, list) or len(scales) != count:
        raise NotSupported(f"it does not have {count} scales")
    if not all(isinstance(scale, float) and 0 < scale < _MAX_LENGTH for scale in scales):
        raise NotSupported(f"its scales are {str(scales)[:60]}")
    return [float(scale) for scale in scales]


def _nearest(
    source: Tensor, sizes: Sequence[int], scales: Sequence[float], place: str, rounding: str
) -> Tensor:
    """Return the elements that are nearest, exactly as the two modes say."""
    check_size(sizes)
    if rounding not in _ROUNDING:
        raise NotSupported(f"its nearest_mode is {rounding!r}")
    maps = {
        axis: _sources(length, size, scale, place, _ROUNDING[rounding])
        for axis, (length, size, scale) in enumerate(zip(source.shape, sizes, scales, strict=True))
        if (size, scale) != (length, 1)
    }
    factors = [size // length if length else 1 for size, length in zip(sizes, source.shape, strict=True)]
    repeats = all(
        found == [index // factors[axis] for index in range(source.shape[axis] * factors[axis])]
        for axis, found in maps.items()
    )
    if repeats and source.ndim == 4 and {*maps} <= {2, 3}:
        if not maps:
            return source
        return F.interpolate(source, scale_factor=(float(factors[2]), float(factors[3])), mode="nearest")
    for axis, found in maps.items():
        source = torch.index_select(source, axis, constant(found, torch.int64))
    return source


def _sources(length: int, size: int, scale: float, place: str, rounded: Callable[[float], int]) -> list[int]:
    """Return which element of an axis each element of the larger or smaller axis is."""
    if max(size, length) > _MAX_LENGTH:
        raise NotSupported(f"it makes {size:,} of {length:,}")
    at = _coordinates(length, size, scale, place)
    return [min(max(rounded(at(index)), 0), length - 1) for index in range(size)]


def _coordinates(length: int, size: int, scale: float, place: str) -> Callable[[int], float]:
    if place == "half_pixel":
        return lambda index: (index + 0.5) / scale - 0.5
    if place == "pytorch_half_pixel":
        return lambda index: (index + 0.5) / scale - 0.5 if size > 1 else 0.0
    if place == "asymmetric":
        return lambda index: index / scale
    if place == "align_corners":
        last = length * scale - 1
        return lambda index: index * (length - 1) / last if size > 1 else 0.0
    raise NotSupported(f"its coordinate_transformation_mode is {place!r}")


def _interpolated(
    call: Call, source: Tensor, sizes: Sequence[int], scales: Sequence[float], place: str, mode: str
) -> Tensor:
    check_size(sizes)
    if mode not in _INTERPOLATION or call.version == 10:
        raise NotSupported(f"its mode is {mode!r}")
    if mode == "cubic" and abs(call.real("cubic_coeff_a", -0.75) + 0.75) > 1e-6:
        raise NotSupported(f"its cubic_coeff_a is {call.real('cubic_coeff_a', -0.75)}")
    if source.ndim != 4 or tuple(sizes[:2]) != tuple(source.shape[:2]):
        raise NotSupported("it resizes more than the height and width of images")
    corners = place == "align_corners"
    if place == "pytorch_half_pixel" and 1 in sizes[2:] and list(sizes[2:]) != list(source.shape[2:]):
        raise NotSupported("it makes one row or column")
    if not corners and place not in ("half_pixel", "pytorch_half_pixel"):
        raise NotSupported(f"its coordinate_transformation_mode is {place!r}")
    exact = all(
        math.isclose(size, length * scale, rel_tol=1e-6)
        for size, length, scale in zip(sizes, source.shape, scales, strict=True)
    )
    if not exact:
        raise NotSupported("its scales do not make whole sizes")
    return F.interpolate(source, tuple(sizes[2:]), mode=_INTERPOLATION[mode], align_corners=corners)
