"""Folders for the Hugging Face hub: weights as safetensors, a config.json, and a model card."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Collection, Iterable, Mapping
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gpmt.errors import CheckpointError
from gpmt.extras_private import save_timm_config
from gpmt.formats.bits import same_bits
from gpmt.formats.checkpoint import save_checkpoint
from gpmt.formats.exporters.card import Library, model_card
from gpmt.formats.exporters.hub_copy import copy_files, side_files
from gpmt.formats.hub_folder import CARD, CONFIG, INDEX, WEIGHTS, read_config, read_hub_folder
from gpmt.formats.new_folder import new_folder
from gpmt.model_tools import unwrap

_SHARD = "model-{:05d}-of-{:05d}.safetensors"
_OURS = rf"{WEIGHTS}|{INDEX}|{CONFIG}|{CARD}|generation_config.json|model-\d{{5}}-of-\d{{5}}.safetensors"
_WEIGHTS_SUFFIXES = (".ckpt", ".pt", ".pth", ".safetensors", ".tar", ".th")
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def export_hub(
    source: nn.Module | Mapping[str, Tensor],
    folder: str | os.PathLike[str],
    *,
    config: Mapping[str, Any] | None = None,
    card: str | None = None,
    shard_size: int | str = "50GB",
    beside: str | os.PathLike[str] | None = None,
    without: Collection[str] = (),
    force: bool = False,
) -> Path:
    """Write a folder that can be put on the Hugging Face hub as it is, atomically, and return its path.

    A network of transformers opens with ``from_pretrained``, one of timm with ``timm.create_model("local-dir:FOLDER",
    pretrained=True)``; of any other network, and of a bare state_dict, the folder has the weights and a config.json.
    Pruned weights are zeros in it. It is read back, and the tensors must be there bit for bit.

    Args:
        source: the network, or its state_dict.
        folder: the folder to make; its parent must be there.
        config: further entries of config.json; for a bare state_dict e.g. {"architecture": "resnet20"}.
        card: the text of README.md; by default that of `beside`, or else of `model_card`.
        shard_size: weights of more bytes go into several files (of timm's networks never): a number or e.g. "5GB".
        beside: a Hugging Face folder of the same network, whose config.json, tokenizer and other files are copied,
            but no weights; for a bare state_dict it makes the new folder one that opens as this one does.
        without: keys to leave out of the config.json of `beside`, such as those of compressed weights.
        force: replace the folder, provided that it holds nothing but what an export writes.

    Raises:
        CheckpointError: a folder that is there already or cannot be written, a size or config that is not valid.
        ScopeError: nothing is prunable, and no card is given.
    """
    target = Path(os.path.realpath(folder))
    limit = _parse_size(shard_size)
    try:
        json.dumps(dict(config or {}))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"config cannot be written as JSON ({error}); give plain values") from None
    module = unwrap(source) if isinstance(source, nn.Module) else None
    entries: Mapping[str, Any] = source if module is None else module.state_dict()  # type: ignore[assignment]
    state_dict = {name: tensor for name, tensor in entries.items() if isinstance(tensor, Tensor)}
    library = _library(module)
    copied = () if beside is None else _side_files(Path(beside))
    written = {Path(name).parts[0] for name in copied}
    with new_folder(
        target, force=force, ours=lambda name: name in written or re.fullmatch(_OURS, name)
    ) as temporary:
        _write(module, state_dict, temporary, library, limit)
        if beside is not None:
            _add_files(Path(beside), copied, temporary)
            if module is None:
                library = _copy_config(Path(beside), temporary / CONFIG, state_dict, without) or library
        if config:
            path = temporary / CONFIG
            _write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **config})
        if card is None and not (temporary / CARD).exists():
            file = WEIGHTS if (temporary / WEIGHTS).exists() else INDEX
            card = model_card(state_dict, name=target.name, library=library, file=file)
        if card is not None:
            (temporary / CARD).write_text(card, encoding="utf-8")
        _check(state_dict, temporary, target, partly=library == "transformers")
    return target


def _side_files(folder: Path) -> tuple[str, ...]:
    """Return the files of a folder to copy: neither weights, whatever their names, nor the config."""
    names, _ = side_files(folder)
    return tuple(
        name
        for name in names
        if name != CONFIG and not (Path(name).suffix in _WEIGHTS_SUFFIXES and "/" not in name)
    )


def _add_files(source: Path, names: Iterable[str], target: Path) -> None:
    """Copy the files that are not there yet."""
    copy_files(source, [name for name in names if not (target / name).exists()], target)


def _copy_config(
    source: Path, target: Path, state_dict: Mapping[str, Tensor], without: Collection[str]
) -> Library | None:
    """Write the config.json of a folder for these weights, and return the library that it is of."""
    document = {key: value for key, value in read_config(source).items() if key not in without}
    types = {tensor.dtype for tensor in state_dict.values() if tensor.is_floating_point()}
    for key in ("dtype", "torch_dtype"):
        if isinstance(document.get(key), str) and len(types) == 1:
            document[key] = str(next(iter(types))).removeprefix("torch.")
    _write_json(target, document)
    if "model_type" in document:
        return "transformers"
    return "timm" if "pretrained_cfg" in document else None


def _library(module: nn.Module | None) -> Library:
    """Return the library that the network belongs to, which is imported already."""
    transformers = sys.modules.get("transformers")
    if transformers is not None and isinstance(module, transformers.PreTrainedModel):
        return "transformers"
    if type(module).__module__.startswith("timm.") and hasattr(module, "pretrained_cfg"):
        return "timm"
    return "pytorch"


def _write(module: Any, state_dict: Mapping[str, Tensor], folder: Path, library: Library, limit: int) -> None:
    if library == "transformers":
        with redirect_stderr(io.StringIO()):  # a progress bar
            module.save_pretrained(folder, max_shard_size=limit)
        return
    if library == "timm":
        save_timm_config(module, folder / CONFIG)
    else:
        _write_json(folder / CONFIG, {} if module is None else {"architecture": type(module).__name__})
    _write_weights(state_dict, folder, limit if library == "pytorch" else sys.maxsize)


def _write_weights(state_dict: Mapping[str, Tensor], folder: Path, limit: int) -> None:
    """Write the tensors in their order, as many per file as fit into `limit` bytes, and at least one."""
    shards: list[dict[str, Tensor]] = []
    room = 0
    for name, tensor in state_dict.items():
        size = tensor.numel() * tensor.element_size()
        if not shards or size > room:
            shards.append({})
            room = limit
        shards[-1][name] = tensor
        room -= size
    if len(shards) == 1:
        save_checkpoint(folder / WEIGHTS, shards[0])
        return
    names = {}
    for number, shard in enumerate(shards, start=1):
        file = _SHARD.format(number, len(shards))
        save_checkpoint(folder / file, shard)
        names.update(dict.fromkeys(shard, file))
    total = sum(tensor.numel() * tensor.element_size() for tensor in state_dict.values())
    _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": names})


def _check(state_dict: Mapping[str, Tensor], folder: Path, target: Path, *, partly: bool) -> None:
    """Read the folder, and raise `CheckpointError` where a tensor is not in it bit for bit.

    With `partly` some may be missing: transformers writes one of tied tensors, and some under older names.
    """
    stored = read_hub_folder(folder).original  # a prefix that all names have is a part of them here
    for name, tensor in state_dict.items():
        if name not in stored and partly:
            continue
        found = stored.get(name)
        if found is None or not same_bits(found, tensor):
            raise CheckpointError(
                f"{target} would not hold {name} as it is in the network; nothing was written"
            )


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _parse_size(size: int | str) -> int:
    match = re.fullmatch(r"(\d+)\s*([KMG]I?B|)", str(size).upper())
    if not match or int(match[1]) < 1:
        raise CheckpointError(f"shard_size is {size!r}, but must be a number of bytes, or a text such as 5GB")
    return int(match[1]) * _UNITS[match[2]]
