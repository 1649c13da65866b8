import pytest
import torch
from torch import Tensor, nn

from gpmt.core.scope.scope import find_scope
from gpmt.reachability.network import find_links, record_network
from tests.reachability.oracle import active_by_change

STEPS, INPUTS, HIDDEN = 3, 2, 3


class Unrolled(nn.Module):
    """A recurrent layer of linear ones, whose weights are those of one of PyTorch."""

    def __init__(self, kind: str, bias: bool, last: bool):
        super().__init__()
        self.kind, self.last, gates = kind, last, {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
        self.enter = nn.Linear(INPUTS, gates * HIDDEN, bias)
        self.again = nn.Linear(HIDDEN, gates * HIDDEN, bias)
        self.head = nn.Linear(HIDDEN, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = c = torch.zeros(len(x), HIDDEN, dtype=x.dtype)
        outputs = []
        for t in range(x.shape[1]):
            a, b = self.enter(x[:, t]), self.again(h)
            if self.kind == "LSTM":
                i, f, g, o = (a + b).chunk(4, -1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
            elif self.kind == "GRU":
                (ra, za, na), (rb, zb, nb) = a.chunk(3, -1), b.chunk(3, -1)
                z = (za + zb).sigmoid()
                h = (1 - z) * (na + (ra + rb).sigmoid() * nb).tanh() + z * h
            else:
                h = (a + b).tanh()
            outputs.append(h)
        return self.head(h if self.last else torch.stack(outputs, 1))


class Native(nn.Module):
    def __init__(self, kind: str, bias: bool, last: bool):
        super().__init__()
        self.layer = getattr(nn, kind)(INPUTS, HIDDEN, bias=bias, batch_first=True)
        self.head, self.last = nn.Linear(HIDDEN, 2), last

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)[0]
        return self.head(y[:, -1] if self.last else y)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers_are_followed_step_by_step(kind: str, bias: bool) -> None:
    torch.manual_seed(0)
    names = {
        "enter.weight": "layer.weight_ih_l0",
        "again.weight": "layer.weight_hh_l0",
        "head.weight": "head.weight",
    }
    for last, density in ((True, 1.0), (True, 0.4), (False, 0.3)):
        unrolled, native = Unrolled(kind, bias, last), Native(kind, bias, last)
        kept = {name: torch.rand(t.shape) < density for name, t in find_scope(unrolled).tensors.items()}
        expected = active_by_change(unrolled, (STEPS, INPUTS), kept)
        tensors = find_scope(native).tensors
        masks = {names[name]: mask for name, mask in kept.items()}
        found = find_links(native, record_network(native, torch.zeros(1, STEPS, INPUTS)), tensors, masks)
        assert found.conservative == ()
        for name, mask in expected.items():
            assert torch.equal(found.active[names[name]], mask), (name, last, density)


def test_layers_and_directions() -> None:
    layer = nn.LSTM(2, 3, 2, bidirectional=True)

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x)[0][-1]

    model = Last()
    tensors = find_scope(model).tensors
    kept = {name: torch.ones(t.shape, dtype=torch.bool) for name, t in tensors.items()}
    found = find_links(model, record_network(model, torch.zeros(4, 1, 2)), tensors, kept)
    assert found.conservative == ()
    idle = {name for name in kept if not found.active[name].all()}
    # Of the last layer backwards only the first step is read, whose state before it is zero.
    assert idle == {"layer.weight_ih_l1_reverse", "layer.weight_hh_l1_reverse"}
    assert not found.active["layer.weight_hh_l1_reverse"].any()
    forget = slice(3, 6)
    assert not found.active["layer.weight_ih_l1_reverse"][forget].any()


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
def test_cells(kind: str) -> None:
    class Cell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = getattr(nn, kind)(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.cell(x)
            h = self.cell(x, h)
            return h[0] if isinstance(h, tuple) else h

    model = Cell()
    tensors = find_scope(model).tensors
    kept = {name: torch.ones(t.shape, dtype=torch.bool) for name, t in tensors.items()}
    found = find_links(model, record_network(model, torch.zeros(1, 2)), tensors, kept)
    assert found.conservative == ()
    assert all(mask.all() for mask in found.active.values())
