"""Calling a program: what goes in, what comes out, what is refused, and what stays as it was."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from tests.runtime.networks import Lambda, mixed, noise, small
from tests.runtime.programs import SHAPE, close, compiled
from torch import nn

import gpmt
from gpmt.errors import RuntimeProgramError


@torch.no_grad()
@pytest.mark.parametrize(
    "arranged",
    [
        lambda x: x.contiguous(memory_format=torch.channels_last),
        lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
        lambda x: x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
        lambda x: noise(2, 3, 16, 27)[:, :, ::2, ::3],
        lambda x: noise(4, 5, 12, 12)[1:3, 2:, 3:11, 1:10],
        lambda x: noise(1, 3, 8, 9).expand(2, -1, -1, -1),
        lambda x: noise(2, 1, 8, 1).expand(-1, 3, -1, 9),
        lambda x: torch.ones(()).expand(SHAPE),
        lambda x: noise(2, 3, 8, 9).flip(3),
        lambda x: nn.Parameter(x),
        lambda x: torch.as_strided(noise(400), SHAPE, (50, 3, 9, 1)),
    ],
)
def test_inputs_of_any_strides(pair, arranged):
    network, program = pair
    images = arranged(noise(*SHAPE, seed=3))
    before = images.clone()
    close(program(images), network(images))
    assert torch.equal(images, before)


@torch.no_grad()
@pytest.mark.parametrize("arrangement", ["transposed", "expanded", "sliced", "aligned badly"])
def test_vectors_of_any_strides(arrangement):
    network = nn.Sequential(nn.Linear(10, 7), nn.ReLU(), nn.Linear(7, 5))
    program = compiled(network, noise(6, 10))
    rows = {
        "transposed": noise(10, 6).t(),
        "expanded": noise(1, 10).expand(6, 10),
        "sliced": noise(12, 20)[::2, 5:15],
        "aligned badly": noise(61)[1:].view(6, 10),
    }[arrangement]
    close(program(rows), network(rows))


@torch.no_grad()
def test_inputs_with_the_negative_bit(pair):
    """The imaginary part of a conjugate has a flag instead of other numbers."""
    network, program = pair
    images = torch.complex(noise(*SHAPE), noise(*SHAPE, seed=1)).conj().imag
    assert images.is_neg()
    close(program(images), network(images))


@torch.no_grad()
def test_the_default_dtype_does_not_matter(pair):
    network, program = pair
    images = noise(*SHAPE)
    expected = network(images)
    torch.set_default_dtype(torch.float64)
    try:
        result = program(images)
    finally:
        torch.set_default_dtype(torch.float32)
    assert result.dtype == torch.float32
    close(result, expected)


@torch.no_grad()
def test_autocast_does_not_matter(pair):
    network, program = pair
    images = noise(*SHAPE)
    with torch.autocast("cpu", torch.bfloat16):
        result = program(images)
        inside = gpmt.compile(network, images, threads=1, tune=False)
    assert inside.fallbacks == program.fallbacks
    close(result, network(images))
    close(inside(images), network(images))


def test_results_have_no_gradients(pair):
    network, program = pair
    images = noise(*SHAPE).requires_grad_()
    with torch.enable_grad():
        result = program(images)
    assert not result.requires_grad
    close(result, network(images).detach())
    with torch.inference_mode():
        close(program(images), network(images))
    inference = program(torch.inference_mode()(noise)(*SHAPE))
    close(inference, network(noise(*SHAPE)).detach())


def test_results_are_new_tensors(pair):
    _, program = pair
    inputs = [noise(*SHAPE, seed=seed) for seed in range(3)]
    results = [program(images) for images in inputs]
    copies = [result.clone() for result in results]
    for images, result, before in zip(inputs, results, copies, strict=True):
        assert torch.equal(result, before)
        assert torch.equal(program(images), before), "two runs differ"
    results[0].fill_(7)
    assert torch.equal(program(inputs[0]), copies[0])


@torch.no_grad()
def test_outputs_that_are_inputs_or_constants():
    network = Lambda(
        lambda s, x: {"x": x, "flat": x.flatten(1), "rows": x.reshape(2, -1), "c": s.c, "y": s.conv(x)},
        c=noise(4),
        conv=nn.Conv2d(3, 2, 1),
    )
    images = noise(*SHAPE)
    program = compiled(network)
    for _ in range(2):
        results, expected = program(images), network(images)
        assert list(results) == list(expected)
        for name, result in results.items():
            close(result, expected[name], 1e-6)
            result.fill_(5)  # must reach neither the input nor the program
    close(images, noise(*SHAPE), 0)
    close(network.c, noise(4), 0)


@torch.no_grad()
@pytest.mark.parametrize("function", [lambda s, x: x, lambda s, x: (x, x), lambda s, x: x.flatten(1)])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_networks_that_do_nothing(function, batch):
    program = gpmt.compile(Lambda(function), noise(*SHAPE), threads=2, tune=False)
    images = noise(batch, *SHAPE[1:])
    results = program(images)
    for result in results if isinstance(results, tuple) else [results]:
        assert torch.equal(result.reshape(images.shape), images)
        assert result.untyped_storage().data_ptr() != images.untyped_storage().data_ptr()


def test_results_have_the_structure_of_the_networks():
    network = Lambda(lambda s, x: {"a": (x * 2, [x.relu(), None, 3, "text"]), "b": True})
    result = compiled(network)(noise(*SHAPE))
    assert list(result) == ["a", "b"]
    assert isinstance(result["a"], tuple)
    assert result["a"][1][1:] == [None, 3, "text"]
    assert result["b"] is True


@torch.no_grad()
@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("first", [1, 3])
def test_any_batch(threads, first):
    network = small()
    program = gpmt.compile(network, noise(first, *SHAPE[1:]), threads=threads, tune=False)
    assert program.threads == threads
    for batch in (1, 2, 3, 5, 17):
        images = noise(batch, *SHAPE[1:], seed=batch)
        result = program(images)
        close(result, network(images))
        assert result.is_contiguous()


@torch.no_grad()
def test_bits_do_not_depend_on_threads_or_batch():
    network, images = small(), noise(7, *SHAPE[1:])
    results = []
    for threads in (1, 2, 4):
        program = gpmt.compile(network, images, threads=threads, tune=False)
        results.append(program(images))
        assert torch.equal(program(images), results[-1])
    # A sample has the same result whatever is beside it.
    alone = gpmt.compile(network, images, threads=1, tune=False)
    assert torch.equal(torch.cat([alone(images[i : i + 1]) for i in range(7)]), results[0])
    for other in results[1:]:
        close(other, results[0], 1e-6)


# What is refused


def test_several_inputs():
    network = Lambda(lambda s, x, y: s.conv(x) + y, conv=nn.Conv2d(3, 3, 1))
    program = compiled(network, noise(*SHAPE), noise(*SHAPE))
    close(program(noise(*SHAPE), noise(*SHAPE)), network(noise(*SHAPE), noise(*SHAPE)).detach())
    with pytest.raises(
        RuntimeProgramError, match="has a batch of 3, but another input one of 2; give batches of one"
    ):
        program(noise(*SHAPE), noise(3, *SHAPE[1:]))


def test_named_inputs():
    class Two(nn.Module):
        def forward(self, left, right=None):
            return left - 2 * right

    program = gpmt.compile(Two(), {"right": noise(1, 3), "left": noise(1, 3)}, tune=False)
    left, right = noise(1, 3, seed=1), noise(1, 3, seed=2)
    for result in (program(left, right), program(left=left, right=right), program(left, right=right)):
        close(result, left - 2 * right)
    for args, kwargs, text in (
        ((left,), {}, "called with argument 0"),
        ((left, right), {"left": left}, "called with argument 0, argument 1, left"),
        ((left,), {"rigth": right}, "called with argument 0, rigth"),
    ):
        with pytest.raises(
            RuntimeProgramError, match=f"for the arguments right, left, but was {text}; give the same"
        ):
            program(*args, **kwargs)


@pytest.mark.parametrize("threads", [0, -1])
def test_wrong_threads(threads):
    with pytest.raises(RuntimeProgramError, match=f"threads is {threads}, but must be at least 1"):
        gpmt.compile(small(), noise(*SHAPE), threads=threads)


@pytest.mark.parametrize("attempt", [pickle.dumps, copy.copy, copy.deepcopy])
def test_programs_are_not_pickled(pair, attempt):
    with pytest.raises(
        RuntimeProgramError,
        match=r"a Program is code for this process and cannot be pickled; write it with program.save\(path\)",
    ):
        attempt(pair[1])


# What stays as it was


@torch.no_grad()
@pytest.mark.parametrize("make", [small, mixed])
def test_later_changes_of_the_network_do_not_reach_the_program(make):
    network, images = make(), noise(*SHAPE)
    program = compiled(network)
    before = program(images)
    close(before, network(images))
    for tensor in [*network.parameters(), *network.buffers()]:
        tensor.zero_() if tensor.is_floating_point() else None
    network.train()
    assert torch.equal(program(images), before)
    assert torch.equal(program(noise(5, *SHAPE[1:]))[:0], before[:0]) if not program.fallbacks else True


@pytest.mark.parametrize("make", [small, mixed])
def test_the_memory_of_the_network_is_freed_with_it(make):
    network, arrays = make(), []
    for tensor in [*network.parameters(), *network.buffers()]:
        array = tensor.detach().numpy().copy()
        tensor.data = torch.from_numpy(array)
        arrays.append(weakref.ref(array))
    del array, tensor
    assert all(array() is not None for array in arrays)
    program = compiled(network)
    del network
    gc.collect()
    assert [array() for array in arrays if array() is not None] == []
    program(noise(*SHAPE))


def test_the_network_stays_as_it_was():
    network = small().train()
    network[1].eval()
    called = []
    network[3].register_forward_hook(lambda *_: called.append(1))
    network[0].weight.requires_grad_(False)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes = [part.training for part in network.modules()]
    attributes = [list(vars(part)) for part in network.modules()]
    compiled(network)
    count = len(called)
    assert [part.training for part in network.modules()] == modes
    assert [list(vars(part)) for part in network.modules()] == attributes
    assert not network[0].weight.requires_grad
    assert network[3].weight.requires_grad
    assert network[3].weight.grad is None
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    network(noise(*SHAPE))
    assert len(called) == count + 1
