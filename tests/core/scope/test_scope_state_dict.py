"""Which tensors of a bare state_dict can be pruned, by name and shape."""

import pytest
import torch
from tests.core.networks import Net, names
from torch import nn

from gpmt.core.scope.scope import find_scope
from gpmt.errors import ScopeError


class TestStateDict:
    def test_rule(self):
        state = {
            "conv.weight": torch.zeros(2, 3, 3, 3),
            "conv.bias": torch.zeros(2),
            "bn.weight": torch.zeros(2),
            "bn.running_mean": torch.zeros(2),
            "bn.num_batches_tracked": torch.tensor(0),
            "block.norm2.weight": torch.zeros(2, 5),
            "block.ln_1.weight": torch.zeros(2, 5),
            "attn.in_proj_weight": torch.zeros(6, 2),
            "rnn.weight_hh_l1_reverse": torch.zeros(4, 4),
            "rnn.weight_xx_l1": torch.zeros(4, 4),
            "pos_embedding": torch.zeros(1, 2, 3),
            "weight": torch.zeros(3, 3),
            "quantised.weight": torch.zeros(2, 2, dtype=torch.int8),
            "_extra_state": {"version": 1},
            "step": 7,
        }
        scope = find_scope(state)
        assert scope.kinds == {
            "conv.weight": "convolution",
            "attn.in_proj_weight": "attention",
            "rnn.weight_hh_l1_reverse": "recurrent",
            "weight": "matrix",
        }
        assert scope.tensors["conv.weight"] is state["conv.weight"]

    @pytest.mark.parametrize(
        "layer",
        [
            "embedding",
            "embeddings",
            "embed",
            "emb",
            "embeds.0",
            "embeddings.3",
            "embed_tokens",
            "embed_positions",
            "embed_in",
            "wte",
            "wpe",
            "word_embeddings",
            "token_embedding",
            "token_type_embeddings",
            "position_embeddings",
            "tok_embeddings",
            "pos_embed",
            "token_emb",
            "tokens_embed",
            "wordEmbedding",
            "embedder",
            "relative_attention_bias",
        ],
    )
    def test_named_like_an_embedding(self, layer):
        state = {f"model.{layer}.weight": torch.zeros(4, 3), "fc.weight": torch.zeros(3, 3)}
        assert names(state) == ["fc.weight"]
        for pattern in (f"model.{layer}", f"model.{layer}.weight"):
            assert names(state, scope=pattern) == [f"model.{layer}.weight"]

    @pytest.mark.parametrize(
        ("layer", "shape"),
        [
            ("patch_embed.proj", (8, 3, 4, 4)),
            ("embeddings.patch_embedding", (8, 3, 4, 4)),
            ("patch_embedding", (8, 48)),
            ("pos_conv_embed", (8, 3, 4)),
            ("embeddings.projection", (4, 4)),
            ("time_embedding.linear_1", (4, 4)),
            ("embedding_hidden_mapping_in", (4, 4)),
            ("embed_out", (4, 4)),
            ("member", (4, 4)),
            ("lng", (4, 4)),
        ],
    )
    def test_not_an_embedding(self, layer, shape):
        assert names({f"{layer}.weight": torch.zeros(shape)}) == [f"{layer}.weight"]

    def test_exact_name_takes_any_other_tensor_but_biases(self):
        state = Net().state_dict()
        assert names(state, scope=["mixing", "head"]) == ["mixing", "head.weight"]
        for name in ("gain", "head.bias"):
            with pytest.raises(
                ScopeError, match=f"'{name}' matches only tensors such as '{name}'; biases, norms"
            ):
                find_scope(state, scope=name)
        with pytest.raises(ScopeError, match=r"'a\.rel_bias' matches only"):
            find_scope({"a.rel_bias": torch.zeros(3, 3)}, scope="a.rel_bias")

    @pytest.mark.parametrize("pattern", ["type:Conv2d", nn.Conv2d])
    @pytest.mark.parametrize("role", ["scope", "exclude"])
    def test_types_need_a_model(self, role, pattern):
        with pytest.raises(
            ScopeError, match=rf"{role} pattern .*Conv2d'? needs a model: a state_dict knows no"
        ):
            find_scope(Net().state_dict(), **{role: pattern})

    def test_orphaned_weight_orig(self):
        with pytest.raises(ScopeError, match=r"layer 'fc' is reparametrised \(stored as 'fc.weight_orig'\)"):
            find_scope({"fc.weight_orig": torch.zeros(3, 3), "conv.weight": torch.zeros(3, 3)})

    def test_nothing_prunable(self):
        with pytest.raises(
            ScopeError, match="the state_dict has no prunable tensor: a floating weight of two"
        ):
            find_scope({"bn.weight": torch.zeros(3)})
        with pytest.raises(ScopeError, match="the state_dict has no prunable tensor"):
            find_scope({}, scope="fc")

    def test_training_checkpoint(self):
        checkpoint = {"epoch": 3, "state_dict": Net().state_dict(), "optimizer": {}}
        with pytest.raises(ScopeError, match=r"give what is under one of \['state_dict', 'optimizer'\]"):
            find_scope(checkpoint)
