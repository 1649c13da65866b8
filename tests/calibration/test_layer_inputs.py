"""The inputs of all layers of networks of many kinds, against loops over modules and positions."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpmt.calibration.layer_inputs import followers, in_order, survey, visit
from gpmt.errors import CalibrationError


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in model.named_parameters() if tensor.ndim > 1}


def norms_of(model: nn.Module, batches, names=None) -> dict[str, Tensor]:
    weights = {name: tensor for name, tensor in weights_of(model).items() if names is None or name in names}
    return {name: layer.norms(weights[name]) for name, layer in survey(model, weights, batches).items()}


def inputs_of_modules(model: nn.Module, batches) -> dict[str, Tensor]:
    """Return the inputs of each linear layer by the name of its weight, from hooks."""
    inputs: dict[str, list[Tensor]] = {}
    hooks = [
        module.register_forward_pre_hook(
            lambda module, args, name=name: inputs.setdefault(name, []).append(args[0].flatten(0, -2))
        )
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    with torch.no_grad():
        for batch in batches:
            model.eval()(batch)
    for hook in hooks:
        hook.remove()
    return {f"{name}.weight": torch.cat(parts) for name, parts in inputs.items()}


def test_linear_layers():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 5), nn.ReLU(), nn.Dropout(), nn.BatchNorm1d(5), nn.Linear(5, 3, bias=False)
    )
    batches = [torch.randn(7, 6), torch.randn(4, 6)]
    norms = norms_of(model, batches)
    for name, inputs in inputs_of_modules(model, batches).items():
        expected = inputs.square().sum(0).sqrt()
        assert torch.allclose(norms[name], expected.expand(norms[name].shape)), name


def test_a_convolution_by_loops_over_positions():
    torch.manual_seed(0)
    model, image = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), groups=2), torch.randn(2, 4, 5, 4)
    padded, expected = F.pad(image, (0, 0, 1, 1)), torch.zeros(6, 2, 3, 2)
    for output, channel, row, column in [
        (o, c, i, j) for o in range(6) for c in range(2) for i in range(3) for j in range(2)
    ]:
        source = channel + (2 if output >= 3 else 0)
        total = 0.0
        for sample in range(2):
            for y in range(3):
                for x in range(3):
                    total += padded[sample, source, 2 * y + row, x + column].item() ** 2
        expected[output, channel, row, column] = total**0.5
    assert torch.allclose(norms_of(model, [image])["weight"], expected)


@pytest.mark.parametrize("separate", [False, True])
def test_attention(separate: bool):
    torch.manual_seed(0)
    model = nn.MultiheadAttention(8, 2, kdim=6 if separate else None, batch_first=True)
    query, key, value = torch.randn(2, 3, 8), torch.randn(2, 4, 6 if separate else 8), torch.randn(2, 4, 8)
    norms = norms_of(model, [((query, key, value), None)])
    expected = [x.flatten(0, 1).norm(dim=0).expand(8, -1) for x in (query, key, value)]
    if separate:
        found = [norms[f"{name}_proj_weight"] for name in "qkv"]
    else:
        found = list(norms["in_proj_weight"].chunk(3))
    assert all(torch.allclose(*pair) for pair in zip(found, expected, strict=True))
    # Outputs of the heads, made from the definition.
    with torch.no_grad():
        weights = (
            [model.q_proj_weight, model.k_proj_weight, model.v_proj_weight]
            if separate
            else model.in_proj_weight.chunk(3)
        )
        q, k, v = (
            F.linear(x, w).unflatten(-1, (2, 4)).transpose(1, 2)
            for x, w in zip((query, key, value), weights, strict=True)
        )
        heads = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2).flatten(0, 1)
    assert torch.allclose(norms["out_proj.weight"], heads.norm(dim=0).expand(8, -1), atol=1e-5)


def test_the_fast_path_of_transformer_layers_is_off_and_on_again():
    model = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
    x = torch.randn(2, 3, 8)
    norms = norms_of(model, [x])
    assert torch.allclose(norms["self_attn.in_proj_weight"][0], x.flatten(0, 1).norm(dim=0))
    assert set(norms) == {
        "self_attn.in_proj_weight",
        "self_attn.out_proj.weight",
        "linear1.weight",
        "linear2.weight",
    }
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers(kind):
    torch.manual_seed(0)
    model, x = kind(4, 3, batch_first=True, bidirectional=True), torch.randn(2, 5, 4)
    norms = norms_of(model, [x])
    assert torch.allclose(norms["weight_ih_l0"][0], x.flatten(0, 1).norm(dim=0))
    with torch.no_grad():
        states = model(x)[0]  # the inputs of the next step; the first state is zero, and the last is no input
    assert torch.allclose(norms["weight_hh_l0"][0], states[:, :-1, :3].flatten(0, 1).norm(dim=0), atol=1e-6)
    assert torch.allclose(
        norms["weight_hh_l0_reverse"][0], states[:, 1:, 3:].flatten(0, 1).norm(dim=0), atol=1e-6
    )
    assert torch.backends.mkldnn.enabled


def test_a_layer_that_runs_several_times_is_summed():
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    x = torch.randn(5, 3)
    with torch.no_grad():
        hidden = layer(x).relu()
    assert torch.allclose(norms_of(model, [x])["0.weight"][0], torch.cat([x, hidden]).norm(dim=0))


def experts(name: str):
    transformers = pytest.importorskip("transformers")
    small = {
        "vocab_size": 32,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    small |= {"intermediate_size": 24, "num_local_experts": 4, "head_dim": 8}
    settings = getattr(transformers, f"{name}Config")(**small)
    torch.manual_seed(0)
    return getattr(transformers, f"{name}ForCausalLM")(settings)


@pytest.mark.parametrize("name", ["Mixtral", "GptOss"])
def test_experts_however_they_are_computed(name: str):
    model = experts(name)
    batches = [{"input_ids": torch.arange(24).view(2, 12)}]
    found = {}
    for implementation in ("eager", "grouped_mm"):
        model.set_experts_implementation(implementation)
        found[implementation] = norms_of(
            model, batches, {n for n in weights_of(model) if "bias" not in n and "embed" not in n}
        )
    assert any("experts.gate_up_proj" in name for name in found["eager"])
    for each, norms in found["eager"].items():
        assert torch.allclose(norms, found["grouped_mm"][each], atol=1e-5), each


def test_the_experts_of_mixtral_by_their_tokens():
    model = experts("Mixtral")
    model.set_experts_implementation("eager")
    tokens, layer = {}, model.model.layers[0].mlp
    hook = layer.experts.register_forward_pre_hook(
        lambda module, args: tokens.update(hidden=args[0], chosen=args[1])
    )
    norms = norms_of(
        model, [{"input_ids": torch.arange(12)[None]}], {"model.layers.0.mlp.experts.gate_up_proj"}
    )
    hook.remove()
    (found,) = norms.values()
    for expert in range(4):
        its = [
            row
            for row, chosen in zip(tokens["hidden"], tokens["chosen"], strict=True)
            if expert in chosen.tolist()
        ]
        expected = torch.stack(its).norm(dim=0) if its else torch.zeros(16)
        assert torch.allclose(found[expert, 0], expected)


def test_experts_that_cannot_be_seen_are_named():
    model = experts("Mixtral")
    model.set_experts_implementation("batched_mm")
    with pytest.raises(
        CalibrationError,
        match=r"no inputs of model.layers.0.mlp.experts.gate_up_proj, .*\("
        r"embeddings.*\); exclude it, or for experts of transformers call model.set_experts_impl",
    ):
        norms_of(
            model, [{"input_ids": torch.arange(12)[None]}], {n for n in weights_of(model) if "experts" in n}
        )


class Branches(nn.Module):
    """Uses `b` between the two uses of `a`, and `d` not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(3, 3) for _ in "abcd")
        self.last = SimpleNamespace(ran=0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.c(self.a(self.b(self.a(x))))
        self.last.ran += 1
        return x


def test_the_order_of_layers():
    model = Branches()
    weights = {f"{name}.weight": getattr(model, name).weight for name in "cba"}
    found = survey(model, weights, [torch.randn(2, 3)])
    assert in_order(found) == ["a.weight", "b.weight", "c.weight"]
    assert followers(found, "a.weight") == {"c.weight"}
    assert followers(found, "b.weight") == {"c.weight"}
    assert followers(found, "c.weight") == set()


def test_a_visit_sees_one_layer_and_stops_after_it():
    model, batches = Branches(), [torch.randn(2, 3), torch.randn(4, 3)]
    weights = {f"{name}.weight": getattr(model, name).weight for name in "abc"}
    seen = []
    visit(model, "a.weight", weights, batches, lambda *found: seen.append(found), until={"c.weight"})
    assert [(name, inputs.positions) for name, _, inputs in seen] == [("a.weight", n) for n in (2, 2, 4, 4)]
    assert torch.equal(next(iter(seen[0][2].pieces()))[0].float(), batches[0])
    assert model.last.ran == 0
    visit(model, "c.weight", weights, batches, lambda *found: None, until=set())
    assert model.last.ran == 2
    assert model.training


def test_layers_that_do_not_run_are_named():
    model = Branches()
    with pytest.raises(
        CalibrationError, match=r"^no inputs of d.weight were seen: the layer did not run .* exclude it$"
    ):
        survey(model, weights_of(model), [torch.randn(2, 3)])
    several = nn.ModuleDict({str(i): nn.Bilinear(2, 2, 2) for i in range(5)})
    several.forward = lambda x: [layer(x, x) for layer in several.values()]
    with pytest.raises(
        CalibrationError, match=r"^no inputs of 0.weight, 1.weight, 2.weight and 2 more were seen"
    ):
        survey(several, weights_of(several), [torch.randn(2, 2)])


def test_inputs_that_are_not_finite_are_refused_by_the_first_layer():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with pytest.raises(
        CalibrationError, match=r"^the inputs of 0.weight are not finite; look for NaN in the data"
    ):
        survey(model, weights_of(model), [torch.ones(1, 2), torch.tensor([[1.0, float("nan")]])])


def test_weights_without_inputs_have_no_uses():
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.Parameter(torch.ones(2, 3, 4))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.experts[1].T

    model = Half()
    layer = survey(model, weights_of(model), [torch.ones(5, 4)])["experts"]
    assert layer.uses(model.experts).tolist() == [[[0] * 4] * 3, [[1] * 4] * 3]
    assert torch.equal(layer.norms(model.experts), torch.tensor([0.0, 5**0.5])[:, None, None].expand(2, 3, 4))
