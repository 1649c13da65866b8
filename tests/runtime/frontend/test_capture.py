"""Capturing networks: writing in place, constants, results of any structure, and what cannot be captured."""

from dataclasses import dataclass

import pytest
import torch
from tests.runtime.networks import Lambda, check, kinds, noise, scramble
from tests.runtime.reference import run
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.frontend.aten import translate
from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.frontend.record import record
from gpmt.runtime.ir.operators import Embedding, Linear
from gpmt.runtime.passes.pipeline import optimize

IMAGE = noise(2, 4, 6, 6)


def test_modes_are_restored():
    network = nn.Sequential(nn.Conv2d(4, 3, 1), nn.Dropout(), nn.BatchNorm2d(3).eval())
    graph, _ = capture(network, IMAGE)
    assert kinds(graph) == {"Conv": 1, "Affine": 1}
    assert [part.training for part in network.modules()] == [True, True, True, False]
    assert network[2].num_batches_tracked == 0


def test_computed_weights_are_constants():
    torch.manual_seed(0)
    normed = parametrizations.weight_norm(nn.Conv2d(4, 3, 3))
    pruned = nn.Conv2d(3, 3, 1)
    prune.random_unstructured(pruned, "weight", 0.5)
    masked = Lambda(lambda s, x: F.linear(x, s.w * s.m), w=noise(2, 3), m=torch.tensor([1.0, 0, 1]))
    network = nn.Sequential(normed, pruned, nn.AdaptiveAvgPool2d(1), nn.Flatten(), masked)
    graph = check(network.eval(), IMAGE, optimized={"Conv": 2, "GlobalMean": 1, "Linear": 1})
    names = [getattr(operator, "name", "") for operator in graph.operators]
    assert names[1] == "1.weight_orig"
    assert names[0].startswith("0.parametrizations.weight.")
    assert (graph.operators[-1].weight[:, 1] == 0).all()
    assert not graph.constants


def test_shared_and_unregistered_weights():
    conv = nn.Conv2d(4, 4, 1)
    loose = noise(4, 4)
    network = Lambda(lambda s, x: F.linear(s.again(s.conv(x)).mean((2, 3)), loose), conv=conv, again=conv)
    graph = check(network, IMAGE, optimized={"Conv": 2, "GlobalMean": 1, "Linear": 1})
    assert [getattr(operator, "name", "") for operator in graph.operators] == [
        "conv.weight",
        "conv.weight",
        "",
        "",
    ]
    assert graph.operators[-1].weight.ctypes.data == loose.data_ptr()


def test_inputs_and_outputs_that_coincide():
    graph = check(
        Lambda(lambda s, x, y, z: (x, x, s.c, {"z": z.detach(), "c": s.c * 2}), c=noise(3)),
        *map(noise, (2, 3, 4)),
    )
    assert graph.operators == []
    assert graph.inputs == ["inputs_0", "inputs_1", "inputs_2"]


def test_same_tensor_given_twice():
    x = noise(2, 3)
    graph, _ = capture(Lambda(lambda s, a, b: a - 2 * b), (x, x))
    (result,) = run(graph, [x, x + 1])
    assert torch.allclose(result, x - 2 * (x + 1))


@dataclass
class Unregistered:
    tensor: torch.Tensor


@pytest.mark.parametrize(
    ("network", "example", "text"),
    [
        (
            nn.Linear(3, 2).half(),
            noise(2, 3),
            "weight is float16, but the runtime computes in float32; convert the network with .float()",
        ),
        (nn.Linear(3, 2).bfloat16(), noise(2, 3), "weight is bfloat16, but"),
        (nn.Linear(3, 2).double(), noise(2, 3).double(), "input 0 of the example is float64, but"),
        (
            nn.Linear(3, 2),
            noise(2, 3).half(),
            "input 0 of the example is float16, but the runtime computes in float32; convert it with .float()",
        ),
        (
            nn.Linear(3, 2, device="meta"),
            noise(2, 3),
            "weight is on the meta device and has no values; load its weights",
        ),
        (
            nn.Linear(3, 2),
            3,
            "the example is of type int, but must be a tensor, a tuple of tensors, or a dict",
        ),
        (nn.Linear(3, 2), (noise(2, 3), "x"), "input 1 of the example is not a dense tensor"),
        (nn.Linear(3, 2), {"input": noise(2, 3).to_sparse()}, "input of the example is not a dense tensor"),
        (
            nn.Linear(3, 2),
            noise(2, 4),
            "Linear does not run on the example of shape 2×4 (mat1 and mat2 shapes",
        ),
        (nn.Linear(3, 2), {"x": noise(2, 3)}, "Linear does not run on the example of shape 2×3"),
        (
            Lambda(lambda s, x: x if x.sum() > 0 else -x),
            noise(3),
            "Lambda cannot be captured: its path or shapes depend on the values of a tensor (" + __file__,
        ),
        (Lambda(lambda s, x: x[x > 0]), noise(3), "its path or shapes depend on the values of a tensor"),
        (Lambda(lambda s, x: torch.from_numpy(x.numpy() + 1)), noise(3), "Lambda cannot be captured: "),
        (
            Lambda(lambda s, x: Unregistered(x)),
            noise(3),
            "Lambda returns a Unregistered, but a program returns tensors and tuples",
        ),
        (Lambda(lambda s, x: x.as_strided((2, 2), (1, 1))), noise(3), "reads memory by strides (as_strided)"),
        (
            torch.jit.ScriptModule(),
            noise(3),
            "the network is a TorchScript program, which hides its forward; compile the module that it was made from",
        ),
    ],
)
def test_errors(network, example, text):
    with pytest.raises(RuntimeProgramError) as error:
        capture(network, example)
    assert text in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.gpu
def test_other_devices():
    with pytest.raises(
        RuntimeProgramError, match="weight is on cuda, but the runtime is for the CPU; move the network"
    ):
        capture(nn.Linear(3, 2).cuda(), noise(2, 3).cuda())


def test_recurrent_layers_and_attention():
    torch.manual_seed(0)
    lstm = nn.LSTM(4, 5, 2, batch_first=True)
    check(Lambda(lambda s, x: s.lstm(x)[0], lstm=lstm), noise(2, 3, 4))
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    fast = torch.backends.mha.get_fastpath_enabled()
    graph = check(layer, noise(2, 3, 8))
    assert sum(isinstance(operator, Linear) for operator in graph.operators) == 4
    assert torch.backends.mha.get_fastpath_enabled() == fast


def test_wrappers_and_graph_modules():
    network = scramble(nn.Sequential(nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3), nn.ReLU()))
    for other in (torch.compile(network), nn.DataParallel(network), torch.fx.symbolic_trace(network)):
        assert kinds(optimize(capture(other, IMAGE).graph)) == {"Conv": 1}


def test_networks_that_only_export_can_run():
    def function(s, x):
        if not torch.compiler.is_compiling() and not x.any():
            raise ValueError("empty")
        return s.conv(x).relu_()

    torch.manual_seed(0)
    network = Lambda(function, conv=nn.Conv2d(4, 3, 3))
    graph = check(network, IMAGE, optimized={"Conv": 1})
    assert graph.operators[0].name == "conv.weight"


# PyTorch 2.10 warns of its own copies of graphs.
@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning")
@pytest.mark.parametrize("decomposed", [False, True])
def test_exported_graphs(decomposed):
    """Operators may come in parts: addmm of a transposed weight, convolution, native batch-norm."""
    torch.manual_seed(0)
    network = scramble(
        nn.Sequential(
            nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 2)
        )
    )
    program = torch.export.export(network, (IMAGE,))
    module = (program.run_decompositions({}) if decomposed else program).module()
    graph = optimize(translate(module, record(module, [IMAGE], {}), ["x"]))
    assert kinds(graph) == {"Conv": 1, "Pool": 1, "Reshape": 1, "Linear": 1}
    assert graph.operators[0].name == "0.weight"
    assert torch.allclose(run(graph, [IMAGE])[0], network(IMAGE), atol=1e-5)


def test_compiled_parts():
    torch.manual_seed(0)
    network = nn.Sequential(torch.compile(nn.Conv2d(4, 3, 3)), nn.ReLU())
    assert kinds(optimize(capture(network, IMAGE).graph)) == {"Conv": 1}


def test_integers_are_looked_up():
    torch.manual_seed(0)
    network = Lambda(lambda s, ids: s.linear(s.table(ids)), table=nn.Embedding(7, 4), linear=nn.Linear(4, 2))
    graph, _ = capture(network, torch.tensor([[1, 6], [0, 3]]))
    assert [type(operator) for operator in graph.operators] == [Embedding, Linear]
    assert not graph.constants
    assert graph.operators[0].name == "table.weight"
    assert graph.operators[0].weight.ctypes.data == network.table.weight.data_ptr()
    assert graph.values["inputs_0"].dtype == torch.int64
