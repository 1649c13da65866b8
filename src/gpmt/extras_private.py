"""Every private interface of accelerate, Lightning, timm and transformers that gpmt uses.

`tests/test_extras_private.py` fails for each one that is gone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn


def reset_accelerator_state() -> None:
    """Forget the precision and plugins of the first `Accelerator`, which accelerate keeps for all later ones."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()


def forget_optimizer(accelerator: Any, optimizer: Any) -> None:
    """Have an `Accelerator` forget an optimiser that it prepared, whose gradients it would unscale for ever."""
    accelerator._optimizers.remove(optimizer)


def averaged_model(callback: Any) -> nn.Module:
    """Return the average that Lightning's `WeightAveraging` keeps from its `setup` on; nothing public gives it."""
    model: nn.Module = callback._average_model
    return model


def save_timm_config(model: Any, path: Path) -> None:
    """Write the config.json of a network of timm; its public caller cannot write every memory format."""
    from timm.models._hub import save_config_for_hf

    save_config_for_hf(model, path)  # type: ignore[arg-type]  # a str for types, but older versions need a Path


def makes(automatic: Any, config: Any) -> bool:
    """Return whether an automatic class of transformers has a network for a configuration, without building it."""
    return type(config) in automatic._model_mapping
