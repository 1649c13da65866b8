import pytest
from tests.training.compare.comparisons import small_comparison

from gpmt.errors import BudgetError, GpmtError, RecipeError
from gpmt.training.compare.comparison import make_comparison
from gpmt.training.recipes.files import shipped


@pytest.mark.parametrize("recipe", ["digits", "imagenet-resnet50-acdc90", "imagenet-resnet50-dense",
                                    "cifar10-mobilenetv2-98-mt"])  # fmt: skip
def test_every_run_has_the_same_number_of_epochs(recipe: str):
    assert recipe in shipped()
    found = make_comparison(recipe, sparsities=["0.9"], min_kept="0.01%", seeds=[0], epochs=9, look_up=False)
    assert len(found.grid.points) == len(found.rows) + 1
    for point in found.grid.points:
        assert point.recipe.dense.epochs + point.recipe.finetune.epochs == 9, point.title
        assert (point.recipe.dense.epochs > 0) == point.recipe.prune.needs_weights


def test_runs_differ_in_what_their_method_says_and_nothing_else():
    found = small_comparison(methods=["GP", "gradual", "erk"], sparsities=["0.95"], seeds=[3], epochs=None)
    recipes = {point.variant: point.recipe for point in found.grid.points}
    base = found.base
    gp = recipes["GP+MT"]
    assert gp.model_copy(update={"prune": base.prune, "seed": 0}) == base
    assert gp.prune == base.prune.model_copy(update={"sparsity": 0.95})
    assert recipes["ERK+MT"].prune == gp.prune.model_copy(update={"allocation": "erk"})
    assert recipes["GP"].prune == gp.prune.model_copy(update={"min_kept": 0})
    assert recipes["gradual+MT"].prune == gp.prune.model_copy(update={"schedule": "gradual"})
    assert recipes["gradual"].finetune == recipes["gradual+MT"].finetune
    assert recipes["dense"].prune == base.prune.model_copy(update={"sparsity": 0, "min_kept": 0})


def test_rates_that_restart_at_each_pruning_fall_linearly_where_every_step_prunes():
    found = make_comparison("hf-bert-gradual-90", seeds=[0], look_up=False)
    rates = {point.variant: point.recipe.finetune.lr_schedule for point in found.grid.points}
    assert (rates["gradual"], rates["Feather"], rates["ST-3+MT"]) == ("restart", "linear", "linear")


def test_a_budget_in_the_recipe_is_that_of_all_methods():
    found = small_comparison(settings=["budget.epochs=8"], epochs=None, seeds=[0])
    assert (found.budget.total, found.budget.dense) == (8, 4)
    assert {p.recipe.dense.epochs + p.recipe.finetune.epochs for p in found.grid.points} == {8}


def test_a_dense_network_made_for_pruning_is_that_of_the_methods_that_prune_one():
    found = small_comparison(settings=["dense.cram=true"], seeds=[0])
    for point in found.grid.points:
        assert (point.recipe.dense.cram is not None) == point.variant.startswith("GP"), point.title


def test_when_and_how_to_prune_is_the_methods_and_what_is_pruned_the_recipes():
    settings = ["schedule=gradual", "prune.start=1", "prune.end=3", "exclude=classifier*", "granularity=row"]
    with pytest.raises(
        RecipeError, match=r"^schedule=gradual is given for all runs, but methods differ in it"
    ):
        make_comparison("digits", settings, look_up=False)
    found = make_comparison("digits", settings[3:], methods=["AC/DC"], seeds=[0], look_up=False)
    for point in found.grid.points:
        assert (point.recipe.prune.granularity, point.recipe.prune.exclude) == ("row", ("classifier*",))
        assert (point.recipe.prune.start, point.recipe.prune.end) == (0, None)


def test_recalibration_is_for_one_shot_pruning():
    found = small_comparison(settings=["recalibrate=640"], seeds=[0])
    for point in found.grid.points:
        expected = 640 if point.recipe.prune.needs_weights else "auto"
        assert point.recipe.prune.recalibrate == expected


def test_sparsities_are_the_same_however_they_are_written():
    found = small_comparison(sparsities=["90%", "19/20", "2/3"])
    assert found.sparsities == ("0.9", "0.95", "2/3")
    assert small_comparison(sparsities=None).sparsities == ("0.93",)


def test_a_floor_may_be_left_out_or_given():
    assert [row.floor for row in small_comparison(min_kept=None).rows] == [None, "0.25%"] * 2
    assert [row.floor for row in small_comparison(min_kept="60").rows] == [None, 60] * 2
    assert [row.floor for row in small_comparison(min_kept="none").rows] == [None, None]
    without = make_comparison("fashion-mnist-lenet5", methods=["GP"], look_up=False)
    assert [row.floor for row in without.rows] == [None, "auto"]


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"sparsities": ["0"]}, RecipeError, "^a sparsity of 0 is the dense network, which has a row of its own"),
        ({"sparsities": ["0.9", "90%"]}, RecipeError, "^sparsity 0.9 is given twice; give every value once$"),
        ({"sparsities": ["2"]}, BudgetError, "^sparsity is 2, but must be at least 0 and below 1"),
        ({"seeds": [1, 1]}, RecipeError, "^seed 1 is given twice"),
        ({"min_kept": "x"}, RecipeError, "prune.min_kept is 'x', but must be a whole number of weights"),
        ({"settings": ["sparsity=0.5"]}, RecipeError, "^sparsity=0.5 is given for all runs; give the values with"),
        ({"settings": ["seed=1"]}, RecipeError, "^seed=1 is given for all runs; give the values with --seeds$"),
        ({"settings": ["allocation=erk"]}, RecipeError, "^allocation=erk is given for all runs, but methods differ"),
        ({"settings": ["finetune.lrs=1"]}, RecipeError, "^override finetune.lrs is not a key of a recipe; did you"),
    ],
)  # fmt: skip
def test_what_is_not_a_comparison(changes: dict, error: type[GpmtError], sentence: str):
    with pytest.raises(error, match=sentence):
        small_comparison(**changes)
