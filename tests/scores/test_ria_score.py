import pytest
import torch
from torch import Tensor, nn

from gpmt.scores.ria_score import ria


def slow(weight: Tensor, inputs: Tensor) -> Tensor:
    """Return the scores of one matrix by loops."""
    scores = torch.zeros_like(weight)
    for i, row in enumerate(weight.tolist()):
        for j, value in enumerate(row):
            column = sum(abs(other[j]) for other in weight.tolist())
            share = abs(value) / column + abs(value) / sum(map(abs, row)) if value else 0.0
            scores[i, j] = share * sum(x**2 for x in inputs[:, j].tolist()) ** 0.25
    return scores


def test_a_linear_layer_by_the_definition():
    torch.manual_seed(0)
    model, x = nn.Linear(5, 4), torch.randn(7, 5)
    assert torch.allclose(ria(model, [x[:3], x[3:]])["weight"], slow(model.weight.detach(), x))


def test_a_convolution_has_the_sums_of_its_groups():
    torch.manual_seed(0)
    model, image = nn.Conv2d(4, 6, 2, groups=2), torch.randn(3, 4, 5, 5)
    scores = ria(model, [image])["weight"]
    for group in range(2):
        inputs = (
            torch.nn.functional.unfold(image[:, 2 * group : 2 * group + 2], 2).transpose(1, 2).flatten(0, 1)
        )
        rows = slice(3 * group, 3 * group + 3)
        assert torch.allclose(scores[rows].flatten(1), slow(model.weight.detach()[rows].flatten(1), inputs))


@pytest.mark.parametrize("cross", [False, True])
def test_the_layers_of_a_tensor_have_their_own_sums(cross: bool):
    torch.manual_seed(0)
    model, x, y = nn.MultiheadAttention(4, 2, batch_first=True), torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    weight = model.in_proj_weight.detach()
    batches = [((x, y, y) if cross else (x, x, x), None)]
    scores = ria(model, batches)["in_proj_weight"]
    for its, rows, inputs in zip(
        scores.chunk(3), weight.chunk(3), (x, y, y) if cross else (x, x, x), strict=True
    ):
        assert torch.allclose(its, slow(rows, inputs.flatten(0, 1)))


def test_a_layer_used_twice_has_its_shares_once():
    torch.manual_seed(0)
    layer, x = nn.Linear(3, 3, bias=False), torch.randn(4, 3)
    with torch.no_grad():
        inputs = torch.cat([x, layer(x)])
    assert torch.allclose(
        ria(nn.Sequential(layer, layer), [x])["0.weight"], slow(layer.weight.detach(), inputs)
    )


def test_rows_and_columns_of_zeros():
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0, 0.0], [0.0, 2.0]]))
    assert ria(layer, [torch.ones(1, 2)])["weight"].tolist() == [[0.0, 0.0], [0.0, 2.0]]


def test_experts_have_their_own_sums():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    settings = transformers.MixtralConfig(
        vocab_size=32,
        hidden_size=8,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=2,
        num_experts_per_tok=2,
    )
    model = transformers.MixtralForCausalLM(settings)
    given = []
    hook = model.model.layers[0].mlp.experts.register_forward_pre_hook(
        lambda layer, args: given.append(args[0])
    )
    name = "model.layers.0.mlp.experts.gate_up_proj"
    scores = ria(model, [{"input_ids": torch.arange(6)[None]}], scope=name)[name]
    hook.remove()
    weight = dict(model.named_parameters())[name].detach()
    for expert in range(2):  # both get all tokens
        for part in (slice(0, 4), slice(4, 8)):  # gate and up
            assert torch.allclose(scores[expert, part], slow(weight[expert, part], given[0]), atol=1e-6)
