"""What a program says of itself: its text, what is left to PyTorch, and the times of its layers."""

from tests.runtime.networks import mixed, noise, small

import gpmt
import gpmt.runtime.program

IMAGES = noise(2, 3, 8, 9)


def test_a_report():
    program = gpmt.compile(mixed(), IMAGES, threads=2, tune=False)
    lines = repr(program).splitlines()
    assert lines[0].startswith("Program: ")
    assert "2 threads" in lines[0]
    assert len(lines) == 2
    assert "on PyTorch: softplus (there is no kernel for it)" in lines[1]
    assert program.fallbacks == [("softplus", "there is no kernel for it")]


def test_a_report_says_why_there_is_one_thread(monkeypatch):
    program = gpmt.compile(small(), IMAGES, threads=1, tune=False)
    assert "one thread" not in repr(program)
    monkeypatch.setattr(gpmt.runtime.program, "_HAS_THREADS", False)
    assert repr(program).splitlines()[-1] == "  one thread: there are no others on Windows yet"


def test_times_of_layers():
    network = small()
    gpmt.prune_(network, sparsity=0.5)
    times = gpmt.compile(network, IMAGES, threads=1, tune=False).layers(IMAGES)
    layers = {time.name: time for time in times if time.name}
    assert list(layers) == ["0.weight", "3.weight", "7.weight"]
    assert all(time.seconds > 0 and time.kernel for time in times)
    assert layers["0.weight"].dense_macs == 8 * 9 * 8 * 27
    for name, layer in layers.items():
        weight = network.get_parameter(name)
        assert layer.kept_macs == layer.dense_macs * int(weight.count_nonzero()) // weight.numel()
