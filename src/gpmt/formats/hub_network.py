"""The network of a Hugging Face folder, built from config.json without data, code of the folder, or the internet."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial, reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gpmt.core.blocks.blocks import Blocks, Split
from gpmt.core.memory import identity
from gpmt.core.scope.described import Described, Description
from gpmt.errors import CheckpointError, first_sentence
from gpmt.extras import import_extra
from gpmt.formats.hub_folder import COMPRESSION, CONFIG, read_config

# Every layer, expert or block is built by Python, so a number that no network has would take for ever.
_MOST_LAYERS = 4096


def describe(folder: Path, tensors: Mapping[str, Tensor]) -> Described:
    """Return tensors as a state_dict that knows the network of the folder; it is built when it is first needed."""
    return Described(tensors, partial(_describe, folder))


def build_network(folder: Path) -> nn.Module:
    """Return the network of a folder on the meta device, as the class that `architectures` in config.json names.

    Raises:
        CheckpointError: there is no config.json, transformers is not installed, or does not have such a network.
    """
    document = read_config(folder)
    if not document:
        raise CheckpointError(f"there is no {CONFIG} in {folder}, which would say what network it is")
    named = document.get("architectures")
    name = named[0] if isinstance(named, list) and named and isinstance(named[0], str) else None
    if name is None:
        raise CheckpointError(f"{folder / CONFIG} names no class of transformers under architectures")
    _refuse_counts(document, folder / CONFIG)
    transformers: Any = import_extra("transformers", CheckpointError)
    with _silent():
        try:
            made = getattr(transformers, name, None)
            if not isinstance(made, type) or not issubclass(made, transformers.PreTrainedModel):
                raise CheckpointError(f"{folder / CONFIG} names {name}, which transformers does not have")
            # "eager" in place of what the config asks for, which may be a kernel of the hub.
            config = transformers.AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, attn_implementation="eager"
            )
            with torch.device("meta"):
                network: nn.Module = made(config)
        except CheckpointError:
            raise
        except Exception as error:  # a config is anything, and each network reads it in its own way
            raise CheckpointError(
                f"transformers cannot build {name} from {folder / CONFIG} ({first_sentence(error)})"
            ) from error
    return network.eval()


def load_network(folder: Path, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Return the network of a folder with these tensors as its weights, ready to run on the CPU.

    Tensors that are loaded as they are share their memory with the network. It computes in the widest dtype of the
    matrices among the tensors, and in operators of PyTorch in which each layer can be told apart.

    Raises:
        CheckpointError: as `build_network`, or the tensors are not the weights of the network.
    """
    empty = build_network(folder)
    if problem := misfit(empty, tensors):
        raise CheckpointError(
            f"the weights do not fit {type(empty).__name__} of {folder}: {problem}; name the folder of their network"
        )
    config: Any = empty.config
    for key in COMPRESSION:  # these weights are plain
        if hasattr(config, key):
            delattr(config, key)
    dtypes = [tensor.dtype for tensor in tensors.values() if tensor.ndim > 1 and tensor.is_floating_point()]
    made: Any = type(empty)
    with _silent():
        try:
            network: nn.Module = made.from_pretrained(
                None, config=config, state_dict=dict(tensors), dtype=reduce(torch.promote_types, dtypes)
            )
        except Exception as error:  # each network loads in its own way
            raise CheckpointError(
                f"transformers cannot load {made.__name__} of {folder} ({first_sentence(error)})"
            ) from error
        if (experts := getattr(network, "set_experts_implementation", None)) is not None:
            experts("eager")
    return network.eval()


def names_in(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return for the names of stored tensors the parameter or buffer of the network that each becomes when loaded.

    Stored names differ from a network's by a prefix, by older names, or because several tensors (the experts of a
    layer) are loaded as one. A tensor that is loaded as it is must have the shape that the network gives it.
    """
    own = network.state_dict()
    found: dict[str, str] = {}
    rename = _renaming(network, own)
    for name, tensor in tensors.items():
        candidate, converted = (name, False) if name in own else rename(name)
        if candidate in own and (converted or own[candidate].shape == tensor.shape):
            found[name] = candidate
    return found


def misfit(network: nn.Module, tensors: Mapping[str, Tensor]) -> str | None:
    """Return why tensors are not the weights of a network, as a part of a sentence; None where they are.

    Of tied tensors one is enough. Buffers may be missing: networks compute them, and few files have them.
    """
    own = network.state_dict()
    names = names_in(network, tensors)
    given = {identity(own[name]) for name in names.values()}
    missing = [name for name, tensor in network.named_parameters() if identity(tensor) not in given]
    unexpected = [name for name in tensors if name not in names and not name.endswith("position_ids")]
    parts = [
        f"{len(found):,} {what} ({', '.join(found[:3])}{', ...' if len(found) > 3 else ''})"
        for found, what in ((missing, "missing"), (unexpected, "unexpected or of another shape"))
        if found
    ]
    return f"tensors {', '.join(parts)}" if parts else None


def _describe(folder: Path, tensors: Mapping[str, Tensor]) -> Description:
    try:
        network = build_network(folder)
    except CheckpointError as error:
        return Description(None, why=str(error))
    found = description_of(network, tensors)
    matrices = [name for name, tensor in tensors.items() if tensor.ndim > 1 and tensor.is_floating_point()]
    if 2 * sum(name in found.names for name in matrices) < len(matrices):
        return Description(
            None, why=f"these are not the weights of {type(network).__name__}, which {CONFIG} names"
        )
    return found


def description_of(network: nn.Module, tensors: Mapping[str, Tensor]) -> Description:
    """Return what is known of stored tensors that belong to a network."""
    names = names_in(network, tensors)
    return Description(network, names, divided=_divided(network, tensors, names))


def _divided(
    network: nn.Module, tensors: Mapping[str, Tensor], names: Mapping[str, str]
) -> dict[str, Blocks]:
    """Return the blocks of stored tensors that are taken apart when they are loaded: one for each parameter."""
    own = network.state_dict()
    found = {}
    for converter in _converters(network):
        targets = [target.replace("\\.", ".") for target in converter.target_patterns]
        dim = getattr(converter.operations[0], "dim", None) if converter.operations else None
        if len(targets) < 2 or len(converter.source_patterns) > 1 or dim is None:
            continue
        labels = tuple(target.strip(".").removesuffix(".weight").rpartition(".")[2] for target in targets)
        for name, first in names.items():
            parts = [own.get(first.replace(targets[0], target)) for target in targets]
            if (
                targets[0] not in first
                or tensors[name].shape == own[first].shape
                or tensors[name].ndim <= dim
            ):
                continue
            sizes = tuple(part.shape[dim] for part in parts if part is not None and part.ndim > dim)
            if len(sizes) == len(targets) and sum(sizes) == tensors[name].shape[dim]:
                found[name] = Blocks((Split(dim, sizes, labels),))
    return found


def _converters(network: nn.Module) -> list[Any]:
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter

        rules = get_model_conversion_mapping(network)
    except Exception:  # a part of transformers that changes between versions
        return []
    return [rule for rule in rules if isinstance(rule, WeightConverter)]


def _renaming(network: nn.Module, own: Mapping[str, Tensor]) -> Any:
    """Return a function from a stored name to the network's, and whether the tensor is converted on the way."""
    prefix = getattr(network, "base_model_prefix", "")
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

        rules = get_model_conversion_mapping(network)
        renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
        converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    except Exception:  # a part of transformers that changes between versions
        return lambda name: (_with_prefix(name, prefix, own), False)

    def rename(name: str) -> tuple[str, bool]:
        renamed, pattern = rename_source_key(name, renamings, converters, prefix, own)
        if renamed not in own:
            return _with_prefix(name, prefix, own), False
        return renamed, pattern is not None

    return rename


def _with_prefix(name: str, prefix: str, own: Mapping[str, Tensor]) -> str:
    """Return a name with the prefix of the inner network, or without it, if the network has the result."""
    changed = name.removeprefix(f"{prefix}.") if name.startswith(f"{prefix}.") else f"{prefix}.{name}"
    return changed if changed in own else name


def _refuse_counts(document: object, path: Path, key: str = "", level: int = 0) -> None:
    """Raise `CheckpointError` for a number of layers that would take for ever to build."""
    if level > 20:
        raise CheckpointError(f"{path} is nested too deeply to be the settings of a network")
    if isinstance(document, Mapping):
        for name, value in document.items():
            _refuse_counts(value, path, str(name), level + 1)
    elif isinstance(document, list):
        for value in document:
            _refuse_counts(value, path, key, level + 1)
    elif (
        isinstance(document, int | float)
        and document > _MOST_LAYERS
        and re.search("layer|expert|block|depth|stage", key, re.IGNORECASE)
        and not re.search(r"(^|_)(size|dim|ids?|tokens?)(_|$)", key, re.IGNORECASE)
    ):
        raise CheckpointError(f"{path} says that {key} is {document}, which no network has")


@contextmanager
def _silent() -> Iterator[None]:
    """Keep transformers from printing and warning inside the block."""
    with quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers, where it is in use, from printing inside the block."""
    transformers: Any = sys.modules.get("transformers")
    if transformers is None:
        yield
        return
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
