import json
import warnings

import pytest
import torch
from safetensors import safe_open
from tests.cli.commands import assert_same, error, gpmt, multiplied_weights, sparse_weights
from tests.formats.checkpoints import assert_same as assert_same_bits

import gpmt as package
from gpmt.cli.engines import difference
from gpmt.cli.export import FORMATS
from gpmt.training.models import construct

NAMED = ("--model", "lenet5-caffe", "--input", "1x28x28")


def test_export_of_weights_alone(pruned):
    facts = json.loads(
        gpmt("export", "sparse", pruned, "-o", "a.sparse.safetensors", "--card", "card.md", "--json").stdout
    )
    assert facts["bytes"] < 0.2 * facts["dense_bytes"]
    with open("card.md") as file:
        text = file.read()
    assert "| `conv.weight` | 8×3×3×3 |" in text
    assert 'gpmt.load("a.sparse.safetensors")' in text
    gpmt("export", "dense", "a.sparse.safetensors", "-o", "b.safetensors")
    assert_same("b.safetensors", sparse_weights())
    gpmt("export", "csr", pruned, "-o", "csr.pt")
    assert_same("csr.pt", sparse_weights())
    with warnings.catch_warnings(action="ignore"):  # torch says that it checks sparse tensors
        assert torch.load("csr.pt", weights_only=True)["big.weight"].layout == torch.sparse_csr
    gpmt("export", "hub", pruned, "-o", "hub")
    assert_same("hub", {name: sparse_weights()[name] for name in package.load("hub").state_dict})
    with safe_open("hub/model.safetensors", "pt") as file:
        assert set(file.keys()) == set(sparse_weights())


def test_export_of_sparse_weights_in_sentences(pruned, multiplied):
    size = package.save_sparse(sparse_weights(), "expected")
    first = f"wrote a.sparse.safetensors: {size.bytes:,} bytes, {size.bytes / size.dense_bytes:.1%} of the"
    first += f" {size.dense_bytes:,} that its tensors take in memory"
    to = ("-o", "a.sparse.safetensors", "--force")
    assert gpmt("export", "sparse", pruned, *to).stdout.splitlines() == [first, "its values are exact"]
    lines = gpmt("export", "sparse", pruned, *to, "--values", "fp16").stdout.splitlines()
    with package.SparseFile("a.sparse.safetensors") as file:
        largest = max(map(file.error, file))
    assert lines[1:] == [f"its values are fp16, which changes a weight by {largest:.3g} at most"]
    signs = package.save_sparse(multiplied_weights(), "expected").negative_zeros
    lines = gpmt("export", "sparse", multiplied, *to).stdout.splitlines()
    told = f"{signs:,} negative zeros are read back as 0.0; --keep-signed-zeros keeps the signs"
    assert lines == [first, "its values are exact", told]
    gpmt("export", "csr", multiplied, "-o", "b.pt")


def test_signs_of_zeros_are_kept_on_request(multiplied):
    for kind, name in (("sparse", "a.sparse.safetensors"), ("csr", "b.pt"), ("csc", "c.pt")):
        assert "negative zeros are read back as 0.0" in gpmt("export", kind, multiplied, "-o", name).stdout
        assert_same(name, multiplied_weights())
        shown = gpmt("export", kind, multiplied, "-o", name, "--keep-signed-zeros", "--force").stdout
        assert "negative" not in shown
        assert_same_bits(package.load(name).state_dict, multiplied_weights())
    assert error("export", "dense", multiplied, "-o", "d.pt", "--keep-signed-zeros") == (
        "--keep-signed-zeros is for sparse, csr and csc; leave it out, dense keeps them"
    )


def test_export_of_the_network():
    pytest.importorskip("onnxruntime", reason="exporting ONNX needs onnxruntime")
    network = construct("resnet20", num_classes=10, input_shape=(3, 32, 32))
    package.prune_(network, sparsity=0.9)
    torch.save(network.state_dict(), "model.pt")
    names = ("--model", "resnet20", "--input", "3x32x32")
    facts = json.loads(gpmt("export", "onnx", "model.pt", "-o", "m.onnx", *names, "--json").stdout)
    assert (facts["weights"], facts["zeros"]) == (268_336, 241_502)
    assert facts["error"] < 1e-5
    assert package.load("m.onnx").source == "ONNX"


@pytest.mark.usefixtures("program_cache")
@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.slow] * (kind in ("onnx", "program"))) for kind in FORMATS],
)
def test_every_format_takes_a_run_in_channels_last(run, kind):
    if kind == "onnx":
        pytest.importorskip("onnxruntime", reason="exporting ONNX needs onnxruntime")
    out = {"sparse": "out.sparse.safetensors", "dense": "out.pt"}.get(kind, f"out.{kind}")
    result = gpmt("export", kind, run, "-o", out)
    assert result.stdout.startswith("wrote ")
    assert result.stderr == ""


@pytest.mark.usefixtures("program_cache")
def test_export_for_the_runtime(lenet):
    facts = json.loads(
        gpmt("export", "runtime", lenet, "-o", "a.program.safetensors", *NAMED, "--json").stdout
    )
    assert facts["bytes"] < 0.5 * facts["dense_bytes"]
    assert facts["on_pytorch"] == 0
    assert facts["error"] < 1e-5
    network = construct("lenet5-caffe", num_classes=10, input_shape=(1, 28, 28))
    network.load_state_dict(torch.load(lenet))
    images = torch.rand(3, 1, 28, 28)
    with torch.no_grad():
        expected = network.eval()(images)
    result = package.load_program("a.program.safetensors", threads=1, tune=False)(images)
    assert difference(result, expected) < 1e-5
    assert "would give other outputs than the network, by" in error(
        "export", "runtime", lenet, "-o", "b", *NAMED, "--tolerance", "1e-30"
    )
    assert "does not say which network it belongs to" in error("export", "runtime", lenet, "-o", "b")
