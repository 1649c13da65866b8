"""Transformers and ConvNeXt run natively from the first step to the last, and are right."""

import pytest
import torch
from tests.runtime.networks import Lambda, noise
from torch import nn
from torch.utils._pytree import tree_leaves

import gpmt
from gpmt.errors import RuntimeProgramError


def scrambled(network):
    """Give vectors of weights random values, and all weights such a scale that every part of the result shows."""
    for parameter in network.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, 0.6, 0.3)
    return network.eval()


def encoder(*, norm_first=False, activation="gelu"):
    """Return a small network like BERT: tokens and positions, two layers, and the first token's vector."""

    def forward(s, ids):
        y = s.layers(s.norm(s.table(ids) + s.positions))
        return y, torch.tanh(s.pooler(y[:, 0])), y.mean(1)

    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(
        32, 4, 48, batch_first=True, activation=activation, norm_first=norm_first
    )
    layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    parts = {"table": nn.Embedding(50, 32), "norm": nn.LayerNorm(32), "pooler": nn.Linear(32, 32)}
    return scrambled(Lambda(forward, layers=layers, positions=noise(7, 32), **parts))


def ids(samples, most=50):
    return torch.randint(0, most, (samples, 7), generator=torch.Generator().manual_seed(1))


def check(network, program, *inputs, tolerance=1e-5, **named):
    with torch.no_grad():
        expected = [leaf for leaf in tree_leaves(network(*inputs, **named)) if isinstance(leaf, torch.Tensor)]
    results = [leaf for leaf in tree_leaves(program(*inputs, **named)) if isinstance(leaf, torch.Tensor)]
    assert len(results) == len(expected)
    for result, right in zip(results, expected, strict=True):
        assert result.shape == right.shape
        assert (result - right).abs().max() <= tolerance * right.abs().max()


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("threads", [1, 2])
def test_encoders(sparsity, threads):
    network = encoder(norm_first=threads == 2, activation="gelu" if sparsity else "relu")
    gpmt.prune_(network, sparsity=sparsity, min_kept=1)
    program = gpmt.compile(network, ids(1), threads=threads, tune=False)
    assert not program.fallbacks
    check(network, program, ids(1))
    check(network, program, ids(3))  # the batch is dynamic


def test_a_fixed_batch():
    network = encoder()

    def forward(s, tokens):
        return s.inner(tokens)[0] * len(tokens)

    outer = Lambda(forward, inner=network).eval()
    program = gpmt.compile(outer, ids(3), threads=1, tune=False)
    check(outer, program, ids(3))
    with pytest.raises(RuntimeProgramError, match="compiled for"):
        program(ids(2))


def test_saved_and_loaded(tmp_path):
    network = encoder()
    gpmt.prune_(network, sparsity=0.8, min_kept=1)
    program = gpmt.compile(network, ids(1), threads=1, tune=False)
    program.save(tmp_path / "encoder.program.safetensors")
    again = gpmt.load_program(tmp_path / "encoder.program.safetensors", threads=1, tune=False)
    assert not again.fallbacks
    for samples in (1, 2):
        for one, other in zip(program(ids(samples)), again(ids(samples)), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("wrong", [50, -1])
def test_tokens_outside_of_the_table_are_refused(wrong):
    program = gpmt.compile(encoder(), ids(1), threads=1, tune=False)
    tokens = ids(1)
    tokens[0, 3] = wrong
    with pytest.raises(RuntimeProgramError) as caught:
        program(tokens)
    assert str(caught.value) == (
        f"inputs_0 has {wrong}, but its table has 50 rows; give integers from 0 to 49"
    )


def test_masks():
    """Of padding, with one sample that sees nothing but one token."""

    def forward(s, x, mask):
        return s.layers(x, src_key_padding_mask=mask)

    torch.manual_seed(0)
    layers = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(32, 4, 48, batch_first=True), 1, enable_nested_tensor=False
    )
    network = scrambled(Lambda(forward, layers=layers))
    mask = torch.zeros(2, 7, dtype=torch.bool)
    mask[1, 1:] = True
    program = gpmt.compile(network, (noise(2, 7, 32), mask), threads=2, tune=False)
    check(network, program, noise(2, 7, 32), mask)


def bert(**more):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, vocab_size=50,
        max_position_embeddings=16, **more,
    )  # fmt: skip
    return scrambled(transformers.BertModel(config))


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_bert(attention):
    network = bert(attn_implementation=attention)
    for sparsity in (0.0, 0.5, 0.8, 0.9, 0.95, 0.98):
        gpmt.prune_(network, sparsity=sparsity, allocation="uniform")
        program = gpmt.compile(network, ids(1), threads=2, tune=False)
        assert not program.fallbacks
        check(network, program, ids(1))
        check(network, program, ids(4))


@pytest.mark.slow
def test_bert_with_a_mask():
    network = bert()
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    inputs = {"input_ids": ids(2), "attention_mask": mask, "token_type_ids": ids(2, most=2)}
    program = gpmt.compile(network, inputs, threads=2, tune=False)
    assert len(program.fallbacks) == 1  # the mask
    check(network, program, **inputs)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchvision", "timm", "timm pooled"])
def test_vision_transformers(name):
    torch.manual_seed(0)
    if name == "torchvision":
        network = pytest.importorskip("torchvision").models.VisionTransformer(32, 8, 2, 2, 32, 64)
        nn.init.normal_(network.heads.head.weight)
    else:
        options = {"global_pool": "avg", "class_token": False} if name == "timm pooled" else {}
        create = pytest.importorskip("timm").create_model
        network = create("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, num_classes=9, **options)
    scrambled(network)
    gpmt.prune_(network, sparsity=0.8, allocation="uniform")
    program = gpmt.compile(network, noise(1, 3, 32, 32), threads=2, tune=False)
    assert not program.fallbacks
    check(network, program, noise(1, 3, 32, 32))
    check(network, program, noise(3, 3, 32, 32))


@pytest.mark.slow
@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_convnext(library):
    torch.manual_seed(0)
    if library == "torchvision":
        network = pytest.importorskip("torchvision").models.convnext_tiny(num_classes=9)
    else:
        network = pytest.importorskip("timm").create_model("convnext_tiny", num_classes=9)
    scrambled(network)
    gpmt.prune_(network, sparsity=0.8, allocation="uniform")
    program = gpmt.compile(network, noise(1, 3, 64, 64), threads=2, tune=False)
    assert not program.fallbacks
    check(network, program, noise(1, 3, 64, 64))
    check(network, program, noise(3, 3, 64, 64))
