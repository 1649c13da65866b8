"""What forward stores in the network while it is recorded is undone."""

from collections import deque

import torch
from tests.runtime.networks import Lambda, noise

from gpmt.runtime.frontend.capture import capture

IMAGE = noise(2, 4, 6, 6)


def test_attributes_set_in_forward_are_undone():
    def function(s, x):
        s.last = x
        s.count = s.count + 1
        return x * s.count

    network = Lambda(function, count=torch.zeros(1))
    capture(network, IMAGE)
    assert not hasattr(network, "last")
    assert torch.equal(network.count, torch.zeros(1))
    assert type(network.count) is torch.Tensor


def test_what_forward_keeps_in_lists_and_tables_is_undone():
    def function(s, x):
        if "table" not in s.cache:
            s.cache["table"] = torch.linspace(0, 1, 6)
        s.seen.append(x)
        s.nested[0].add("x")
        s.queue.append(x)
        return x * s.cache["table"]

    network = Lambda(function)
    network.cache, network.seen, network.nested, network.queue = {}, [1], [set()], deque([2], maxlen=1)
    for _ in range(2):
        graph = capture(network, IMAGE).graph
        assert (network.cache, network.seen, network.nested) == ({}, [1], [set()])
        assert [*network.queue] == [2]
    assert len(graph.operators) == 1
    assert torch.equal(network(IMAGE), IMAGE * torch.linspace(0, 1, 6))
