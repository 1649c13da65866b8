import pytest

from gpmt.errors import RecipeError
from gpmt.training.compare.budget import EpochBudget, budget_of, changes, dense_phases, phases
from gpmt.training.recipes.files import load_recipe


def digits(*settings: str):
    return load_recipe("digits", settings, look_up=False)


@pytest.mark.parametrize(
    ("settings", "epochs", "budget"),
    [
        ([], None, EpochBudget(15, 10)),
        ([], 6, EpochBudget(6, 4)),
        ([], 2, EpochBudget(2, 1)),
        (["dense.epochs=99", "finetune.epochs=1"], 10, EpochBudget(10, 9)),
        (["finetune.epochs=0", "dense.epochs=9"], None, EpochBudget(9, 4)),
        (["dense.epochs=0", "finetune.epochs=9", "schedule=gradual"], None, EpochBudget(9, 4)),
        (["dense.checkpoint=there.pt"], None, EpochBudget(15, 0)),
        (["dense.checkpoint=there.pt"], 1, EpochBudget(1, 0)),
        (["model=hf:folder"], None, EpochBudget(15, 0)),
    ],
)
def test_a_budget_is_divided_as_in_the_recipe(settings: list[str], epochs: int | None, budget: EpochBudget):
    assert budget_of(digits(*settings), epochs) == budget


@pytest.mark.parametrize(
    ("settings", "epochs", "sentence"),
    [
        ([], 1, "^--epochs is 1, but a comparison needs at least 2; give more with --epochs$"),
        (["dense.checkpoint=a.pt", "dense.epochs=0", "finetune.epochs=0"], None, "^the recipe trains 0 epochs, but"),
    ],
)  # fmt: skip
def test_a_budget_that_is_too_small(settings: list[str], epochs: int | None, sentence: str):
    with pytest.raises(RecipeError, match=sentence):
        budget_of(digits(*settings), epochs)


def test_a_network_from_scratch_is_trained_as_the_dense_one_for_all_epochs():
    recipe = digits("finetune.lr=0.01", "distill=0.5")
    found = phases(recipe, EpochBudget(15, 10), starts_dense=False)
    assert (found["dense.epochs"], found["finetune.epochs"]) == (0, 15)
    assert found["finetune.lr"] == recipe.dense.lr == 0.1
    assert (found["finetune.weight_decay"], found["finetune.warmup_epochs"]) == (5e-4, 1)
    assert found["finetune.distill"] == 0


def test_a_trained_network_is_made_and_fine_tuned_with_the_settings_of_the_recipe():
    recipe = digits("finetune.lr=0.01", "distill=0.5")
    assert changes(recipe, phases(recipe, EpochBudget(15, 10), starts_dense=True)) == {}
    assert changes(recipe, phases(recipe, EpochBudget(3, 2), starts_dense=True)) == {
        "dense.epochs": 2,
        "finetune.epochs": 1,
    }
    short = phases(digits("dense.warmup_epochs=3"), EpochBudget(3, 2), starts_dense=True)
    assert short["dense.warmup_epochs"] == 1


def test_a_recipe_of_one_phase_lends_its_settings_to_the_other():
    recipe = digits("dense.epochs=0", "schedule=gradual", "finetune.epochs=4", "finetune.lr=0.02")
    found = phases(recipe, EpochBudget(4, 2), starts_dense=True)
    assert (found["dense.lr"], found["finetune.lr"]) == (0.02, 0.02)
    recipe = digits("finetune.epochs=0", "dense.lr=0.03")
    assert phases(recipe, EpochBudget(4, 2), starts_dense=True)["finetune.lr"] == 0.03


def test_from_a_checkpoint_all_methods_have_all_epochs():
    recipe = digits("dense.checkpoint=there.pt", "distill=0.5")
    for starts_dense in (True, False):
        found = phases(recipe, EpochBudget(15, 0), starts_dense=starts_dense)
        assert (found["dense.epochs"], found["finetune.epochs"]) == (0, 15)
        assert found["finetune.weight_decay"] == recipe.finetune.weight_decay == 0
        assert "finetune.distill" not in found
    assert dense_phases(recipe, EpochBudget(15, 0)) == found


def test_the_dense_network_has_all_epochs():
    found = dense_phases(digits(), EpochBudget(15, 10))
    assert (found["dense.epochs"], found["finetune.epochs"]) == (15, 0)


def test_steps_of_the_learning_rate_keep_their_share_of_the_epochs():
    recipe = digits("dense.lr_schedule=step", "dense.lr_step_epochs=4", "dense.epochs=10")
    assert phases(recipe, EpochBudget(30, 20), starts_dense=True)["dense.lr_step_epochs"] == 8
    assert phases(recipe, EpochBudget(15, 10), starts_dense=False)["finetune.lr_step_epochs"] == 6
