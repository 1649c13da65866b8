"""What a sparse file gives back is what it was given, to the bit."""

import dataclasses
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
from gpmt.errors import CheckpointError, GpmtError, MaskError
from gpmt.masks import Masks

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.int64,
    torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.bool,
    torch.complex64,
]  # fmt: skip


def test_a_network_comes_back(out):
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.Conv2d(64, 64, 3))
    gpmt.prune_(model, sparsity=0.9)
    size = gpmt.save_sparse(model, out)
    assert_same(gpmt.load_sparse(out), model.state_dict())
    assert size.bytes == out.stat().st_size < 0.25 * size.dense_bytes
    assert size.bytes == size.values + size.masks + size.dense + size.header


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("density", [0.0, 0.05, 0.6, 1.0])
def test_every_type(out, dtype, density):
    weights = (sparse((40, 100), density) * 20).to(dtype)
    gpmt.save_sparse({"w": weights, "v": weights[:3].clone()}, out)
    assert_same(gpmt.load_sparse(out), {"w": weights, "v": weights[:3]})


@settings(max_examples=60)
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
    out = tmp_path_factory.mktemp("any") / "a.sparse.safetensors"
    given_tensors = {}
    for i, (shape, dtype, density, turned) in enumerate(tensors):
        weights = sparse(shape, density, dtype, seed=i)
        given_tensors[f"{i}.weight"] = weights.T if turned and len(shape) == 2 else weights
    gpmt.save_sparse(given_tensors, out)
    assert_same(gpmt.load_sparse(out), given_tensors)


def test_unusual_bits_survive(out):
    weights = torch.zeros(100, 100)
    weights[0, :6] = torch.tensor([-0.0, math.nan, math.inf, -math.inf, 1e-45, 3e38])
    weights.view(torch.int32)[0, 6] = 0x7FC12345  # a NaN with a payload
    size = gpmt.save_sparse({"w": weights}, out, signed_zeros="keep")
    assert_same(gpmt.load_sparse(out), {"w": weights})
    assert size.negative_zeros == 0
    size = gpmt.save_sparse({"w": weights}, out)
    assert_same(gpmt.load_sparse(out), {"w": weights.where(weights != 0, 0)})
    assert size.negative_zeros == 1


def multiplied(shape, density=0.1, dtype=torch.float32, seed=0):
    """Weights times a mask of 0 and 1, which leaves −0.0 of the negative ones that it prunes."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(shape, generator=generator) < density
    return torch.randn(shape, generator=generator).to(dtype).mul_(mask)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn], ids=str
)
def test_negative_zeros_take_no_space(out, dtype):
    weights = multiplied((300, 400)).to(dtype)
    plain = weights.float().where(weights.float() != 0, 0).to(dtype)
    signs = negative_zeros(weights)
    assert signs > 40_000
    size = gpmt.save_sparse({"w": plain}, out)
    assert gpmt.save_sparse({"w": weights}, out) == dataclasses.replace(size, negative_zeros=signs)
    assert_same(gpmt.load_sparse(out), {"w": plain})
    assert str(size) + f"; negative zeros stored as 0.0: {signs:,}" == str(
        dataclasses.replace(size, negative_zeros=signs)
    )


def negative_zeros(tensor):
    return int((tensor.float().signbit() & (tensor.float() == 0)).sum())


@settings(max_examples=40)
@given(
    shape=st.lists(st.integers(0, 60), max_size=3),
    density=st.floats(0, 1),
    dtype=st.sampled_from(DTYPES[:4]),
    masked=st.booleans(),
    values=st.sampled_from(["exact", "bf16", "int8"]),
)
def test_signs_given_up_are_counted_exactly(tmp_path_factory, shape, density, dtype, masked, values):
    """The oracle: compare what was given with what is read, weight by weight."""
    out = tmp_path_factory.mktemp("any") / "a.sparse.safetensors"
    weights = multiplied(shape, density, dtype)
    masks = Masks.from_dense({"w": weights != 0}) if masked else None
    size = gpmt.save_sparse({"w": weights}, out, masks=masks, values=values)
    loaded = gpmt.load_sparse(out)["w"]
    assert torch.equal(loaded == 0, weights == 0)
    assert size.negative_zeros == negative_zeros(weights) - negative_zeros(loaded)
    if values == "exact":
        assert torch.equal(loaded, weights)
    if not masked:
        gpmt.save_sparse({"w": weights}, out, signed_zeros="keep")
        assert_same(gpmt.load_sparse(out), {"w": weights})


def test_dense_tensors_keep_their_signs(out):
    weights = {"a": -torch.zeros(3), "b": torch.randn(100).index_fill_(0, torch.tensor([7]), -0.0)}
    assert gpmt.save_sparse(weights, out).negative_zeros == 0
    assert_same(gpmt.load_sparse(out), weights)


def test_signs_under_a_mask_cannot_be_kept(out):
    weights = multiplied((80, 80))
    masks = Masks.from_dense({"w": weights != 0})
    size = gpmt.save_sparse({"w": weights}, out, masks=masks)
    assert size.negative_zeros == negative_zeros(weights)
    message = (
        rf"w is −0\.0 in {size.negative_zeros:,} places that its mask prunes, so their signs cannot be kept"
    )
    with pytest.raises(MaskError, match=message):
        gpmt.save_sparse({"w": weights}, out, masks=masks, signed_zeros="keep")
    kept = Masks.from_dense({"w": torch.ones(80, 80, dtype=torch.bool)})
    gpmt.save_sparse({"w": weights}, out, masks=kept, signed_zeros="keep")
    assert_same(gpmt.load_sparse(out), {"w": weights})


def test_tied_tensors_may_be_empty(out):
    empty = torch.empty(0, 3)
    gpmt.save_sparse({"a": empty, "b": empty, "c": torch.ones(2)}, out)
    assert_same(gpmt.load_sparse(out), {"a": empty, "c": torch.ones(2), "b": empty})


def test_layouts_in_memory_do_not_matter(out):
    weights = sparse((8, 16, 3, 3))
    gpmt.save_sparse({"w": weights.to(memory_format=torch.channels_last)}, out)
    assert torch.equal(gpmt.load_sparse(out)["w"], weights)


def test_tied_tensors_are_stored_once_and_tied_again(out):
    weights = sparse((100, 100))
    size = gpmt.save_sparse({"a": weights, "other": torch.ones(2), "b": weights}, out)
    assert size.dense_bytes == 40_008
    loaded = gpmt.load_sparse(out)
    assert torch.equal(loaded["b"], weights)
    assert loaded["a"].data_ptr() == loaded["b"].data_ptr()
    with gpmt.SparseFile(out) as file:
        assert (list(file), dict(file.tied), file.kept("b")) == (
            ["a", "other", "b"],
            {"b": "a"},
            file.kept("a"),
        )
        assert torch.equal(file["b"], weights)
    assert torch.equal(gpmt.load_sparse(out, names=["b"])["b"], weights)


def test_a_view_of_another_tensor_is_stored_by_itself(out):
    weights = sparse((100, 100))
    gpmt.save_sparse({"a": weights, "b": weights[:50]}, out)
    assert_same(gpmt.load_sparse(out), {"a": weights, "b": weights[:50]})


def test_masks_are_kept_beyond_the_zeros(out):
    weights = {"w": sparse((60, 60)), "v": torch.randn(5, 5)}
    masks = Masks.from_dense({"w": weights["w"] != 0, "v": torch.ones(5, 5, dtype=torch.bool)})
    weights["w"][weights["w"] != 0] *= torch.rand(int((weights["w"] != 0).sum())) > 0.5  # kept, and zero
    gpmt.save_sparse(weights, out, masks=masks)
    assert_same(gpmt.load_sparse(out), weights)
    with gpmt.SparseFile(out) as file:
        assert file.masks() == masks
        assert file.kept("w") == masks.kept("w")
        assert torch.equal(file.mask("w"), masks["w"])
    gpmt.save_sparse(weights, out)
    with gpmt.SparseFile(out) as file:
        assert file.masks() is None


def test_a_mask_of_a_tied_tensor_may_go_by_any_of_its_names(out):
    weights = sparse((60, 60))
    masks = Masks.from_dense({"b": weights != 0})
    gpmt.save_sparse({"a": weights, "b": weights}, out, masks=masks)
    with gpmt.SparseFile(out) as file:
        assert torch.equal(file.mask("b"), masks["b"])
        assert list(file.masks()) == ["a"]


def test_masks_that_prune_what_is_there_are_refused(out):
    weights = torch.ones(10, 13)
    masks = Masks.from_dense({"w": torch.zeros(10, 13, dtype=torch.bool)})
    with pytest.raises(MaskError, match=r"w has pruned weights that are not zero; apply the masks first"):
        gpmt.save_sparse({"w": weights}, out, masks=masks)
    with pytest.raises(MaskError, match="masked tensor w is missing"):
        gpmt.save_sparse({"v": weights}, out, masks=masks)
    assert not out.exists()


def test_a_pruned_negative_zero_becomes_a_plain_one(out):
    weights = -torch.zeros(80, 80)
    gpmt.save_sparse(
        {"w": weights}, out, masks=Masks.from_dense({"w": torch.zeros(80, 80, dtype=torch.bool)})
    )
    assert torch.equal(bits(gpmt.load_sparse(out)["w"]), torch.zeros(4 * 80 * 80, dtype=torch.uint8))


def test_inputs_that_cannot_be_saved(out):
    with pytest.raises(GpmtError, match="values is 'int4', but must be one of exact, fp16, bf16, int8"):
        gpmt.save_sparse({}, out, values="int4")
    with pytest.raises(GpmtError, match="signed_zeros is 'no', but must be drop or keep"):
        gpmt.save_sparse({}, out, signed_zeros="no")
    with pytest.raises(CheckpointError, match=r"w is torch\.complex128, which a sparse file cannot hold"):
        gpmt.save_sparse({"w": torch.ones(2, dtype=torch.complex128)}, out)
    with pytest.raises(CheckpointError, match=r"w has no data \(it is on the meta device\)"):
        gpmt.save_sparse({"w": torch.ones(2, device="meta")}, out)
    with pytest.raises(CheckpointError, match=r"w is not a plain dense tensor \(torch\.sparse_coo\)"):
        gpmt.save_sparse({"w": torch.eye(2).to_sparse()}, out)
    with pytest.raises(CheckpointError, match="cannot be written"):
        gpmt.save_sparse({"w": torch.ones(2)}, out.parent / "missing" / "a.sparse.safetensors")
    assert list(out.parent.iterdir()) == []


def test_lazy_views_are_resolved(out):
    numbers = torch.randn(40, 40, dtype=torch.complex64)
    tensors = {"a": numbers, "b": numbers.conj(), "c": numbers.conj().imag, "d": numbers.imag}
    gpmt.save_sparse(tensors, out)
    loaded = gpmt.load_sparse(out)
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
def test_notes_that_cannot_be_written(out, arguments, message):
    with pytest.raises(CheckpointError, match=message):
        gpmt.save_sparse({"w": torch.ones(2)}, out, **arguments)
    assert not out.exists()


def test_what_is_no_tensor(out):
    with pytest.raises(CheckpointError, match=r"w is not a tensor with values \(int\); leave it out"):
        gpmt.save_sparse({"w": 3}, out)
    with pytest.raises(CheckpointError, match="weight is not a tensor with values"):
        gpmt.save_sparse(nn.LazyLinear(3), out)
    with pytest.raises(CheckpointError, match="names and metadata must be strings, but 1 is int"):
        gpmt.save_sparse({1: torch.ones(2)}, out)


def test_masks_of_one_tensor_that_differ(out):
    weights = torch.zeros(5, 5)
    masks = Masks.from_dense({"a": torch.ones(5, 5).bool(), "b": torch.zeros(5, 5).bool()})
    with pytest.raises(MaskError, match="b is the same tensor as a, but their masks differ"):
        gpmt.save_sparse({"a": weights, "b": weights}, out, masks=masks)


def test_an_empty_network(out):
    gpmt.save_sparse({}, out)
    assert gpmt.load_sparse(out) == {}


def test_any_safetensors_reader_opens_it(out):
    weights = state()
    gpmt.save_sparse(weights, out, metadata={"licence": "mine"})
    with safe_open(out, framework="np") as file:
        names = set(file.keys())
        assert {"conv.weight:values", "conv.weight:mask", "bn.weight", "fc.weight"} <= names
        kept = weights["conv.weight"][weights["conv.weight"] != 0]
        np.testing.assert_array_equal(file.get_tensor("conv.weight:values"), kept.numpy())
        assert file.metadata()["format"] == "gpmt-sparse"
        assert json.loads(file.metadata()["layout"])["metadata"] == {"licence": "mine"}


def test_entries_are_aligned(out):
    gpmt.save_sparse({f"{i}": sparse((50 + i, 31), 0.1, DTYPES[i % 5]) for i in range(10)} | state(), out)
    raw = out.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    assert (length + 8) % 8 == 0
    width = {"F64": 8, "I64": 8, "F32": 4, "F16": 2, "BF16": 2}
    for name, entry in json.loads(raw[8 : 8 + length]).items():
        if name != "__metadata__":
            assert entry["data_offsets"][0] % width.get(entry["dtype"], 1) == 0


def test_names_that_collide_with_those_of_parts(out):
    weights = {"w": sparse((60, 60)), "w:mask": torch.ones(3)}
    with pytest.raises(
        CheckpointError, match="w:mask cannot be the name of a tensor in a sparse file; rename it"
    ):
        gpmt.save_sparse(weights, out)
    weights["w"] = torch.ones(60, 60)  # not coded, so that it needs no such name
    gpmt.save_sparse(weights, out)
    assert_same(gpmt.load_sparse(out), weights)
    with pytest.raises(CheckpointError, match="__metadata__ cannot be the name"):
        gpmt.save_sparse({"__metadata__": torch.ones(3)}, out)


def test_saving_again_replaces_and_is_the_same_bytes(out):
    gpmt.save_sparse(state(), out)
    first = out.read_bytes()
    torch.manual_seed(0)
    weights = gpmt.load_sparse(out)
    gpmt.save_sparse(weights, out)
    assert out.read_bytes() == first


def test_sizes_of_a_realistic_network(out):
    """Within 2 % of values + entropy of the masks + dense rest, header included."""
    weights = {f"layer{i}.conv.weight": sparse((256, 256, 3, 3), 0.1, seed=i) for i in range(3)}
    weights |= {f"layer{i}.bn.weight": torch.randn(256) for i in range(3)}
    size = gpmt.save_sparse(weights, out)
    assert size.bytes < 1.02 * size.ideal_bytes
