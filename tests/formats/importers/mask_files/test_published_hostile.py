"""Mask files that are damaged, claim too much, or would run code."""

import io
import pickle
import random
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.formats.importers.mask_files.published_files import WEIGHTS, ones, save, save_pickle
from torch import Tensor, nn

from gpmt.errors import CheckpointError, GpmtError
from gpmt.formats.importers.mask_files.published import read_masks


class Attack:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


class Nested(Tensor):
    """A tensor whose data are a hostile file of torch.save."""

    data_bytes: bytes = b""

    def __reduce_ex__(self, protocol: Any) -> Any:
        load = torch.storage._load_from_bytes  # type: ignore[attr-defined]
        args = (Stored(load, self.data_bytes), 0, (2, 3), (3, 1), False, OrderedDict())
        return torch._utils._rebuild_tensor_v2, args


class Stored:
    def __init__(self, load: Any, data: bytes) -> None:
        self.load, self.data = load, data

    def __reduce__(self) -> Any:
        return self.load, (self.data,)


def nested(value: Any, *, legacy: bool = True) -> Nested:
    """A tensor with what torch.save makes of `value` in the place of its storage."""
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=not legacy)
    made = torch.ones(2, 3).as_subclass(Nested)
    made.data_bytes = file.getvalue()
    return made


@pytest.mark.parametrize("where", ["item", "array", "state", "nested"])
def test_nothing_in_the_pickle_is_run(tmp_path: Path, where: str) -> None:
    marker = tmp_path / "marker"
    attack = Attack(marker)
    if where == "array":
        path = save_pickle(tmp_path / "a.npy", attack)
    elif where == "state":
        path = save(tmp_path / "a.npy", [ones()[0], {"x": attack}])
    else:
        path = save(tmp_path / "a.npy", [nested(attack) if where == "nested" else attack, ones()[1]])
    needs = r"it needs \S+(getattr|touch)"
    inner = rf"holds no mask at position 0: {needs}"
    message = (
        inner
        if where == "nested"
        else rf"is a pickle that is not read as masks \({needs}\); only tensors and"
    )
    with pytest.raises(CheckpointError, match=rf"a\.npy {message}") as refused:
        read_masks(path, WEIGHTS)
    assert "\n" not in str(refused.value)
    assert not marker.exists()
    with suppress(AttributeError):  # what the attack returns is not a storage
        np.load(path, allow_pickle=True)
    assert marker.exists()


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        (None, "it is neither a tensor nor an array"),
        ("text", "it is neither a tensor nor an array"),
        ([torch.ones(2, 3)], "it is neither a tensor nor an array"),
        (OrderedDict(), "it is neither a tensor nor an array"),
        (np.array([None, None]), "it is an array of something else than numbers"),
        (np.array(["a", "b"]), "it is an array of something else than numbers"),
        (np.ones(2, dtype=complex), "it is an array of something else than numbers"),
        (nested(torch.ones(6)), "it needs torch._utils._rebuild_tensor_v2"),
        (nested(3), "its tensor's data are not one storage"),
        (nested(torch.ones(6), legacy=False), "it is damaged"),
        (nested(torch.ones(6).untyped_storage()), "it needs|its tensor's data are not one storage"),
        (torch.ones(2, 3, dtype=torch.complex64), r"it needs torch\.ComplexFloatStorage"),
        (torch.ones(1).expand(2, 3), "its tensor reaches past its data"),
        (torch.empty(0, 3), "its tensor's data have another size than they say"),
    ],
    ids=range(14),
)
def test_items_that_are_no_masks(tmp_path: Path, item: Any, sentence: str) -> None:
    with pytest.raises(
        CheckpointError, match=rf"a\.npy holds no mask at position 0: ({sentence})"
    ) as refused:
        read_masks(save(tmp_path / "a.npy", [item, ones()[1]]), WEIGHTS)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ([torch.ones(2, 3)], "it holds no array"),
        (torch.ones(2, 3), "it holds no array"),
        (np.ones(3), "its array is not one of objects"),
        (np.empty((2, 2), dtype=object), "its array is not a row of objects"),
        (np.array(None, dtype=object), "its array is not a row of objects"),
        (nn.Linear(2, 2), r"it needs torch\.nn\.modules\.linear\.Linear"),
        (b"", r"a\.npy is cut short; copy or download it again$"),
        (b"\x80\x04", "it is cut short|it is damaged"),
        (b"\x80\x04N.", "it holds no array"),
    ],
    ids=range(9),
)
def test_pickles_that_hold_no_masks(tmp_path: Path, value: Any, sentence: str) -> None:
    with pytest.raises(CheckpointError, match=rf"a\.npy.*{sentence}|{sentence}"):
        read_masks(save_pickle(tmp_path / "a.npy", value), WEIGHTS)


def storage(numel: int, kind: str = "FloatStorage", key: Any = None, data: bytes = bytes(24)) -> bytes:
    """A storage in torch.save's older format that claims `numel` numbers."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return (
                key or ("storage", getattr(torch, kind), "0", "cpu", numel, None) if obj is Ellipsis else None
            )

    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    file = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, system, ..., ["0"]):
        Pickler(file, 2).dump(value)
    return file.getvalue() + numel.to_bytes(8, "little", signed=True) + data


@pytest.mark.parametrize(
    ("raw", "works"),
    [
        (storage(6), True),
        (storage(2**40), False),
        (storage(2**62), False),
        (storage(-1), False),
        (storage(5), False),
        (storage(6, "DoubleStorage"), False),
        (storage(6, data=bytes(25)), False),
        (storage(6, key=("storage", torch.FloatStorage, "0", "cpu", 7, None)), False),
        (storage(6, key=("storage", torch.FloatStorage, "0", "cpu", 6, ("0", 0, 6))), False),
        (storage(6, key=("module", "x")), False),
        (storage(6, key=3), False),
        (storage(6).replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89"), False),
    ],
    ids=range(12),
)
def test_sizes_of_the_data_are_checked(tmp_path: Path, raw: bytes, works: bool) -> None:
    item = torch.ones(2, 3).as_subclass(Nested)
    item.data_bytes = raw
    path = save(tmp_path / "a.npy", [item, ones()[1]])
    if works:
        assert read_masks(path, WEIGHTS).kept("a.weight") == 0
    else:
        with pytest.raises(CheckpointError, match=r"a\.npy holds no mask at position 0: its tensor's data "):
            read_masks(path, WEIGHTS)


@pytest.mark.parametrize(
    ("claimed", "sentence"),
    [
        ((0, (2, 3), (3, 1)), None),
        ((1, (2, 3), (3, 1)), "reaches past its data"),
        ((0, (2, 3), (4, 1)), "reaches past its data"),
        ((0, (2**40, 2**40), (0, 0)), "reaches past its data"),
        ((0, (2, 3, 1000), (3, 1, 0)), "reaches past its data"),
        ((-1, (2, 3), (3, 1)), "no valid shape"),
        ((0, (-2, -3), (3, 1)), "no valid shape"),
        ((0, (2, 3), (3, -1)), "no valid shape"),
        ((0, (2, 3), (3,)), "no valid shape"),
        ((0, (2.0, 3), (3, 1)), "no valid shape"),
        ((0, 6, 1), "no valid shape"),
        ((0, (1,) * 33, (1,) * 33), "no valid shape"),
    ],
    ids=range(12),
)
def test_shapes_stay_within_the_data(tmp_path: Path, claimed: Any, sentence: str | None) -> None:
    item = torch.ones(2, 3)
    # torch's own pickling keeps the class; only the numbers are to be false.
    _, (stored, *_) = item.__reduce_ex__(2)[:2]
    array = np.empty(2, dtype=object)
    array[0], array[1] = Rebuilt(stored, claimed), ones()[1]
    path = save_pickle(tmp_path / "a.npy", array)
    if sentence is None:
        assert read_masks(path, WEIGHTS).kept("a.weight") == 6
    else:
        with pytest.raises(
            CheckpointError, match=rf"a\.npy holds no mask at position 0: its tensor .*{sentence}"
        ):
            read_masks(path, WEIGHTS)


class Rebuilt:
    def __init__(self, stored: Any, claimed: Any) -> None:
        self.args = (stored, *claimed, False, OrderedDict())

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_tensor_v2, self.args


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda raw: raw[:-1], r"has 47 bytes for the shape \[2, 6\]"),
        (lambda raw: raw + b"x", r"has 49 bytes for the shape \[2, 6\]"),
        (lambda raw: raw.replace(b"(2, 6)", b"(-2,6)"), r"has 48 bytes for the shape \[-2, 6\]"),
        (lambda raw: raw.replace(b"(2, 6), }" + b" " * 9, b"(99999, 99999), } "), "bytes for the shape"),
        (lambda raw: raw.replace(b"(2, 6), }", b"(), }    "), r"for the shape \[\]"),
        (lambda raw: raw.replace(b"<f4", b"<c8"), "is an array of complex64, not of masks"),
        (lambda raw: raw.replace(b"<f4", b"<U1"), "is an array of <U1, not of masks"),
        (lambda raw: raw.replace(b"<f4", b"<M8"), "is an array of datetime64, not of masks"),
        (lambda raw: raw.replace(b"descr", b"xxxxx"), r"is not a readable array of NumPy \(ValueError\)"),
        (lambda raw: raw.replace(b"<f4", b"<q9"), "is not a readable array of NumPy"),
        (lambda raw: raw[:20], "is not a readable array of NumPy"),
        (lambda raw: raw[:6], "is not a readable array of NumPy"),
        (lambda raw: raw[:6] + b"\x03\x00" + raw[8:], "is not a readable array of NumPy"),
        (lambda raw: raw[:6] + b"\x02\x00" + b"\xff" * 4 + raw[12:], "is not a readable array of NumPy"),
    ],
    ids=range(14),
)
def test_headers_that_lie(tmp_path: Path, change: Any, sentence: str) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 6), dtype=np.float32))
    raw = (tmp_path / "a.npy").read_bytes()
    assert change(raw) != raw
    (tmp_path / "a.npy").write_bytes(change(raw))
    with pytest.raises(CheckpointError, match=rf"a\.npy {sentence}|a\.npy has .*{sentence}"):
        read_masks(tmp_path / "a.npy", WEIGHTS)


def test_truncation_and_damage_end_in_a_sentence(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.npy", ones()).read_bytes()
    for offset in range(6, len(whole), 7):
        (tmp_path / "a.npy").write_bytes(whole[:offset])
        with pytest.raises(CheckpointError):
            read_masks(tmp_path / "a.npy", WEIGHTS)
    rng, sentences = random.Random(0), []
    for _ in range(500):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[rng.randrange(len(whole))] = rng.randrange(256)
        (tmp_path / "a.npy").write_bytes(damaged)
        try:
            read_masks(tmp_path / "a.npy", WEIGHTS)
        except GpmtError as error:
            sentences.append(str(error))
    assert len(sentences) > 100
    assert not any("\n" in sentence for sentence in sentences)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"a\.npy cannot be read: No such file or directory; check the path$"
    ):
        read_masks(tmp_path / "a.npy", WEIGHTS)
