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
