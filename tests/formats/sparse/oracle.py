"""What must hold of any bytes at all that are read as a sparse file or as masks.

Every way to read them gives a result or one of gpmt's errors, which names the file; results agree with each other.
`repair` mends what checksums would stop, so that what lies behind them is reached: a checksum is no protection
against a file made to do harm.
"""

import json
import math
import struct
import zlib

import numpy as np
import torch

from gpmt.errors import CheckpointError, MaskError
from gpmt.formats.masks import rice
from gpmt.formats.sparse import reader
from gpmt.masks import Masks

MAX_WEIGHTS = 1 << 20


def check(path):
    """Read the file in every way. Raises what should not have come out, AssertionError for results that differ."""
    _check_sparse(path)
    _check_masks(path)


def _check_sparse(path):
    try:
        file = reader.SparseFile(path)
    except CheckpointError as error:
        _names(error, path)
        assert _outcome(reader.load_sparse, path) is None
        assert _outcome(reader.load_sparse, path, skip_bad=True) is None
        return
    with file:
        damaged = file.damaged()
        assert damaged.keys() <= set(file)
        for name in file:
            assert file.error(name) >= 0
            small = math.prod(file.shape(name)) <= MAX_WEIGHTS
            tensor = _outcome(file.__getitem__, name)
            mask = _outcome(file.mask, name) if small else None
            assert (tensor is None) == (name in damaged)
            if tensor is None:
                continue
            assert (tuple(tensor.shape), tensor.dtype) == (file.shape(name), file.dtype(name))
            if mask is not None:
                assert mask.dtype == torch.bool
                assert mask.shape == tensor.shape
                assert int(mask.sum()) == file.kept(name)
                assert not _bits(tensor)[~mask.reshape(-1).numpy()].any()
        small = sum(math.prod(file.shape(name)) for name in file) <= MAX_WEIGHTS
        masks = _outcome(file.masks) if small else None
        if masks is not None:
            assert all(masks.shape(name) == file.shape(name) for name in masks)
    weights = _outcome(reader.load_sparse, path)
    assert weights is None or not damaged
    rest = _outcome(reader.load_sparse, path, skip_bad=True)
    if rest is not None:
        assert not rest.keys() & damaged.keys()
        for name, tensor in (weights or {}).items():
            np.testing.assert_array_equal(_bits(tensor), _bits(rest[name]))


def _check_masks(path):
    masks = _outcome(Masks.load, path, errors=MaskError)
    for name in masks or ():
        if masks.numel(name) <= MAX_WEIGHTS:
            assert masks[name].shape == masks.shape(name)
            assert int(masks[name].sum()) == masks.kept(name)


def _outcome(read, *arguments, errors=CheckpointError, **options):
    """Return a result, or None where it is refused as it should be."""
    try:
        return read(*arguments, **options)
    except errors:
        return None


def _names(error, path):
    assert str(path) in str(error), f"the error does not name the file: {error}"


def _bits(tensor):
    """The bytes of a tensor, one row a weight."""
    return tensor.reshape(-1, 1).view(torch.uint8).numpy()


def repair(raw):
    """Return the container with checksums that match what they are of, or None where it is too broken to have any."""
    parsed = parse(raw)
    return None if parsed is None else assemble(*parsed)


def parse(raw):
    """Split a container: its header without metadata, its metadata (JSON in it parsed), its data; or None."""
    [length] = struct.unpack("<Q", raw[:8].ljust(8, b"\0"))
    text = raw[8 : 8 + length]
    if text.count(b"[") + text.count(b"{") > 500:
        return None  # perhaps too deep to be written again
    try:
        document = json.loads(text)
        metadata = document.pop("__metadata__")
        key = "layout" if "layout" in metadata else "masks"
        return document, metadata | {key: json.loads(metadata[key])}, raw[8 + length :]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def assemble(document, metadata, data):
    """Put a container together again, with the checksums of what is in it now."""
    metadata = dict(metadata)
    if "layout" in metadata:
        layout = metadata["layout"]
        if isinstance(layout, dict) and isinstance(layout.get("tensors"), dict):
            tensors = {name: _sign(name, entry, document, data) for name, entry in layout["tensors"].items()}
            layout = layout | {"tensors": tensors}
        text = json.dumps(layout)
        metadata |= {"layout": text, "crc32": f"{zlib.crc32(text.encode()):08x}"}
        if "entries_crc32" in metadata:
            metadata["entries_crc32"] = _sign_entries(layout, document)
    else:
        digest = _digest(metadata["masks"], document, data) or metadata.get("digest", "")
        metadata |= {"masks": json.dumps(metadata["masks"]), "digest": digest}
    text = json.dumps({"__metadata__": metadata} | document).encode()
    return struct.pack("<Q", len(text)) + text + data


def _sign_entries(layout, document):
    """Return the checksum of the types and shapes of all entries, where they can be written down."""
    text = ""
    try:
        for name, entry in layout["tensors"].items():
            for part in _parts(name, entry):
                if part in document:
                    shape = ",".join(map(str, document[part]["shape"]))
                    text += f"{document[part]['dtype']}[{shape}]"
    except (KeyError, TypeError, AttributeError):
        pass
    return f"{zlib.crc32(text.encode(errors='surrogatepass')):08x}"


def _parts(name, entry):
    return [name] if isinstance(entry, str) else [f"{name}:{part}" for part in ("scales", "values", "mask")]


def _digest(entries, document, data):
    """Return the digest of a file of masks, or None where they cannot be decoded."""
    packed, shapes = {}, {}
    try:
        for name, entry in entries.items():
            shapes[name] = tuple(entry["shape"])
            start, end = document[name]["data_offsets"]
            code = np.frombuffer(data[start:end], np.uint8)
            numbers = math.prod(shapes[name]), entry["kept"], entry["parameter"], entry["complement"]
            packed[name] = torch.from_numpy(rice.decode(rice.RiceCode(*numbers, code)))
        return Masks(packed, shapes).digest()
    except Exception:  # anything may be wrong; whether `Masks.load` says so rightly is seen when it is called
        return None


def _sign(name, entry, document, data):
    """Return a tensor's entry in the layout with the checksum of its bytes, where it has some."""
    try:
        spans = [document[part]["data_offsets"] for part in _parts(name, entry) if part in document]
        crc = f"{zlib.crc32(b''.join(data[start:end] for start, end in spans)):08x}"
    except (KeyError, TypeError, ValueError):
        return entry
    if isinstance(entry, str):
        return crc
    return entry | {"crc32": crc} if isinstance(entry, dict) else entry
