import pytest
import torch

from gpmt.reachability.signal import Call, Signal, Unsupported
from tests.reachability.signals import apply, parts, reached

aten = torch.ops.aten


def at(shape: tuple[int, ...], *places: tuple[int, ...]) -> Signal:
    """Return a signal that is reached at some places, and zero at all others."""
    signal = torch.zeros(shape)
    for place in places:
        signal[place] = 1
    return Signal(signal, signal.clone())


def test_norms_link_what_they_normalise() -> None:
    source = at((2, 4, 3), (0, 1, 2))
    layer = apply(aten.layer_norm.default, source, [3])[0]
    assert layer.is_full
    assert layer.by_input.nonzero().tolist() == [[0, 1, 0], [0, 1, 1], [0, 1, 2]]
    group = apply(aten.group_norm.default, source, 2)[0]
    assert group.by_input.nonzero()[:, :2].unique(dim=0).tolist() == [[0, 0], [0, 1]]
    ones = Signal(torch.ones(4))
    batch = [aten.batch_norm.default, source, None, None]
    running = apply(*batch, ones, ones, False, 0.1, 1e-5, False)[0]
    assert running.by_input.nonzero().tolist() == [[0, 1, 2]]
    of_batch = apply(*batch, None, None, True, 0.1, 1e-5, False)[0]
    assert of_batch.by_input.nonzero()[:, 1].unique().tolist() == [1]
    assert of_batch.by_input.sum() == 6


def test_zero_stays_zero_in_rms_norm() -> None:
    source = Signal(torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]]))
    assert parts(apply(aten.rms_norm.default, source, [3])[0]) == ([[1, 1, 0]], [[1, 1, 0]])


def test_a_scale_that_the_input_changes_has_no_rule() -> None:
    source = at((1, 3), (0, 1))
    with pytest.raises(Unsupported):
        apply(aten.layer_norm.default, source, [3], reached(1, 1, 1))


def test_softmax_and_reductions() -> None:
    source = at((2, 3), (0, 1))
    assert apply(aten.softmax.int, source, -1)[0].by_input.tolist() == [[1, 1, 1], [0, 0, 0]]
    assert parts(apply(aten.mean.dim, source, [1])[0]) == ([1, 0], [1, 0])
    assert parts(apply(aten.sum.default, source)[0]) == (1, 1)
    assert parts(apply(aten.logsumexp.default, source, [1])[0]) == ([1, 1], [1, 0])
    assert [parts(signal)[1] for signal in apply(aten.max.dim, source, 0)] == [[0, 1, 0]] * 2
    assert apply(aten.max.other, source, source)[0].by_input.sum() == 1
    values, places = apply(aten.topk.default, source, 2)
    assert values.by_input.tolist() == places.by_input.tolist() == [[1, 1], [0, 0]]


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("ceil", [False, True])
def test_max_pooling_passes_what_its_window_holds(dilation: int, ceil: bool) -> None:
    source = at((1, 2, 7, 6), (0, 0, 6, 5), (0, 1, 2, 2))
    arguments = ([3, 2], [2, 2], [1, 1], [dilation, dilation], ceil)
    found = apply(aten.max_pool2d.default, source, *arguments)[0]
    # The largest of zeros and ones is a one where the window holds one.
    assert torch.equal(found.by_input, torch.nn.functional.max_pool2d(source.by_input, *arguments))


def test_look_ups() -> None:
    table = torch.tensor([[1.0, 0.0], [0.0, 0.0]], requires_grad=True)
    ids = Signal(torch.ones(1), torch.ones(1), data=None)
    call = Call(aten.embedding.default, (Signal(table), ids), {}, [torch.empty(1, 2)])
    from gpmt.reachability.rules import RULES

    found = RULES["embedding"](call)
    assert isinstance(found, Signal)
    assert found.by_input.tolist() == [[1, 0]]
    assert torch.autograd.grad(found.by_input.sum(), table)[0].tolist() == [[1, 1], [1, 1]]
    known = Signal(torch.ones(1), data=torch.tensor([1]))
    assert apply(aten.embedding.default, Signal(table.detach()), known)[0].nonzero.tolist() == [[0, 0]]


def test_places_that_are_not_known_may_be_any() -> None:
    source = at((2, 3), (0, 1))
    known = Signal(torch.ones(1), data=torch.tensor([1]))
    assert apply(aten.index.Tensor, source, [None, known])[0].by_input.tolist() == [[1], [0]]
    assert apply(aten.index_select.default, source, 0, known)[0].by_input.tolist() == [[0, 0, 0]]
    unknown = Signal(torch.ones(1))
    for target, args, expected in (
        (aten.index.Tensor, ([None, unknown],), [[1], [0]]),
        (aten.index.Tensor, ([unknown],), [[0, 1, 0]]),
        (aten.index_select.default, (0, unknown), [[0, 1, 0]]),
    ):
        call = Call(target, (source, *args), {}, [torch.empty(torch.tensor(expected).shape)])
        from gpmt.reachability.rules import RULES

        found = RULES[call.name](call)
        assert isinstance(found, Signal)
        assert found.by_input.tolist() == expected
        assert call.conservative == {call.name}
