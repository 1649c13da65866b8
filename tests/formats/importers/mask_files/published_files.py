"""Files of masks as the published scripts write them, and the weights that they belong to."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


def weights_of(masks: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state_dict with the masks' tensors in it, and others that cannot be pruned between them."""
    state: dict[str, Tensor] = {}
    for name, mask in masks.items():
        state[name] = torch.ones(mask.shape)
        state[name.replace("weight", "bias")] = torch.ones(mask.shape[0])
    return state


def save(path: Path, items: list[Any]) -> Path:
    """As the scripts do, with a NumPy that has to be told that the list is one of objects."""
    array = np.empty(len(items), dtype=object)
    for position, item in enumerate(items):
        array[position] = item
    np.save(path, array, allow_pickle=True)
    return path


def save_pickle(path: Path, value: Any, protocol: int = 4, shape: tuple[int, ...] = (1,)) -> Path:
    """A .npy whose pickle is any."""
    with path.open("wb") as file:
        header = {"shape": shape, "fortran_order": False, "descr": "|O"}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(value if isinstance(value, bytes) else pickle.dumps(value, protocol))
    return path


SHAPES = {"a.weight": (2, 3), "b.weight": (3, 2, 1, 1)}
WEIGHTS = weights_of({name: torch.ones(shape) for name, shape in SHAPES.items()})


def ones() -> list[Tensor]:
    return [torch.ones(shape) for shape in SHAPES.values()]
