import torch

from gpmt.reachability.signal import NOISE, Call, Signal, binary, ones, without_noise


def test_counts_become_zeros_and_ones_forwards_and_backwards() -> None:
    counts = torch.tensor([0.0, 3.0, 1e-3], requires_grad=True)
    result = binary(counts)
    assert result.tolist() == [0, 1, 1]
    (grad,) = torch.autograd.grad((result * torch.tensor([0.0, 7.0, 0.25])).sum(), counts)
    assert grad.tolist() == [0, 1, 1]
    assert binary(counts, NOISE).tolist() == [0, 1, 0]


def test_noise_of_a_derivative_is_no_path() -> None:
    exact = torch.ones(2, requires_grad=True)
    (grad,) = torch.autograd.grad((without_noise(exact) * torch.tensor([1e-3, 2.0])).sum(), exact)
    assert grad.tolist() == [0, 1]


def test_a_signal_that_the_input_reaches_is_no_weight() -> None:
    weight = torch.ones(3, requires_grad=True)
    assert Signal(weight).is_weight
    reached = Signal(lambda: weight * 1, torch.ones(3))
    assert not reached.nonzero.requires_grad
    assert not reached.is_weight


def test_what_is_needed_later_is_computed_once() -> None:
    made = []
    signal = Signal(lambda: made.append(1) or torch.ones(2), torch.zeros(2)).changed(lambda t: t[:1])
    assert made == []
    assert signal.nonzero.shape == signal.nonzero.shape == (1,)
    assert made == [1]


def test_always_keeps_the_derivative_of_weights() -> None:
    weight = torch.tensor([0.0, 1.0], requires_grad=True)
    signal = Signal(weight).always()
    assert signal.nonzero.tolist() == [1, 1]
    assert torch.autograd.grad(signal.nonzero.sum(), weight)[0].tolist() == [1, 1]
    assert Signal(torch.zeros(2), torch.zeros(2)).always().is_full


def test_full_signals_take_no_memory() -> None:
    full = Signal(ones((3, 5), torch.zeros(())))
    assert full.is_full
    assert full.nonzero.untyped_storage().nbytes() == 4
    assert not Signal(torch.ones(3)).is_full
    assert not Signal(torch.zeros(()).expand(3)).is_full


def test_a_call_knows_its_arguments() -> None:
    one, other = Signal(torch.ones(2)), Signal(torch.zeros(2))
    call = Call(torch.ops.aten.add_.Tensor, (one, other), {}, [torch.empty(2)])
    assert call.name == "add"
    assert call.signals == [one, other]
    assert call.arguments == {"self": one, "other": other, "alpha": 1}
    assert [t.tolist() for t in call.run(lambda s: s.nonzero.clone())] == [[1, 1]]
    assert Call(torch.ops.aten.__and__.Tensor, (one, other), {}, []).name == "__and__"
