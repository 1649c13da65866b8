"""Folders as Hugging Face libraries write them: weights whole or in shards, beside a config.json."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import Checkpoint, load_checkpoint
from gpmt.formats.file_format import INDEX_SUFFIX
from gpmt.formats.named_files import named_file
from gpmt.formats.short_repr import short_repr

NAME = "Hugging Face folder"

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
INDEX = WEIGHTS + INDEX_SUFFIX

# In the order in which the libraries themselves look.
_NAMES = [
    f"{stem}{suffix}{index}"
    for stems, suffix in (
        (("model", "diffusion_pytorch_model"), ".safetensors"),
        (("pytorch_model", "diffusion_pytorch_model"), ".bin"),
    )
    for stem in stems
    for index in ("", INDEX_SUFFIX)
]
# The index of the largest published networks takes some 10 MB, their config.json far less than 1 MB.
_INDEX_LIMIT = 2**27
_CONFIG_LIMIT = 2**24

COMPRESSION = ("quantization_config", "compression_config", "sparsity_config")
"""Keys of a config.json that say how its weights are packed; in `Checkpoint.metadata` their values are JSON."""


@dataclass(frozen=True)
class HubWeights:
    """The files that hold the weights of a folder.

    Attributes:
        folder: the folder.
        index: the name of the index; None where one file holds all weights.
        shards: the names of the files with weights, in the order of the index.
        names: of an index, the names of the tensors, and the shard that it says each is in.
    """

    folder: Path
    index: str | None
    shards: tuple[str, ...]
    names: Mapping[str, str]


def find_weights(path: Path) -> HubWeights:
    """Find the files that hold the weights of a folder; `path` may also be an index file itself.

    Raises the errors of `read_hub_folder` that concern the folder and its index.
    """
    folder, name = (path, _weights_name(path)) if path.is_dir() else (path.parent, path.name)
    file = named_file(folder, name, path)
    if not name.endswith(INDEX_SUFFIX):
        return HubWeights(folder, None, (name,), {})
    listed = _read_json(file, _INDEX_LIMIT).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise CheckpointError(f"{file} has no weight_map, which says where each tensor is; download it again")
    for tensor, shard in listed.items():
        if not isinstance(shard, str):
            raise CheckpointError(
                f"{file} says that tensor {short_repr(tensor)} is in {short_repr(shard)}, which is not a file; "
                "download the index again"
            )
        named_file(folder, shard, file)
    return HubWeights(folder, name, tuple(dict.fromkeys(listed.values())), listed)


def read_hub_folder(path: Path) -> Checkpoint:
    """Read all weights of a folder, in the order of its index; `path` may also be an index file itself.

    The weights are `model.safetensors`, `pytorch_model.bin`, `diffusion_pytorch_model.*` or shards under an
    ``.index.json``; where none of these names is there, the one other index or safetensors file. The metadata
    get what config.json says of the network: ``architectures``, ``model_type``, ``dtype``, and the `COMPRESSION`.

    Raises `CheckpointError` for a folder without weights or with several to choose from, a shard or tensor that is
    missing, a JSON file that is damaged or too large, and a name that leads out of the folder.
    """
    files = find_weights(path)
    config = _facts(read_config(files.folder))
    if files.index is not None:
        checkpoint = _read_shards(files, files.folder / files.index)
    else:
        checkpoint = load_checkpoint(files.folder / files.shards[0])
    metadata = {**checkpoint.metadata, **config}
    return replace(checkpoint, path=path, metadata=metadata, source=NAME)


def _weights_name(folder: Path) -> str:
    try:
        present = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise CheckpointError(
            f"{folder} cannot be read: {error.strerror}; check the path and its permissions"
        ) from None
    if name := next((name for name in _NAMES if name in present), None):
        return name
    # Variants, such as model.fp16.safetensors and its index.
    for suffix in (f".safetensors{INDEX_SUFFIX}", f".bin{INDEX_SUFFIX}", ".safetensors"):
        found = [name for name in present if name.endswith(suffix)]
        if len(found) == 1:
            return found[0]
        if found:
            raise CheckpointError(
                f"{folder} holds several networks ({', '.join(found[:3])}{', ...' if found[3:] else ''}); "
                "give one of these files"
            )
    inner = [name for name in present if any((folder / name / weights).is_file() for weights in _NAMES)]
    if inner:
        raise CheckpointError(
            f"{folder} holds networks in its folders {', '.join(inner[:5])}; give one of them"
        )
    raise CheckpointError(
        f"{folder} is a folder without weights, such as model.safetensors; give a checkpoint file, or a folder "
        "that a Hugging Face library wrote"
    )


def _read_shards(files: HubWeights, index: Path) -> Checkpoint:
    """Read the shards that an index lists, each once, into one checkpoint."""
    listed = files.names
    shards = {shard: load_checkpoint(files.folder / shard) for shard in files.shards}
    held = {shard: _stored(checkpoint) for shard, checkpoint in shards.items()}
    tensors: dict[str, Tensor] = {}
    for name, shard in listed.items():
        if name not in held[shard]:
            raise CheckpointError(
                f"{index} says that tensor {short_repr(name)} is in {short_repr(shard)}, but it is not; download "
                "both again"
            )
        tensors[name] = held[shard][name]
    for stored in held.values():
        for name, tensor in stored.items():
            tensors.setdefault(name, tensor)
    # A wrapper's prefix is one only if every tensor of every shard has it.
    prefix = min((checkpoint.prefix for checkpoint in shards.values()), key=len)
    if not all(checkpoint.prefix.startswith(prefix) for checkpoint in shards.values()):
        prefix = ""
    metadata = {key: text for shard in shards.values() for key, text in shard.metadata.items()}
    return Checkpoint(
        index,
        {name.removeprefix(prefix): tensor for name, tensor in tensors.items()},
        prefix=prefix,
        metadata=metadata,
        original=tensors,
    )


def _stored(shard: Checkpoint) -> dict[str, Tensor]:
    """Return the tensors of a shard under the names in the index."""
    return {shard.prefix + name: tensor for name, tensor in shard.state_dict.items()}


def read_config(folder: Path) -> Mapping[str, Any]:
    """Return what config.json holds, nothing without such a file. Raises `CheckpointError` for a damaged one."""
    if not os.path.lexists(folder / CONFIG):
        return {}
    return _read_json(named_file(folder, CONFIG, folder), _CONFIG_LIMIT)


def _facts(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the facts on the network in a config.json, as strings."""
    found: dict[str, str] = {}
    for key, names in (
        ("architectures", ("architectures", "architecture", "_class_name")),
        ("model_type", ("model_type",)),
        ("dtype", ("dtype", "torch_dtype")),
    ):
        texts = [text for name in names if (text := _text(config.get(name)))]
        if texts:
            found[key] = texts[0]
    return found | {key: json.dumps(config[key]) for key in COMPRESSION if isinstance(config.get(key), dict)}


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(item for item in value if isinstance(item, str))
    return value if isinstance(value, str) else ""


def _read_json(path: Path, limit: int) -> Mapping[str, Any]:
    """Read a JSON object. Raises `CheckpointError` where the file is not one, or larger than `limit` bytes."""
    try:
        with path.open("rb") as file:
            text = file.read(limit + 1)
        if len(text) > limit:
            raise CheckpointError(f"{path} is larger than {limit >> 20} MiB, which no such file is; check it")
        document = json.loads(text)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}; check its permissions") from None
    except CheckpointError:
        raise
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not readable as JSON ({str(error)[:100]}); copy or download it again"
        ) from None
    if not isinstance(document, dict):
        raise CheckpointError(
            f"{path} holds a JSON {type(document).__name__}, not an object; copy or download it again"
        )
    return document
