"""What a sparse file gives back is what it was given, to the bit."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from tests.formats.checkpoints import assert_same, bits
from tests.formats.sparse.networks import sparse, state
from torch import nn

import gpmt
from gpmt.errors import CheckpointError, GpmtError, MaskError, WeightsError
from gpmt.masks import Masks

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.int64,
    torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.bool,
    torch.complex64,
]  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.sparse.safetensors"


def test_a_network_comes_back(path):
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.Conv2d(64, 64, 3))
    gpmt.prune_(model, sparsity=0.9)
    size = gpmt.save_sparse(model, path)
    assert_same(gpmt.load_sparse(path), model.state_dict())
    assert size.bytes == path.stat().st_size < 0.25 * size.dense_bytes
    assert size.bytes == size.values + size.masks + size.dense + size.header


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("density", [0.0, 0.05, 0.6, 1.0])
def test_every_type(path, dtype, density):
    weights = (sparse((40, 100), density) * 20).to(dtype)
    gpmt.save_sparse({"w": weights, "v": weights[:3].clone()}, path)
    assert_same(gpmt.load_sparse(path), {"w": weights, "v": weights[:3]})


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 40), max_size=4),
            st.sampled_from(DTYPES[:4]),
            st.floats(0, 1),
            st.booleans(),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_any_shapes(tmp_path_factory, tensors):
    path = tmp_path_factory.mktemp("any") / "a.sparse.safetensors"
    given_tensors = {}
    for i, (shape, dtype, density, turned) in enumerate(tensors):
        weights = sparse(shape, density, dtype, seed=i)
        given_tensors[f"{i}.weight"] = weights.T if turned and len(shape) == 2 else weights
    gpmt.save_sparse(given_tensors, path)
    assert_same(gpmt.load_sparse(path), given_tensors)


def test_unusual_bits_survive(path):
    weights = torch.zeros(100, 100)
    weights[0, :6] = torch.tensor([-0.0, math.nan, math.inf, -math.inf, 1e-45, 3e38])
    weights.view(torch.int32)[0, 6] = 0x7FC12345  # a NaN with a payload
    gpmt.save_sparse({"w": weights}, path)
    assert_same(gpmt.load_sparse(path), {"w": weights})


def test_the_largest_error_may_be_in_any_stretch(path):
    weights = torch.ones(1100, 1024)  # more than are rounded at a time
    weights[0, 0] += 2**-12
    size = gpmt.save_sparse({"w": weights}, path, values="fp16")
    assert size.error == 2**-12


def test_tied_tensors_may_be_empty(path):
    empty = torch.empty(0, 3)
    gpmt.save_sparse({"a": empty, "b": empty, "c": torch.ones(2)}, path)
    assert_same(gpmt.load_sparse(path), {"a": empty, "c": torch.ones(2), "b": empty})


def test_layouts_in_memory_do_not_matter(path):
    weights = sparse((8, 16, 3, 3))
    gpmt.save_sparse({"w": weights.to(memory_format=torch.channels_last)}, path)
    assert torch.equal(gpmt.load_sparse(path)["w"], weights)


def test_tied_tensors_are_stored_once_and_tied_again(path):
    weights = sparse((100, 100))
    size = gpmt.save_sparse({"a": weights, "other": torch.ones(2), "b": weights}, path)
    assert size.dense_bytes == 40_008
    loaded = gpmt.load_sparse(path)
    assert torch.equal(loaded["b"], weights)
    assert loaded["a"].data_ptr() == loaded["b"].data_ptr()
    with gpmt.SparseFile(path) as file:
        assert (list(file), dict(file.tied), file.kept("b")) == (
            ["a", "other", "b"],
            {"b": "a"},
            file.kept("a"),
        )
        assert torch.equal(file["b"], weights)
    assert torch.equal(gpmt.load_sparse(path, names=["b"])["b"], weights)


def test_a_view_of_another_tensor_is_stored_by_itself(path):
    weights = sparse((100, 100))
    gpmt.save_sparse({"a": weights, "b": weights[:50]}, path)
    assert_same(gpmt.load_sparse(path), {"a": weights, "b": weights[:50]})


def test_masks_are_kept_beyond_the_zeros(path):
    weights = {"w": sparse((60, 60)), "v": torch.randn(5, 5)}
    masks = Masks.from_dense({"w": weights["w"] != 0, "v": torch.ones(5, 5, dtype=torch.bool)})
    weights["w"][weights["w"] != 0] *= torch.rand(int((weights["w"] != 0).sum())) > 0.5  # kept, and zero
    gpmt.save_sparse(weights, path, masks=masks)
    assert_same(gpmt.load_sparse(path), weights)
    with gpmt.SparseFile(path) as file:
        assert file.masks() == masks
        assert file.kept("w") == masks.kept("w")
        assert torch.equal(file.mask("w"), masks["w"])
    gpmt.save_sparse(weights, path)
    with gpmt.SparseFile(path) as file:
        assert file.masks() is None


def test_a_mask_of_a_tied_tensor_may_go_by_any_of_its_names(path):
    weights = sparse((60, 60))
    masks = Masks.from_dense({"b": weights != 0})
    gpmt.save_sparse({"a": weights, "b": weights}, path, masks=masks)
    with gpmt.SparseFile(path) as file:
        assert torch.equal(file.mask("b"), masks["b"])
        assert list(file.masks()) == ["a"]


def test_masks_that_prune_what_is_there_are_refused(path):
    weights = torch.ones(10, 13)
    masks = Masks.from_dense({"w": torch.zeros(10, 13, dtype=torch.bool)})
    with pytest.raises(MaskError, match=r"w has pruned weights that are not zero; apply the masks first"):
        gpmt.save_sparse({"w": weights}, path, masks=masks)
    with pytest.raises(MaskError, match="masked tensor w is missing"):
        gpmt.save_sparse({"v": weights}, path, masks=masks)
    assert not path.exists()


def test_a_pruned_negative_zero_becomes_a_plain_one(path):
    weights = -torch.zeros(80, 80)
    gpmt.save_sparse(
        {"w": weights}, path, masks=Masks.from_dense({"w": torch.zeros(80, 80, dtype=torch.bool)})
    )
    assert torch.equal(bits(gpmt.load_sparse(path)["w"]), torch.zeros(4 * 80 * 80, dtype=torch.uint8))


@pytest.mark.parametrize("values", ["fp16", "bf16", "int8"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_fewer_bits_keep_the_zeros_and_state_their_error(path, values, dtype):
    weights = {"w": sparse((32, 16, 5, 5), dtype=dtype), "b": torch.randn(64, dtype=dtype)}
    exact = gpmt.save_sparse(weights, path).bytes
    size = gpmt.save_sparse(weights, path, values=values)
    loaded = gpmt.load_sparse(path)
    difference = (loaded["w"] - weights["w"]).double().abs().max().item()
    assert 0 < difference == pytest.approx(size.error, rel=1e-6)
    assert size.bytes < (0.8 if values != "int8" else 0.7) * exact
    assert torch.equal(loaded["w"] == 0, weights["w"] == 0)
    assert torch.equal(loaded["w"].sign(), weights["w"].sign())
    assert torch.equal(loaded["b"], weights["b"])
    with gpmt.SparseFile(path) as file:
        assert (file.error("w"), file.error("b")) == (size.error, 0.0)


def test_eight_bits_err_by_half_a_step_of_their_channel(path):
    weights = sparse((20, 1000), 0.2) * torch.logspace(-3, 3, 20)[:, None]
    gpmt.save_sparse({"w": weights}, path, values="int8")
    loaded = gpmt.load_sparse(path)["w"]
    for channel, row in enumerate(weights):
        kept = row[row != 0].abs()
        step = (kept.max() - kept.min()) / 126
        assert (loaded[channel] - row).abs().max() <= 0.5 * step * (1 + 1e-4)
        assert loaded[channel].abs().max() == pytest.approx(kept.max().item(), rel=1e-6)


def test_eight_bits_of_channels_with_one_weight_or_none(path):
    weights = torch.zeros(6, 500)
    weights[1, 3], weights[2, :2], weights[4, 7] = 0.3, torch.tensor([-2.0, 2.0]), -1e-30
    gpmt.save_sparse({"w": weights}, path, values="int8")
    assert torch.equal(gpmt.load_sparse(path)["w"], weights)


def test_vectors_are_not_rounded(path):
    vector = torch.zeros(3000)
    vector[:7] = torch.randn(7)
    assert gpmt.save_sparse({"v": vector}, path, values="int8").error == 0
    assert torch.equal(gpmt.load_sparse(path)["v"], vector)


@pytest.mark.parametrize(
    ("values", "bad", "message"),
    [
        ("fp16", 1e6, r"w holds 1e\+06, which would be inf as float16; store exact values instead"),
        ("fp16", 1e-9, r"w holds 1e-09, which would be 0 as float16"),
        ("bf16", math.nan, r"w holds nan, which would be nan as bfloat16"),
        ("int8", math.nan, "w holds NaN, infinity or more than float32 can, which 8 bits cannot store"),
        ("int8", -math.inf, "w holds NaN, infinity or more"),
    ],
)
def test_values_that_do_not_survive_are_refused(path, values, bad, message):
    weights = sparse((50, 50))
    weights[3, 4] = bad
    with pytest.raises(WeightsError, match=message):
        gpmt.save_sparse({"w": weights}, path, values=values)
    assert list(path.parent.iterdir()) == []


def test_eight_bits_never_lose_a_kept_weight(path):
    weights = sparse((50, 50), dtype=torch.float64)
    weights[3, 4] = 1e-300
    with pytest.raises(WeightsError, match="w holds 1e-300, which would be 0 in 8 bits; store exact values"):
        gpmt.save_sparse({"w": weights}, path, values="int8")


def test_inputs_that_cannot_be_saved(path):
    with pytest.raises(GpmtError, match="values is 'int4', but must be one of exact, fp16, bf16, int8"):
        gpmt.save_sparse({}, path, values="int4")
    with pytest.raises(CheckpointError, match=r"w is torch\.complex128, which a sparse file cannot hold"):
        gpmt.save_sparse({"w": torch.ones(2, dtype=torch.complex128)}, path)
    with pytest.raises(CheckpointError, match=r"w has no data \(it is on the meta device\)"):
        gpmt.save_sparse({"w": torch.ones(2, device="meta")}, path)
    with pytest.raises(CheckpointError, match=r"w is not a plain dense tensor \(torch\.sparse_coo\)"):
        gpmt.save_sparse({"w": torch.eye(2).to_sparse()}, path)
    with pytest.raises(CheckpointError, match="cannot be written"):
        gpmt.save_sparse({"w": torch.ones(2)}, path.parent / "missing" / "a.sparse.safetensors")
    assert list(path.parent.iterdir()) == []


def test_lazy_views_are_resolved(path):
    numbers = torch.randn(40, 40, dtype=torch.complex64)
    tensors = {"a": numbers, "b": numbers.conj(), "c": numbers.conj().imag, "d": numbers.imag}
    gpmt.save_sparse(tensors, path)
    loaded = gpmt.load_sparse(path)
    for name, tensor in tensors.items():
        assert torch.equal(loaded[name], tensor), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metadata": {"epoch": 3}}, "names and metadata must be strings, but 3 is int"),
        ({"metadata": {"x": "\ud800"}}, "cannot be written as JSON in UTF-8"),
        ({"record": {"x": object()}}, "cannot be written as JSON in UTF-8"),
        ({"record": {"x": math.nan}}, "cannot be written as JSON in UTF-8"),
    ],
)
def test_notes_that_cannot_be_written(path, arguments, message):
    with pytest.raises(CheckpointError, match=message):
        gpmt.save_sparse({"w": torch.ones(2)}, path, **arguments)
    assert not path.exists()


def test_what_is_no_tensor(path):
    with pytest.raises(CheckpointError, match=r"w is not a tensor with values \(int\); leave it out"):
        gpmt.save_sparse({"w": 3}, path)
    with pytest.raises(CheckpointError, match="weight is not a tensor with values"):
        gpmt.save_sparse(nn.LazyLinear(3), path)
    with pytest.raises(CheckpointError, match="names and metadata must be strings, but 1 is int"):
        gpmt.save_sparse({1: torch.ones(2)}, path)


def test_masks_of_one_tensor_that_differ(path):
    weights = torch.zeros(5, 5)
    masks = Masks.from_dense({"a": torch.ones(5, 5).bool(), "b": torch.zeros(5, 5).bool()})
    with pytest.raises(MaskError, match="b is the same tensor as a, but their masks differ"):
        gpmt.save_sparse({"a": weights, "b": weights}, path, masks=masks)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_the_error_in_eight_bits_is_that_of_what_is_read(path, dtype):
    weights = sparse((32, 700), 0.3, dtype)
    size = gpmt.save_sparse({"w": weights}, path, values="int8")
    difference = (gpmt.load_sparse(path)["w"].double() - weights.double()).abs().max().item()
    assert 0 < difference == size.error


def test_eight_bits_are_not_taken_where_their_scales_weigh_more(path):
    weights = {"w": sparse((960, 1, 3, 3))}
    exact = gpmt.save_sparse(weights, path)
    small = gpmt.save_sparse(weights, path, values="int8")
    assert (small.bytes, small.error) == (exact.bytes, 0)


def test_eight_bits_of_a_tensor_without_weights(path):
    masks = Masks.from_dense({"w": torch.ones(0, 5).bool()})
    gpmt.save_sparse({"w": torch.ones(0, 5)}, path, masks=masks, values="int8")
    assert gpmt.load_sparse(path)["w"].shape == (0, 5)


def test_an_empty_network(path):
    gpmt.save_sparse({}, path)
    assert gpmt.load_sparse(path) == {}


def test_any_safetensors_reader_opens_it(path):
    weights = state()
    gpmt.save_sparse(weights, path, metadata={"licence": "mine"})
    with safe_open(path, framework="np") as file:
        names = set(file.keys())
        assert {"conv.weight:values", "conv.weight:mask", "bn.weight", "fc.weight"} <= names
        kept = weights["conv.weight"][weights["conv.weight"] != 0]
        np.testing.assert_array_equal(file.get_tensor("conv.weight:values"), kept.numpy())
        assert file.metadata()["format"] == "gpmt-sparse"
        assert json.loads(file.metadata()["layout"])["metadata"] == {"licence": "mine"}


def test_entries_are_aligned(path):
    gpmt.save_sparse({f"{i}": sparse((50 + i, 31), 0.1, DTYPES[i % 5]) for i in range(10)} | state(), path)
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    assert (length + 8) % 8 == 0
    width = {"F64": 8, "I64": 8, "F32": 4, "F16": 2, "BF16": 2}
    for name, entry in json.loads(raw[8 : 8 + length]).items():
        if name != "__metadata__":
            assert entry["data_offsets"][0] % width.get(entry["dtype"], 1) == 0


def test_names_that_collide_with_those_of_parts(path):
    weights = {"w": sparse((60, 60)), "w:mask": torch.ones(3)}
    with pytest.raises(
        CheckpointError, match="w:mask cannot be the name of a tensor in a sparse file; rename it"
    ):
        gpmt.save_sparse(weights, path)
    weights["w"] = torch.ones(60, 60)  # not coded, so that it needs no such name
    gpmt.save_sparse(weights, path)
    assert_same(gpmt.load_sparse(path), weights)
    with pytest.raises(CheckpointError, match="__metadata__ cannot be the name"):
        gpmt.save_sparse({"__metadata__": torch.ones(3)}, path)


def test_saving_again_replaces_and_is_the_same_bytes(path):
    gpmt.save_sparse(state(), path)
    first = path.read_bytes()
    torch.manual_seed(0)
    weights = gpmt.load_sparse(path)
    gpmt.save_sparse(weights, path)
    assert path.read_bytes() == first


def test_sizes_of_a_realistic_network(path):
    """Within 2 % of values + entropy of the masks + dense rest, header included."""
    weights = {f"layer{i}.conv.weight": sparse((256, 256, 3, 3), 0.1, seed=i) for i in range(3)}
    weights |= {f"layer{i}.bn.weight": torch.randn(256) for i in range(3)}
    size = gpmt.save_sparse(weights, path)
    assert size.bytes < 1.02 * size.ideal_bytes
