"""The containers of sparse files, taken apart and written again."""

import json
import struct
import zlib


def header(path):
    raw = path.read_bytes()
    [length] = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def rewrite(path, document, data, *, layout=None, **metadata):
    """Write a container anew; a changed layout gets the right checksum, so that what is in it is looked at."""
    if layout is not None:
        text = layout if isinstance(layout, str) else json.dumps(layout)
        metadata |= {"layout": text, "crc32": f"{zlib.crc32(text.encode()):08x}"}
    document["__metadata__"].update(metadata)
    text = json.dumps(document).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def damage(path, part):
    document, data = header(path)
    start = document[part]["data_offsets"][0]
    broken = bytearray(data)
    broken[start] ^= 1
    rewrite(path, document, bytes(broken))


def change(layout, name, **entry):
    layout["tensors"][name] |= entry
    return layout
