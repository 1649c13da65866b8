"""The inputs of layers as matrices: with the weights they give the layer's outputs."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmt.calibration import inputs
from gpmt.calibration.inputs import Vectors, Windows


@st.composite
def convolutions(draw):
    """Draw an image, a weight and the arguments of a convolution, plain or transposed."""
    dims, transposed = draw(st.integers(1, 3)), draw(st.booleans())

    def sizes(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(dims))

    groups, stride, dilation = draw(st.integers(1, 3)), sizes(1, 3), sizes(1, 2)
    taps, padding = sizes(1, 3), sizes(0, 2)
    extra = tuple(draw(st.integers(0, step - 1)) for step in stride) if transposed else (0,) * dims
    channels, outputs = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    shape = (channels, outputs // groups) if transposed else (outputs, channels // groups)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    image = torch.randn(
        draw(st.integers(1, 3)), channels, *sizes(5, 7), generator=generator, dtype=torch.float64
    )
    weight = torch.randn(*shape, *taps, generator=generator, dtype=torch.float64)
    return image, weight, stride, padding, dilation, transposed, extra, groups


def split(weight: torch.Tensor, groups: int, transposed: bool) -> torch.Tensor:
    grouped = weight.unflatten(0, (groups, -1))
    return (grouped.transpose(1, 2) if transposed else grouped).flatten(2)


@settings(max_examples=40)
@given(convolutions(), st.sampled_from([1, 50, 1 << 22]))
def test_windows_times_weights_are_the_convolution(case, piece: int):
    image, weight, stride, padding, dilation, transposed, extra, groups = case
    expected = torch.convolution(image, weight, None, stride, padding, dilation, transposed, extra, groups)
    windows = Windows(image, tuple(weight.shape[2:]), stride, padding, dilation, groups, transposed, extra)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "_PIECE", piece)
        matrix = torch.cat(list(windows.pieces()), dim=1)
        squares = windows.squares()
    outputs = matrix @ split(weight, groups, transposed).mT  # [groups, positions, outputs]
    by_sample = outputs.unflatten(1, (len(image), *expected.shape[2:])).movedim(
        -1, 1
    )  # [groups, outputs, n, ...]
    assert torch.allclose(by_sample.flatten(0, 1).movedim(0, 1), expected)
    assert windows.positions == matrix.shape[1]
    assert torch.allclose(squares, matrix.square().sum(1))


def test_pieces_of_images_are_small(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inputs, "_PIECE", 1000)
    windows = Windows(torch.randn(3, 4, 20, 20), (3, 3), (1, 1), (1, 1), (1, 1))
    sizes = [piece.numel() for piece in windows.pieces()]
    assert sum(sizes) == 3 * 20 * 20 * 36
    assert max(sizes) == 20 * 36  # one row of one image


def test_pieces_of_vectors_are_small(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inputs, "_PIECE", 100)
    vectors = Vectors(torch.randn(2, 33, 5, dtype=torch.float16))
    pieces = list(vectors.pieces())
    assert [piece.shape[1] for piece in pieces] == [10, 10, 10, 3]
    assert {piece.dtype for piece in pieces} == {torch.float64}
    assert torch.equal(torch.cat(pieces, dim=1), vectors.tensor.double())
    assert torch.allclose(vectors.squares(), vectors.tensor.double().square().sum(1))


def test_an_unfolded_image_in_the_order_of_pytorch():
    image = torch.randn(2, 3, 8, 9)
    windows = Windows(image, (3, 2), (2, 1), (1, 0), (1, 2))
    (piece,) = windows.pieces()
    unfolded = F.unfold(
        image, (3, 2), dilation=(1, 2), padding=(1, 0), stride=(2, 1)
    )  # [n, inputs, positions]
    assert torch.equal(piece[0].float(), unfolded.transpose(1, 2).flatten(0, 1))


def test_a_sum_of_squares_is_exact_to_float64():
    large, small = torch.full((1, 1, 1), 4096.0), torch.full((1, 999, 1), 1.0)
    vectors = Vectors(torch.cat([large, small], dim=1))
    assert vectors.squares().item() == 4096.0**2 + 999
    assert vectors.squares().shape == (1, 1)
