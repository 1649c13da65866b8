"""The network of a Hugging Face folder with its weights, and an input of zeros that it takes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gpmt.errors import CheckpointError, first_sentence
from gpmt.formats.hub_folder import CONFIG
from gpmt.formats.hub_network import build_network, quiet_transformers

TOKENS = 8
"""Tokens of the input, which is enough for every weight to meet one after another."""


def load_network(folder: Path) -> nn.Module:
    """Return the network of a folder, as the class that config.json names, with the weights that are in the folder.

    Experts are computed in batches, without a loop over those that values choose. Nothing is downloaded and no code
    of the folder runs.

    Raises:
        CheckpointError: transformers cannot build or load it.
    """
    made: Any = type(build_network(folder))
    options: dict[str, Any] = {"attn_implementation": "eager"}
    if hasattr(made, "set_experts_implementation"):
        options["experts_implementation"] = "batched_mm"
    with quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            network: nn.Module = made.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, **options
            )
        except Exception as error:  # each network reads its folder in its own way
            raise CheckpointError(
                f"transformers cannot load {made.__name__} from {folder} ({first_sentence(error)})"
            ) from error
    return network.eval()


def example_input(network: nn.Module, folder: Path) -> dict[str, Tensor]:
    """Return one input of zeros by argument name: token ids, or an image of the size in the config.

    Raises:
        CheckpointError: the network takes another kind of input.
    """
    config: Any = getattr(network, "config", None)
    name = getattr(network, "main_input_name", None)
    if name == "input_ids":
        tokens = torch.zeros(1, TOKENS, dtype=torch.long, device="cpu")
        pair = getattr(config, "is_encoder_decoder", False)
        return {name: tokens, "decoder_input_ids": tokens.clone()} if pair else {name: tokens}
    if name == "pixel_values" and isinstance(size := getattr(config, "image_size", None), int | list | tuple):
        sizes = [size, size] if isinstance(size, int) else list(size)
        return {name: torch.zeros(1, getattr(config, "num_channels", 3), *sizes, device="cpu")}
    raise CheckpointError(
        f"{folder / CONFIG} does not say the size of the inputs of {type(network).__name__}; check its paths from "
        "Python, with gpmt.verify(model, example=...)"
    )
