"""Hashes of masks: of the tensors that they belong to, and of the masks themselves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Shapes = Mapping[str, tuple[int, ...]]


def structure_hash(shapes: Shapes) -> str:
    """Return the SHA-256 (hex) of names and shapes, in their order."""
    return hashlib.sha256(_to_json(shapes)).hexdigest()


def mask_hash(shapes: Shapes, packed: Mapping[str, NDArray[np.uint8]]) -> str:
    """Return the SHA-256 (hex) of names, shapes and packed bits (uint8 [ceil(numel / 8)]), in their order."""
    digest = hashlib.sha256(_to_json(shapes))
    for name in shapes:
        digest.update(packed[name].data)
    return digest.hexdigest()


def _to_json(shapes: Shapes) -> bytes:
    return json.dumps({name: list(shape) for name, shape in shapes.items()}).encode()
