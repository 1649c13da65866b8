"""The table of handlers: what is checked before a handler is called."""

import pytest
import torch
from tests.runtime.networks import noise
from torch import nn

from gpmt.runtime.frontend.builder import Builder, Unsupported
from gpmt.runtime.frontend.handlers import HANDLERS, handles, handles_all_results
from gpmt.runtime.frontend.record import record


@pytest.fixture
def builder():
    """Return a builder for a network that reads both results of a call, and those results."""

    class Sorted(nn.Module):
        def forward(self, x):
            values, indices = x.sort()
            return values * indices

    network = Sorted()
    recording = record(network, [noise(2, 3)], {})
    return Builder(network, recording, ["x"]), recording.calls[0].outputs()


@pytest.fixture(autouse=True)
def _table():
    before = dict(HANDLERS)
    yield
    HANDLERS.clear()
    HANDLERS.update(before)


def test_a_handler_gets_the_first_result_where_no_other_is_read(builder):
    builder, (values, indices) = builder
    given = []
    handles("one", "other")(lambda *arguments: given.append(arguments))
    HANDLERS["other"](builder, {}, [values])
    assert given == [(builder, {}, values)]
    with pytest.raises(Unsupported, match="its further results are read"):
        HANDLERS["one"](builder, {}, [values, indices])
    assert len(given) == 1


def test_a_handler_of_all_results_gets_them(builder):
    builder, results = builder
    given = []
    handles_all_results("one")(lambda *arguments: given.append(arguments))
    HANDLERS["one"](builder, {}, results)
    assert given == [(builder, {}, results)]


@pytest.mark.parametrize("register", [handles, handles_all_results])
def test_empty_results_stay_on_pytorch(builder, register):
    register("one")(None)
    with pytest.raises(Unsupported, match="its result is empty"):
        HANDLERS["one"](builder[0], {}, [torch.empty(0, 3)])
