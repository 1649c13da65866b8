"""The published scripts' weight_mask.npy: one mask for each prunable tensor, in the order of the network."""

from __future__ import annotations

import io
import math
import mmap
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from gpmt.core.scope.scope import find_scope
from gpmt.errors import CheckpointError, MaskError
from gpmt.formats.importers.inert_pickle import Call, Global, InertError, Persistent, read_pickle
from gpmt.formats.importers.source import Source
from gpmt.masks import Masks

NAME = "published masks"

_RECONSTRUCT = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
_ALLOWED = frozenset(
    [
        *_RECONSTRUCT,
        "numpy.ndarray",
        "numpy.dtype",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_parameter",
        "torch.storage._load_from_bytes",
        "collections.OrderedDict",
        "_codecs.encode",
    ]
)
# Bools as bytes: a damaged one is then seen to be neither 0 nor 1.
_STORAGES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.uint8,
}
_STEPS = 2_000_000  # some thirty opcodes a tensor
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_AGAIN = "copy or download it again"


def recognises(source: Source) -> bool:
    """Tell by its first bytes whether a file is an array of NumPy."""
    return source.format == "numpy"


def read(source: Source) -> Masks:
    """Return the masks by tensor name, see `read_masks`."""
    return read_masks(source.path, source.weights)


def read_masks(path: Path, weights: Mapping[str, Tensor]) -> Masks:
    """Read masks that match the prunable tensors of `weights` by position, and name them.

    The file holds an object array of tensors or arrays of zeros and ones, of any device and numeric type, one for
    each tensor that `find_scope` finds, in its order; or one plain array of all masks, where their shapes are the
    same. Its pickle is read as data, and nothing in it is run. As only positions match them, `weights` must lie
    in the order of the network, as a state_dict does.

    Raises `CheckpointError` for a file that is damaged or holds something else, and `MaskError` for masks that
    differ in number or shape from the prunable tensors, or hold other values than 0 and 1.
    """
    tensors = find_scope(weights).tensors
    try:
        with path.open("rb") as file:
            items = _read_items(file, path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}; check the path") from None
    if isinstance(items, Tensor) and [items.shape] == [tensor.shape for tensor in tensors.values()]:
        items = [items]
    if len(items) != len(tensors):
        raise MaskError(
            f"{path} holds {len(items):,} masks, but the network has {len(tensors):,} prunable tensors; give the "
            "weights that the masks were made for"
        )
    masks = {}
    for position, (item, (name, tensor)) in enumerate(zip(items, tensors.items(), strict=True)):
        try:
            mask = item if isinstance(item, Tensor) else _decode(item)
        except InertError as error:
            raise CheckpointError(f"{path} holds no mask at position {position}: {error}; {_AGAIN}") from None
        if mask.shape != tensor.shape:
            raise MaskError(
                f"{path} holds a mask of shape {list(mask.shape)} at position {position}, but {name} has "
                f"{list(tensor.shape)}; give the weights that the masks were made for, in the network's order"
            )
        keep = mask != 0
        if not bool(((mask == 1) | ~keep).all()):
            raise MaskError(
                f"{path} holds other values than 0 and 1 at position {position}, for {name}; it is not a mask"
            )
        masks[name] = keep
    return Masks.from_dense(masks)


def _read_items(file: BinaryIO, path: Path) -> Sequence[Any] | Tensor:
    """Return the items of the array: pickled objects, or one tensor of numbers."""
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape, fortran, dtype = headers[np.lib.format.read_magic(file)](file)
    except Exception as error:  # NumPy evaluates the header as a literal, in which anything can be wrong
        raise CheckpointError(
            f"{path} is not a readable array of NumPy ({type(error).__name__}); {_AGAIN}"
        ) from None
    start, size = file.tell(), file.seek(0, io.SEEK_END)
    if dtype.kind == "O":
        if start == size:
            raise CheckpointError(f"{path} is cut short; {_AGAIN}")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            content.seek(start)
            try:
                return _object_array(read_pickle(content, _ALLOWED, steps=_STEPS))
            except InertError as error:
                raise CheckpointError(
                    f"{path} is a pickle that is not read as masks ({error}); only tensors and arrays are, and "
                    f"nothing is run; {_AGAIN} from where you trust it"
                ) from None
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise CheckpointError(
            f"{path} is an array of {dtype}, not of masks; give the masks of the published scripts"
        )
    if not _natural(shape) or math.prod(shape) * dtype.itemsize != size - start or not shape or start == size:
        raise CheckpointError(f"{path} has {size - start:,} bytes for the shape {list(shape)}; {_AGAIN}")
    file.seek(start)
    flat = np.frombuffer(bytearray(file.read(size - start)), dtype)
    return _from_numpy(flat.reshape(shape, order="F" if fortran else "C"))


def _object_array(array: Any) -> list[Any]:
    """Return the items of a pickled array of objects."""
    state = _array_state(array)
    _, shape, dtype, _, items = state
    if not _dtype_code(dtype).startswith("O"):
        raise InertError("its array is not one of objects")
    if not isinstance(items, list) or not _natural(shape) or len(shape) != 1 or shape[0] != len(items):
        raise InertError("its array is not a row of objects")
    return items


def _decode(item: Any) -> Tensor:
    """Return the tensor or array of a pickled object. Raises `InertError` for anything else."""
    if isinstance(item, Call) and item.name == "torch._utils._rebuild_parameter" and item.args:
        item = item.args[0]
    if not isinstance(item, Call):
        raise InertError("it is neither a tensor nor an array")
    if item.name in _RECONSTRUCT:
        _, shape, dtype, fortran, raw = _array_state(item)
        code = _dtype_code(dtype)
        if not re.fullmatch(r"b1|[iu][1248]|f[248]", code) or not _natural(shape):
            raise InertError("it is an array of something else than numbers")
        kind, raw = np.dtype(code), _as_bytes(raw)
        if math.prod(shape) * kind.itemsize != len(raw):
            raise InertError("its array has another size than its shape says")
        if isinstance(dtype.state, tuple) and dtype.state[1:2] == (">",):
            kind = kind.newbyteorder(">")
        flat = np.frombuffer(bytearray(raw), kind)
        return _from_numpy(flat.reshape(shape, order="F" if fortran is True else "C"))
    if item.name != "torch._utils._rebuild_tensor_v2" or len(item.args) < 4:
        raise InertError("it is neither a tensor nor an array")
    storage, offset, size, stride = item.args[:4]
    if not (_natural((offset,)) and _natural(size) and _natural(stride) and len(size) == len(stride)):
        raise InertError("its tensor has no valid shape")
    flat_tensor = _storage(storage)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 in size or math.prod(size) > flat_tensor.numel() or last >= flat_tensor.numel():
        raise InertError("its tensor reaches past its data")
    return flat_tensor.as_strided(size, stride, offset)


def _storage(call: Any) -> Tensor:
    """Return the elements of a tensor's storage: in a pickle, the bytes of a file of torch.save's older format."""
    if not isinstance(call, Call) or call.name != "torch.storage._load_from_bytes" or len(call.args) != 1:
        raise InertError("its tensor has no data")
    raw = _as_bytes(call.args[0])
    file = io.BytesIO(raw)
    magic, protocol, system, root, keys = (read_pickle(file, _STORAGES, steps=1000) for _ in range(5))
    if magic != _MAGIC or protocol != _PROTOCOL or not isinstance(system, dict) or not isinstance(keys, list):
        raise InertError("its tensor's data are not those of torch.save")
    if system.get("little_endian") is not True:
        raise InertError("its tensor's data are of a big-endian machine")
    key = root.key if isinstance(root, Persistent) else None
    if not isinstance(key, tuple) or len(key) not in (5, 6) or key[5:] not in ((), (None,)) or len(keys) != 1:
        raise InertError("its tensor's data are not one storage")
    kind, numel = key[1], key[4]
    dtype = _STORAGES.get(kind.name) if isinstance(kind, Global) else None
    head = file.read(8)
    if dtype is None or not _natural((numel,)) or int.from_bytes(head, "little") != numel:
        raise InertError("its tensor's data are not one storage")
    if numel == 0 or len(raw) - file.tell() != numel * dtype.itemsize:
        raise InertError("its tensor's data have another size than they say")
    return torch.frombuffer(bytearray(file.read()), dtype=dtype)


def _array_state(array: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Return the state that NumPy sets on an empty array: (version, shape, dtype, Fortran order, items or bytes)."""
    if not isinstance(array, Call) or array.name not in _RECONSTRUCT:
        raise InertError("it holds no array")
    if not isinstance(array.state, tuple) or len(array.state) != 5:
        raise InertError("it holds an array without content")
    return array.state


def _dtype_code(dtype: Any) -> str:
    if (
        isinstance(dtype, Call)
        and dtype.name == "numpy.dtype"
        and dtype.args
        and isinstance(dtype.args[0], str)
    ):
        return dtype.args[0]
    raise InertError("it holds an array without a type")


def _as_bytes(value: Any) -> bytes:
    """Return bytes; older pickles have them as a string to be encoded as Latin-1."""
    if isinstance(value, Call) and value.name == "_codecs.encode" and value.args[1:] == ("latin1",):
        value = value.args[0]
    if isinstance(value, str):
        try:
            return value.encode("latin-1")
        except UnicodeEncodeError:
            raise InertError("it holds no bytes where data should be") from None
    if not isinstance(value, bytes):
        raise InertError("it holds no bytes where data should be")
    return value


def _natural(numbers: Any) -> bool:
    """Whether `numbers` are a tuple or list of integers from 0 that can be dimensions of something."""
    return (
        isinstance(numbers, (tuple, list))
        and len(numbers) <= 32
        and all(type(number) is int and 0 <= number < 2**62 for number in numbers)
    )


def _from_numpy(array: np.ndarray[Any, Any]) -> Tensor:
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    # Not every PyTorch has the larger unsigned types; what matters is which values are 0, 1 or neither.
    if native.dtype.kind == "u" and native.dtype.itemsize > 1:
        native = np.minimum(native, 2).astype(np.uint8)
    if native.dtype.kind == "b":
        native = native.view(np.uint8)
    return torch.from_numpy(np.ascontiguousarray(native))
