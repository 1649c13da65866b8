"""Files of every kind with bytes flipped, cut out, repeated or moved: a result or an error, never anything else."""

import io
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.formats.checkpoints import FIXTURES
from tests.formats.sparse.networks import sparse

import gpmt
from gpmt.errors import CheckpointError, MaskError
from gpmt.formats.sparse import reader
from gpmt.masks import Masks

from . import oracle


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    weights = {
        "a": sparse((30, 20)),
        "b": sparse((3, 30_000), 0.001),
        "c": sparse((30, 30), 0.9, torch.float64),
    }
    weights |= {"d": weights["a"], "e": torch.tensor(3)}
    masks = Masks.from_dense({"a": weights["a"] != 0})
    for values in ("exact", "bf16", "int8"):
        gpmt.save_sparse(weights, folder / values, values=values, masks=masks)
    Masks.from_dense({name: tensor != 0 for name, tensor in weights.items()}).save(folder / "masks")
    with pytest.MonkeyPatch.context() as patch:  # a lie about a size shall not take time
        patch.setattr(reader, "memory_limit", lambda: 1 << 24)
        yield [path.read_bytes() for path in sorted(folder.iterdir())]


def changes():
    """Flip a bit, cut out, repeat, or overwrite with bytes of another file."""
    kinds = st.sampled_from(["flip", "cut", "repeat", "splice", "set"])
    place = st.floats(0, 1, exclude_max=True)
    return st.lists(st.tuples(kinds, place, place, st.integers(0, 255)), min_size=1, max_size=4)


def apply(raw, other, change):
    kind, where, length, number = change
    start = int(where * len(raw))
    stop = start + 1 + int(length * min(64, len(raw) - start))
    match kind:
        case "flip":
            return raw[:start] + bytes([raw[start] ^ 1 << number % 8]) + raw[start + 1 :]
        case "cut":
            return raw[:start] + raw[stop:]
        case "repeat":
            return raw[:stop] + raw[start:]
        case "splice":
            return raw[:start] + other[start:stop] + raw[stop:]
        case _:
            return raw[:start] + bytes([number]) * (stop - start) + raw[stop:]


@settings(max_examples=150)
@given(st.data())
def test_any_change_to_a_sparse_file(originals, tmp_path_factory, data):
    raw, other = (data.draw(st.sampled_from(originals)) for _ in range(2))
    for change in data.draw(changes()):
        raw = apply(raw, other, change) or raw
    path = tmp_path_factory.mktemp("changed") / "x.safetensors"
    for content in {raw, oracle.repair(raw) or raw}:
        path.unlink(missing_ok=True)  # tensors may still map it
        path.write_bytes(content)
        oracle.check(path)


def change_pickle(raw, apply_all):
    """Change what a file of torch.save holds, under checksums that fit."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, apply_all(content) if name.endswith("data.pkl") else content)
    return changed.getvalue()


@settings(max_examples=80)
@given(
    st.sampled_from(
        sorted(p for p in FIXTURES.rglob("*") if p.suffix in (".pt", ".pth", ".npy", ".safetensors"))
    ),
    changes(),
    st.booleans(),
)
def test_any_change_to_a_file_of_another_tool(tmp_path_factory, original, chosen, inside):
    def apply_all(raw):
        for change in chosen:
            raw = apply(raw, raw[::-1], change) or raw
        return raw

    raw = original.read_bytes()
    path = tmp_path_factory.mktemp("changed") / original.name
    path.write_bytes(
        change_pickle(raw, apply_all) if inside and zipfile.is_zipfile(original) else apply_all(raw)
    )
    beside = original.with_name("config.json")
    if beside.exists():
        (path.parent / beside.name).write_bytes(beside.read_bytes())
        path = path.parent
    masks_alone = original.suffix in (".npy", ".pth")
    expected = original.with_name(f"{original.stem.removesuffix('_masks')}_expected.safetensors")
    try:
        loaded = gpmt.load(path, weights=expected if masks_alone else None)
    except (CheckpointError, MaskError):
        return
    assert loaded.state_dict
