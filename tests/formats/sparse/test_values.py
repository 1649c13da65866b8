"""Values in fewer bits: their errors, and weights that do not survive."""

import math

import pytest
import torch
from tests.formats.sparse.networks import sparse

import gpmt
from gpmt.errors import WeightsError
from gpmt.formats.sparse.values import check_codes
from gpmt.masks import Masks


def test_the_largest_error_may_be_in_any_stretch(out):
    weights = torch.ones(1100, 1024)  # more than are rounded at a time
    weights[0, 0] += 2**-12
    size = gpmt.save_sparse({"w": weights}, out, values="fp16")
    assert size.error == 2**-12


@pytest.mark.parametrize("values", ["fp16", "bf16", "int8"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_fewer_bits_keep_the_zeros_and_state_their_error(out, values, dtype):
    weights = {"w": sparse((32, 16, 5, 5), dtype=dtype), "b": torch.randn(64, dtype=dtype)}
    exact = gpmt.save_sparse(weights, out).bytes
    size = gpmt.save_sparse(weights, out, values=values)
    loaded = gpmt.load_sparse(out)
    difference = (loaded["w"] - weights["w"]).double().abs().max().item()
    assert 0 < difference == pytest.approx(size.error, rel=1e-6)
    assert size.bytes < (0.8 if values != "int8" else 0.7) * exact
    assert torch.equal(loaded["w"] == 0, weights["w"] == 0)
    assert torch.equal(loaded["w"].sign(), weights["w"].sign())
    assert torch.equal(loaded["b"], weights["b"])
    with gpmt.SparseFile(out) as file:
        assert (file.error("w"), file.error("b")) == (size.error, 0.0)


def test_eight_bits_err_by_half_a_step_of_their_channel(out):
    weights = sparse((20, 1000), 0.2) * torch.logspace(-3, 3, 20)[:, None]
    gpmt.save_sparse({"w": weights}, out, values="int8")
    loaded = gpmt.load_sparse(out)["w"]
    for channel, row in enumerate(weights):
        kept = row[row != 0].abs()
        step = (kept.max() - kept.min()) / 126
        assert (loaded[channel] - row).abs().max() <= 0.5 * step * (1 + 1e-4)
        assert loaded[channel].abs().max() == pytest.approx(kept.max().item(), rel=1e-6)


def test_eight_bits_of_channels_with_one_weight_or_none(out):
    weights = torch.zeros(6, 500)
    weights[1, 3], weights[2, :2], weights[4, 7] = 0.3, torch.tensor([-2.0, 2.0]), -1e-30
    gpmt.save_sparse({"w": weights}, out, values="int8")
    assert torch.equal(gpmt.load_sparse(out)["w"], weights)


def test_vectors_are_not_rounded(out):
    vector = torch.zeros(3000)
    vector[:7] = torch.randn(7)
    assert gpmt.save_sparse({"v": vector}, out, values="int8").error == 0
    assert torch.equal(gpmt.load_sparse(out)["v"], vector)


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
def test_values_that_do_not_survive_are_refused(out, values, bad, message):
    weights = sparse((50, 50))
    weights[3, 4] = bad
    with pytest.raises(WeightsError, match=message):
        gpmt.save_sparse({"w": weights}, out, values=values)
    assert list(out.parent.iterdir()) == []


def test_eight_bits_never_lose_a_kept_weight(out):
    weights = sparse((50, 50), dtype=torch.float64)
    weights[3, 4] = 1e-300
    with pytest.raises(WeightsError, match="w holds 1e-300, which would be 0 in 8 bits; store exact values"):
        gpmt.save_sparse({"w": weights}, out, values="int8")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_the_error_in_eight_bits_is_that_of_what_is_read(out, dtype):
    weights = sparse((32, 700), 0.3, dtype)
    size = gpmt.save_sparse({"w": weights}, out, values="int8")
    difference = (gpmt.load_sparse(out)["w"].double() - weights.double()).abs().max().item()
    assert 0 < difference == size.error


def test_eight_bits_are_not_taken_where_their_scales_weigh_more(out):
    weights = {"w": sparse((960, 1, 3, 3))}
    exact = gpmt.save_sparse(weights, out)
    small = gpmt.save_sparse(weights, out, values="int8")
    assert (small.bytes, small.error) == (exact.bytes, 0)


def test_eight_bits_of_a_tensor_without_weights(out):
    masks = Masks.from_dense({"w": torch.ones(0, 5).bool()})
    gpmt.save_sparse({"w": torch.ones(0, 5)}, out, masks=masks, values="int8")
    assert gpmt.load_sparse(out)["w"].shape == (0, 5)


def test_the_largest_weight_does_not_become_infinite_in_eight_bits(out):
    """A step that is rounded up would take the largest beyond what float32 can hold."""
    largest = torch.finfo(torch.float32).max
    weights = torch.zeros(200, 40)
    for row, low in enumerate(torch.linspace(0.1, 0.9, 200).tolist()):
        weights[row, :3] = torch.tensor([largest, -low * largest, -largest])
    size = gpmt.save_sparse({"w": weights}, out, values="int8")
    loaded = gpmt.load_sparse(out)["w"]
    assert loaded.isfinite().all()
    assert (loaded - weights).abs().max() == size.error < 0.01 * largest


@pytest.mark.parametrize(
    ("codes", "scales", "problem"),
    [
        ([1, -127, 127], [[0.0, 0.5], [1.0, 0.0]], ""),
        ([], [[], []], ""),
        ([1, 0, 3], [[0.0], [1.0]], "a value in 8 bits is 0"),
        ([1, -128], [[0.0], [1.0]], "a value in 8 bits is -128"),
        ([1], [[-1.0], [1.0]], "a scale is negative or not finite"),
        ([1], [[0.0], [math.nan]], "a scale is negative or not finite"),
        ([1], [[math.inf], [0.0]], "a scale is negative or not finite"),
    ],
)
def test_codes_that_no_writer_writes(codes, scales, problem):
    assert check_codes(torch.tensor(codes, dtype=torch.int8), torch.tensor(scales)) == problem
