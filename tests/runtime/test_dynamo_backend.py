"""`torch.compile` with programs: right with several parts, shared code, changed weights and new shapes, or eager."""

import gc
import warnings
import weakref
from importlib.metadata import entry_points

import pytest
import torch
from tests.runtime.networks import noise, scramble
from torch import nn
from torch.nn.utils import prune

import gpmt
from gpmt.errors import RuntimeProgramError
from gpmt.runtime import dynamo_backend

OPTIONS = {"threads": 1, "tune": False}


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPMT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def built(monkeypatch):
    """Count the programs that are built."""
    programs = []

    def build(*args, **kwargs):
        programs.append(original(*args, **kwargs))
        return programs[-1]

    original = dynamo_backend.build
    monkeypatch.setattr(dynamo_backend, "build", build)
    return programs


def compiled(network, **more):
    return torch.compile(network, backend=dynamo_backend.gpmt, options=OPTIONS, **more)


def small():
    network = scramble(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))
    )
    gpmt.prune_(network, sparsity=0.5)
    return network


def same(result, expected):
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype
    assert (result - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_whole_network(built):
    network, x = small(), noise(2, 3, 9, 9)
    fast = compiled(network)
    with torch.no_grad():
        for seed in range(3):
            x = noise(2, 3, 9, 9, seed=seed)
            same(fast(x), network(x))
    assert len(built) == 1
    assert not built[0].fallbacks


def test_several_parts(built):
    class Halves(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = small(), nn.Conv2d(4, 2, 3)

        def forward(self, x):
            y = self.first(x)
            torch._dynamo.graph_break()
            return {"out": self.second(y), "sum": y.sum(1, keepdim=True)}

    network, x = Halves().eval(), noise(1, 3, 9, 9)
    fast = compiled(network)
    with torch.no_grad():
        result, expected = fast(x), network(x)
        assert list(result) == ["out", "sum"]
        for name in result:
            same(result[name], expected[name])
    assert len(built) == 2


def test_layers_that_share_their_code_keep_their_weights():
    """PyTorch compiles the code of one layer, and calls it with the weights of all."""

    class Layer(nn.Module):
        def __init__(self, seed):
            super().__init__()
            torch.manual_seed(seed)
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            torch._dynamo.graph_break()
            return self.conv(x).relu()

    network, x = nn.Sequential(*map(Layer, range(3))).eval(), noise(1, 3, 6, 6)
    fast = compiled(network)
    with torch.no_grad():
        same(fast(x), network(x))
        same(fast(x), network(x))


def test_changed_weights_are_noticed(built):
    network, x = small(), noise(1, 3, 6, 6)
    fast = compiled(network)
    with torch.no_grad():
        same(fast(x), network(x))
        network[0].weight.mul_(2)
        same(fast(x), network(x))
        network.load_state_dict(small().state_dict())
        same(fast(x), network(x))
        network[3].weight = nn.Parameter(torch.ones(4, 8, 1, 1))
        same(fast(x), network(x))
        assert len(built) == 4


def test_weights_that_were_given_other_memory_are_noticed(built):
    network, x = small(), noise(1, 3, 6, 6)
    fast = compiled(network)
    with torch.no_grad():
        same(fast(x), network(x))
        prune.l1_unstructured(network[0], "weight", 0.5)
        prune.remove(network[0], "weight")
        same(fast(x), network(x))
        nn.utils.vector_to_parameters(
            2 * nn.utils.parameters_to_vector(network.parameters()), network.parameters()
        )
        same(fast(x), network(x))
        network.half().float()
        same(fast(x), network(x))


def test_the_memory_of_weights_is_given_back():
    network = small()
    kept = dynamo_backend._WeightSnapshot(network[0].weight)
    assert kept.is_still(network[0].weight)
    memory = weakref.ref(network[0].weight.untyped_storage())
    del network
    gc.collect()
    assert memory() is None
    assert kept.tensor() is None


def test_weights_that_change_all_the_time_stay_on_pytorch(built):
    network, x = small(), noise(1, 3, 6, 6)
    fast = compiled(network)
    with torch.no_grad(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(7):
            network[0].weight.mul_(1.1)
            same(fast(x), network(x))
    assert len(built) == 4
    assert [str(w.message) for w in caught if "gpmt" in str(w.message)] == [
        "torch.compile with the backend gpmt leaves a part of the network to PyTorch, where pruned weights cost as "
        "much as others: its weights change between calls, and each time it would be compiled again; change them "
        "before the first call"
    ]


def test_new_shapes(built):
    network = small()
    fast = compiled(network)
    with torch.no_grad():
        for batch, size in ((2, 8), (3, 8), (2, 10), (5, 11), (3, 8)):
            x = noise(batch, 3, size, size)
            same(fast(x), network(x))
        assert len(built) <= 5
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for size in range(12, 22):
                same(fast(noise(1, 3, size, size)), network(noise(1, 3, size, size)))
    assert sum("more than 8 different shapes" in str(w.message) for w in caught) == 1


def test_symbolic_sizes():
    """With symbolic shapes a part is also called with the sizes as numbers, which may not become constants."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return self.conv(x).reshape(x.shape[0] * 2, -1) * x.shape[0] + x.shape[2]

    network = Net().eval()
    fast = compiled(network, dynamic=True)
    with torch.no_grad():
        for batch in (2, 4, 2):
            x = noise(batch, 3, 5, 5)
            same(fast(x), network(x))


def eager(network, *inputs, match):
    """Check that a call is PyTorch's, with a warning that says why, once."""
    fast = compiled(network)
    with pytest.warns(RuntimeWarning, match=match):
        result = fast(*inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fast(*inputs)
    return result


def test_gradients_stay_on_pytorch(built):
    network, x = small(), noise(1, 3, 6, 6)
    result = eager(network, x, match=r"gradients may be wanted; call it under torch.no_grad\(\)")
    result.sum().backward()
    assert network[0].weight.grad is not None
    assert not built


def test_training_stays_on_pytorch(built):
    network, x = small().train(), noise(4, 3, 6, 6)
    before = network[1].running_mean.clone()
    with torch.no_grad():
        eager(network, x, match=r"changes .*num_batches_tracked.* while it runs.* with .eval\(\)")
        assert not torch.equal(network[1].running_mean, before)
        del network[1].num_batches_tracked
        network[1].register_buffer("num_batches_tracked", None)
        eager(network, x, match=r"batch-norm is in training mode; call .eval\(\) first")
    assert not built


def test_other_types_stay_on_pytorch(built):
    network = small()
    with torch.no_grad():
        result = eager(
            network.double(), noise(1, 3, 6, 6).double(), match="float64, but the runtime computes in float32"
        )
        assert result.dtype == torch.float64
        with torch.autocast("cpu", torch.bfloat16):
            eager(small(), noise(1, 3, 6, 6), match="autocast is on")
    assert not built


def test_effects_stay_on_pytorch(built):
    conv = nn.Conv2d(3, 3, 1).eval()

    class InPlace(nn.Module):
        def forward(self, x):
            x.mul_(2)
            return conv(x)

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x):
            self.count.add_(1)
            return conv(x)

    class View(nn.Module):
        def forward(self, x):
            y = conv(x)
            return y, y.view(-1), x.view(-1)

    x = noise(1, 3, 4, 4)
    with torch.no_grad():
        eager(InPlace().eval(), x, match="changes its input in place")
        assert torch.equal(x, noise(1, 3, 4, 4) * 4)
        counting = Counting().eval()
        eager(counting, x, match="changes .*count.* while it runs")
        assert counting.count == 2
        y, flat, same_as_x = eager(View().eval(), x, match="shares memory")
        assert flat.data_ptr() == y.data_ptr()
        assert same_as_x.data_ptr() == x.data_ptr()
    assert not built


def test_parts_without_kernels_are_left_without_a_word(built):
    fast = compiled(nn.Softmax(1))
    with torch.no_grad():
        same(fast(noise(2, 3)), noise(2, 3).softmax(1))
    assert not built


def test_weights_of_a_network_that_is_gone():
    def once(seed):
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Conv2d(3, 4, 1)).eval()
        same(function(network, x), network(x))

    x = noise(1, 3, 5, 5)
    function = torch.compile(lambda network, x: network(x), backend=dynamo_backend.gpmt, options=OPTIONS)
    with torch.no_grad():
        for seed in range(4):
            once(seed)


def test_options():
    part = torch.fx.symbolic_trace(nn.ReLU())
    with pytest.raises(RuntimeProgramError, match="has no option 'speed'; it has the options threads, tune"):
        dynamo_backend.gpmt(part, [], options={"speed": 1})
    with pytest.raises(RuntimeProgramError, match="has no mode 'max-autotune'"):
        dynamo_backend.gpmt(part, [], mode="max-autotune")


def test_it_is_found_by_its_name():
    [entry] = entry_points(group="torch_dynamo_backends", name="gpmt")
    assert entry.load() is dynamo_backend.gpmt
    assert "gpmt" in torch._dynamo.list_backends()
