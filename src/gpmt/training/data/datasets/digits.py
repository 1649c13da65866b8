"""scikit-learn's handwritten digits."""

from pathlib import Path

import numpy as np
import torch

from gpmt.errors import DataError
from gpmt.training.data.datasets.data_root import Track
from gpmt.training.data.in_memory_source import InMemorySource, Split


def load(name: str, root: Path | None, track: Track) -> InMemorySource:
    """Return the 1,797 digits, 8×8, values 0 to 16; every class is split 4:1 in a fixed shuffled order.

    Mean and deviation were computed from the training split.
    """
    if root is not None:
        raise DataError(f"data.root is {root}, but digits come with scikit-learn; leave data.root out")
    from sklearn.datasets import load_digits

    bundle = load_digits()
    pixels = torch.from_numpy(np.rint(bundle.images * (255 / 16)).astype(np.uint8)).unsqueeze(3)
    labels = torch.from_numpy(bundle.target.astype(np.int64))
    in_test = torch.zeros(len(labels), dtype=torch.bool, device="cpu")
    generator = torch.Generator().manual_seed(0)
    for label in range(10):
        members = torch.nonzero(labels == label).flatten()
        members = members[torch.randperm(len(members), generator=generator, device="cpu")]
        in_test[members[: len(members) // 5]] = True
    train, test = (Split(pixels[chosen], labels[chosen]) for chosen in (~in_test, in_test))
    return InMemorySource(
        train, test, tuple(str(label) for label in range(10)), mean=(0.3061,), std=(0.3763,)
    )
