"""Tensors and a small network as pruning leaves them."""

import torch


def sparse(shape, density=0.1, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(shape, generator=generator)
    return weights.where(torch.rand(shape, generator=generator) < density, 0).to(dtype)


def state():
    return {
        "conv.weight": sparse((16, 8, 3, 3)),
        "bn.weight": sparse((16,), 1.0),
        "bn.num_batches_tracked": torch.tensor(7),
        "fc.weight": sparse((10, 400), 1.0),
        "fc.bias": torch.zeros(10),
    }
