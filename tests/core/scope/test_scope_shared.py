"""Tensors that are several things at once: tied, embeddings."""

import pytest
import torch
from tests.core.networks import DEFAULT, Net, names
from torch import nn

from gpmt.core.scope.scope import find_scope
from gpmt.errors import ScopeError


class TestTied:
    def test_same_parameter_counts_once_under_its_first_name(self):
        model = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4), "c": nn.Linear(4, 4)})
        model["c"].weight = model["a"].weight
        for target in (model, model.state_dict()):
            scope = find_scope(target)
            assert list(scope.tensors) == ["a.weight", "b.weight"]
            assert scope.aliases == {"a.weight": ("c.weight",)}
            assert scope.numel == 32

    def test_module_used_twice(self):
        block = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        scope = find_scope(nn.ModuleDict({"first": block, "again": block}))
        assert list(scope.tensors) == ["first.0.weight"]
        assert scope.aliases == {"first.0.weight": ("again.0.weight",)}

    def test_any_name_can_be_used_in_a_pattern(self):
        model = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
        model["c"] = model["a"]
        assert names(model, scope="c.weight") == names(model, scope="c") == ["a.weight"]
        assert names(model, exclude="c.*") == ["b.weight"]

    def test_two_parameters_on_one_memory_are_tied(self):
        first = nn.Linear(4, 4)
        second = nn.Linear(4, 4)
        second.weight = nn.Parameter(first.weight.detach())
        assert names(nn.Sequential(first, second)) == ["0.weight"]

    def test_views_of_one_memory_are_tied_only_when_equal(self):
        whole = torch.zeros(4, 4)
        views = {"a": whole[:2], "b": whole[2:], "c": whole[:2]}
        scope = find_scope({f"{name}.weight": view for name, view in views.items()})
        assert list(scope.tensors) == ["a.weight", "b.weight"]
        assert scope.aliases == {"a.weight": ("c.weight",)}

    @pytest.mark.parametrize(
        "view", [lambda w: w.t(), lambda w: w[:2], lambda w: w[:, 1:3], lambda w: w.view(2, 8)[1:]]
    )
    def test_views_that_overlap_are_refused(self, view):
        whole = torch.zeros(4, 4)
        state = {"a.weight": whole, "b.weight": view(whole), "c.weight": torch.zeros(2, 2)}
        with pytest.raises(
            ScopeError,
            match=r"^a\.weight and b\.weight view the same memory in different ways, so pruning one changes the "
            r"other; copy one of them with clone\(\), or exclude both$",
        ):
            find_scope(state)
        with pytest.raises(ScopeError, match=r"^b\.weight and a\.weight .* or exclude the first$"):
            find_scope(state, exclude="a")
        assert names(state, exclude=["a", "b"]) == ["c.weight"]
        state["b.weight"] = state["b.weight"].clone()
        assert names(state) == list(state)

    def test_parameters_of_a_module_that_overlap_are_refused(self):
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
        model[1].weight = nn.Parameter(model[0].weight.detach()[:2])
        for target in (model, model.state_dict()):
            with pytest.raises(ScopeError, match=r"^0\.weight and 1\.weight view the same memory"):
                find_scope(target)

    def test_an_expanded_tensor_is_refused(self):
        state = {"a.weight": torch.zeros(1, 4).expand(3, 4), "b.weight": torch.zeros(2, 2)}
        with pytest.raises(
            ScopeError, match=r"^a\.weight has several positions on one element \(it is expanded\)"
        ):
            find_scope(state)
        assert names(state, exclude="a") == ["b.weight"]

    def test_on_meta_tensors(self):
        with torch.device("meta"):
            model = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4), "c": nn.Linear(4, 4)})
        model["b"].weight = model["a"].weight
        for target in (model, model.state_dict()):
            assert find_scope(target).aliases == {"a.weight": ("b.weight",)}
            assert find_scope(target).numel == 32

    def test_one_memory_as_two_types_is_two_tensors(self):
        weight = torch.randn(4, 4)
        assert find_scope({"a.weight": weight, "b.weight": weight.view(torch.int32)}).aliases == {}

    def test_equal_values_are_not_tied(self):
        assert len(names({"a.weight": torch.zeros(2, 2), "b.weight": torch.zeros(2, 2)})) == 2

    def test_own_parameter_tied_to_a_layer_is_prunable_under_its_first_name(self):
        net = Net()
        net.mixing = nn.Parameter(torch.ones(2, 6))
        net.head.weight = net.mixing
        scope = find_scope(net)
        assert list(scope.tensors) == ["mixing", *DEFAULT[:-1]]
        assert scope.aliases == {"mixing": ("head.weight",)}
        model = nn.ModuleDict({"layer": nn.Linear(2, 2), "own": nn.ParameterList([torch.ones(2, 2)])})
        model["own"][0] = model["layer"].weight
        assert find_scope(model).aliases == {"layer.weight": ("own.0",)}


class TestEmbeddings:
    @pytest.mark.parametrize(
        "pattern", ["tokens", "tokens.weight", "type:Embedding", nn.Embedding, ["tokens", "tokens.weight"]]
    )
    def test_only_when_asked(self, pattern):
        assert names(Net(), scope=pattern) == ["tokens.weight"]

    def test_type_of_a_subclass_and_of_its_base(self):
        class Learned(nn.Embedding):
            pass

        net = nn.Sequential(Learned(4, 3), nn.Linear(3, 3), nn.EmbeddingBag(4, 3))
        assert names(net, scope="type:Embedding") == names(net, scope="type:Learned") == ["0.weight"]
        assert names(net, scope=nn.EmbeddingBag) == ["2.weight"]
        assert names(net, scope=nn.Module) == names(net, scope="type:Module") == ["1.weight"]

    @pytest.mark.parametrize("pattern", ["*", "*weight", "re:.", nn.Module])
    def test_not_by_a_broad_pattern(self, pattern):
        assert names(Net(), scope=pattern) == DEFAULT

    @pytest.mark.parametrize("pattern", ["tok*", "re:^tokens"])
    def test_a_broad_pattern_that_matches_nothing_else_says_so(self, pattern):
        with pytest.raises(
            ScopeError, match=r"matches only embeddings such as 'tokens\.weight'; give an emb"
        ):
            find_scope(Net(), scope=pattern)

    def test_name_of_a_containing_module_is_broad(self):
        model = nn.ModuleDict({"encoder": Net(), "head": nn.Linear(2, 2)})
        assert names(model, scope="encoder") == [f"encoder.{name}" for name in DEFAULT]

    def test_tied_head(self):
        net = nn.ModuleDict({"tokens": nn.Embedding(10, 6), "mid": nn.Linear(6, 6), "head": nn.Linear(6, 10)})
        net["head"].weight = net["tokens"].weight
        assert names(net) == names(net, scope=nn.Linear) == names(net, scope="*") == ["mid.weight"]
        for pattern in ("head", "head.weight", "tokens", nn.Embedding):
            scope = find_scope(net, scope=pattern)
            assert list(scope.tensors) == ["tokens.weight"]
            assert scope.aliases == {"tokens.weight": ("head.weight",)}
            assert scope.kinds == {"tokens.weight": "Embedding"}

    def test_excluding_embeddings_that_are_out_anyway_is_fine(self):
        assert names(Net(), exclude=[nn.Embedding, "body.bn1", "*.bias"]) == DEFAULT
