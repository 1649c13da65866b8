"""`recalibrate`: the running statistics of batch normalisation, measured again on a pruned network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from gpmt.calibration.batches import calibrating, each_batch, run
from gpmt.core.layers.layers import BATCH_NORMS
from gpmt.errors import CalibrationError
from gpmt.model_tools import unwrap


def recalibrate(model: nn.Module, batches: Iterable[Any]) -> int:
    """Measure the means and variances of all batch normalisation again, in place.

    Pruning changes the outputs of every layer, but the running statistics still fit those of the dense network. They
    are reset and become the average of what each batch gives, as `torch.optim.swa_utils.update_bn` does it, while
    everything else, dropout too, is in evaluation mode. Nothing is trained and no labels are needed. The order is
    prune (with or without `gpmt.compensate`), then recalibrate.

    Args:
        model: a network.
        batches: a data loader or list; some thousand training samples without augmentation, in batches of 100 or
            more that mix the classes, are enough. A batch is a tensor, a tuple (inputs, target), or a mapping of
            arguments by name. The last batch should not be much smaller than the others, since all count alike.

    Returns:
        How many layers were measured: 0 for a network without batch normalisation that keeps statistics.

    Raises:
        CalibrationError: no batches, the network does not run on one (in a batch of one sample there is no variance),
            or statistics that are not finite. The statistics are as before then.

    >>> network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2, momentum=0.1))
    >>> recalibrate(network, [torch.randn(8, 3), torch.randn(8, 3)])
    1
    >>> network[1].num_batches_tracked, network[1].momentum
    (tensor(2), 0.1)
    """
    network = unwrap(model)
    norms = [
        module
        for module in network.modules()
        if isinstance(module, BATCH_NORMS) and module.track_running_stats
    ]
    if not norms:
        return 0
    before = [{name: buffer.clone() for name, buffer in norm.named_buffers(recurse=False)} for norm in norms]
    momenta = [norm.momentum for norm in norms]
    try:
        with calibrating(network):
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # a plain average of all batches
                norm.training = True
            for batch in each_batch(network, batches):
                run(network, batch)
        _check_finite(network)
    except BaseException:
        for norm, buffers in zip(norms, before, strict=True):
            for name, buffer in norm.named_buffers(recurse=False):
                buffer.copy_(buffers[name])
        raise
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return len(norms)


def _check_finite(network: nn.Module) -> None:
    for name, module in network.named_modules():
        buffers = module.buffers(recurse=False) if isinstance(module, BATCH_NORMS) else ()
        if not all(bool(torch.isfinite(buffer).all()) for buffer in buffers):
            raise CalibrationError(
                f"the statistics of {name} are not finite on these batches; look for NaN in the data and the "
                "weights, or use a dtype of a larger range"
            )
