"""The slow, obvious way: sort everything. Used to check the selection that never sorts."""

from collections.abc import Sequence

import numpy as np


def keep(
    weights: Sequence[np.ndarray], *, total: int, floors: Sequence[int], signed: bool = False
) -> list[np.ndarray]:
    """Return bool masks (True = kept) of flat weights: the floors first, then the global ranking of the rest.

    Signed scores rank as they are, weights by their magnitude.

    Ties: tensor order, then flat index.
    """
    ranked = sorted(
        (-float(w) if signed else -abs(float(w)), tensor, index)
        for tensor, values in enumerate(weights)
        for index, w in enumerate(values)
    )
    masks = [np.zeros(len(values), bool) for values in weights]
    for _, tensor, index in ranked:
        if masks[tensor].sum() < floors[tensor]:
            masks[tensor][index] = True
    left = total - sum(int(mask.sum()) for mask in masks)
    for _, tensor, index in ranked:
        if left and not masks[tensor][index]:
            masks[tensor][index] = True
            left -= 1
    return masks
