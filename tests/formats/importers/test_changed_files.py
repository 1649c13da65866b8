"""A search for what nobody thought of: changed files of every importer are read, or refused in a sentence."""

import random
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.formats.checkpoints import FIXTURES, pruned_weights
from torch import Tensor

import gpmt
from gpmt.errors import GpmtError
from gpmt.formats.checkpoint import save_checkpoint
from gpmt.formats.exporters.csr import export_csr

pytestmark = pytest.mark.slow

CHANGES = 400
"""Changed files of each kind."""


def _masks(path: Path) -> None:
    gpmt.Masks.from_dense({name: tensor != 0 for name, tensor in pruned_weights().items()}).save(path)


def _onnx(path: Path) -> None:
    onnx_files = pytest.importorskip("tests.formats.importers.weight_files.onnx_files")
    array = onnx_files.np.arange(6, dtype="float32").reshape(2, 3)
    made = onnx_files.numpy_helper.from_array(array, "w")
    held = [made, onnx_files.external(location="data.bin")]
    held[1].name = "external"
    path.with_name("data.bin").write_bytes(bytes(64))
    nodes = [onnx_files.constant("c", value=made)]
    onnx_files.write(path, held, [onnx_files.sparse([2, 3], [1, 5], [2.0, 3.0], "s")], nodes=nodes)


def _index(path: Path) -> None:
    save_checkpoint(path.with_name("shard.safetensors"), {"a.weight": torch.ones(2, 2)})
    path.write_text('{"metadata": {"total_size": 16}, "weight_map": {"a.weight": "shard.safetensors"}}')


MADE: dict[str, Callable[[Path], object]] = {
    "model.pt": lambda path: save_checkpoint(path, pruned_weights()),
    "legacy.pt": lambda path: torch.save(pruned_weights(), path, _use_new_zipfile_serialization=False),
    "model.safetensors": lambda path: save_checkpoint(path, pruned_weights()),
    "model.sparse.safetensors": lambda path: gpmt.save_sparse(pruned_weights(), path),
    "model.csr.pt": lambda path: export_csr(pruned_weights(), path),
    "masks.safetensors": _masks,
    "made.onnx": _onnx,
    "model.safetensors.index.json": _index,
}
FOUND = sorted(
    str(path.relative_to(FIXTURES))
    for path in FIXTURES.rglob("*")
    if path.suffix in (".pt", ".pth", ".npy", ".onnx", ".safetensors", ".json")
    and "expected" not in path.name
)


def changed(data: bytes, random: random.Random) -> bytes:
    """Some bytes changed, moved or missing, most often near the beginning or the end, where headers are."""
    raw = bytearray(data)
    for _ in range(random.choice([1, 1, 1, 2, 5, 20])):
        if not raw:
            break
        near = random.choice([64, 1024, len(raw)])
        at = random.randrange(min(near, len(raw)))
        at = random.choice([at, len(raw) - 1 - at])
        length = random.randrange(1, 1 + min(32, len(raw)))
        match random.randrange(8):
            case 0:
                raw[at] ^= 1 << random.randrange(8)
            case 1:
                raw[at] = random.randrange(256)
            case 2:
                raw[at : at + length] = bytes([random.choice([0, 1, 127, 128, 255])]) * length
            case 3:
                raw[at : at + length] = random.randbytes(length)
            case 4:
                del raw[at : at + length]
            case 5:
                start = random.randrange(len(raw))
                raw[at:at] = raw[start : start + length]
            case 6:
                start = random.randrange(len(raw))
                raw[at : at + length] = raw[start : start + length]
            case _:
                if random.random() < 0.1:
                    del raw[at:]
    return bytes(raw)


def read(path: Path, weights: dict[str, Tensor] | None) -> bool:
    """Whether a file can be read. Raises anything but a sentence."""
    try:
        loaded = gpmt.load(path, weights=weights)
        for tensor in loaded.state_dict.values():
            tensor.to_dense().count_nonzero()
    except GpmtError as error:
        text = str(error)
    else:
        return True
    assert text
    assert "\n" not in text, text
    return False


def weights_of(path: Path) -> dict[str, Tensor] | None:
    """The weights that the masks in a file belong to, if it holds masks alone."""
    if path.name == "masks.safetensors":
        return pruned_weights()
    if path.name in ("weight_mask.npy", "nni_masks.pth"):
        expected = FIXTURES / path.name.replace("_masks.pth", "_expected.safetensors").replace(
            "mask.npy", "mask_expected.safetensors"
        )
        return gpmt.load(expected).state_dict
    return None


@pytest.mark.parametrize("name", [*MADE, *FOUND])
def test_a_changed_file_is_read_or_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    if name.endswith(".onnx"):
        pytest.importorskip("onnx", reason="reading ONNX needs onnx")
    path = tmp_path / Path(name).name
    if name in MADE:
        MADE[name](path)
    else:
        for file in [FIXTURES / name] if "/" not in name else (FIXTURES / name).parent.iterdir():
            shutil.copy(file, tmp_path)
    # What is in a folder is read as the folder, so that its config.json is too.
    target = path.parent if path.name == "config.json" else path
    weights = weights_of(path)
    assert read(target, weights) or "quantised" in name  # which is refused
    data = path.read_bytes()
    for number in range(CHANGES):
        seed = zlib.crc32(f"{name} {number}".encode())
        path.write_bytes(changed(data, random.Random(seed)))
        try:
            read(target, weights)
        except Exception as error:
            pytest.fail(f"change {number} of {name} (seed {seed}): {type(error).__name__}: {error}")
