from fractions import Fraction
from pathlib import Path

import pytest

from gpmt.core.schedule.schedule import ACDC, Gradual, OneShot
from gpmt.errors import RecipeError
from gpmt.pruner.methods.registry import methods_by_name
from gpmt.training.recipes.files import load_recipe
from gpmt.training.recipes.pruning import FROM_SCRATCH, SOFT, Prune


def prune(*overrides: str) -> Prune:
    return load_recipe("digits", overrides, look_up=False).prune


def test_the_names_that_stand_for_classes_are_those_of_the_soft_ones():
    soft = {name for name, kind in methods_by_name().items() if kind.soft}
    assert soft <= set(SOFT)
    assert soft.isdisjoint(FROM_SCRATCH)


@pytest.mark.parametrize("method", SOFT)
def test_a_soft_method_prunes_at_every_step_of_the_first_half_unless_told_otherwise(method: str):
    schedule = prune(f"method={method}").make_schedule(epochs=5, steps_per_epoch=7)
    assert schedule == Gradual(0.93, end=round(17.5), interval=1)
    assert prune(f"method={method}", "end=3").make_schedule(epochs=5, steps_per_epoch=7).last == 21
    assert prune(f"method={method}", "schedule=ac-dc").schedule == "ac-dc"


def test_gradual_pruning_takes_half_of_the_epochs():
    gradual = prune("schedule=gradual")
    assert gradual.make_schedule(epochs=4, steps_per_epoch=10) == Gradual(0.93, end=20, interval=2)
    assert gradual.make_schedule(epochs=100, steps_per_epoch=50) == Gradual(0.93, end=2500, interval=50)


def test_hard_methods_prune_once_and_gradual_ones_as_told():
    for method in ("hard", "ham", "rigl"):
        assert prune(f"method={method}").make_schedule(epochs=5, steps_per_epoch=7) == OneShot(0.93)
    gradual = prune(
        "schedule=gradual", "initial=0.7", "start=2", "end=26", "interval=4", "finetune.epochs=30"
    )
    assert gradual.make_schedule(epochs=30, steps_per_epoch=10) == Gradual(
        0.93, start=20, end=260, interval=40, initial=0.7
    )
    acdc = prune("schedule=ac-dc").make_schedule(epochs=100, steps_per_epoch=1)
    assert isinstance(acdc, ACDC)
    assert acdc.last == 85
    short = prune("schedule=ac-dc").make_schedule(epochs=20, steps_per_epoch=10)
    assert short.last == 140  # 30 % are left, where the published times leave 15 %


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], "one-shot"),
        (["schedule=gradual"], "gradual"),
        (["method=ham"], "ham"),
        (["method=ham", "schedule=ac-dc"], "ac-dc+ham"),
        (["method=feather"], "feather"),
        (["method=feather", "start=1", "schedule=one-shot"], "one-shot+feather"),
    ],
)
def test_schedule_and_method_in_words(overrides: list[str], words: str):
    assert prune(*overrides).described == words


def test_a_pattern_is_read_though_yaml_takes_it_for_a_time():
    for text in ("2:4", "'2:4'", "8:16", "1:64"):
        pattern = text.strip("'")
        assert (
            prune(f"pattern={text}", f"sparsity={1 - Fraction(pattern.replace(':', '/'))}").pattern == pattern
        )


def test_the_default_schedule_is_written_out(tmp_path: Path):
    recipe = load_recipe("digits", ["method=feather"], look_up=False)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    assert "schedule: gradual" in recipe.to_yaml()
    assert load_recipe(str(tmp_path / "recipe.yaml"), look_up=False) == recipe


def test_a_method_that_starts_sparse_needs_no_dense_network():
    load_recipe("digits", ["method=rigl", "dense.epochs=0"], look_up=False)
    with pytest.raises(RecipeError, match=r"dense.checkpoint is missing"):
        load_recipe("digits", ["method=ham", "dense.epochs=0"], look_up=False)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["method=hrad"],
            r"^recipe digits: prune.method is 'hrad', which is not known; did you mean hard\?$",
        ),
        (
            ["method_settings={power: 3}"],
            r"^recipe digits: prune.method_settings.power is not a setting of the method",
        ),
        (["method_settings=3"], r"prune.method_settings is 3, but must be a section with keys of its own"),
        (["initial=0.5"], r"prune.initial is given, but schedule is one-shot; it is for gradual$"),
        (["schedule=gradual", "initial=1.5"], r"prune.initial is 1.5, but must be"),
        (["pattern=2:2"], r"prune.pattern is '2:2', but must be N:M with 0 < N < M"),
        (["pattern=2:4"], r"prune.sparsity is 0.93, but pattern 2:4 prunes 2 of every 4 weights"),
        (
            ["pattern=2:4", "sparsity=0.5", "schedule=gradual"],
            r"prune.schedule is gradual, but pattern 2:4 has one",
        ),
        (["within=layer"], r"prune.within is 'layer', but must be 'network', 'tensor' or 'row'"),
    ],
)
def test_what_does_not_fit_is_one_sentence(overrides: list[str], sentence: str):
    with pytest.raises(RecipeError, match=sentence):
        load_recipe("digits", overrides)


@pytest.mark.parametrize("method", [*SOFT, *FROM_SCRATCH])
def test_a_method_that_works_while_it_trains_needs_epochs(method: str):
    with pytest.raises(RecipeError, match="which works while it trains, but finetune"):
        load_recipe("digits", [f"method={method}", "finetune.epochs=0"], look_up=False)
