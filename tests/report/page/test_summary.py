from dataclasses import replace

import pytest
from tests.report import examples

from gpmt.report.content.subject import Score
from gpmt.report.page.summary import bars, facts, verdict

COLLAPSED = replace(examples.layers()[0], collapsed=True)


@pytest.mark.parametrize(
    ("subject", "state", "headline"),
    [
        (examples.run(), "warning", "Works, with dead layers"),
        (examples.collapsed_run(), "bad", "Collapsed"),
        (examples.unfinished_run(), "open", "Not finished"),
        (examples.plan(), "bad", "Dead layers"),
        (examples.run(verified=False), "bad", "Not as promised"),
        (examples.run(layers=examples.layers()[:1]), "good", "Works"),
        (replace(examples.plan(), layers=examples.layers()[:1]), "good", "No dead layers"),
        (
            replace(examples.plan(), layers=[COLLAPSED]),
            "warning",
            "Collapsed layers",
        ),
        (
            examples.run(layers=[COLLAPSED]),
            "warning",
            "Works, with collapsed layers",
        ),
        (replace(examples.plan(), layers=()), "open", "Layers are not known"),
        (examples.run(scores=[Score("finetuned", 0.5)], layers=()), "open", "Pruned"),
    ],
)
def test_the_verdict(subject, state, headline):
    found = verdict(subject)
    assert (found.state, found.headline) == (state, headline)


def test_the_verdict_has_the_numbers():
    assert verdict(examples.collapsed_run()).sentence == (
        "Top-1 is 10.14\xa0% after fine-tuning, 90.12\xa0% before pruning: 80.0 points less. "
        "2 of 7 layers keep no weights: dw.weight and qkv.weight.v."
    )
    better = examples.run(
        scores=[Score("dense", 0.9), Score("finetuned", 0.95)], layers=examples.layers()[:1]
    )
    assert verdict(better).sentence == (
        "Top-1 is 95\xa0% after fine-tuning, 90\xa0% before pruning: 5.0 points more. "
        "Every layer keeps at least 210 weights (stem.weight: 210 of 432)."
    )


def test_a_run_that_goes_on_tells_how_far_it_is():
    assert verdict(examples.unfinished_run()).sentence == (
        "After epoch 2 of 5 of fine-tuning top-1 is 52\xa0% at a sparsity of 90\xa0%."
    )


def test_bars_are_in_the_order_of_time_and_mark_the_collapse():
    found = bars(examples.run())
    assert [bar.name for bar in found] == ["dense", "pruned", "recalibrated", "fine-tuned"]
    assert [bar.low for bar in found] == [False, True, False, False]
    assert found[0].dense
    assert [bar.low for bar in bars(examples.collapsed_run())] == [False, True, True]


def test_facts_state_their_denominator():
    found = {fact.name: fact for fact in facts(examples.run())}
    assert found["Sparsity in scope"].value == "90\xa0%"
    assert found["Sparsity in scope"].detail == "asked for 90 %; 7,200 of 8,000 prunable weights pruned"
    assert "1,000 of 8,200 parameters" in found["Whole network"].detail
    assert found["MACs"].detail == "left: 32,993 of 350,720"
    assert "3.82 times as fast" in found["Latency"].detail


def test_what_is_not_known_is_a_dash():
    found = {fact.name: fact.value for fact in facts(examples.plan())}
    assert {name for name, value in found.items() if value == "–"} == {
        "Whole network",
        "Size",
        "MACs",
        "Latency",
    }
