import pytest
import torch
from torch import Tensor, nn

from gpmt.core.scope.described import Described, Description
from gpmt.core.scope.scope import find_scope
from gpmt.errors import ScopeError


class Router(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 3))


class Net(nn.Module):
    """Layers that their names belie: a router, an embedding tied to a layer, a table that is a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.class_embed = nn.Linear(3, 5)
        self.router = Router()
        self.codes = nn.Embedding(6, 3)
        self.head = nn.Linear(3, 6, bias=False)
        self.head.weight = self.codes.weight
        self.register_buffer("table_weight", torch.zeros(3, 3))


def stored() -> dict[str, Tensor]:
    return {f"old.{name}": tensor.clone() for name, tensor in Net().state_dict().items()}


def described(tensors: dict[str, Tensor] | None = None, description: Description | None = None) -> Described:
    with torch.device("meta"):
        network = Net()
    given = stored() if tensors is None else tensors
    names = {
        name: name.removeprefix("old.") for name in given if name.removeprefix("old.") in network.state_dict()
    }
    return Described(given, lambda _: description or Description(network, names))


def test_the_networks_layers_decide() -> None:
    found = find_scope(described())
    assert list(found.tensors) == ["old.class_embed.weight"]
    assert found.kinds == {"old.class_embed.weight": "Linear"}
    assert str(found.judged) == "scope judged by the layers of Net"
    assert found.judged.to_dict() == {"by": "layers", "network": "Net", "why": None}
    with torch.device("meta"):
        assert [f"old.{name}" for name in find_scope(Net()).tensors] == list(found.tensors)
    by_name = find_scope(stored())
    assert list(by_name.tensors) != list(found.tensors)
    assert by_name.judged.to_dict() == {"by": "names", "network": None, "why": "no network is known"}


def test_patterns_of_types_and_of_stored_names() -> None:
    assert list(find_scope(described(), scope="type:Linear").tensors) == ["old.class_embed.weight"]
    assert list(find_scope(described(), scope=[nn.Embedding]).tensors) == ["old.codes.weight"]
    assert list(find_scope(described(), scope="old.router.weight").tensors) == ["old.router.weight"]
    with pytest.raises(ScopeError, match="scope pattern 'router' matches nothing"):
        find_scope(described(), scope="router")
    with pytest.raises(ScopeError, match=r"matches only tensors such as 'old\.table_weight'; biases, norms"):
        find_scope(described(), scope="old.table_weight")


def test_what_is_not_in_the_network_is_judged_by_name() -> None:
    tensors = stored() | {"extra.weight": torch.zeros(2, 2), "extra_norm.weight": torch.zeros(2, 2)}
    assert list(find_scope(described(tensors)).tensors) == ["old.class_embed.weight", "extra.weight"]


def test_without_a_network_the_reason_is_said() -> None:
    found = find_scope(described(description=Description(None, why="the config is empty")))
    assert list(found.tensors) == list(find_scope(stored()).tensors)
    assert str(found.judged) == "scope judged by name and shape, since the config is empty"
    with pytest.raises(ScopeError, match="needs a model: a state_dict knows no types"):
        find_scope(described(description=Description(None)), scope="type:Linear")


def test_it_is_described_once_and_only_when_needed() -> None:
    calls: list[int] = []

    def describe(tensors: object) -> Description:
        calls.append(1)
        return Description(None, why="never")

    tensors = Described({"a.weight": torch.ones(2, 2)}, describe)
    assert list(tensors) == ["a.weight"]
    assert calls == []
    find_scope(tensors)
    find_scope(tensors)
    assert calls == [1]
    assert list(tensors.with_tensors({"b.weight": torch.ones(1, 2)})) == ["b.weight"]
