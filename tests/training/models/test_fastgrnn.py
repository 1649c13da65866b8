import torch

from gpmt.core.scope.scope import find_scope
from gpmt.macs import count_macs
from gpmt.training.models import build
from gpmt.training.models.fastgrnn import FastGRNN

HIDDEN, FEATURES, STEPS = 80, 9, 128


def reference(network: FastGRNN, series: torch.Tensor) -> torch.Tensor:
    """The paper's equations for one series [steps, features], in float64, with W and U multiplied out."""
    state = {name: tensor.double() for name, tensor in network.state_dict().items()}
    w, u = state["W1.weight"] @ state["W2.weight"], state["U1.weight"] @ state["U2.weight"]
    zeta, nu = torch.sigmoid(state["zeta"]), torch.sigmoid(state["nu"])
    h = torch.zeros(len(u), dtype=torch.float64)
    for x in series.double():
        z = torch.sigmoid(w @ x + u @ h + state["bias_gate"])
        candidate = torch.tanh(w @ x + u @ h + state["bias_update"])
        h = (zeta * (1 - z) + nu) * candidate + z * h
    return state["linear.weight"] @ h + state["linear.bias"]


def test_it_follows_the_equations_of_the_paper():
    network = FastGRNN(num_classes=3, input_shape=(7, 4), hidden=6, w_rank=2, u_rank=3).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
    series = torch.randn(2, 7, 4, dtype=torch.float64)
    expected = torch.stack([reference(network, one) for one in series])
    torch.testing.assert_close(network(series), expected)


def test_sizes_are_those_of_the_full_rank_network_for_har():
    network = build("fastgrnn", num_classes=2, input_shape=(STEPS, FEATURES))
    shapes = {name: tuple(tensor.shape) for name, tensor in network.named_parameters()}
    assert shapes == {
        "W1.weight": (HIDDEN, FEATURES),
        "W2.weight": (FEATURES, FEATURES),
        "U1.weight": (HIDDEN, HIDDEN),
        "U2.weight": (HIDDEN, HIDDEN),
        "bias_gate": (HIDDEN,),
        "bias_update": (HIDDEN,),
        "zeta": (1,),
        "nu": (1,),
        "linear.weight": (2, HIDDEN),
        "linear.bias": (2,),
    }


def test_the_factors_are_in_scope_and_their_macs_are_counted():
    network = build("fastgrnn", num_classes=2, input_shape=(STEPS, FEATURES))
    assert list(find_scope(network, scope=["*W1", "*U1"]).tensors) == ["W1.weight", "U1.weight"]
    assert count_macs(network, (STEPS, FEATURES)) == {
        "W1.weight": STEPS * HIDDEN * FEATURES,
        "W2.weight": STEPS * FEATURES * FEATURES,
        "U1.weight": STEPS * HIDDEN * HIDDEN,
        "U2.weight": STEPS * HIDDEN * HIDDEN,
        "linear.weight": 2 * HIDDEN,
    }


def test_a_column_less_is_a_rank_less():
    network = FastGRNN(num_classes=2, input_shape=(5, 4), hidden=6)
    narrow = FastGRNN(num_classes=2, input_shape=(5, 4), hidden=6, w_rank=3, u_rank=5)
    with torch.no_grad():
        network.W1.weight[:, 1] = 0
        network.U1.weight[:, 2] = 0
        smaller = dict(network.state_dict())
        for first, column in (("W", 1), ("U", 2)):
            rank = smaller[f"{first}1.weight"].shape[1]
            kept = [index for index in range(rank) if index != column]
            smaller[f"{first}1.weight"] = smaller[f"{first}1.weight"][:, kept]
            smaller[f"{first}2.weight"] = smaller[f"{first}2.weight"][kept]
        narrow.load_state_dict(smaller)
    x = torch.randn(3, 5, 4)
    torch.testing.assert_close(network(x), narrow(x))


def test_it_learns_what_only_the_first_step_tells():
    torch.manual_seed(0)
    network = FastGRNN(num_classes=2, input_shape=(6, 2), hidden=8)
    x = torch.randn(64, 6, 2)
    labels = (x[:, 0, 0] > 0).long()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x), labels).backward()
        optimizer.step()
    assert (network(x).argmax(1) == labels).float().mean() > 0.95
