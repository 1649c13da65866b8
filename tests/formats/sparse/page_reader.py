"""A second reader of sparse files and masks, written from docs/format.md alone, with the standard library alone.

It shares no code with gpmt, checks everything that the page says, and is slow.
"""

import hashlib
import json
import math
import re
import struct
import zlib

SIZES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I16": 2, "I8": 1,
    "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "C64": 8,
}  # fmt: skip
FLOATS = ("F64", "F32", "F16", "BF16")
BLOCK = 65_536


class Refused(ValueError):
    """A file that is not as the page says."""


def need(condition, message):
    if not condition:
        raise Refused(message)


def read(path):
    """Return name -> (type, shape, bytes) of a sparse file, tied names last."""
    entries, metadata = read_container(path)
    need(metadata.get("format") == "gpmt-sparse" and metadata.get("version") == "1", "format or version")
    text = metadata.get("layout", "")
    need(crc32(text.encode()) == metadata.get("crc32"), "checksum of the layout")
    layout = parse(text)
    need(isinstance(layout, dict) and isinstance(layout.get("tensors"), dict), "tensors")
    tied, notes, record = (layout.get(key, {}) for key in ("tied", "metadata", "record"))
    need(isinstance(record, dict), "record")
    for strings in (tied, notes):
        need(
            isinstance(strings, dict) and all(isinstance(value, str) for value in strings.values()), "strings"
        )
    described, used, weights = "", [], {}
    for name, value in layout["tensors"].items():
        parts = [name] if isinstance(value, str) else parts_of(name, value, entries)
        need(all(part in entries for part in parts), f"entries of {name}")
        used += parts
        described += "".join(f"{entries[p][0]}[{','.join(map(str, entries[p][1]))}]" for p in parts)
    need(sorted(used) == sorted(entries), "entries that are not listed, or used twice")
    if "entries_crc32" in metadata:
        need(metadata["entries_crc32"] == crc32(described.encode()), "checksum of types and shapes")
    for name, target in tied.items():
        need(target in layout["tensors"] and name not in layout["tensors"], f"tie of {name}")
    for name, value in layout["tensors"].items():
        weights[name] = dense(name, value, entries) if isinstance(value, str) else coded(name, value, entries)
    return weights | {name: weights[target] for name, target in tied.items()}


def read_masks(path):
    """Return name -> (shape, list of bool) of a file of masks."""
    entries, metadata = read_container(path)
    need(metadata.get("format") == "gpmt-masks" and metadata.get("version") == "2", "format or version")
    masks = parse(metadata.get("masks", ""))
    need(isinstance(masks, dict) and masks.keys() == entries.keys(), "masks")
    found = {}
    for name, value in masks.items():
        need(isinstance(value, dict), "a mask")
        shape, numel = shape_of(value.get("shape"))
        dtype, lengths, code = entries[name]
        need(dtype == "U8" and len(lengths) == 1, "entry of a mask")
        kept, complement = value.get("kept"), value.get("complement")
        need(is_count(kept) and isinstance(complement, bool), "kept or complement")
        found[name] = shape, decode(code, numel, value.get("parameter"), complement)
        need(sum(found[name][1]) == kept, "number of kept weights")
    text = json.dumps({name: shape for name, (shape, _) in found.items()}).encode()
    bits = b"".join(
        sum(bit << i for i, bit in enumerate(mask)).to_bytes((len(mask) + 7) // 8, "little")
        for _, mask in found.values()
    )
    need(hashlib.sha256(text + bits).hexdigest() == metadata.get("digest"), "digest")
    return found, hashlib.sha256(text).hexdigest() == metadata.get("structure")


def packed(mask):
    """Return the bits of a mask, the first in the lowest bit of the first byte."""
    eights = (mask[start : start + 8] for start in range(0, len(mask), 8))
    return bytes(sum(bit << i for i, bit in enumerate(eight)) for eight in eights)


def read_container(path):
    """Return name -> (type, shape, bytes), and the metadata, of a safetensors file."""
    raw = path.read_bytes()
    need(len(raw) >= 8, "length")
    [length] = struct.unpack("<Q", raw[:8])
    need(length <= len(raw) - 8, "length of the header")
    header = parse(raw[8 : 8 + length].decode())
    metadata, end, entries = header.pop("__metadata__", {}), 0, {}
    data = raw[8 + length :]
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
        need(dtype in SIZES, f"type {dtype}")
        need(start == end and stop - start == math.prod(shape) * SIZES[dtype], f"offsets of {name}")
        entries[name] = dtype, shape, data[start:stop]
        end = stop
    need(end == len(data), "bytes after the entries")
    return entries, metadata


def parse(text):
    """Return what JSON says, or refuse it."""
    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=unique)
    except (ValueError, RecursionError) as error:
        raise Refused(str(error)) from None


def unique(pairs):
    need(not isinstance(pairs, str), "NaN or infinity")
    need(len(dict(pairs)) == len(pairs), "a key is there twice")
    return dict(pairs)


def crc32(data):
    return f"{zlib.crc32(data):08x}"


def check(data, value):
    need(isinstance(value, str) and re.fullmatch("[0-9a-f]{8}", value) and crc32(data) == value, "checksum")


def is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def shape_of(value):
    """Return a shape and its number of weights."""
    need(isinstance(value, list) and len(value) <= 64 and all(map(is_count, value)), "shape")
    need(math.prod(max(size, 1) for size in value) <= 2**59, "size")
    return value, math.prod(value)


def parts_of(name, value, entries):
    """Return the names of a coded tensor's entries."""
    need(isinstance(value, dict), f"layout of {name}")
    values = f"{name}:values"
    need(values in entries, f"values of {name}")
    stored = entries[values][0]
    scales = stored == "I8" and value.get("dtype", stored) != "I8"
    return [*([f"{name}:scales"] if scales else []), values, f"{name}:mask"]


def dense(name, value, entries):
    check(entries[name][2], value)
    return entries[name]


def coded(name, value, entries):
    shape, numel = shape_of(value.get("shape"))
    parts = [entries[part] for part in parts_of(name, value, entries)]
    *scales, (stored, lengths, values), (mask_type, mask_shape, mask) = parts
    check(b"".join(content for _, _, content in parts), value.get("crc32"))
    length, dtype, error = value.get("bytes"), value.get("dtype", stored), value.get("error", 0)
    need(is_count(length) and mask_type == "U8" and len(mask_shape) == len(lengths) == 1, "mask")
    need(isinstance(dtype, str) and dtype in SIZES, "type")
    head = sum(len(content) for _, _, content in parts[:-1])
    need(len(mask) == length + -(head + length) % 8, "padding")
    need(isinstance(error, int | float) and not isinstance(error, bool) and 0 <= error < math.inf, "error")
    complement, masked = value.get("complement", False), value.get("masked", False)
    need(isinstance(complement, bool) and isinstance(masked, bool), "true or false")
    if dtype != stored:
        need(
            dtype in FLOATS and stored in ("F16", "BF16", "I8") and SIZES[stored] < SIZES[dtype], "fewer bits"
        )
    kept = decode(mask[:length], numel, value.get("rice"), complement)
    need(sum(kept) == lengths[0], "number of values")
    places = [i for i, keep in enumerate(kept) if keep]
    if scales:
        channel = numel // max(shape[0], 1) if len(shape) > 1 else 0
        need(len(shape) > 1 and scales[0][:2] == ("F32", [2, shape[0]]), "scales")
        numbers = struct.unpack(f"<{2 * shape[0]}f", scales[0][2])
        need(all(0 <= number < math.inf for number in numbers), "a scale")
        codes = struct.unpack(f"<{len(places)}b", values)
        need(all(-127 <= code <= 127 and code for code in codes), "a code")
        values = b"".join(
            narrow(eight_bits(code, *numbers[place // channel :: shape[0]]), dtype)
            for code, place in zip(codes, places, strict=True)
        )
    elif dtype != stored:
        values = b"".join(narrow(number, dtype) for number in widen(values, stored))
    size = SIZES[dtype]
    out = bytearray(numel * size)
    for i, place in enumerate(places):
        out[size * place : size * (place + 1)] = values[size * i : size * (i + 1)]
    return dtype, shape, bytes(out)


def decode(code, numel, k, complement):
    """Return which weights are kept."""
    blocks = -(-numel // BLOCK)
    need(is_count(k) and k <= 16 and len(code) >= 8 * blocks, "rice, or too few bytes for the blocks")
    kept, start = [complement] * numel, 8 * blocks
    for block in range(blocks):
        count, length = struct.unpack_from("<II", code, 8 * block)
        size = min(BLOCK, numel - BLOCK * block)
        need(count <= size and start + length <= len(code), "a block")
        bits, used, position = int.from_bytes(code[start : start + length], "little"), 0, -1
        start += length
        for _ in range(count):
            need(bits, "the code ends early")
            run = (bits & -bits).bit_length() - 1
            gap = run << k | (bits >> run + 1) & (1 << k) - 1
            bits >>= run + 1 + k
            used += run + 1 + k
            position += 1 + gap
            need(position < size, "a position past the block")
            kept[BLOCK * block + position] = not complement
        need(not bits and (used + 7) // 8 == length, "bits or bytes after the code")
    need(start == len(code), "bytes after the blocks")
    return kept


def eight_bits(code, smallest, step):
    """Return the weight, in float32."""
    magnitude = as_float32(smallest + as_float32((abs(code) - 1) * step))
    return -magnitude if code < 0 else magnitude


def as_float32(number):
    """Round a double that is a sum or a product of two floats: it has bits enough for this to be exact."""
    try:
        return struct.unpack("<f", struct.pack("<f", number))[0]
    except OverflowError:
        return math.inf


def widen(values, stored):
    if stored == "F16":
        return struct.unpack(f"<{len(values) // 2}e", values)
    upper = struct.unpack(f"<{len(values) // 2}H", values)
    return struct.unpack(f"<{len(upper)}f", b"".join(struct.pack("<I", half << 16) for half in upper))


def narrow(number, dtype):
    """Return the bytes of a float32 number in another type: ties to even, and infinity beyond the largest."""
    if dtype != "BF16":
        code = {"F64": "<d", "F32": "<f", "F16": "<e"}[dtype]
        try:
            return struct.pack(code, number)
        except OverflowError:
            return struct.pack(code, math.copysign(math.inf, number))
    [bits] = struct.unpack("<I", struct.pack("<f", number))
    return struct.pack("<H", bits + 0x7FFF + (bits >> 16 & 1) >> 16)
