import json

import pytest

from gpmt import demo
from gpmt.demo import Comparison, Level, Outcome, compare
from gpmt.errors import BudgetError
from gpmt.training.models.mobilenet_small import MobileNetSmall
from gpmt.training.run.progress import Reporter
from tests.threads import one_thread

ONE_EPOCH = {"epochs": 1, "warmup_epochs": 0, "batch_size": 256}
SHORT = {
    "dense": demo.DENSE.model_copy(update=ONE_EPOCH),
    "finetune": demo.FINETUNE.model_copy(update=ONE_EPOCH),
    "reporter": Reporter(silent=True),
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def short() -> Comparison:
    return compare(seed=0, sparsities=[0.5, "99%"], min_kept=20, **SHORT)


def test_the_totals_are_exact_for_both_methods(short: Comparison):
    numel = sum(p.numel() for n, p in MobileNetSmall().named_parameters() if p.ndim > 1 and "bn" not in n)
    assert short.weights == numel
    assert [level.sparsity for level in short.levels] == [0.5, 0.99]
    for level in short.levels:
        kept = numel - numel * round(100 * level.sparsity) // 100
        assert level.gp.kept == level.gp_mt.kept == kept


def test_layers_are_counted_from_the_weights(short: Comparison):
    """So far beyond what it bears, GP empties layers; the minimum leaves every layer what it promises."""
    level = short.levels[1]
    assert 0 < level.gp.dead < short.layers
    assert level.gp.sparsest_kept == 0
    assert level.gp_mt.dead == 0
    assert level.gp_mt.sparsest_kept == 20
    assert short.levels[0].gp.dead == 0


def test_the_same_seed_gives_the_same_result(short: Comparison):
    again = compare(seed=0, sparsities=[0.5], min_kept=20, **SHORT)
    assert again.accuracy_dense == short.accuracy_dense
    assert again.levels == short.levels[:1]
    other = compare(seed=1, sparsities=[0.5], min_kept=20, **SHORT)
    assert other.levels != again.levels


def test_to_dict_is_json(short: Comparison):
    document = json.loads(json.dumps(short.to_dict(), allow_nan=False))
    assert document["epochs"] == {"dense": 1, "finetune": 1}
    assert document["images"]["train"] + document["images"]["test"] == 1797
    assert document["levels"][1]["gp"]["dead"] == short.levels[1].gp.dead
    assert document["reading"] == short.reading()


@pytest.mark.parametrize(
    ("sparsities", "message"), [([0.5, 1.2], "sparsity is 1.2"), ([0.5, 0.9999], "cannot|at most|largest")]
)
def test_what_cannot_be_met_fails_before_training(sparsities, message, monkeypatch):
    monkeypatch.setattr(demo, "train_epoch", lambda *_, **__: pytest.fail("it trained"))
    with pytest.raises(BudgetError, match=message):
        compare(sparsities=sparsities, min_kept=20, **SHORT)


def outcome(accuracy: float, *, min_kept: int = 0, kept: int = 3, dead: int = 0) -> Outcome:
    return Outcome(min_kept, 1000, dead, "blocks.4.project", kept, 12288, 0.1, accuracy)


def reading(*levels: Level) -> str:
    return Comparison(0, 10_000, 17, {}, {}, 0.99, levels, 1.0).reading()


def test_the_reading_says_where_the_minimum_helps():
    equal = Level(0.8, outcome(0.98), outcome(0.99, min_kept=135))
    some = Level(0.9, outcome(0.90), outcome(0.95, min_kept=135))
    most = Level(0.95, outcome(0.1, kept=0, dead=2), outcome(0.971, min_kept=135))
    assert reading(equal, some, most) == (
        "At 95 % GP leaves blocks.4.project with 0 of its 12,288 weights and 2 of 17 layers with none, and "
        "reaches 10 %; with at least 135 weights in every layer it is 97.1 %. "
        "The minimum makes no difference beyond noise: at 80 % GP reaches 98 % and GP+MT 99 %."
    )


def test_the_reading_claims_no_effect_where_none_was_measured():
    assert reading(Level(0.8, outcome(0.98), outcome(0.98))) == (
        "The minimum makes no difference beyond noise: at 80 % GP reaches 98 % and GP+MT 98 %."
    )
    assert reading(Level(0.9, outcome(0.98), outcome(0.9))) == (
        "The minimum makes it worse: at 90 % GP reaches 98 % and GP+MT 90 %."
    )


def test_progress_goes_to_stderr_in_plain_lines(capfd):
    compare(sparsities=[0.5], min_kept=20, **{**SHORT, "reporter": Reporter()})
    out, err = capfd.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0].startswith("dense network: ")
    assert [line.split(":")[0] for line in lines[1:]] == ["GP at 50 %", "GP+MT at 50 %"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_minimum_rescues_a_network_that_gp_collapses(seed):
    result = compare(seed=seed, reporter=Reporter(silent=True))
    assert result.accuracy_dense > 0.97
    low, _, collapse, high = result.levels
    assert abs(low.gain) < 0.03
    assert collapse.gain > 0.2
    assert high.gain > 0.2
    assert collapse.gp_mt.accuracy_finetuned > 0.9
    assert collapse.gp_mt.dead == high.gp_mt.dead == 0
