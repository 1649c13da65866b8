"""The test vectors of docs/format.md: what is in each, and the command that writes them.

    python tests/formats/sparse/make_vectors.py               # vectors/ and vectors/refused/, with this gpmt
    python tests/formats/sparse/make_vectors.py --old         # vectors/old/, with a gpmt from before entries_crc32

Numbers come from integer arithmetic, so that they are the same with any version of any library. test_vectors.py
checks that the writer still writes these bytes.
"""

import inspect
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.formats.sparse import refused_vectors

import gpmt
from gpmt.masks import Masks

FOLDER = Path(__file__).with_name("vectors")
SPARSE, MASKS = ".sparse.safetensors", ".masks.safetensors"
ALL_DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.int64,
    torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8, torch.bool,
    torch.complex64,
]  # fmt: skip


def noise(numel, seed):
    """Return uint64 [numel] without structure: splitmix64."""
    z = np.arange(1, numel + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed << 32)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def weights(shape, kept, seed=0, dtype=torch.float32):
    """Return a tensor of which about one weight in `kept` is not zero; with `kept` of 0, none is."""
    bits = noise(int(np.prod(shape)), seed)
    numbers = (bits >> np.uint64(44)).astype(np.int64) - (1 << 19)
    chosen = (bits & np.uint64(0xFFFF)) < (65536 // kept if kept else 0)
    values = torch.from_numpy(np.where(chosen, numbers | 1, 0).astype(np.float64) / 2**17).reshape(shape)
    return (values * 20 if not dtype.is_floating_point and not dtype.is_complex else values).to(dtype)


def bits_as(dtype, *bits):
    """Return a tensor of floating-point numbers with these bits."""
    return torch.tensor(bits, dtype={2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]).view(
        dtype
    )


def example():
    weight = torch.zeros(3, 4)
    weight.view(-1)[[0, 4, 8]] = torch.tensor([1.5, -2.0, 0.25])
    return weight


def mostly_kept(shape, seed):
    weight = weights(shape, 1, seed)
    return weight.where(weights(shape, 5, seed + 1) == 0, 0)


def blocks():
    """Two blocks: positions with long gaps, and one weight of the seven in the second."""
    weight = torch.zeros(65_543, dtype=torch.int8)
    weight[:60_000] = weights((60_000,), 600, 5, torch.int8)
    weight[[0, 65_535, 65_540]] = torch.tensor([3, -4, 5], dtype=torch.int8)
    return weight


def signed_zeros():
    weight = weights((30, 40), 10, 7)
    weight.view(-1)[1::3] = torch.where(weight.view(-1)[1::3] == 0, -0.0, weight.view(-1)[1::3])
    return weight


def eight_bits(dtype):
    """Channels that keep many weights, one, none, and three of one magnitude."""
    weight = weights((5, 400), 3, 9, torch.float64)
    weight = (weight / 3 + 1.7 * weight.sign()).to(dtype)
    weight[1:4] = 0
    weight[1, 7], weight[3, 10:13] = -0.75, torch.tensor([0.1, -0.1, 0.1]).to(dtype)
    return weight


def ones(*shape):
    return torch.ones(shape, dtype=torch.bool)


def sparse_files():
    """Return name -> (tensors, options of `save_sparse`); vectors/README.md says what each is for."""
    shared = weights((30, 40), 10, 1)
    masked = {
        "a": weights((30, 40), 10, 2),
        "é": torch.zeros(4, 5),
        "10": ones(2).float(),
        "2": torch.zeros(0, 3),
    }
    masked |= {"scalar": torch.tensor(7.5), "zero": torch.tensor(0.0)}
    masks = {
        "a": (masked["a"] != 0) | (weights((30, 40), 50, 3) != 0),
        "é": torch.zeros(4, 5).bool(),
        "2": ones(0, 3),
    }
    masks |= {"10": ones(2), "scalar": torch.tensor(True), "zero": torch.tensor(False)}
    nan = bits_as(torch.float32, 0x7FC12345, -0x400000, 0x7F800000, -0x80000000)
    odd = weights((30, 40), 10, 4)
    odd[0, :3] = nan[:3]
    return {
        "example": ({"w": example()}, {"masks": {"w": example() != 0}}),
        "dense": (
            {str(dtype).removeprefix("torch."): weights((3, 2), 2, 11, dtype) for dtype in ALL_DTYPES}
            | {"10": torch.tensor(7), "2": torch.zeros(0, 3), "é\n\"": nan, "w:mask": ones(3), "w": torch.ones(2, 1)},
            {},
        ),
        "coded": (
            {str(d).removeprefix("torch."): weights((30, 40), 5 + 3 * i, i, d) for i, d in enumerate(ALL_DTYPES)}
            | {"odd": odd},
            {},
        ),
        "complement": ({"w": mostly_kept((61, 29), 20)}, {}),
        "blocks": ({"w": blocks()}, {}),
        "empty": (
            {"none": torch.zeros(0, 3), "zeros": torch.zeros(260, 260).char(), "all": weights((5, 7), 1, 6)},
            {"masks": {"none": ones(0, 3), "all": ones(5, 7)}},
        ),
        "masked": (masked, {"masks": masks}),
        "notes": (
            {"a": shared, "b": ones(2), "c": shared},
            {"metadata": {"licence": "é"}, "record": {"epochs": 3, "model": {"name": "lenet"}}},
        ),
        "int8": (
            {str(d).removeprefix("torch."): eight_bits(d) for d in (torch.float64, torch.float32)}
            | {"half": eight_bits(torch.float16), "bfloat16": eight_bits(torch.bfloat16)}
            | {"vector": weights((2000,), 10, 8), "own": weights((30, 40), 10, 12, torch.int8)},
            {"values": "int8"},
        ),
        "fp16": ({"a": weights((30, 40), 5, 13), "b": weights((30, 40), 5, 14, torch.float64)}, {"values": "fp16"}),
        "bf16": ({"a": weights((30, 40), 5, 13), "b": weights((30, 40), 5, 14, torch.float64)}, {"values": "bf16"}),
        "signed-zeros": ({"w": signed_zeros()}, {"signed_zeros": "keep"}),
    }  # fmt: skip


def mask_files():
    """Return name -> bool tensors."""
    two, second = ~ones(65_543), ~ones(65_540)
    two[::997], second[-3:] = True, True
    return {
        "example": {"w": example() != 0},
        "kinds": {
            "complement": mostly_kept((61, 29), 20) != 0,
            "two blocks": two,
            "two blocks, complement": ~two,
            "first block empty": second,
            'é\n"\U0001f600': weights((3, 5), 2, 15) != 0,
            "10": torch.tensor(True),
            "2": torch.tensor(False),
            "none": ones(0, 3),
            "all": ones(5, 7),
        },
    }


def save(path, state, masks=None, **options):
    """Write a sparse file, with options that this gpmt has."""
    known = inspect.signature(gpmt.save_sparse).parameters
    given = Masks.from_dense(masks) if masks else None
    gpmt.save_sparse(state, path, masks=given, **{key: options[key] for key in options if key in known})


def held(path):
    """Return the tensors, or masks, in a file; each has memory of its own."""
    read = Masks.load(path) if path.name.endswith(MASKS) else gpmt.load_sparse(path)
    return {name: tensor.clone() for name, tensor in dict(read).items()}


def expected(path):
    """Return the file with what a vector holds; those of old writers hold the same."""
    name = path.name.removesuffix(SPARSE).removesuffix(".safetensors")
    return FOLDER / f"{name}.expected.safetensors"


def write(folder, *, with_expected=True):
    """Write all files that are valid, and beside each what it holds."""
    for name, (state, options) in sparse_files().items():
        save(folder / f"{name}{SPARSE}", state, **options)
    for name, masks in mask_files().items():
        Masks.from_dense(masks).save(folder / f"{name}{MASKS}")
    for path in [*folder.glob(f"*{SPARSE}"), *folder.glob(f"*{MASKS}")] if with_expected else ():
        save_file(held(path), expected(path))


def main(arguments):
    """Write the vectors."""
    if arguments == ["--old"]:
        write(FOLDER / "old", with_expected=False)
    else:
        write(FOLDER)
        refused_vectors.write(FOLDER / "refused")


if __name__ == "__main__":
    main(sys.argv[1:])
