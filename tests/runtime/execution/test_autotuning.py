"""Measured choices: remembered on disk for each number of threads, harmless where the disk is not as it should be."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.runtime.layers import matrix_layer
from tests.runtime.networks import noise, scramble
from torch import nn

import gpmt
from gpmt.runtime.codegen import disk_cache, processor
from gpmt.runtime.execution import autotuning
from gpmt.runtime.execution.autotuning import Tuner, compare, promising
from gpmt.runtime.execution.memory_plan import ONE_SAMPLE
from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.ir.activation import RELU
from gpmt.runtime.layout.planes import Planes
from gpmt.runtime.lowering.candidates import candidates
from gpmt.runtime.lowering.lower import lower
from gpmt.runtime.lowering.steps import NativeStep
from gpmt.runtime.passes.pipeline import optimize
from gpmt.runtime.threads.thread_pool import ThreadPool


class Counting(ThreadPool):
    """A pool that counts its runs."""

    runs = 0

    def run(self, table, repeat=1):
        self.runs += 1
        super().run(table, repeat)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder for choices, and short measurements; compiled kernels stay where they are."""
    kernels = disk_cache.cache_folder() / "kernels"
    kernels.mkdir(parents=True, exist_ok=True)
    (tmp_path / "kernels").symlink_to(kernels)
    monkeypatch.setenv("GPMT_CACHE", str(tmp_path))
    monkeypatch.setattr(autotuning, "_FEWEST", 1)
    monkeypatch.setattr(autotuning, "_MOST", 1)
    monkeypatch.setattr(autotuning, "_MAX_MEASURED", 3)
    return tmp_path / "tuning"


def network(density=0.5):
    torch.manual_seed(0)
    result = scramble(nn.Sequential(nn.Conv2d(8, 16, 1), nn.ReLU(), nn.Conv2d(16, 8, 1), nn.Conv2d(8, 8, 1)))
    if density < 1:
        gpmt.prune_(result, sparsity=1 - density, allocation="uniform")
    return result


def choose(threads=1, density=0.5, batches=False, **more):
    """Return what a new tuner chooses, and how often it ran a network."""
    graph = optimize(capture(network(density), noise(1, 8, 9, 9)).graph)
    pool = Counting(threads)
    tuner, lowered = Tuner(pool, **more), lower(graph, processor.host(), threads)
    if batches:
        choices, schedule = tuner.choose_for_batches(lowered, graph.values)
    else:
        choices, schedule = tuner.choose(lowered, graph.values), ONE_SAMPLE
    pool.close()
    steps = [step for step in lowered.steps if isinstance(step, NativeStep)]
    for step, choice in zip(steps, choices, strict=True):
        assert repr(choice.spec) in [repr(c.spec) for c in step.candidates(lowered.planes)]
    return ([repr(choice.spec) for choice in choices], schedule), pool.runs


@pytest.mark.parametrize("batches", [False, True])
def test_choices_are_remembered(folder, batches):
    first, runs = choose(batches=batches)
    assert runs >= 8
    assert choose(batches=batches) == (first, 0)
    assert choose(batches=batches, measure=False) == (first, 0)
    assert len(list(folder.iterdir())) == 1


def test_other_threads_and_other_work_are_measured_for_themselves(folder):
    choose()
    assert choose(threads=2)[1] >= 8
    assert len(list(folder.iterdir())) == 2
    assert choose(density=0.1)[1] >= 8
    assert choose(batches=True)[1] >= 8


def test_without_measuring_the_model_decides(folder):
    graph = optimize(capture(network(), noise(1, 8, 9, 9)).graph)
    lowered = lower(graph, processor.host(), 1)
    steps = [step for step in lowered.steps if isinstance(step, NativeStep)]
    first = [repr(step.candidates(lowered.planes)[0].spec) for step in steps]
    for batches in (False, True):
        assert choose(measure=False, batches=batches) == ((first, ONE_SAMPLE), 0)
    assert not folder.exists()


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[1, 2]", b"\xff\xfe", b'{"a": 3}', b"null", b'"text"', b"[" * 100_000],
)
def test_a_damaged_file_is_measured_again(folder, damage):
    choose(density=0.9)
    (path,) = folder.iterdir()
    path.write_bytes(damage)
    assert choose(density=0.9)[1] >= 8
    assert list(folder.iterdir()) == [path]
    assert json.loads(path.read_text())
    assert choose(density=0.9)[1] == 0


@pytest.mark.parametrize("entry", ["", "1", "9 9 9 9 9 9 9 9 9", "0 0 a b c d e", "a " * 5])
@pytest.mark.parametrize("batches", [False, True])
def test_an_entry_that_is_not_as_it_should_be(folder, entry, batches):
    """Kernels that are no candidates give way to the model's first choice; other lengths are measured again."""
    choose(batches=batches)
    (path,) = folder.iterdir()
    path.write_text(json.dumps(dict.fromkeys(json.loads(path.read_text()), entry)))
    choose(batches=batches)


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("GPMT_CACHE", str(tmp_path / "file"))
    assert choose()[1] >= 8


def test_a_network_is_measured_once(folder):
    images = noise(1, 8, 9, 9)
    first = gpmt.compile(network(), images, threads=1)
    (path,) = folder.iterdir()
    known = path.read_bytes()
    again = gpmt.compile(network(), images, threads=1)
    assert path.read_bytes() == known
    assert torch.equal(first(images), again(images))


def test_the_faster_candidate_is_found():
    """Of a dense layer that is pruned to 2 %, the dense kernel is never the fastest, wherever it stands."""
    torch.manual_seed(0)
    slow = scramble(nn.Sequential(nn.Conv2d(64, 256, 3, padding=1), nn.Conv2d(256, 64, 1)))
    gpmt.prune_(slow, sparsity=0.98, allocation="uniform")
    graph = optimize(capture(slow, noise(1, 64, 20, 20)).graph)
    pool = ThreadPool.shared(1)
    lowered = lower(graph, processor.host(), 1)

    def backwards(step):
        found = step.candidates(lowered.planes)
        dense = [c for c in found if "Dense" in c.spec.description][:1]
        best = found[: 0 if len(found) == 1 else 1]
        others = [replace(c, cycles=1.0) for c in [*dense, *best]] or found
        return replace(step, candidates=lambda _: others)

    turned = replace(lowered, steps=[backwards(step) for step in lowered.steps])
    choices = Tuner(pool).choose(turned, graph.values)
    assert not any("Dense" in choice.spec.description for choice in choices)


def test_times_are_lower_quartiles_of_runs_in_turn(monkeypatch):
    monkeypatch.setattr(autotuning, "_FEWEST", 5)
    monkeypatch.setattr(autotuning, "_MOST", 5)
    order = []

    def trial(name):
        def run():
            order.append(name)
            return np.array([order.count(name), 2.0])

        return run

    one, other = compare(trial("a"), trial("b"))
    assert order == ["a", "b", *"aabb" * 5]
    assert one.tolist() == other.tolist() == [5.0, 2.0]
    assert compare(trial("c"), trial("d"), total=True)[0].tolist() == [7.0]


def test_what_should_cost_far_more_is_not_tried():
    """Weights of the hopeless ways alone would take many times the memory of the layer."""
    source, output = (Planes(1, count, 6, 8, 8, 0) for count in (16, 24))
    layer = matrix_layer(source, output, 1.0, RELU)
    found = candidates(layer, processor.host(), 1)
    found[2:] = [replace(candidate, cycles=5 * found[0].cycles) for candidate in found[2:]]
    assert promising(found) == found[:2]
