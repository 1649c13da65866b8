from tests.report import examples

from gpmt.report.content.subject import Layer, Score, Subject


def test_counts_of_a_layer():
    layer = Layer("conv", "conv.weight", "Conv2d", (2, 5), 10, 4)
    assert layer.density == 0.4
    assert not layer.dead
    assert Layer("conv", "conv.weight", "Conv2d", (2, 5), 10, 0).dead
    assert not Layer("empty", "empty.weight", "Conv2d", (0,), 0, 0).dead


def test_a_subject_finds_its_scores():
    subject = Subject("run", "a run", "runs/a", numel=10, kept=4, scores=[Score("dense", 0.9)])
    assert subject.sparsity == 0.6
    assert subject.score("dense") == Score("dense", 0.9)
    assert subject.score("finetuned") is None


def test_a_subject_finds_dead_layers_and_binding_floors():
    run = examples.run()
    assert [layer.name for layer in run.dead] == ["dw.weight"]
    assert [layer.name for layer in run.binding] == ["qkv.weight.q", "qkv.weight.v"]


def test_the_examples_add_up():
    for subject in [*examples.report().subjects, examples.many_layers()]:
        if subject.layers:
            assert sum(layer.numel for layer in subject.layers) == subject.numel
            assert sum(layer.kept for layer in subject.layers) == subject.kept
        for one in subject.histograms:
            assert one.after is not None
            weights = sum(one.after) + one.zeros_after
            assert one.before is None or sum(one.before) + one.zeros_before == weights
