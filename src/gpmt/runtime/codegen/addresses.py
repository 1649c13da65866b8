"""Addresses in planes: of pixel (0, 0) of an image or a channel, and of the first pixel of a row."""

from __future__ import annotations

from llvmlite import ir

from gpmt.runtime.codegen.emitter import Emitter
from gpmt.runtime.layout.planes import Planes


def image_address(e: Emitter, arg: str, planes: Planes, image: ir.Value) -> ir.Value:
    """Return the address of an image in the planes at an argument."""
    return e.add(e.arg(arg), e.mul(image, planes.image_bytes))


def plane_address(
    e: Emitter, image: ir.Value, planes: Planes, channel: ir.Value, planes_per_channel: int = 1
) -> ir.Value:
    """Return the address of a channel's first plane, given the address of its image."""
    return e.add(image, e.mul(channel, planes.plane_bytes * planes_per_channel))


def row_address(e: Emitter, plane: ir.Value, planes: Planes, y: ir.Value) -> ir.Value:
    """Return the address of a row, given the address of its plane."""
    return e.add(plane, e.mul(y, planes.pitch_bytes))
