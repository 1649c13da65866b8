"""Hugging Face folders written again: other weights in the same files, and all else as it is."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from torch import Tensor

from gpmt.atomic import atomic_path
from gpmt.errors import CheckpointError
from gpmt.formats.bits import same_bits
from gpmt.formats.checkpoint import Checkpoint, load_checkpoint, write_torch
from gpmt.formats.file_format import weights_format
from gpmt.formats.hub_folder import NAME, HubWeights, find_weights, read_hub_folder
from gpmt.formats.masked_bytes import MaskedBytes
from gpmt.formats.named_files import named_file
from gpmt.formats.new_folder import check_folder, new_folder

# The same network in the files of other frameworks, in other precisions, or exported; its weights are not changed.
_OTHER_WEIGHTS = re.compile(
    r"(pytorch_model|model|diffusion_pytorch_model|tf_model|flax_model|rust_model|consolidated)(?![a-z]).*"
    r"\.(safetensors|bin|h5|msgpack|ot|pth?|onnx|onnx_data|gguf|tflite)(\.index\.json)?"
    r"|.*\.(gguf|onnx|onnx_data|tflite)"
)
_OTHER_FOLDERS = re.compile(r"coreml|onnx|openvino|original|checkpoint-\d+")
_HISTORY = (".cache", ".git")


def copy_hub_folder(
    checkpoint: Checkpoint,
    folder: str | os.PathLike[str],
    *,
    force: bool = False,
    masked: MaskedBytes | None = None,
) -> tuple[str, ...]:
    """Write the folder that a checkpoint was read from again, with the checkpoint's weights, atomically.

    The weights stand in files of the same names, formats and order; index, config, tokenizer and all other files are
    copied, so that what opened the first folder opens the second. The same network in other files (TensorFlow, ONNX,
    other precisions) would keep the old weights, so it is left out, like the history of git and of downloads.
    The new folder is read back, and the tensors must be there bit for bit; with `masked`, names, shapes and dtypes.

    Args:
        checkpoint: what `gpmt.load` returned for the folder; its tensors may have been changed in place.
        folder: the folder to make; its parent must be there.
        force: replace the folder, provided that it holds nothing but what is written now.
        masked: prunes the tensors while they are written, so that they are never in memory as a whole. The files must
            be safetensors (`is_streamed`).

    Returns:
        the files and folders that were left out, as names.

    Raises:
        CheckpointError: a checkpoint of something else than such a folder, a folder that is there already or cannot
            be written, a file that is missing, changed, or a link that leads out of the folder.
    """
    check_copy(checkpoint, folder, force=force)
    files = find_weights(checkpoint.path)
    copied, left_out = side_files(files.folder, files)
    written = {Path(name).parts[0] for name in (*copied, *files.shards)}
    with new_folder(folder, force=force, ours=written.__contains__) as temporary:
        copy_files(files.folder, copied, temporary)
        for name in files.shards:
            place = temporary / name
            place.parent.mkdir(parents=True, exist_ok=True)
            _write_shard(files.folder / name, place, checkpoint, masked)
        _check(
            checkpoint,
            temporary if files.index is None else temporary / files.index,
            Path(folder),
            bits=masked is None,
        )
    return left_out


def is_streamed(checkpoint: Checkpoint) -> bool:
    """Whether the files of a checkpoint can be written again piece by piece: they are safetensors."""
    if checkpoint.source == NAME:
        files = find_weights(checkpoint.path)
        return all(weights_format(files.folder / name) == "safetensors" for name in files.shards)
    return checkpoint.source == "safetensors"


def copy_file(checkpoint: Checkpoint, path: str | os.PathLike[str], masked: MaskedBytes) -> None:
    """Write the file of safetensors that a checkpoint was read from again, pruned while it is written, atomically.

    The header stays as it is, with the order of the tensors and the metadata.

    Raises:
        CheckpointError: a file that has changed since it was read, or that cannot be written.
    """
    with atomic_path(path) as temporary:
        _write_shard(checkpoint.path, temporary, checkpoint, masked)


def check_copy(checkpoint: Checkpoint, folder: str | os.PathLike[str], *, force: bool = False) -> None:
    """Raise the errors of `copy_hub_folder` that can be told before anything is written."""
    if checkpoint.source != NAME:
        raise CheckpointError(
            f"{checkpoint.path} holds the weights in another form than a network has them ({checkpoint.source}), so "
            f"its files cannot be written again; give a file in place of {folder}, such as pruned.safetensors"
        )
    files = find_weights(checkpoint.path)
    source, target = (Path(os.path.realpath(path)) for path in (files.folder, folder))
    if source in target.parents or target in source.parents:
        raise CheckpointError(f"{folder} and {files.folder} are inside each other; choose another folder")
    copied, _ = side_files(files.folder, files)
    written = {Path(name).parts[0] for name in (*copied, *files.shards)}
    check_folder(folder, force=force, ours=written.__contains__)


def copy_files(source: Path, names: Iterable[str], target: Path) -> None:
    """Copy files of a folder into another; raise `CheckpointError` for a link that leads out of it."""
    for name in names:
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(named_file(source, name, source), place)


def side_files(folder: Path, weights: HubWeights | None = None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of all files beside a folder's weights, and those of other files that hold the same network.

    The index of `weights` is one of the first; without `weights` every file that may hold the network is left out.
    """
    shards = () if weights is None else weights.shards
    index = None if weights is None else weights.index
    copied: list[str] = []
    left_out: list[str] = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        name = entry.name
        if entry.is_dir():
            leave = name in _HISTORY or bool(_OTHER_FOLDERS.fullmatch(name)) or entry.is_symlink()
            inner = [] if leave else [str(file.relative_to(folder)) for file in _files_in(entry)]
            copied += [path for path in inner if path not in shards]
        else:
            leave = name not in (*shards, index) and bool(_OTHER_WEIGHTS.fullmatch(name))
            copied += [name] if not leave and name not in shards else []
        if leave and name not in _HISTORY:
            left_out.append(name)
    return tuple(copied), tuple(left_out)


def _files_in(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if not entry.is_dir():
            yield entry
        elif not entry.is_symlink():
            yield from _files_in(entry)


def _write_shard(source: Path, target: Path, checkpoint: Checkpoint, masked: MaskedBytes | None) -> None:
    """Write one file of weights again, with the tensors of the checkpoint."""
    if weights_format(source) == "safetensors":
        with source.open("rb") as old, target.open("wb") as new:
            before = os.fstat(old.fileno())
            _write_safetensors(old, new, source, checkpoint, masked or MaskedBytes(lambda name: None))
            after = os.fstat(old.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise CheckpointError(
                f"{source} changed while it was read; run this again when nothing writes to it"
            )
        return
    shard = load_checkpoint(source)
    state = {name: _tensor(checkpoint, shard.prefix + name, source) for name in shard.state_dict}
    write_torch(target, replace(shard, state_dict=state))


def _write_safetensors(
    old: BinaryIO, new: BinaryIO, path: Path, checkpoint: Checkpoint, masked: MaskedBytes
) -> None:
    """Write the header as it is, and then the tensors in its order, which leave no room between them."""
    length = old.read(8)
    header = old.read(int.from_bytes(length, "little"))
    entries = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
    new.write(length + header)
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        tensor = _tensor(checkpoint, name, path)
        if tensor.nbytes != end - begin:
            raise CheckpointError(f"{path} has changed since it was read ({name}); run this again")
        for piece in masked.pieces(name.removeprefix(checkpoint.prefix), tensor):
            new.write(piece)


def _tensor(checkpoint: Checkpoint, name: str, path: Path) -> Tensor:
    """Return the tensor that a file stores as `name`."""
    tensor = checkpoint.state_dict.get(name.removeprefix(checkpoint.prefix))
    if tensor is None:
        raise CheckpointError(f"{path} has changed since it was read ({name}); run this again")
    return tensor


def _check(checkpoint: Checkpoint, written: Path, target: Path, *, bits: bool) -> None:
    """Raise `CheckpointError` where a tensor is not in what was written; with `bits`, not bit for bit."""
    stored = read_hub_folder(written).state_dict
    for name, tensor in checkpoint.state_dict.items():
        same = name in stored and (stored[name].shape, stored[name].dtype) == (tensor.shape, tensor.dtype)
        if not same or (bits and not same_bits(stored[name], tensor)):
            raise CheckpointError(f"{target} would not hold {name} as it is; nothing was written")
