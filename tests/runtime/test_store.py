"""Saved programs: the same bits again, plain files, and nothing in them that is believed."""

import json
import os
import subprocess
import sys
from collections import OrderedDict, namedtuple
from contextlib import suppress

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.runtime.networks import Lambda, noise, scramble
from torch import nn
from torch.utils._pytree import tree_flatten

import gpmt
from gpmt.errors import CheckpointError, RuntimeProgramError
from gpmt.formats.sparse.reader import SparseFile
from gpmt.formats.sparse.writer import save_sparse
from gpmt.runtime.store import KEY, holds_program, load_program

relu = torch.nn.functional.relu


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPMT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def compiled(network, *inputs):
    return gpmt.compile(network.eval(), inputs, threads=1, tune=False)


def opened(path):
    return load_program(path, threads=1, tune=False)


def same(one, other):
    (parts, form), (others, other_form) = tree_flatten(one), tree_flatten(other)
    assert form == other_form
    for part, right in zip(parts, others, strict=True):
        if isinstance(part, torch.Tensor):
            assert part.dtype == right.dtype
            assert torch.equal(part, right)
        else:
            assert part == right or part != part


def pruned():
    """All kinds of operators, also on PyTorch, constants, and parts of the result that are no tensors."""

    def forward(s, x, ids):
        y = s.silu(s.norm(s.first(x)))
        y = s.second(y) + y
        y = torch.cat([s.depthwise(y), s.pool(y), s.mean(y)], 1)
        y = s.last(y).clamp(-1, torch.inf)
        z = y.mean((2, 3))
        table = nn.functional.embedding(ids, s.table)
        return {"z": s.head(z), "parts": (y, [table.softmax(-1), 3, None, float("nan")])}, "text"

    torch.manual_seed(0)
    network = scramble(
        Lambda(
            forward,
            first=nn.Conv2d(3, 8, 3, 2, 1),
            norm=nn.BatchNorm2d(8),
            silu=nn.SiLU(),
            second=nn.Conv2d(8, 8, (1, 3), padding=(0, 1), bias=False),
            depthwise=nn.Conv2d(8, 8, 3, padding=1, groups=8),
            pool=nn.MaxPool2d(3, 1, 1),
            mean=nn.AvgPool2d(3, 1, 1, count_include_pad=False),
            last=nn.Conv2d(24, 6, 1, groups=2),
            head=nn.Linear(6, 5),
            table=noise(7, 4),
        )
    )
    gpmt.prune_(network, sparsity=0.6)
    return network


INPUTS = noise(2, 3, 12, 10), torch.tensor([[1, 2], [0, 6]])


@pytest.fixture(scope="module")
def example(_cache, tmp_path_factory):
    """Return a program, and the file that it was saved to."""
    folder = tmp_path_factory.mktemp("program")
    network = pruned()
    program = compiled(network, *INPUTS)
    path = folder / "x.program.safetensors"
    program.save(path)
    return program, path


def test_a_program_comes_back_bit_for_bit(example):
    program, path = example
    again = opened(path)
    same(again(*INPUTS), program(*INPUTS))
    assert again.fallbacks == program.fallbacks != []
    assert repr(again) == repr(program)
    second = path.with_name("second.program.safetensors")
    again.save(second)
    assert second.read_bytes() == path.read_bytes()


def test_weights_have_the_names_of_the_network(example):
    with SparseFile(example[1]) as file:
        names = set(file)
        assert {
            "first.weight",
            "first.bias",
            "depthwise.weight",
            "head.weight",
            "head.bias",
            "table",
        } <= names
        network = pruned()
        # Batch-norm is folded into the first convolution; nothing is into the last layer.
        assert torch.equal(file["head.weight"], network.head.weight)
        assert not torch.equal(file["first.weight"], network.first.weight)


def test_arguments_keep_their_names(tmp_path):
    network = Lambda(lambda s, x, y=None: s.conv(x) + y, conv=nn.Conv2d(1, 2, 1))
    network.forward = lambda x, y: network.conv(x) + y
    given = {"y": noise(1, 2, 3, 3), "x": noise(1, 1, 3, 3)}
    program = gpmt.compile(network, given, threads=1, tune=False)
    program.save(tmp_path / "x")
    again = opened(tmp_path / "x")
    same(again(**given), program(**given))
    same(again(given["x"], y=given["y"]), program(**given))
    with pytest.raises(RuntimeProgramError, match="compiled for the arguments y, x"):
        again(given["x"])


def test_the_batch_stays_free(tmp_path):
    program = compiled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), noise(4, 3, 8, 8))
    program.save(tmp_path / "x")
    again, images = opened(tmp_path / "x"), noise(3, 3, 8, 8, seed=1)
    same(again(images), program(images))


@pytest.mark.parametrize(
    "result",
    [
        lambda y: y,
        lambda y: [y],
        lambda y: (y, (y, {})),
        lambda y: OrderedDict(b=y, a=[y, True]),
        lambda y: {"b": y, "a": (None, -float("inf"), 1.5)},
        lambda y: (y, "tensor", {"tuple": y}),
    ],
)
def test_forms_of_results(tmp_path, result):
    program = compiled(Lambda(lambda s, x: result(s.conv(x)), conv=nn.Conv2d(1, 2, 1)), noise(1, 1, 3, 3))
    program.save(tmp_path / "x")
    x = noise(1, 1, 3, 3)
    same(opened(tmp_path / "x")(x), program(x))


def test_results_that_no_file_holds_are_refused(tmp_path):
    Pair = namedtuple("Pair", "a b")
    network = Lambda(lambda s, x: Pair(s.conv(x), x), conv=nn.Conv2d(1, 2, 1))
    program = compiled(network, noise(1, 1, 3, 3))
    with pytest.raises(
        CheckpointError, match="cannot hold a program that returns a Pair: only tensors in tuples"
    ):
        program.save(tmp_path / "x")
    assert not any(tmp_path.iterdir())


def test_calls_that_no_file_holds_are_refused(tmp_path):
    program = compiled(nn.Softmax(1), noise(2, 3))
    graph = program._graph
    object.__setattr__(graph.operators[0], "stored", None)
    with pytest.raises(CheckpointError, match="cannot hold softmax, which stays on PyTorch"):
        program.save(tmp_path / "x")


def test_weights_used_twice_are_stored_once(tmp_path):
    network = Lambda(lambda s, x: s.conv(relu(s.conv(x))), conv=nn.Conv2d(4, 4, 3, padding=1))
    program = compiled(network, noise(1, 4, 6, 6))
    program.save(tmp_path / "x")
    with SparseFile(tmp_path / "x") as file:
        assert [name for name in file if name.startswith("conv.weight")] == ["conv.weight"]
    same(opened(tmp_path / "x")(noise(1, 4, 6, 6)), program(noise(1, 4, 6, 6)))


def test_other_files_are_refused(tmp_path, example):
    with pytest.raises(CheckpointError, match="does not exist"):
        opened(tmp_path / "none")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        opened(tmp_path / "text")
    save_sparse({"a": noise(3)}, tmp_path / "weights")
    with pytest.raises(CheckpointError, match=r"holds weights, but no program; write one with gpmt\.compile"):
        opened(tmp_path / "weights")
    assert not any(holds_program(tmp_path / name) for name in ("none", "text", "weights"))
    assert holds_program(example[1])


def test_opens_on_a_lesser_processor(example):
    code = (
        "import sys, warnings, torch; from gpmt import load_program; warnings.simplefilter('ignore');"
        "p = load_program(sys.argv[1], threads=1, tune=False); assert 'plain' in repr(p);"
        "torch.manual_seed(0); x = torch.load(sys.argv[2]); y = p(*x); torch.save(y[0]['z'], sys.argv[3])"
    )
    folder = example[1].parent
    torch.save(INPUTS, folder / "in.pt")
    env = {**os.environ, "GPMT_TARGET": "plain"}
    paths = [example[1], folder / "in.pt", folder / "out.pt"]
    subprocess.run([sys.executable, "-c", code, *map(str, paths)], check=True, env=env)
    torch.testing.assert_close(torch.load(folder / "out.pt"), example[0](*INPUTS)[0]["z"])


# What is in a file is not believed.


def rewritten(path, change, target):
    """Write a file again with its document changed in place, or replaced by what `change` returns."""
    with SparseFile(path) as file:
        document, tensors = json.loads(file.metadata[KEY]), file.load()
    changed = change(document)
    text = json.dumps(document if changed is None else changed)
    save_sparse(tensors, target, metadata={KEY: text})
    return target


def find(document, op, **fields):
    return next(
        entry
        for entry in document["graph"]["operators"]
        if entry["op"] == op and all(entry.get(key) == value for key, value in fields.items())
    )


def value(document, name):
    return next(entry for entry in document["graph"]["values"] if entry[0] == name)


def put(entry, key, new):
    entry[key] = new


WRONG = {
    "version": (lambda d: put(d, "version", 2), "has a program of version 2, but this gpmt reads version 1"),
    "parts": (lambda d: put(d, "code", ""), "other parts than arguments"),
    "arguments": (lambda d: d["arguments"].append("third"), "has 3 arguments, but 2 inputs"),
    "twice": (lambda d: put(d["positional"], 1, "inputs_0"), "for the names of arguments"),
    "results": (lambda d: put(d, "result", {"tuple": ["tensor"]}), "has 1 results, but 3 outputs"),
    "form": (lambda d: put(d, "result", {"namedtuple": []}), "for the form of its result"),
    "dtype": (
        lambda d: put(d["graph"]["values"][0], 1, "quint8"),
        "for a value, not its name, type and shape",
    ),
    "size": (lambda d: put(d["graph"]["values"][0][2], 0, -1), "has -1 for a size of inputs_0"),
    "input": (
        lambda d: put(d["graph"]["values"][0], 0, "other"),
        "has an input 'inputs_0' without a type and shape",
    ),
    "huge": (lambda d: put(d["graph"]["values"][0], 2, [1 << 39] * 4), "which no memory holds"),
    "memory": (lambda d: put(value(d, "inputs_0")[2], 0, 1 << 36), "bytes of memory, more than the"),
    "padding": (
        lambda d: put(find(d, "Conv"), "padding", [1 << 36, 0, 1 << 36, 0]),
        "its input with padding would take",
    ),
    "shape": (
        lambda d: put(value(d, find(d, "Conv")["output"])[2], 2, 5),
        "has the shape [2, 8, 5, 5], but is made",
    ),
    "stride": (lambda d: put(find(d, "Conv"), "stride", [0, 1]), "has 0 for a stride"),
    "groups": (lambda d: put(find(d, "Conv", groups=8), "groups", 4), "its weights do not fit its input"),
    "window": (lambda d: put(find(d, "Conv"), "dilation", [50, 50]), "its window is larger than its input"),
    "nothing": (
        lambda d: put(find(d, "Pool", kind="mean"), "padding", [1, 1, 3, 1]),
        "it takes the mean of no pixel",
    ),
    "weight": (
        lambda d: put(find(d, "Conv"), "weight", "none"),
        "needs the tensor 'none', which is not there",
    ),
    "other weight": (
        lambda d: put(find(d, "Linear"), "weight", "head.bias"),
        "its weights do not fit its input",
    ),
    "activation": (lambda d: put(find(d, "Conv"), "activation", ["tanh"]), "has ['tanh'] for an activation"),
    "bounds": (
        lambda d: put(find(d, "Conv"), "activation", ["clamp", 1, 0]),
        "has ['clamp', 1, 0] for an activation",
    ),
    "bound": (
        lambda d: put(find(d, "Conv"), "activation", ["clamp", 0, 1e300]),
        "has 1e+300 for a bound",
    ),
    "kind": (lambda d: put(find(d, "Conv"), "op", "Exec"), "its kind is 'Exec'"),
    "field": (lambda d: put(find(d, "Conv"), "code", "x"), "Conv has no 'code'"),
    "lacks": (lambda d: find(d, "Conv").pop("weight") and None, "Conv lacks its weight"),
    "order": (lambda d: d["graph"]["operators"].reverse(), "before that is made"),
    "again": (
        lambda d: d["graph"]["operators"].append(d["graph"]["operators"][0]),
        "which is unknown or there already",
    ),
    "unmade": (lambda d: d["graph"]["values"].append(["new", "float32", [1]]), "nothing makes: 'new'"),
    "outputs": (lambda d: put(d["graph"]["outputs"], 0, "nowhere"), "returns 'nowhere', which nothing makes"),
    "constant": (lambda d: put(d["graph"]["constants"], "table", "head.bias"), "of another shape or type"),
    "operator": (
        lambda d: put(find(d, "PyTorch")["calls"]["calls"][0], 0, "aten.from_file.default"),
        "only public operators of aten, prims, torchvision may be called",
    ),
    "namespace": (
        lambda d: put(find(d, "PyTorch")["calls"]["calls"][0], 0, "os.system.default"),
        "only public",
    ),
    "reads": (lambda d: put(find(d, "PyTorch")["calls"]["inputs"], 0, "nowhere"), "reads '"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_documents_are_refused(tmp_path, example, case):
    change, message = WRONG[case]
    path = rewritten(example[1], change, tmp_path / "wrong.program.safetensors")
    with pytest.raises(CheckpointError) as caught:
        opened(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).endswith("; write it again")


def test_text_that_is_no_document(tmp_path):
    for text in ("", "[]", "{", "null", '{"version": 1}', "[" * 100_000, '{"version":1' + ',"a":{' * 50_000):
        save_sparse({"a": noise(3)}, tmp_path / "x", metadata={KEY: text})
        with pytest.raises(CheckpointError, match="write it again"):
            opened(tmp_path / "x")


def test_calls_that_make_something_else_are_stopped(tmp_path, example):
    """Kernels behind them would read past the end of what they made."""

    def change(document):
        entry = find(document, "PyTorch")
        made = next(v for v in document["graph"]["values"] if v[0] == entry["calls"]["outputs"][0])
        made[2][-1] += 1

    again = opened(rewritten(example[1], change, tmp_path / "x"))
    with pytest.raises(RuntimeProgramError, match=r"does not make \w+ as torch.float32 .*; save it again"):
        again(*INPUTS)


def test_calls_that_fail_say_so(tmp_path, example):
    def change(document):
        call = next(c for c in find(document, "PyTorch")["calls"]["calls"] if "softmax" in c[0])
        call[1][1] = 99

    again = opened(rewritten(example[1], change, tmp_path / "x"))
    with pytest.raises(RuntimeProgramError, match=r"softmax on PyTorch .* fails: Dimension out of range"):
        again(*INPUTS)


def places(tree, path=()):
    yield path
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, part in entries:
        yield from places(part, (*path, key))


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 1 << 45),
    st.floats(),
    st.sampled_from(
        ["", "x", "conv2d", "first.weight", "Conv", "PyTorch", "inf", [], {}, [1, 1], [0, 0, 0, 0]]
    ),
)


# The same changes every time: a change of an operator's arguments can crash PyTorch itself, and with it all tests.
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a_changed_document_opens_or_is_refused(tmp_path, example, data):
    def change(document):
        for _ in range(data.draw(st.integers(1, 2))):
            *path, last = data.draw(st.sampled_from([p for p in places(document) if p]))
            table = document
            for key in path:
                table = table[key]
            if data.draw(st.booleans()):
                table[last] = data.draw(JUNK)
            elif isinstance(table, dict):
                del table[last]
            else:
                table.insert(last, table[data.draw(st.integers(0, len(table) - 1))])

    path = rewritten(example[1], change, tmp_path / "x")
    # What opens may still fail in PyTorch, but with a sentence.
    with suppress(CheckpointError, RuntimeProgramError):
        opened(path)(*INPUTS)


def test_a_truncated_file_is_refused(tmp_path, example):
    whole = example[1].read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 97)):
        (tmp_path / "x").write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            opened(tmp_path / "x")
