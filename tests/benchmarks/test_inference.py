"""The benchmark of inference: turns are fair and quiet, networks pruned as said and alive, tables complete."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import gpmt

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def path(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)


def test_a_turn_is_a_mean_over_many_short_calls_and_one_long():
    import turns

    calls = []

    def short():
        calls.append("short")
        time.sleep(0.002)

    assert 0.002 <= turns.turn(short, 0.02) < 0.02
    assert len(calls) > 2

    calls.clear()
    assert turns.turn(lambda: (calls.append("long"), time.sleep(turns.LONG)), 1) >= turns.LONG
    assert calls == ["long"]


def test_every_round_has_one_turn_of_each_and_the_first_does_not_count():
    import turns

    taken = []

    def contestant(name):
        def turn(seconds):
            taken.append(name)
            return float(len(taken))

        return turn

    rounds = turns.measure([contestant(name) for name in "abc"], seconds=0)
    count = len(rounds.times[0]) + rounds.left_out
    assert len(taken) == 3 * (count + 1)
    assert count >= turns.LEAST_ROUNDS
    by_round = ["".join(taken[i : i + 3]) for i in range(0, len(taken), 3)]
    assert {"".join(sorted(names)) for names in by_round} == {"abc"}
    assert len(set(by_round[:4])) == 4  # none always follows the same other
    assert min(map(min, rounds.times)) > 3


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux tells what processes compute")
def test_what_other_processes_compute_is_seen():
    import turns

    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        seen = turns.measure([lambda _: time.sleep(0.3) or 0.3], seconds=0.5)
    finally:
        busy.kill()
        busy.wait()
    assert seen.others > turns.QUIET


def test_uniform_pruning_leaves_depthwise_convolutions():
    import networks

    model = torch.nn.Sequential(
        torch.nn.Conv2d(4, 8, 1), torch.nn.Conv2d(8, 8, 3, groups=8), torch.nn.Conv2d(8, 10, 1)
    )
    networks.prune(model, networks.Pruning("75 %", 0.75))
    assert [int(layer.weight.count_nonzero()) for layer in model] == [8, 72, 20]


def test_counts_of_a_file_are_kept_by_tensor(tmp_path):
    import networks

    file = tmp_path / "counts.json"
    file.write_text(json.dumps({"tensors": [{"name": "0.weight", "kept": 3}]}))
    model = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.Linear(2, 2))
    largest = model[0].weight.abs().flatten().sort().values[-3:]
    networks.prune(model, networks.Pruning("counts", kept=networks.read_counts(file)))
    left = model[0].weight.abs().flatten().sort().values
    assert torch.equal(left, torch.cat([torch.zeros(5), largest]))
    assert int(model[1].weight.count_nonzero()) == 4


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"0.weight": 9}, "0.weight would keep 9 weights of 8; give the counts of this network"),
        ({"x": 1}, "x would keep 1 weights of a tensor it does not have; give the counts of this network"),
    ],
)
def test_counts_of_another_network_are_refused(kept, message):
    import networks

    with pytest.raises(gpmt.GpmtError) as caught:
        networks.keep(torch.nn.Sequential(torch.nn.Linear(4, 2)), kept)
    assert str(caught.value) == message


def test_what_inspect_did_not_print_is_refused(tmp_path):
    import networks

    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(gpmt.GpmtError, match=r"a\.json is not what gpmt inspect --json prints \(TypeError"):
        networks.read_counts(tmp_path / "a.json")


def test_settled_networks_keep_their_scale_and_dead_ones_are_known():
    import networks

    torch.manual_seed(0)
    blocks = [
        (torch.nn.Conv2d(16, 16, 3, padding=1), torch.nn.BatchNorm2d(16), torch.nn.ReLU()) for _ in range(9)
    ]
    model = torch.nn.Sequential(*(layer for block in blocks for layer in block)).eval()
    networks.prune(model, networks.Pruning("90 %", 0.9))
    images = torch.randn(4, 16, 8, 8)
    networks.settle(model, images)
    with torch.no_grad():
        assert 0.1 < model(images).std() < 10
    assert networks.responds(model, images)
    with torch.no_grad():
        model[12].weight.zero_()
    assert not networks.responds(model, images)


@pytest.mark.slow
def test_the_table_and_the_file_have_all_engines(tmp_path):
    file = tmp_path / "figures.json"
    command = [sys.executable, BENCHMARKS / "inference.py", "--networks", "mobilenetv1", "--batches", "1"]
    command += [
        "--sparsities",
        "0.9",
        "0.95",
        "--engines",
        "eager",
        "onnxruntime",
        "deepsparse",
        "--threads",
        "1",
    ]
    done = subprocess.run(
        [*command, "--seconds", "0", "--json", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    [case] = json.loads(file.read_text())["cases"]
    assert [row["engine"] for row in case["rows"]] == ["eager", "onnxruntime"]
    assert [row["wrong"] for row in case["rows"]] == [False, False]
    assert sum(row["fastest_dense"] for row in case["rows"]) == 1
    assert case["unavailable"] == {
        "deepsparse": "give --deepsparse-python, the Python of an environment that has it"
    }
    assert not case["dead"]
    assert "DeepSparse: not available: give --deepsparse-python" in done.stdout
    assert "MobileNet-V1, batch 1 of 3×224×224; uniform: 90 % keeps 1" in done.stdout
