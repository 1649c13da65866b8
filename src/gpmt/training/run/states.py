"""The state_dicts of networks and optimisers with whole tensors, also where FSDP2 shards them over processes."""

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from gpmt.core.shards import is_shared


def is_sharded(model: nn.Module) -> bool:
    """Whether each process holds only a part of every parameter, as with FSDP2."""
    return any(is_shared(parameter) for parameter in model.parameters())


def model_state(network: nn.Module) -> dict[str, Any]:
    """Return the network's state_dict with whole tensors; of a sharded one, in the first process alone.

    All processes have to call it together, as they do all functions here.
    """
    if not is_sharded(network):
        return network.state_dict()
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return get_model_state_dict(network, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def load_model_state(network: nn.Module, state: Mapping[str, Any]) -> None:
    """Load whole tensors, given in every process, into a network, sharded or not."""
    if not is_sharded(network):
        network.load_state_dict(state)
        return
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    options = StateDictOptions(full_state_dict=True)
    set_model_state_dict(network, dict(state), options=options)


def optimizer_state(network: nn.Module, optimizer: Optimizer) -> dict[str, Any] | None:
    """Return the optimiser's state_dict with whole tensors, or None where it has none yet."""
    if not is_sharded(network):
        return optimizer.state_dict()
    if not optimizer.state:  # PyTorch would make one by a step, which would change the weights
        return None
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return get_optimizer_state_dict(network, _unwrapped(optimizer), options=options)


def load_optimizer_state(network: nn.Module, optimizer: Optimizer, state: Mapping[str, Any] | None) -> None:
    """Load what `optimizer_state` returned, given in every process.

    For a sharded network this takes a step with a learning rate of 0: load the network afterwards, and a
    Pruner last.
    """
    if state is None:
        return
    if not is_sharded(network):
        optimizer.load_state_dict(dict(state))
        return
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

    options = StateDictOptions(full_state_dict=True)
    set_optimizer_state_dict(network, _unwrapped(optimizer), dict(state), options=options)


def _unwrapped(optimizer: Optimizer) -> Optimizer:
    """Return the optimiser inside Accelerate's wrapper."""
    inner: Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner
