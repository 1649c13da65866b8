"""Files that a reader must refuse, each made of a valid one with one thing in it that docs/format.md forbids."""

import hashlib
import json
import struct
import tempfile
import zlib
from pathlib import Path

import torch

import gpmt
from gpmt.masks import Masks


class File:
    """A container taken apart, to be changed in one place and put together again."""

    def __init__(self, path):
        raw = path.read_bytes()
        [length] = struct.unpack("<Q", raw[:8])
        self.header = json.loads(raw[8 : 8 + length])
        self.metadata = self.header.pop("__metadata__")
        self.data = {
            name: raw[8 + length :][slice(*entry["data_offsets"])] for name, entry in self.header.items()
        }
        self.layout = json.loads(self.metadata.get("layout", "{}"))
        self.masks = json.loads(self.metadata.get("masks", "{}"))

    def parts(self, name):
        """Return the names of a tensor's entries in the order of checksums."""
        names = (name, f"{name}:scales", f"{name}:values", f"{name}:mask")
        return [part for part in names if part in self.header]

    def sign(self):
        """Put checksums that fit what is in the file now into the layout, and the layout into the metadata."""
        tensors, described = self.layout["tensors"], ""
        for name, entry in tensors.items():
            crc = f"{zlib.crc32(b''.join(self.data[part] for part in self.parts(name))):08x}"
            tensors[name] = crc if isinstance(entry, str) else entry | {"crc32": crc}
            for part in self.parts(name):
                shape = ",".join(map(str, self.header[part]["shape"]))
                described += f"{self.header[part]['dtype']}[{shape}]"
        self.metadata["entries_crc32"] = f"{zlib.crc32(described.encode()):08x}"
        self.set_layout(json.dumps(self.layout))

    def set_layout(self, text):
        self.metadata |= {"layout": text, "crc32": f"{zlib.crc32(text.encode()):08x}"}

    def edit(self, old, new):
        """Change the text of the layout in one place."""
        assert self.metadata["layout"].count(old) == 1
        self.set_layout(self.metadata["layout"].replace(old, new))

    def put(self, name, data, dtype="U8", shape=None):
        """Change an entry, or add one."""
        self.header[name] = {"dtype": dtype, "shape": [len(data)] if shape is None else shape}
        self.data[name] = data

    def code(self, *blocks, kept=None):
        """Give the tensor w a code of blocks (positions, bytes of the index, bytes), with its length and padding."""
        if kept is not None:
            self.put("w:values", self.data["w:values"][: 4 * kept], "F32", [kept])
        code = b"".join(struct.pack("<II", count, length) for count, length, _ in blocks)
        code += b"".join(bytes(content) for _, _, content in blocks)
        self.layout["tensors"]["w"]["bytes"] = len(code)
        self.put("w:mask", code + bytes(-(len(self.data["w:values"]) + len(code)) % 8))

    def save(self, path):
        end = 0
        for name, entry in self.header.items():
            entry["data_offsets"] = [end, end := end + len(self.data[name])]
        text = json.dumps({"__metadata__": self.metadata} | self.header).encode()
        text += b" " * (-len(text) % 8)
        path.write_bytes(
            struct.pack("<Q", len(text)) + text + b"".join(self.data[name] for name in self.header)
        )


def base_of_tensors(path):
    """Write a file with a dense tensor d, a coded tensor w, the example of the page, and q in eight bits."""
    weight = torch.zeros(3, 4)
    weight.view(-1)[[0, 4, 8]] = torch.tensor([1.5, -2.0, 0.25])
    state = {"d": torch.arange(6.0).view(2, 3), "w": weight, "q": torch.arange(1.0, 13).view(2, 6)}
    masks = Masks.from_dense({"w": weight != 0, "q": torch.ones(2, 6, dtype=torch.bool)})
    gpmt.save_sparse(state, path, masks=masks, values="int8")


def base_of_masks(path):
    Masks.from_dense({"a": torch.eye(5) != 0, "b": torch.ones(7, dtype=torch.bool)}).save(path)


# Changes after which nothing is mended.
HEADERS = {
    "no-version": lambda f: f.metadata.pop("version"),
    "version-2": lambda f: f.metadata.update(version="2"),
    "layout-checksum": lambda f: f.metadata.update(layout=f.metadata["layout"].replace("[3, 4]", "[4, 3]")),
    "dense-type": lambda f: f.header["d"].update(dtype="I32"),
    "dense-shape": lambda f: f.header["d"].update(shape=[3, 2]),
    "values-type": lambda f: f.header["w:values"].update(dtype="I32"),
    "entry-not-listed": lambda f: f.put("x", b"\0"),
    "entry-missing": lambda f: f.edit('"d": "', '"x": "00000000", "d": "'),
    "key-twice": lambda f: f.edit('"q": {', '"q": {"rice": 0, '),
    "not-a-number": lambda f: f.edit('"w": {', '"w": {"more": NaN, '),
    "uppercase-checksum": lambda f: f.edit(f.layout["tensors"]["d"], f.layout["tensors"]["d"].upper()),
    "tied-to-nothing": lambda f: f.edit('{"tensors"', '{"tied": {"b": "a"}, "tensors"'),
    "tied-over-a-tensor": lambda f: f.edit('{"tensors"', '{"tied": {"d": "w"}, "tensors"'),
    "metadata-not-strings": lambda f: f.edit('{"tensors"', '{"metadata": {"a": 1}, "tensors"'),
    "record-not-a-mapping": lambda f: f.edit('{"tensors"', '{"record": [1], "tensors"'),
    "tensor-checksum": lambda f: f.put("d", b"\1" + f.data["d"][1:], "F32", [2, 3]),
}

# Changes of a tensor after which all checksums are made to fit again.
TENSORS = {
    "rice-17": lambda f: f.layout["tensors"]["w"].update(rice=17),
    "no-rice": lambda f: f.layout["tensors"]["w"].pop("rice"),
    "fewer-bytes-than-blocks": lambda f: f.layout["tensors"]["w"].update(shape=[1 << 20, 1 << 18]),
    "negative-error": lambda f: f.layout["tensors"]["w"].update(error=-1),
    "true-as-a-size": lambda f: f.layout["tensors"]["w"].update(shape=[True, 12]),
    "65-dimensions": lambda f: f.layout["tensors"]["w"].update(shape=[3, 4] + 63 * [1]),
    "values-of-a-wider-type": lambda f: f.layout["tensors"]["w"].update(dtype="F16"),
    "complement-of-it": lambda f: f.layout["tensors"]["w"].update(complement=True),
    "mask-too-long": lambda f: f.put("w:mask", f.data["w:mask"] + bytes(8)),
    "position-past-the-end": lambda f: f.code((3, 2, [25, 3])),  # gaps 0, 3, 7
    "bits-after-the-code": lambda f: f.code((2, 1, [25 | 128]), kept=2),
    "byte-after-the-code": lambda f: f.code((3, 2, [217, 0])),
    "byte-after-the-blocks": lambda f: f.code((3, 1, [217, 0])),
    "code-that-ends-early": lambda f: f.code((3, 1, [25])),
    "positions-without-a-code": lambda f: f.code((3, 0, [])),
    "more-positions-than-values": lambda f: f.code((3, 1, [217]), kept=2),
    "more-positions-than-weights": lambda f: f.code((13, 4, [255, 255, 255, 3])),
    "int8-of-0": lambda f: f.put("q:values", bytes([1, 0] + 10 * [1]), "I8"),
    "int8-of-128": lambda f: f.put("q:values", bytes([1, 128] + 10 * [1]), "I8"),
    "scale-not-a-number": lambda f: f.put(
        "q:scales", struct.pack("<4f", 1, 1, float("nan"), 1), "F32", [2, 2]
    ),
    "scale-negative": lambda f: f.put("q:scales", struct.pack("<4f", 1, -1, 1, 1), "F32", [2, 2]),
    "int8-of-one-dimension": lambda f: (
        f.layout["tensors"]["q"].update(shape=[12]),
        f.put("q:scales", bytes(2 * 12 * 4), "F32", [2, 12]),
    ),
}

# Changes of masks, given as the document that `masks` holds.
MASKS = {
    "digest": lambda f: f.metadata.update(digest=hashlib.sha256(b"").hexdigest()),
    "not-listed": lambda f: f.masks.pop("b"),
    "kept": lambda f: f.masks["a"].update(kept=6),
    "parameter-17": lambda f: f.masks["a"].update(parameter=17),
    "other-shape": lambda f: f.masks["a"].update(shape=[1, 25]),
    "no-complement": lambda f: f.masks["a"].pop("complement"),
    "version-1": lambda f: f.metadata.update(version="1"),
}


def write(folder):
    """Write all files that must be refused."""
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary, "base")
        base_of_tensors(base)
        for name, change in (HEADERS | TENSORS).items():
            file = File(base)
            file.sign()
            change(file)
            if name in TENSORS:
                file.sign()
            file.save(folder / f"{name}.sparse.safetensors")
        base_of_masks(base)
        for name, change in MASKS.items():
            file = File(base)
            change(file)
            file.metadata["masks"] = json.dumps(file.masks)
            file.save(folder / f"{name}.masks.safetensors")
