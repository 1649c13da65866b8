"""Coverage-guided fuzzing of the readers of sparse files and masks; needs `pip install atheris`; not run by pytest.

    python tests/formats/sparse/fuzz.py -max_total_time=600 tests/formats/sparse/corpus

Inputs are whole files. Half of the mutations know what a file is made of: they change the layout's JSON, the
container's own header, or a tensor's bytes, and mend the lengths and checksums that would stop everything else. Each
input is read as it is and mended (`oracle.check`). Numba's loops run as plain Python, so that their branches count;
what numba compiles sees the same inputs in test_corpus.py, which replays the corpus.

Options are libFuzzer's. A finding is written to the working folder as crash-* or timeout-*; `fuzz.py FILE` runs it
again. New inputs land in the first folder named. For a small corpus in the folder SMALL afterwards:

    python tests/formats/sparse/fuzz.py --seeds SMALL     # the valid files that the corpus began with
    python tests/formats/sparse/fuzz.py -set_cover_merge=1 -use_counters=0 SMALL tests/formats/sparse/corpus
"""

import copy
import os
import random
import resource
import sys
import tempfile
import warnings
from pathlib import Path

MEMORY = 1 << 30  # bytes that reading may add, to what Python and its libraries take
MACHINE = 1 << 20  # bytes that the reader is told the machine has, so that no input takes long
DEFAULTS = {"-max_len": 8192, "-timeout": 120, "-rss_limit_mb": 4096}
NUMBERS = [
    0, 1, -1, 2, 7, 8, 9, 16, 17, 64, 65535, 65536, 65537, 2**20, 2**31, 2**32 - 1, 2**40, 2**53, 2**61, 2**62, 2**63,
    10**30, 10**400, 0.5, -0.0, 1e-300, 1e300, float("inf"), float("nan"), True, False, None,
]  # fmt: skip
OTHERS = [
    "", "x", "F64", "F32", "F16", "BF16", "F8_E4M3", "I64", "I8", "U8", "BOOL", "C64", "F4", "00000000", "a",
    "a:mask", "\ud800", "1", "2", "gpmt-sparse", "gpmt-masks",
    [], {}, [0], [0, 2**40, 2**40], [2**61] * 3, [1] * 70, [[1]],
]  # fmt: skip
KINDS = ("exact", "int8", "bf16")
KEYS = [
    "a", "b", "a:mask", "shape", "rice", "bytes", "crc32", "complement", "dtype", "error", "masked", "kept",
    "parameter", "tensors", "tied", "metadata", "record",
]  # fmt: skip


def plain_intrinsic(function):
    """Stand in for numba's `intrinsic`, whose functions cannot be called from Python."""
    import numpy as np

    plain = {
        "_trailing_zeros": lambda word: np.uint64((int(word) & -int(word) or 1 << 64).bit_length() - 1),
        "_load_word": lambda data, byte: np.uint64(int.from_bytes(data[byte : byte + 8].tobytes(), "little")),
    }
    return plain[function.__name__]


def main():
    """Fuzz until libFuzzer's options say stop."""
    os.environ["NUMBA_DISABLE_JIT"] = "1"
    import atheris
    import numba.extending
    import numpy as np
    import safetensors.torch  # noqa: F401  not instrumented
    import torch

    numba.extending.intrinsic = plain_intrinsic
    with atheris.instrument_imports(include=["gpmt"]):
        import gpmt.formats.sparse.reader
        import gpmt.formats.sparse.values
    import oracle

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    gpmt.formats.sparse.reader.memory_limit = lambda: MACHINE
    folder = tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    path = Path(folder.name, "input.safetensors")

    def test(raw):
        for content in dict.fromkeys([raw, oracle.repair(raw) or raw]):
            path.unlink(missing_ok=True)  # never written over, as tensors may still map it
            path.write_bytes(content)
            oracle.check(path)

    def mutate(raw, max_size, seed):
        chance = random.Random(seed)
        parsed = oracle.parse(raw)
        if parsed is None or chance.random() < 0.5:
            return atheris.Mutate(raw, max_size)
        changed = oracle.assemble(*change(chance, atheris.Mutate, *parsed))
        return changed if len(changed) <= max_size else raw

    options = [f"{name}={value}" for name, value in DEFAULTS.items()]
    program = f"{sys.executable} {__file__}"  # what -merge=1 starts
    atheris.Setup([program, *options, *sys.argv[1:]], test, custom_mutator=mutate)
    resource.setrlimit(resource.RLIMIT_AS, (used() + MEMORY, resource.RLIM_INFINITY))
    atheris.Fuzz()


def used():
    """Return the bytes of address space that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def change(chance, mutate_bytes, document, metadata, data):
    """Change a parsed container in a few places."""
    key = "layout" if "layout" in metadata else "masks"
    whole = {"document": document, key: metadata[key]}
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        if chance.random() < 0.5:
            data = change_bytes(chance, mutate_bytes, *whole.values(), data)
        else:
            change_json(chance, whole)
    return whole["document"], metadata | {key: whole[key]}, data


def change_json(chance, whole):
    """Change one place of nested mappings and lists: mostly in what gpmt reads, else the header."""
    root = chance.choice([*whole.values(), *list(whole.values())[-1:] * 3])
    places = [(root, key) for key in keys(root)]
    for outer, key in places:
        places += [(outer[key], inner) for inner in keys(outer[key])]
    if not places:
        return
    outer, key = chance.choice(places)
    value = outer[key]
    match chance.randrange(8):
        case 0:
            del outer[key]
        case 1 if isinstance(value, int):
            flipped = value ^ 1 << chance.randrange(64)
            outer[key] = chance.choice([value + 1, value - 1, value * 2, value // 2, flipped])
        case 1 if isinstance(value, list):
            outer[key] = chance.choice([value * 2, value[1:], [*value, 1], [*value, 0], value[::-1]])
        case 1 if isinstance(value, str):
            outer[key] = chance.choice([value + "0", value[1:], value[::-1]])
        case 2 | 3 | 4:
            mappings = [root, *(place[key] for place, key in places)]
            mapping = chance.choice([place for place in mappings if isinstance(place, dict)] or [{}])
            name = chance.choice([*mapping, *KEYS])
            mapping[name] = copy.deepcopy(chance.choice([value, *chance.choice([NUMBERS, OTHERS])]))
        case 5:
            source, name = chance.choice(places)
            if name in keys(source):
                outer[key] = copy.deepcopy(source[name])
        case _:
            outer[key] = copy.deepcopy(chance.choice(NUMBERS + OTHERS))


def keys(value):
    """Return what a mapping or list can be asked for; nothing of anything else."""
    if isinstance(value, list):
        return range(len(value))
    return list(value) if isinstance(value, dict) else []


def change_bytes(chance, mutate_bytes, document, layout, data):
    """Change the bytes of one entry, and put its new length wherever it is said."""
    try:
        spans = sorted((entry["data_offsets"], name) for name, entry in document.items())
        parts = {name: data[start:end] for (start, end), name in spans}
        name = chance.choice(list(parts))
        base = name.removesuffix(":mask")
        entry = layout.get("tensors", layout).get(base)
        if name == base:
            whole = mutate_bytes(parts[name], max(len(parts[name]), 1))
            parts[name] = whole.ljust(len(parts[name]), b"\0")[: len(parts[name])]
        else:
            code = parts[name][: entry["bytes"]]
            code = mutate_bytes(code, len(code) + 64)
            head = sum(len(parts.get(f"{base}:{part}", b"")) for part in ("scales", "values"))
            entry["bytes"] = len(code)
            parts[name] = code + bytes(-(head + len(code)) % 8)
            document[name]["shape"] = [len(parts[name])]
        end = 0
        for part, content in parts.items():
            document[part]["data_offsets"] = [end, end := end + len(content)]
        return b"".join(parts.values())
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return data


def write_seeds(folder):
    """Write files of every kind that a sparse file and masks come in."""
    import torch

    import gpmt
    from gpmt.masks import Masks

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)

    def sparse(*shape, density=0.1, dtype=torch.float32):
        return torch.randn(shape).where(torch.rand(shape) < density, 0).to(dtype)

    small, wide = sparse(30, 20), sparse(3, 30_000, density=0.001)
    states = {
        "coded": {"a": small, "b": torch.ones(2)},
        "blocks": {"a": wide, "c": sparse(70_000, density=0.0003)},
        "complement": {"a": sparse(30, 30, density=0.9, dtype=torch.float64)},
        "tied": {"a": small, "b": small, "c": torch.zeros(0, 3), "d": torch.tensor(7)},
        "types": {
            "a": torch.ones(3) > 0,
            "b": torch.ones(2).bfloat16(),
            "c": torch.ones(2, dtype=torch.complex64),
        },
        "full": {"a": torch.zeros(400), "b": torch.zeros(20, 30)},
        "none": {},
    }
    for name, state in states.items():
        # Eight bits of many weights would take plain Python seconds.
        kinds = {"blocks": ("exact", "bf16"), "coded": KINDS, "complement": KINDS}
        for values in kinds.get(name, ("exact",)):
            gpmt.save_sparse(state, folder / f"{name}-{values}", values=values, metadata={"note": "é"})
        masks = Masks.from_dense({key: tensor != 0 for key, tensor in state.items()})
        masks.save(folder / f"{name}-masks")
        if name in ("coded", "tied"):
            path = folder / f"{name}-masked"
            gpmt.save_sparse(state, path, masks=masks, values="fp16", record={"epochs": 1})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--seeds"]:
        write_seeds(Path(sys.argv[2]))
    else:
        main()
