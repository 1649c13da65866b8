"""Calling any network: its logits, an example of its inputs, and a check that both fit the data."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gpmt.errors import RecipeError, first_line
from gpmt.model_tools import keeping_modes, logits_of


def logits(model: nn.Module, inputs: Tensor | Mapping[str, Tensor]) -> Tensor:
    """Return the logits [n, classes] of a batch: a tensor, or what a text classifier takes by keyword.

    Networks of transformers, and some of torchvision in training mode, return them among other things.
    """
    outputs: Any = model(**inputs) if isinstance(inputs, Mapping) else model(inputs)
    result: Tensor = logits_of(outputs)
    return result


def example(model: nn.Module, input_shape: Sequence[int]) -> Tensor | dict[str, Tensor]:
    """Return one input of zeros with a batch dimension of 1: float32, or token ids for transformers' text models.

    Raises RecipeError when a text model is given another shape than (length,).
    """
    if getattr(model, "main_input_name", None) != "input_ids":
        return torch.zeros(1, *input_shape, device="cpu")
    if len(input_shape) != 1:
        raise RecipeError(
            f"{type(model).__name__} takes texts of shape (tokens,), not inputs of shape {shown(input_shape)}"
        )
    tokens = torch.zeros(1, *input_shape, dtype=torch.int64, device="cpu")
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}


def check_fit(model: nn.Module, one: Tensor | Mapping[str, Tensor], num_classes: int) -> None:
    """Run the model in evaluation mode on a batch of two such inputs; its parameters and modes stay as they are.

    Raises ValueError when it does not run, or does not return two rows of `num_classes` logits.
    """
    # Two, since some networks take one input, but not a batch.
    both = (
        {key: torch.cat([t, t]) for key, t in one.items()}
        if isinstance(one, Mapping)
        else torch.cat([one] * 2)
    )
    try:
        with keeping_modes(model), torch.no_grad():
            outputs = logits(model.eval(), both)
    except Exception as error:  # the network is anyone's code
        shape = ", ".join(shown(t.shape[1:]) for t in (both.values() if isinstance(both, dict) else [both]))
        raise ValueError(f"it does not run on an input of shape {shape} ({first_line(error)})") from error
    if not isinstance(outputs, Tensor):
        raise ValueError(f"it returns a {type(outputs).__name__}, but must return a tensor of logits")
    if outputs.shape != (2, num_classes):
        raise ValueError(
            f"for two inputs it returns shape {shown(outputs.shape)}, but {num_classes} classes need 2x{num_classes}"
        )


def shown(shape: Sequence[int]) -> str:
    """A shape as the command line takes it, such as ``3x224x224``."""
    return "x".join(map(str, shape))
