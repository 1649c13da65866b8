"""How the weights of known modules are divided into blocks: a table of classes.

A row applies to a tensor inside a module of a class, or of one derived from it. Where the parts lie was read from the
code that takes the projection apart: PyTorch 2.14, torchvision 0.29, timm 1.0.31 and transformers 5.23, in the
modules that the rows name. Where another release has other sizes, so that a row does not fit, a tensor is one block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

from gpmt.core.blocks.blocks import Split
from gpmt.errors import ScopeError

Sizes = Mapping[str, int]
Divide = Callable[[Any, Sequence[int], int], Sequence[Split]]
"""From a module, the shape of a tensor in it and the dimension of the outputs to the splits."""


@dataclass(frozen=True)
class Rule:
    """One row of the table.

    Attributes:
        classes: a regular expression for the module and the name of a class.
        weight: a regular expression for the name of the tensor in a module of that class.
        divide: the splits.
    """

    classes: str
    weight: str
    divide: Divide


def _parts(sizes: Sizes | Callable[[Any], Sizes], repeats: Callable[[Any], int] = lambda _: 1) -> Divide:
    """Divide the outputs in proportion to sizes, once or several times over."""

    def divide(module: Any, shape: Sequence[int], outputs: int) -> Sequence[Split]:
        return [
            _proportional(
                outputs,
                shape[outputs],
                sizes if isinstance(sizes, Mapping) else sizes(module),
                repeats(module),
            )
        ]

    return divide


def _proportional(dim: int, length: int, sizes: Sizes, repeats: int) -> Split:
    common = gcd(*sizes.values())
    sizes = {label: size // common for label, size in sizes.items()}
    scale, rest = divmod(length, repeats * sum(sizes.values()))
    if rest or not scale:
        raise ScopeError(f"{length:,} is no multiple of {repeats * sum(sizes.values()):,}")
    return Split(dim, tuple(size * scale for size in sizes.values()), tuple(sizes), repeats)


def _experts(count: Callable[[Any, Sequence[int]], int] = lambda _, shape: shape[0]) -> Divide:
    """Divide the first dimension into experts."""
    return lambda module, shape, _: [Split.equal(0, shape[0], count(module, shape))]


def _experts_of(sizes: Sizes, dim: int) -> Divide:
    """Divide the first dimension into experts, and one dimension of each in proportion to sizes."""
    return lambda _, shape, __: [Split.equal(0, shape[0], shape[0]), _proportional(dim, shape[dim], sizes, 1)]


def _gate_up(module: Any, shape: Sequence[int], _: int) -> Sequence[Split]:
    """Divide a stack as transformers' decorator `use_experts_implementation` says: `integrations/moe.py`."""
    dim = 2 if module.is_transposed else 1
    # Earlier releases do not say it; there the one whose rows alternate is told by its name.
    alternating = not getattr(module, "is_concatenated", type(module).__name__ != "GptOssExperts")
    repeats = shape[dim] // 2 if alternating else 1
    return [Split.equal(0, shape[0], shape[0]), _proportional(dim, shape[dim], _GATE_UP, repeats)]


_QKV = {"q": 1, "k": 1, "v": 1}
_KV = {"k": 1, "v": 1}
_GATE_UP = {"gate": 1, "up": 1}
_UP_GATE = {"up": 1, "gate": 1}


def _heads(name: str) -> Callable[[Any], int]:
    return lambda module: int(getattr(module, name))


def _falcon(module: Any) -> Sizes:
    """Groups of a key and value head with their queries, or one such group, or heads of their own."""
    if module.new_decoder_architecture:
        return {"q": module.num_heads // module.num_kv_heads, "k": 1, "v": 1}
    return {"q": module.num_heads, "k": 1, "v": 1} if module.multi_query else _QKV


def _falcon_groups(module: Any) -> int:
    if module.new_decoder_architecture:
        return int(module.num_kv_heads)
    return 1 if module.multi_query else int(module.num_heads)


def _mamba2(module: Any) -> Sizes:
    state = module.n_groups * module.ssm_state_size
    return {
        "gate": module.intermediate_size,
        "x": module.intermediate_size,
        "B": state,
        "C": state,
        "dt": module.num_heads,
    }


def _chatglm(module: Any) -> Sizes:
    if not module.multi_query_attention:
        return _QKV
    groups = module.num_multi_query_groups_per_partition
    return {"q": module.num_attention_heads_per_partition, "k": groups, "v": groups}


_TRANSFORMERS = r"transformers\.models\..*\."
RULES = (
    Rule(r"torch\.nn\.modules\..*\.MultiheadAttention", "in_proj_weight", _parts(_QKV)),
    Rule(
        r"torch\.nn\.modules\.rnn\.LSTM(Cell)?", r"weight_(ih|hh)(_l\d+.*)?", _parts(dict.fromkeys("ifgo", 1))
    ),
    Rule(
        r"torch\.nn\.modules\.rnn\.GRU(Cell)?", r"weight_(ih|hh)(_l\d+.*)?", _parts(dict.fromkeys("rzn", 1))
    ),
    Rule(r"torchvision\.models\..*", r"(to_)?qkv\.weight", _parts(_QKV)),
    # timm: heads of their own.
    Rule(
        r"timm\..*\.(Attention2d|AttentionCl)",
        r"qkv\.weight",
        _parts(_QKV, lambda m: m.num_heads if m.head_first else 1),
    ),
    Rule(
        r"timm\.models\.(levit|efficientformer|tiny_vit)\.Attention",
        r"qkv\.(linear\.)?weight",
        _parts(lambda m: {"q": m.key_dim, "k": m.key_dim, "v": m.val_dim}, _heads("num_heads")),
    ),
    Rule(
        r"timm\.models\.levit\.AttentionDownsample",
        r"kv\.linear\.weight",
        _parts(lambda m: {"k": m.key_dim, "v": m.val_dim}, _heads("num_heads")),
    ),
    Rule(
        r"timm\.models\.efficientvit_mit\.LiteMLA",
        r"qkv\.conv\.weight",
        _parts(_QKV, lambda m: m.qkv.conv.out_channels // (3 * m.dim)),
    ),
    Rule(
        r"timm\.layers\.halo_attn\.HaloAttn",
        r"kv\.weight",
        _parts(lambda m: {"k": m.dim_head_qk, "v": m.dim_head_v}, _heads("num_heads")),
    ),
    # timm: parts of different lengths, one after the other.
    Rule(
        r"timm\.models\.efficientvit_msra\.CascadedGroupAttention",
        r"qkvs\.\d+\.conv\.weight",
        _parts(lambda m: {"q": m.key_dim, "k": m.key_dim, "v": m.val_dim}),
    ),
    Rule(
        r"timm\.models\.shvit\.SHSA",
        r"qkv\.\w+\.weight",
        _parts(lambda m: {"q": m.qk_dim, "k": m.qk_dim, "v": m.pdim}),
    ),
    Rule(
        r"timm\.layers\.bottleneck_attn\.BottleneckAttn",
        r"qkv\.weight",
        _parts(lambda m: {"q": m.dim_out_qk, "k": m.dim_out_qk, "v": m.dim_out_v}),
    ),
    Rule(
        r"timm\.layers\.lambda_layer\.LambdaLayer",
        r"qkv\.weight",
        _parts(lambda m: {"q": m.num_heads * m.dim_qk, "k": m.dim_qk, "v": m.dim_v}),
    ),
    Rule(
        r"timm\.models\.mobilevit\.LinearSelfAttention",
        r"qkv_proj\.weight",
        _parts(lambda m: {"q": 1, "k": m.embed_dim, "v": m.embed_dim}),
    ),
    Rule(
        r"timm\.models\.vision_transformer\..*ParallelScalingBlock",
        r"in_proj\.weight",
        _parts(lambda m: dict(zip(("mlp", "q", "k", "v"), m.in_split, strict=True))),
    ),
    Rule(
        r"timm\.models\.gcvit\.WindowAttentionGlobal",
        r"qkv\.weight",
        _parts(lambda m: _KV if m.use_global else _QKV),
    ),
    Rule(r"timm\..*\.GluMlp", r"fc1\.weight", _parts(lambda m: _UP_GATE if m.gate_last else _GATE_UP)),
    Rule(r"timm\..*\.CondConv2d", "weight", _experts()),
    # timm: all others that have such a projection.
    Rule(r"timm\..*", r"qkv\.weight", _parts(_QKV)),
    Rule(r"timm\..*", r"kv\.weight", _parts(_KV)),
    Rule(r"timm\..*", r"qk\.weight", _parts({"q": 1, "k": 1})),
    # transformers, stacks of experts.
    Rule(rf"{_TRANSFORMERS}Llama4TextExperts", "gate_up_proj", _experts_of(_GATE_UP, 2)),
    Rule(rf"{_TRANSFORMERS}(LongcatFlash|Step3p7)Experts", "gate_up_proj", _experts_of(_GATE_UP, 1)),
    Rule(rf"{_TRANSFORMERS}\w*(Experts|NaiveMoe)", "gate_up_proj", _gate_up),
    Rule(rf"{_TRANSFORMERS}DbrxExpertGLU", "w1|v1|w2", _experts(lambda m, _: m.moe_num_experts)),
    Rule(rf"{_TRANSFORMERS}\w*MoE", r"input_linear\.weight", _experts_of(_GATE_UP, 1)),
    # transformers, attention: heads of their own, or groups of heads.
    Rule(
        rf"{_TRANSFORMERS}(Bloom|Persimmon)Attention",
        r"query_key_value\.weight",
        _parts(_QKV, _heads("num_heads")),
    ),
    Rule(
        rf"{_TRANSFORMERS}GPTNeoXAttention",
        r"query_key_value\.weight",
        _parts(_QKV, lambda m: m.config.num_attention_heads),
    ),
    Rule(
        rf"{_TRANSFORMERS}GPTNeoXJapaneseAttention",
        r"query_key_value\.weight",
        _parts(_QKV, _heads("num_attention_heads")),
    ),
    Rule(rf"{_TRANSFORMERS}FalconAttention", r"query_key_value\.weight", _parts(_falcon, _falcon_groups)),
    Rule(
        rf"{_TRANSFORMERS}CodeGenAttention",
        r"qkv_proj\.weight",
        _parts({"q": 1, "v": 1, "k": 1}, lambda _: 4),
    ),
    Rule(
        rf"{_TRANSFORMERS}(MiniMaxLightningAttention|DisentangledSelfAttention)",
        r"(qkv_proj|in_proj)\.weight",
        _parts(_QKV, _heads("num_attention_heads")),
    ),
    Rule(
        rf"{_TRANSFORMERS}Qwen3NextGatedDeltaNet",
        r"in_proj_qkvz\.weight",
        _parts(
            lambda m: {"q": m.key_dim, "k": m.key_dim, "v": m.value_dim, "z": m.value_dim},
            _heads("num_k_heads"),
        ),
    ),
    Rule(
        rf"{_TRANSFORMERS}Qwen3NextGatedDeltaNet",
        r"in_proj_ba\.weight",
        _parts({"b": 1, "a": 1}, _heads("num_k_heads")),
    ),
    Rule(
        rf"{_TRANSFORMERS}\w*Attention",
        r"kv_b_proj\.weight",
        _parts(lambda m: {"k": m.qk_nope_head_dim, "v": m.v_head_dim}, _heads("num_heads")),
    ),
    Rule(
        rf"{_TRANSFORMERS}GPTBigCodeAttention",
        r"c_attn\.weight",
        _parts(
            lambda m: {"q": m.embed_dim, "k": m.kv_dim, "v": m.kv_dim},
            lambda m: 1 if m.multi_query else m.num_heads,
        ),
    ),
    # transformers, attention: parts one after the other.
    Rule(
        rf"{_TRANSFORMERS}\w*Attention",
        r"kv_a_proj_with_mqa\.weight",
        _parts(lambda m: {"kv": m.kv_lora_rank, "k_rope": m.qk_rope_head_dim}),
    ),
    Rule(
        rf"{_TRANSFORMERS}(GPT2|ImageGPT|DecisionTransformerGPT2)Attention",
        r"c_attn\.weight",
        _parts(lambda m: _KV if m.is_cross_attention else _QKV),
    ),
    Rule(r"transformers\.models\.openai\..*\.Attention", r"c_attn\.weight", _parts(_QKV)),
    Rule(rf"{_TRANSFORMERS}BarkSelfAttention", r"att_proj\.weight", _parts(_QKV)),
    Rule(rf"{_TRANSFORMERS}(Mpt|ModernBert)Attention", r"Wqkv\.weight", _parts(_QKV)),
    Rule(
        rf"{_TRANSFORMERS}DbrxAttention",
        r"Wqkv\.weight",
        _parts(
            lambda m: dict(
                zip("qkv", (m.num_heads, m.num_key_value_heads, m.num_key_value_heads), strict=True)
            )
        ),
    ),
    Rule(
        rf"{_TRANSFORMERS}(Phi3|Phi4Multimodal)Attention",
        r"qkv_proj\.weight",
        _parts(
            lambda m: {
                "q": m.config.num_attention_heads,
                "k": m.num_key_value_heads,
                "v": m.num_key_value_heads,
            }
        ),
    ),
    Rule(
        rf"{_TRANSFORMERS}MobileViTV2LinearSelfAttention",
        r"qkv_proj\.convolution\.weight",
        _parts(lambda m: {"q": 1, "k": m.embed_dim, "v": m.embed_dim}),
    ),
    Rule(
        rf"{_TRANSFORMERS}Exaone4_5\w*Attention",
        r"qkv\.weight",
        _parts(lambda m: {"q": m.q_dim, "k": m.kv_dim, "v": m.kv_dim}),
    ),
    Rule(
        rf"{_TRANSFORMERS}\w*GatedDeltaNet",
        r"(in_proj_qkv|conv1d)\.weight",
        _parts(lambda m: {"q": m.key_dim, "k": m.key_dim, "v": m.value_dim}),
    ),
    Rule(rf"{_TRANSFORMERS}\w*(Delta|Linear)Attention", r"conv1d\.weight", _parts(_QKV)),
    Rule(rf"{_TRANSFORMERS}\w+", r"(qkv|qkv_linear)\.weight", _parts(_QKV)),
    Rule(rf"{_TRANSFORMERS}JetMoe\w*Attention", r"kv_proj\.weight", _parts(_KV)),
    Rule(rf"{_TRANSFORMERS}\w+", r"to_kv\.weight", _parts(_KV)),
    # ChatGLM, whose code comes with its files.
    Rule(
        r"transformers_modules\..*\.modeling_chatglm\.SelfAttention",
        r"query_key_value\.weight",
        _parts(_chatglm, lambda m: 1 if m.multi_query_attention else m.num_attention_heads_per_partition),
    ),
    Rule(r"transformers_modules\..*\.modeling_chatglm\.MLP", r"dense_h_to_4h\.weight", _parts(_GATE_UP)),
    # transformers, gated layers.
    Rule(rf"{_TRANSFORMERS}Phi4MultimodalAudioMLP", r"gate_up_proj\.weight", _parts(_UP_GATE)),
    Rule(rf"{_TRANSFORMERS}\w+", r"gate_up_proj\.weight", _parts(_GATE_UP)),
    Rule(rf"{_TRANSFORMERS}GraniteMoe\w*MLP", r"input_linear\.weight", _parts(_GATE_UP)),
    Rule(rf"{_TRANSFORMERS}ModernBert\w*MLP", r"Wi\.weight", _parts({"input": 1, "gate": 1})),
    Rule(rf"{_TRANSFORMERS}Moonshine\w*DecoderMLP", r"fc1\.weight", _parts(_UP_GATE)),
    Rule(rf"{_TRANSFORMERS}ClvpGatedLinearUnit", r"proj\.weight", _parts(_UP_GATE)),
    # transformers, state spaces and gated convolutions.
    Rule(
        rf"{_TRANSFORMERS}(Mamba|FalconMamba|Jamba\w*)Mixer", r"in_proj\.weight", _parts({"x": 1, "gate": 1})
    ),
    Rule(
        rf"{_TRANSFORMERS}ZambaMambaMixer",
        r"in_proj\.weight",
        _parts({"x": 1, "gate": 1}, _heads("intermediate_size")),
    ),
    Rule(rf"{_TRANSFORMERS}\w*Mixer", r"in_proj\.weight", _parts(_mamba2)),
    Rule(rf"{_TRANSFORMERS}Lfm\w*ShortConv", r"in_proj\.weight", _parts(dict.fromkeys("BCx", 1))),
)
