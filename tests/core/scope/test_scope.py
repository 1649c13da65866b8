"""Which tensors of a module can be pruned."""

import subprocess
import sys

import pytest
import torch
import torchvision
from tests.core.networks import DEFAULT, Net, names
from tests.quantised import QuantisedTensor
from torch import nn
from torch.nn.parallel import DataParallel
from torch.nn.utils import parametrizations, prune

from gpmt.core.scope.scope import find_scope
from gpmt.errors import ScopeError


def test_weights_of_a_quantised_class_are_refused_by_name():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = nn.Parameter(QuantisedTensor.of(net[1].weight.detach()), requires_grad=False)
    message = (
        r"^1\.weight is of the class QuantisedTensor, which does not hold its values as they are, as quantised "
        r"weights do not; prune before quantising, or exclude it$"
    )
    for target in (net, net.state_dict()):
        with pytest.raises(ScopeError, match=message):
            find_scope(target)
        assert list(find_scope(target, exclude="1.weight").tensors) == ["0.weight"]


class TestModule:
    def test_default_takes_layers_but_no_norm_bias_embedding_or_own_parameter(self):
        net = Net()
        scope = find_scope(net)
        assert list(scope.tensors) == DEFAULT
        assert scope.tensors["head.weight"] is net.head.weight
        assert scope.kinds == dict(zip(DEFAULT, ["Conv2d", "Conv2d", "Linear"], strict=True))
        assert scope.aliases == {}
        assert scope.numel == 108 + 216 + 12

    def test_resnet50(self):
        with torch.device("meta"):
            model = torchvision.models.resnet50()
        scope = find_scope(model)
        assert len(scope.tensors) == 54
        assert scope.numel == 25_502_912
        assert next(iter(scope.tensors)) == "conv1.weight"
        assert list(scope.tensors)[-1] == "fc.weight"
        from_names = find_scope(model.state_dict())
        assert list(from_names.tensors) == list(scope.tensors)
        assert from_names.numel == scope.numel

    @pytest.mark.parametrize(
        "layer",
        [
            nn.Conv1d(2, 3, 2),
            nn.Conv2d(2, 3, 2),
            nn.Conv3d(2, 3, 2),
            nn.ConvTranspose1d(2, 3, 2),
            nn.ConvTranspose2d(2, 3, 2),
            nn.ConvTranspose3d(2, 3, 2),
            nn.Linear(2, 3),
            nn.Bilinear(2, 3, 4),
            nn.modules.linear.NonDynamicallyQuantizableLinear(2, 3),
        ],
        ids=lambda layer: type(layer).__name__,
    )
    def test_layers_with_one_weight(self, layer):
        assert names(layer) == ["weight"]
        assert find_scope(layer).kinds == {"weight": type(layer).__name__}

    @pytest.mark.parametrize(
        "layer",
        [
            nn.BatchNorm2d(3),
            nn.LayerNorm([3, 4]),
            nn.GroupNorm(1, 3),
            nn.PReLU(3),
            nn.Embedding(3, 4),
            nn.EmbeddingBag(3, 4),
            nn.ReLU(),
        ],
        ids=lambda layer: type(layer).__name__,
    )
    def test_layers_without_prunable_weights(self, layer):
        with pytest.raises(ScopeError, match=f"^{type(layer).__name__} has no prunable tensor"):
            find_scope(layer)

    def test_attention(self):
        assert names(nn.MultiheadAttention(4, 2, add_bias_kv=True)) == ["in_proj_weight", "out_proj.weight"]
        assert names(nn.MultiheadAttention(4, 2, kdim=3, vdim=5)) == [
            "q_proj_weight",
            "k_proj_weight",
            "v_proj_weight",
            "out_proj.weight",
        ]

    def test_transformer_encoder_layer(self):
        assert names(nn.TransformerEncoderLayer(4, 2, 8)) == [
            "self_attn.in_proj_weight",
            "self_attn.out_proj.weight",
            "linear1.weight",
            "linear2.weight",
        ]

    def test_transformer(self):
        model = nn.Transformer(4, 2, 1, 2, 8, batch_first=True)
        # Per encoder layer 4 tensors; per decoder layer, which has a second attention, 6.
        assert len(names(model)) == 1 * 4 + 2 * 6
        assert names(model.state_dict()) == names(model)

    def test_recurrent(self):
        expected = [
            f"weight_{part}_l{level}{direction}"
            for level in (0, 1)
            for direction in ("", "_reverse")
            for part in ("ih", "hh", "hr")
        ]
        lstm = nn.LSTM(3, 4, num_layers=2, proj_size=2, bidirectional=True)
        assert names(lstm) == expected
        assert names(lstm.state_dict()) == expected
        assert set(find_scope(lstm.state_dict()).kinds.values()) == {"recurrent"}
        assert names(nn.GRU(3, 4)) == names(nn.RNN(3, 4)) == ["weight_ih_l0", "weight_hh_l0"]
        for cell in (nn.LSTMCell(3, 4), nn.GRUCell(3, 4), nn.RNNCell(3, 4)):
            assert names(cell) == ["weight_ih", "weight_hh"]

    def test_frozen_parameters_are_in_scope(self):
        assert names(Net().requires_grad_(False)) == DEFAULT

    def test_integer_weights_are_left_out_silently(self):
        net = Net()
        net.head.weight = nn.Parameter(torch.ones(2, 6, dtype=torch.int8), requires_grad=False)
        assert names(net) == DEFAULT[:-1]
        with pytest.raises(
            ScopeError, match=r"'head' matches only tensors such as 'head\.weight'; .*integers"
        ):
            find_scope(net, scope="head")

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
    def test_floating_dtypes(self, dtype):
        assert names(Net().to(dtype)) == DEFAULT

    @pytest.mark.parametrize("dtype", [torch.complex64, torch.float8_e4m3fn])
    def test_other_dtypes_are_refused(self, dtype):
        state = {"fc.weight": torch.zeros(2, 3, dtype=dtype), "conv.weight": torch.zeros(2, 3)}
        with pytest.raises(
            ScopeError, match=f"fc.weight has dtype {dtype}, but must be float64, .* or exclude it"
        ):
            find_scope(state)
        assert names(state, exclude="fc") == ["conv.weight"]
        assert names(state, scope="conv") == ["conv.weight"]

    def test_complex_module_is_refused(self):
        with pytest.raises(ScopeError, match=r"weight has dtype torch\.complex64"):
            find_scope(nn.Linear(2, 3, dtype=torch.complex64))

    def test_sparse_layout_is_refused(self):
        with pytest.raises(
            ScopeError, match=r"weight has layout torch.sparse_coo, but must be dense; .*to_dense"
        ):
            find_scope({"weight": torch.eye(3).to_sparse()})

    def test_empty_tensors_are_left_out(self):
        assert names({"a.weight": torch.zeros(0, 3), "b.weight": torch.zeros(2, 3)}) == ["b.weight"]

    def test_uninitialised_layers(self):
        model = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Conv2d(4, 4, 1))
        for target in (model, model.state_dict()):
            with pytest.raises(ScopeError, match=r"0\.weight is not initialised yet; call the model once"):
                find_scope(target)
        assert names(model, exclude="0") == ["2.weight"]
        model(torch.zeros(2, 3, 5, 5))
        assert names(model) == ["0.weight", "2.weight"]

    def test_class_decides_for_modules_of_length_zero_too(self):
        class Bag(nn.Sequential):
            def __init__(self) -> None:
                super().__init__()
                self.weight = nn.Parameter(torch.ones(2, 2))

        with pytest.raises(ScopeError, match="Bag has no prunable tensor"):
            find_scope(Bag())
        assert find_scope(Bag(), scope="weight").kinds == {"weight": "Bag"}

    @pytest.mark.parametrize("target", [3, "model.pt", [torch.zeros(2, 2)], None, nn.Linear])
    def test_other_objects_are_refused(self, target):
        with pytest.raises(ScopeError, match=f"cannot prune an object of type {type(target).__name__}; give"):
            find_scope(target)


class TestReparametrised:
    @pytest.mark.parametrize(
        ("reparametrise", "remedy"),
        [
            (lambda layer: prune.l1_unstructured(layer, "weight", 0.3), r"prune\.remove\(layer, 'weight'\)"),
            (parametrizations.orthogonal, r"parametrize\.remove_parametrizations\(layer, 'weight'\)"),
        ],
        ids=["prune", "orthogonal"],
    )
    def test_names_layer_and_remedy_unless_excluded(self, reparametrise, remedy):
        net = Net()
        reparametrise(net.head)
        for target in (net, net.state_dict()):
            with pytest.raises(
                ScopeError, match=f"'weight' of layer 'head' is reparametrised .*{remedy}, or"
            ):
                find_scope(target)
            with pytest.raises(ScopeError, match="layer 'head' is reparametrised"):
                find_scope(target, scope="head.weight")
            assert "head.weight" not in names(target, exclude="head")
            assert names(target, scope="body.conv1") == ["body.conv1.weight"]
        assert names(net, exclude="type:Linear") == DEFAULT[:-1]

    def test_of_the_model_itself_and_of_attention(self):
        attention = nn.MultiheadAttention(4, 2)
        parametrizations.orthogonal(attention, "in_proj_weight")
        with pytest.raises(ScopeError, match="'in_proj_weight' of the model is reparametrised"):
            find_scope(attention)

    def test_several_are_left_out_at_once(self):
        net = Net()
        parametrizations.orthogonal(net.head)
        prune.l1_unstructured(net.body.conv2, "weight", 0.3)
        with pytest.raises(
            ScopeError,
            match=r"or leave out all 2 such tensors with exclude=\['body\.conv2\.weight', 'head\.weight'\]$",
        ):
            find_scope(net)
        assert names(net, exclude=["body.conv2.weight", "head.weight"]) == DEFAULT[:1]

    def test_remedy_works(self):
        net = Net()
        prune.l1_unstructured(net.head, "weight", 0.3)
        prune.remove(net.head, "weight")
        assert sorted(names(net)) == sorted(DEFAULT)

    def test_of_a_bias_or_norm_does_not_matter(self):
        net = Net()
        prune.l1_unstructured(net.head, "bias", 0.5)
        prune.l1_unstructured(net.body.bn1, "weight", 0.5)
        assert names(net) == DEFAULT
        assert names(net.state_dict(), exclude="tokens") == DEFAULT


def test_a_shared_tensor_is_refused_unless_asked_for():
    from torch import distributed
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import Shard, distribute_tensor

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        weight = distribute_tensor(torch.ones(4, 4), DeviceMesh("cpu", [0]), [Shard(0)])
        with pytest.raises(ScopeError, match=r"^w\.weight is shared by several processes; gather it first"):
            find_scope({"w.weight": weight})
        assert find_scope({"w.weight": weight}, shared=True).tensors["w.weight"] is weight
    finally:
        distributed.destroy_process_group()


class TestWrappers:
    def test_nested_wrappers(self):
        net = Net()
        for wrapped in (
            DataParallel(net),
            torch.compile(net),
            DataParallel(torch.compile(net)),
            torch.compile(DataParallel(net)),
        ):
            assert names(wrapped) == DEFAULT

    def test_distributed(self, tmp_path):
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
        )
        try:
            wrapped = torch.compile(nn.parallel.DistributedDataParallel(Net()))
            assert names(wrapped, scope="head") == ["head.weight"]
        finally:
            torch.distributed.destroy_process_group()

    def test_does_not_import_the_compiler_or_transformers(self):
        code = (
            "import sys, torch.nn as nn, gpmt.core.scope.scope as scope; scope.find_scope(nn.Linear(2, 2)); "
            "sys.exit(any(name in sys.modules for name in ('torch._dynamo', 'transformers')))"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestTransformers:
    """Real architectures, built tiny and without any download."""

    def test_gpt2_conv1d_and_tied_head(self):
        transformers = pytest.importorskip("transformers")
        config = transformers.GPT2Config(vocab_size=11, n_positions=8, n_embd=4, n_layer=2, n_head=2)
        model = transformers.GPT2LMHeadModel(config)
        expected = [
            f"transformer.h.{block}.{layer}.weight"
            for block in range(2)
            for layer in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
        ]
        scope = find_scope(model)
        assert list(scope.tensors) == expected
        assert set(scope.kinds.values()) == {"Conv1D"}
        assert names(model.state_dict()) == expected
        assert names(model, scope="type:Conv1D") == expected
        for target in (model, model.state_dict()):
            asked = find_scope(target, scope="lm_head.weight")
            assert asked.aliases == {"transformer.wte.weight": ("lm_head.weight",)}

    def test_a_class_of_the_same_name_from_elsewhere_is_not_taken(self):
        class Conv1D(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = nn.Parameter(torch.ones(2, 2))

        with pytest.raises(ScopeError, match="Conv1D has no prunable tensor"):
            find_scope(Conv1D())

    def test_state_dict_rule_agrees_with_the_model(self):
        transformers = pytest.importorskip("transformers")
        small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        with torch.device("meta"):
            models = [
                transformers.BertModel(transformers.BertConfig(vocab_size=9, **small)),
                transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=9, **small)),
                transformers.ViTModel(transformers.ViTConfig(image_size=16, patch_size=8, **small)),
                transformers.T5Model(
                    transformers.T5Config(vocab_size=9, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
                ),
            ]
        for model in models:
            assert names(model.state_dict()) == names(model)
            assert find_scope(model.state_dict()).aliases == find_scope(model).aliases
