"""The fixtures are folders that compressed-tensors 0.10.2 and 0.8.1 wrote (fixtures/make_compressed_tensors.py)."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from tests.formats import checkpoints
from tests.formats.importers.masked_weights.checks import imported, recognised
from torch import Tensor

import gpmt
from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from gpmt.formats.hub_folder import read_hub_folder
from gpmt.formats.importers.masked_weights import compressed_tensors

FIXTURES = checkpoints.FIXTURES / "compressed_tensors"
SPARSE = ["bitmask", "24_bitmask", "bitmask_0.8"]


@pytest.mark.parametrize("name", SPARSE)
def test_the_librarys_folders(name: str) -> None:
    stored = read_hub_folder(FIXTURES / name)
    assert recognised(compressed_tensors, stored)
    checkpoint = imported(compressed_tensors, stored)
    expected = load_file(FIXTURES / name / "expected.safetensors")
    assert checkpoint.state_dict.keys() == expected.keys()
    for key, tensor in expected.items():
        assert checkpoint.state_dict[key].dtype == tensor.dtype
        assert torch.equal(checkpoint.state_dict[key], tensor), key
    assert (checkpoint.source, checkpoint.original) == ("compressed-tensors", {})
    assert checkpoint.metadata == {
        "format": "pt",
        "architectures": "Tiny",
        "model_type": "tiny",
        "dtype": "bfloat16",
    }
    assert checkpoint.masks is not None
    # Not those of the biases and norms, which 0.8 compresses too: that a new bias is zero does not prune it.
    assert set(checkpoint.masks) == {"block.up.weight", "block.down.weight"}
    for key, mask in checkpoint.masks.items():
        assert torch.equal(mask, expected[key] != 0)
    assert 0.4 < checkpoint.masks.sparsity < 0.9
    assert not recognised(compressed_tensors, checkpoint)


@pytest.mark.parametrize("name", SPARSE)
def test_one_file_tells_by_its_names(name: str, tmp_path: Path) -> None:
    alone = load_checkpoint(FIXTURES / name / "model.safetensors")
    before = {key: tensor.clone() for key, tensor in alone.state_dict.items()}
    assert recognised(compressed_tensors, alone)
    checkpoint = imported(compressed_tensors, alone)
    checkpoint.state_dict["block.up.weight"].zero_()
    assert all(torch.equal(alone.state_dict[key], tensor) for key, tensor in before.items())
    save_checkpoint(tmp_path / "a.pt", imported(compressed_tensors, alone))
    assert gpmt.verify(tmp_path / "a.pt").pruned > 200


def test_the_plain_name_stands_where_its_first_part_stood() -> None:
    stored = read_hub_folder(FIXTURES / "bitmask").state_dict
    first = list(
        dict.fromkeys(key.removesuffix(".row_offsets") for key in stored if key.endswith("row_offsets"))
    )
    checkpoint = imported(compressed_tensors, Checkpoint(Path("x"), stored))
    assert list(checkpoint.state_dict)[:2] == [f"{stem}.weight" for stem in first]


def test_quantised_folders_are_refused() -> None:
    stored = read_hub_folder(FIXTURES / "quantised")
    assert recognised(compressed_tensors, stored)
    message = (
        r"quantised is quantised by compressed-tensors \(pack-quantized\), which is not supported; decompress it "
        r"with that library first, or give the network before its quantisation$"
    )
    with pytest.raises(CheckpointError, match=message):
        imported(compressed_tensors, stored)
    alone = load_checkpoint(FIXTURES / "quantised" / "model.safetensors")
    assert recognised(compressed_tensors, alone)
    with pytest.raises(
        CheckpointError, match=r"\(it holds block\.\w+\.weight_packed\), which is not supported"
    ):
        imported(compressed_tensors, alone)


def with_config(key: str, config: object, **tensors: Tensor) -> Checkpoint:
    text = config if isinstance(config, str) else json.dumps(config)
    return Checkpoint(Path("x"), {"fc.weight": torch.ones(2, 2), **tensors}, metadata={key: text})


@pytest.mark.parametrize(
    ("config", "quantised"),
    [
        ({"quant_method": "compressed-tensors", "format": "dense", "config_groups": {"a": {}}}, False),
        ({"quant_method": "compressed-tensors", "sparsity_config": {"format": "dense"}}, False),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": {}}}, True),
        ({"quant_method": "compressed-tensors", "format": "marlin-24"}, True),
        ({"quant_method": "compressed-tensors", "format": ["x"] * 1000}, True),
    ],
)
def test_the_config_alone_decides_on_dense_weights(config: object, quantised: bool) -> None:
    for key in ("quantization_config", "compression_config"):
        checkpoint = with_config(key, config)
        assert recognised(compressed_tensors, checkpoint)
        if quantised:
            with pytest.raises(CheckpointError, match="is quantised by compressed-tensors") as refused:
                imported(compressed_tensors, checkpoint)
            assert len(str(refused.value)) < 400
        else:
            converted = imported(compressed_tensors, checkpoint)
            assert converted.masks is None
            assert (list(converted.state_dict), converted.metadata) == (["fc.weight"], {})


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "[" * 100_000, '{"quant_method": "gptq"}', "{}", '{"format": "pt"}']
)
def test_other_folders_are_not_recognised(text: str) -> None:
    assert not recognised(compressed_tensors, with_config("quantization_config", text))
    assert not recognised(compressed_tensors, with_config("other", {"quant_method": "compressed-tensors"}))


def test_names_that_only_look_alike_are_not_recognised() -> None:
    for names in (
        ["a.shape"],
        ["a.bitmask"],
        ["a.compressed"],
        ["a.compressed", "b.bitmask", "a.shape"],
        ["bitmask"],
    ):
        checkpoint = Checkpoint(Path("x"), dict.fromkeys(names, torch.ones(1)))
        assert not recognised(compressed_tensors, checkpoint)


def parts(**changes: Tensor | None) -> Checkpoint:
    """A weight of two rows and nine columns with three values, and with changes that make it wrong."""
    made = {
        "shape": torch.tensor([2, 9]),
        "bitmask": torch.tensor([[1, 1], [128, 0]], dtype=torch.uint8),
        "compressed": torch.tensor([1.0, 2.0, 3.0]),
        "row_offsets": torch.tensor([0, 2]),
    } | changes
    stored = {f"a.fc.{part}": tensor for part, tensor in made.items() if tensor is not None}
    return Checkpoint(Path("x"), stored, metadata={"sparsity_config": '{"format": "sparse-bitmask"}'})


def test_the_layout_by_hand() -> None:
    checkpoint = imported(compressed_tensors, parts())
    expected = torch.zeros(2, 9)
    expected[0, 0], expected[0, 8], expected[1, 7] = 1, 2, 3
    assert list(checkpoint.state_dict) == ["a.fc.weight"]
    assert torch.equal(checkpoint.state_dict["a.fc.weight"], expected)
    assert not checkpoint.state_dict["a.fc.weight"].signbit().any()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"shape": None},
            r"x holds a\.fc compressed, but not its \.shape; give the whole folder, or download it",
        ),
        ({"bitmask": None}, r"but not its \.bitmask; give the whole folder"),
        ({"compressed": None}, r"but not its \.compressed; give"),
        ({"shape": torch.tensor([2.0, 9.0])}, r"but its \.shape is not a list of dimensions"),
        ({"shape": torch.tensor([2, -9])}, r"but its \.shape is not a list of dimensions"),
        ({"shape": torch.tensor([0, 9])}, r"but its \.shape is not a list of dimensions"),
        ({"shape": torch.ones(9, dtype=torch.int64)}, r"but its \.shape is not a list of dimensions"),
        ({"shape": torch.tensor([], dtype=torch.int64)}, r"but its \.shape is not a list of dimensions"),
        ({"shape": torch.tensor([2**40, 2**40])}, r"its bitmask of \[2, 2\] bytes does not fit its shape"),
        ({"shape": torch.tensor([2, 17])}, r"its bitmask of \[2, 2\] bytes does not fit its shape \[2, 17\]"),
        ({"bitmask": torch.ones(2, 2)}, "does not fit its shape"),
        (
            {"bitmask": torch.zeros(2, 2, dtype=torch.uint8)},
            "3 values for the 0 bits of its bitmask; download",
        ),
        ({"compressed": torch.ones(4)}, "4 values for the 3 bits of its bitmask"),
        (
            {"compressed": torch.ones(3, dtype=torch.int8)},
            r"its values are torch\.int8: quantised weights are not",
        ),
        ({"compressed": torch.ones(3).to(torch.float8_e4m3fn)}, r"torch\.float8_e4m3fn: quantised weights"),
        ({"row_offsets": torch.tensor([0, 1])}, "its row_offsets do not fit its bitmask; it is damaged"),
        ({"row_offsets": torch.tensor([0])}, "its row_offsets do not fit its bitmask; it is damaged"),
    ],
)
def test_parts_that_do_not_fit(changes: dict[str, Tensor | None], sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence) as refused:
        imported(compressed_tensors, parts(**changes))
    assert "\n" not in str(refused.value)


def test_a_weight_plain_and_compressed() -> None:
    checkpoint = parts()
    for order in (1, -1):
        both = dict([*checkpoint.state_dict.items(), ("a.fc.weight", torch.ones(2, 9))][::order])
        with pytest.raises(CheckpointError, match=r"x holds a\.fc\.weight twice, plain and compressed"):
            imported(compressed_tensors, replace(checkpoint, state_dict=both))


@given(
    shape=st.lists(st.integers(1, 11), min_size=1, max_size=4),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
    seed=st.integers(0, 2**32),
    whole=st.booleans(),
)
def test_any_shape_against_the_definition(
    shape: list[int], dtype: torch.dtype, seed: int, whole: bool
) -> None:
    """Bit i % 8, the lowest first, of byte i // 8 of a row is column i; the values follow in flat order."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(shape, generator=generator) < 0.4
    weight = torch.randn(shape, generator=generator, dtype=dtype) * mask
    columns = shape[-1]
    rows = mask.reshape(-1, columns).tolist()
    packed = [
        [
            sum(row[8 * byte + bit] << bit for bit in range(8) if 8 * byte + bit < columns)
            for byte in range((columns + 7) // 8)
        ]
        for row in rows
    ]
    stem = "a.weight" if whole else "a"
    stored = {
        f"{stem}.shape": torch.tensor(shape),
        f"{stem}.compressed": weight[mask],
        f"{stem}.bitmask": torch.tensor(packed, dtype=torch.uint8).view(*shape[:-1], -1),
    }
    checkpoint = imported(compressed_tensors, Checkpoint(Path("x"), stored))
    assert list(checkpoint.state_dict) == ["a.weight"]
    assert checkpoint.state_dict["a.weight"].dtype == dtype
    assert torch.equal(checkpoint.state_dict["a.weight"], weight)
    if len(shape) > 1:
        assert checkpoint.masks is not None
        assert torch.equal(checkpoint.masks["a.weight"], mask)
    else:
        assert checkpoint.masks is None


def test_its_name() -> None:
    assert compressed_tensors.NAME == "compressed-tensors"
