"""Measured choices: remembered on disk for each number of threads, harmless where the disk is not as it should be."""

import json
from dataclasses import replace

import pytest
import torch
from tests.runtime.layers import matrix_layer
from tests.runtime.networks import noise, scramble
from torch import nn

import gpmt
from gpmt.runtime.codegen import disk_cache, processor
from gpmt.runtime.execution.autotuning import Tuner
from gpmt.runtime.ir.activation import RELU
from gpmt.runtime.layout.planes import Planes
from gpmt.runtime.lowering.candidates import candidates
from gpmt.runtime.threads.thread_pool import ThreadPool


class Counting(ThreadPool):
    """A pool that counts its runs."""

    runs = 0

    def run(self, table, repeat=1):
        self.runs += 1
        super().run(table, repeat)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder for choices; compiled kernels stay where they are."""
    kernels = disk_cache.cache_folder() / "kernels"
    kernels.mkdir(parents=True, exist_ok=True)
    (tmp_path / "kernels").symlink_to(kernels)
    monkeypatch.setenv("GPMT_CACHE", str(tmp_path))
    return tmp_path / "tuning"


def layer(density=0.5, filters=24):
    source, output = (Planes(1, count, 6, 8, 8, 0) for count in (16, filters))
    return matrix_layer(source, output, density, RELU)


def choose(threads=1, density=0.5, **more):
    """Return what a new tuner chooses, and how often it ran a kernel."""
    pool = Counting(threads)
    tuner, chosen = Tuner(pool, **more), layer(density)
    found = candidates(chosen, processor.host(), threads)
    result = tuner.choose(found, {"input": chosen.input, "output": chosen.output}, chosen.kept)
    tuner.save()
    pool.close()
    assert result in found
    return repr(result.spec), pool.runs


def test_choices_are_remembered(folder):
    first, runs = choose()
    assert runs > 10
    assert choose() == (first, 0)
    assert choose(measure=False) == (first, 0)
    assert len(list(folder.iterdir())) == 1


def test_other_threads_and_other_work_are_measured_for_themselves(folder):
    choose()
    assert choose(threads=2)[1] > 10
    assert len(list(folder.iterdir())) == 2
    assert choose(density=0.1)[1] > 10


def test_without_measuring_the_model_decides(folder):
    chosen = layer()
    first = candidates(chosen, processor.host(), 1)[0]
    assert choose(measure=False) == (repr(first.spec), 0)
    assert not folder.exists()


def test_the_only_way_needs_no_measuring():
    pool = Counting(1)
    chosen = layer()
    (only, *_) = candidates(chosen, processor.host(), 1)
    assert Tuner(pool).choose([only], {}, 1) is only
    assert pool.runs == 0


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[1, 2]",
        b"\xff\xfe",
        b'{"a": 3}',
        b"null",
        b'"text"',
        b"[" * 100_000,
    ],
)
def test_a_damaged_file_is_measured_again(folder, damage):
    choose()
    (path,) = folder.iterdir()
    path.write_bytes(damage)
    assert choose()[1] > 10
    assert list(folder.iterdir()) == [path]
    assert json.loads(path.read_text())
    assert choose()[1] == 0


def test_a_choice_that_is_not_a_candidate_any_more(folder):
    choose()
    (path,) = folder.iterdir()
    path.write_text(json.dumps(dict.fromkeys(json.loads(path.read_text()), "SparseConv(lanes=3)")))
    first = candidates(layer(), processor.host(), 1)[0]
    assert choose() == (repr(first.spec), 0)


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("GPMT_CACHE", str(tmp_path / "file"))
    assert choose()[1] > 10
    assert choose()[1] > 10


def test_two_tuners_keep_each_others_choices(folder):
    chosen = [layer(filters=8), layer(filters=40)]
    pools = [Counting(1), Counting(1)]
    tuners = [Tuner(pool) for pool in pools]
    for one, tuner in zip(chosen, tuners, strict=True):
        found = candidates(one, processor.host(), 1)
        tuner.choose(found, {"input": one.input, "output": one.output}, one.kept)
    for tuner in tuners:
        tuner.save()
    (path,) = folder.iterdir()
    assert len(json.loads(path.read_text())) == 2


def test_a_network_is_measured_once(folder):
    torch.manual_seed(0)
    network = scramble(nn.Sequential(nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 1)))
    images = noise(1, 8, 9, 9)
    first = gpmt.compile(network, images, threads=1)
    (path,) = folder.iterdir()
    known = path.read_bytes()
    again = gpmt.compile(network, images, threads=1)
    assert path.read_bytes() == known
    assert torch.equal(first(images), again(images))
    assert torch.equal(first(images), gpmt.compile(network, images, threads=1, tune=False)(images))


def test_what_should_cost_far_more_is_not_tried():
    """Weights of the hopeless ways alone would take many times the memory of the layer."""
    made = []

    def noted(candidate):
        def arrays():
            made.append(candidate.cycles)
            return candidate.arrays()

        return replace(candidate, arrays=arrays)

    chosen = layer(density=1.0)
    found = [noted(candidate) for candidate in candidates(chosen, processor.host(), 1)]
    found[2:] = [replace(candidate, cycles=5 * found[0].cycles) for candidate in found[2:]]
    Tuner(ThreadPool(1)).choose(found, {"input": chosen.input, "output": chosen.output}, chosen.kept)
    assert made == [candidate.cycles for candidate in found[:2]]
