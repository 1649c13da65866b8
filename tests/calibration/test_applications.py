"""Every application of a layer's weights is seen, with the inputs that it multiplies."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpmt.calibration.applications import Part, Watch, laid_out_like
from gpmt.calibration.inputs import Inputs

X = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))


def seen_in(model: nn.Module, *args: Tensor, inference: bool = False) -> list[tuple[str, Part, Inputs]]:
    """Return what is seen of all matrices of a model while it runs in evaluation mode."""
    found: list[tuple[str, Part, Inputs]] = []
    weights = {name: tensor for name, tensor in model.named_parameters() if tensor.ndim > 1}
    watch = Watch(weights, lambda name, part, inputs: found.append((name, part, inputs)))
    with torch.inference_mode(inference), torch.no_grad(), watch:
        model.eval()(*args)
    return found


def matrix_of(inputs: Inputs) -> Tensor:
    return torch.cat(list(inputs.pieces()), dim=1).float()


class Own(nn.Module):
    """A matrix [4, 8], applied to [2, 5, 8] by a function."""

    def __init__(self, apply: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.apply, self.w = apply, nn.Parameter(torch.randn(4, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.apply(x, self.w)


@pytest.mark.parametrize(
    "apply",
    [
        lambda x, w: F.linear(x, w),
        lambda x, w: F.linear(x, w, torch.ones(4)),
        lambda x, w: x @ w.T,
        lambda x, w: w @ x.transpose(1, 2),
        lambda x, w: torch.einsum("bti,oi->bto", x, w),
        lambda x, w: torch.bmm(x, w.T.expand(2, 8, 4)),
        lambda x, w: torch.baddbmm(torch.ones(2, 5, 4), x, w.T.expand(2, 8, 4), beta=2.0),
        lambda x, w: torch.stack([torch.mv(w, row) for row in x.flatten(0, 1)]),
        lambda x, w: torch.stack([torch.addmv(torch.ones(4), w, row) for row in x.flatten(0, 1)]),
        lambda x, w: torch.mm(x.flatten(0, 1), w.T, out=torch.empty(10, 4)),
        lambda x, w: F.conv1d(x.transpose(1, 2), w[..., None]),
    ],
)
@pytest.mark.parametrize("inference", [False, True])
def test_any_way_to_multiply(apply, inference):
    model = Own(apply)
    found = seen_in(model, X, inference=inference)
    rows = torch.cat([matrix_of(inputs)[0] for _, _, inputs in found])
    assert torch.equal(rows.sort(0).values, X.flatten(0, 1).sort(0).values)
    assert all(torch.equal(part.of(model.w).reshape(4, 8), model.w) for _, part, _ in found)


def test_the_experts_of_a_stack_are_parts():
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Parameter(torch.randn(3, 8, 4))

        def forward(self, x: Tensor) -> Tensor:
            return x[:, :2] @ self.up[2] + torch.bmm(x[0].expand(3, 5, 8), self.up)[1, :2]

    model = Experts()
    found = seen_in(model, X)
    assert [(part.offset, inputs.positions) for _, part, inputs in found] == [
        (64, 4),
        (0, 5),
        (32, 5),
        (64, 5),
    ]
    for _, part, _ in found:
        assert torch.equal(part.of(model.up)[0], model.up[part.offset // 32].T)


@pytest.mark.parametrize("operator", ["pytorch", "transformers"])
def test_grouped_products(operator: str):
    if operator == "transformers":
        pytest.importorskip("transformers.integrations.moe")
        product = torch.ops.transformers.grouped_mm_fallback
    else:
        product = F.grouped_mm

    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Parameter(torch.randn(3, 4, 8))

        def forward(self, x: Tensor) -> Tensor:
            ends = torch.tensor([2, 2, 5], dtype=torch.int32)
            return product(x, self.up.transpose(1, 2), offs=ends)

    model = Experts()
    found = seen_in(model, X[0].contiguous())
    assert [part.offset // 32 for _, part, _ in found] == [0, 2]
    assert torch.equal(matrix_of(found[1][2])[0], X[0, 2:])
    assert torch.equal(found[1][1].of(model.up)[0], model.up[2])


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("layer", [nn.Conv2d(4, 6, 3, groups=2), nn.ConvTranspose2d(4, 6, 3, groups=2)])
def test_groups_of_convolutions_are_blocks(layer: nn.Module, memory_format: torch.memory_format):
    layer = layer.to(memory_format=memory_format)
    image = torch.randn(2, 4, 7, 7)
    ((_, part, inputs),) = seen_in(layer, image)
    weights = part.of(layer.weight)
    assert weights.shape == (2, 3, 2, 3, 3)
    outputs = matrix_of(inputs) @ weights.flatten(2).mT
    with torch.no_grad():
        expected = layer(image) - layer.bias[:, None, None]
    assert torch.allclose(outputs.sum(1).flatten(), expected.sum((0, 2, 3)), atol=1e-4)


def test_a_part_of_another_tensor_with_the_same_strides():
    weight = torch.randn(6, 4, 3, 3).to(memory_format=torch.channels_last)
    part = Part(0, (2, 3, 4, 3, 3), weight.unflatten(0, (2, 3)).stride())
    like = laid_out_like(weight, torch.float64)
    assert like.stride() == weight.stride()
    part.of(like).copy_(part.of(weight))
    assert torch.equal(like.float(), weight)
    assert torch.equal(part.of(weight), weight.unflatten(0, (2, 3)))


def test_products_of_activations_are_not_seen():
    model = Own(lambda x, w: F.scaled_dot_product_attention(x, x, x) @ x.transpose(1, 2))
    assert seen_in(model, X) == []


def test_copies_of_weights_are_not_seen():
    model = Own(lambda x, w: F.linear(x.bfloat16(), w.bfloat16()) + F.linear(x, w * 2))
    assert seen_in(model, X) == []
