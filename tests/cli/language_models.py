"""Language models of a few thousand weights in folders, with a tokenizer of words."""

from pathlib import Path
from typing import Any

import pytest
import torch

WORDS = ("the", "cat", "dog", "sat", "ran", "on", "under", "a", "mat", "tree", "and", "then")
TEXT = " ".join(WORDS[(7 * place + place // 5) % len(WORDS)] for place in range(600))
"""600 tokens."""
_SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}


def save_language_model(
    folder: Path, kind: str = "LlamaForCausalLM", *, tokenizer: bool = True, **changes: Any
) -> Path:
    """Write a folder as save_pretrained does, of a network of that class with random weights."""
    transformers = pytest.importorskip("transformers", reason="gpmt[hf] is not installed")
    made = getattr(transformers, kind)
    torch.manual_seed(0)
    sizes: dict[str, Any] = {**_SIZES, "vocab_size": len(WORDS) + 2, "max_position_embeddings": 64} | changes
    made(made.config_class(**sizes)).save_pretrained(folder)
    if tokenizer:
        _tokenizer(transformers).save_pretrained(folder)
    return folder


def _tokenizer(transformers: Any) -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    words = Tokenizer(
        WordLevel({word: place for place, word in enumerate(("?", "end", *WORDS))}, unk_token="?")
    )
    words.pre_tokenizer = Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="?", eos_token="end", pad_token="end"
    )
