"""Saved programs: the same bits again, in plain files that other processors open."""

import json
import os
import subprocess
import sys
from collections import OrderedDict, namedtuple

import pytest
import torch
from tests.runtime.networks import Lambda, noise
from tests.runtime.saved_programs import INPUTS, compiled, opened, pruned, same
from torch import nn

import gpmt
from gpmt.errors import CheckpointError, RuntimeProgramError
from gpmt.formats.sparse.reader import SparseFile
from gpmt.formats.sparse.writer import save_sparse
from gpmt.runtime.store import KEY, holds_program

relu = torch.nn.functional.relu


def test_a_program_comes_back_bit_for_bit(saved_program):
    program, path = saved_program
    again = opened(path)
    same(again(*INPUTS), program(*INPUTS))
    assert again.fallbacks == program.fallbacks != []
    assert repr(again) == repr(program)
    second = path.with_name("second.program.safetensors")
    again.save(second)
    assert second.read_bytes() == path.read_bytes()


def test_negative_zeros_take_no_space(tmp_path):
    """They are what a mask of 0 and 1 leaves of negative weights, and a negative scale of zeros."""
    linear = nn.Linear(300, 200)
    mask = torch.rand(200, 300) < 0.1
    sizes, images = [], noise(2, 300)
    for weight in (linear.weight.detach() * mask, linear.weight.detach().where(mask, 0)):
        linear.load_state_dict({"weight": weight, "bias": linear.bias})
        program = compiled(linear, images)
        sizes.append(program.save(tmp_path / "a.program.safetensors").bytes)
        same(opened(tmp_path / "a.program.safetensors")(images), program(images))
    assert sizes[0] == sizes[1] < 0.2 * 4 * 60_000


def test_weights_have_the_names_of_the_network(saved_program):
    with SparseFile(saved_program[1]) as file:
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


def test_the_batch_stays_dynamic(tmp_path):
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
def test_structures_of_results(tmp_path, result):
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
    generator = torch.Generator()
    program = compiled(Lambda(lambda s, x: torch.bernoulli(x, generator=generator)), noise(2, 3).sigmoid())
    with pytest.raises(CheckpointError, match="cannot hold bernoulli, which stays on PyTorch"):
        program.save(tmp_path / "x")


def test_weights_used_twice_are_stored_once(tmp_path):
    network = Lambda(lambda s, x: s.conv(relu(s.conv(x))), conv=nn.Conv2d(4, 4, 3, padding=1))
    program = compiled(network, noise(1, 4, 6, 6))
    program.save(tmp_path / "x")
    with SparseFile(tmp_path / "x") as file:
        assert [name for name in file if name.startswith("conv.weight")] == ["conv.weight"]
    same(opened(tmp_path / "x")(noise(1, 4, 6, 6)), program(noise(1, 4, 6, 6)))


@pytest.mark.parametrize(
    "forward",
    [
        lambda s, x: (s.conv(x), x.clamp(max=-torch.inf)),
        lambda s, x: torch.cat([s.conv(x), x], 1, out=torch.empty(0)) * 2,
        lambda s, x: nn.functional.linear(s.conv(x), torch.ones(0, 3)),
    ],
)
def test_odd_networks_are_opened_again(tmp_path, forward):
    network = Lambda(forward, conv=nn.Conv2d(4, 4, 1))
    x = noise(1, 4, 3, 3)
    program = compiled(network, x)
    program.save(tmp_path / "x")
    with torch.no_grad():
        torch.testing.assert_close(program(x), network(x))
    same(opened(tmp_path / "x")(x), program(x))


@pytest.mark.parametrize("levels", [2_000, 100_000])
def test_a_document_that_is_nested_too_deeply_is_refused(tmp_path, saved_program, levels):
    """The first is too deep for the reader of results where the parser of JSON still opens it."""
    with SparseFile(saved_program[1]) as file:
        document, tensors = json.loads(file.metadata[KEY]), file.load()
    document["result"] = "deep"
    text = json.dumps(document).replace('"deep"', '{"tuple":[' * levels + "]}" * levels)
    save_sparse(tensors, tmp_path / "deep", metadata={KEY: text})
    with pytest.raises(CheckpointError) as caught:
        opened(tmp_path / "deep")
    assert str(caught.value) == f"{tmp_path / 'deep'} has a program that is nested too deeply; write it again"


def test_other_files_are_refused(tmp_path, saved_program):
    with pytest.raises(CheckpointError, match="does not exist"):
        opened(tmp_path / "none")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        opened(tmp_path / "text")
    save_sparse({"a": noise(3)}, tmp_path / "weights")
    with pytest.raises(CheckpointError, match=r"holds weights, but no program; write one with gpmt\.compile"):
        opened(tmp_path / "weights")
    assert not any(holds_program(tmp_path / name) for name in ("none", "text", "weights"))
    assert holds_program(saved_program[1])


@pytest.mark.slow
def test_opens_on_a_lesser_processor(saved_program):
    code = (
        "import sys, warnings, torch; from gpmt import load_program; warnings.simplefilter('ignore');"
        "p = load_program(sys.argv[1], threads=1, tune=False); assert 'plain' in repr(p);"
        "torch.manual_seed(0); x = torch.load(sys.argv[2]); y = p(*x); torch.save(y[0]['z'], sys.argv[3])"
    )
    folder = saved_program[1].parent
    torch.save(INPUTS, folder / "in.pt")
    env = {**os.environ, "GPMT_TARGET": "plain"}
    paths = [saved_program[1], folder / "in.pt", folder / "out.pt"]
    subprocess.run([sys.executable, "-c", code, *map(str, paths)], check=True, env=env)
    torch.testing.assert_close(torch.load(folder / "out.pt"), saved_program[0](*INPUTS)[0]["z"])


def test_a_truncated_file_is_refused(tmp_path, saved_program):
    whole = saved_program[1].read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 97)):
        (tmp_path / "x").write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            opened(tmp_path / "x")
