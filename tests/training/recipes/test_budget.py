from pathlib import Path

import pytest

from gpmt.errors import RecipeError
from gpmt.training.recipes.budget import DENSE_ALONE
from gpmt.training.recipes.files import load_recipe
from gpmt.training.recipes.schema import Dense, Recipe, Training


def load(*overrides: str, name: str = "digits") -> Recipe:
    return load_recipe(name, overrides, look_up=False)


def epochs(recipe: Recipe) -> tuple[int, int]:
    return recipe.dense.epochs, recipe.finetune.epochs


@pytest.mark.parametrize(
    ("overrides", "split", "words"),
    [
        ([], (3, 3), "budget of 6 epochs: 3 of dense training, 3 of fine-tuning"),
        (["budget.epochs=7"], (3, 4), "budget of 7 epochs: 3 of dense"),
        (["method=ham"], (3, 3), "budget of 6"),
        (["checkpoint=x.pt"], (0, 6), "budget of 6 epochs: all for the given network, while and after it is"),
        (["model=hf:x"], (0, 6), "budget of 6 epochs: all for the given"),
        (["method=feather"], (0, 6), "budget of 6 epochs: all while and after pruning, without dense training"),
        (["method=st-3"], (0, 6), "budget"),
        (["method=rigl"], (0, 6), "budget"),
        (["schedule=gradual"], (0, 6), "budget"),
        (["schedule=ac-dc"], (0, 6), "budget"),
        (["start=2"], (0, 6), "budget"),
        (["sparsity=0"], (6, 0), "budget"),
        (["dense.epochs=2"], (2, 4), "budget"),
        (["finetune.epochs=5", "method=feather"], (1, 5), "budget"),
        (["finetune.epochs=5", "dense.epochs=1"], (1, 5), "budget"),
    ],
)  # fmt: skip
def test_how_a_budget_is_split(overrides: list[str], split: tuple[int, int], words: str, tmp_path: Path):
    recipe = load("budget.epochs=6", *overrides)
    assert epochs(recipe) == split
    assert recipe.budget_split.startswith(words)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    assert load(name=str(tmp_path / "recipe.yaml")) == recipe


def test_what_counts_epochs_keeps_its_share():
    recipe = load("budget.epochs=10", "dense.warmup_epochs=2", name="digits")
    assert recipe.dense.warmup_epochs == 2  # given with the budget
    recipe = load("budget.epochs=20", "checkpoint=x.pt", name="cifar10-mobilenetv2-98")
    assert recipe.finetune.lr_step_epochs == 2  # 25 of 200
    recipe = load("budget.epochs=10", name="imagenet-resnet50-gradual80")
    assert (recipe.finetune.warmup_epochs, recipe.finetune.epochs) == (0, 10)
    assert load("budget.epochs=40", name="imagenet-resnet50-gradual80").finetune.warmup_epochs == 2


def test_a_schedule_keeps_its_share(tmp_path: Path):
    path = tmp_path / "own.yaml"
    path.write_text(
        "extends: digits\nprune: {schedule: gradual, start: 1, end: 4, interval: 0.5}\n"
        "dense: {epochs: 0}\nfinetune: {epochs: 5}\n"
    )
    prune = load("budget.epochs=20", name=str(path)).prune
    assert (prune.start, prune.end, prune.interval) == (4, 16, 2)
    assert load("budget.epochs=20", "end=10", name=str(path)).prune.end == 10


def test_pruning_from_scratch_takes_the_settings_of_dense_training():
    recipe = load("budget.epochs=20", "method=feather", "finetune.momentum=0.8", name="fashion-mnist-lenet5")
    dense = recipe.dense.model_dump(exclude={*DENSE_ALONE, "epochs"}) | {"momentum": 0.8}
    taken = recipe.finetune.model_dump(exclude={"distill", "temperature", "epochs"})
    assert taken == dense | {"clip_norm": 3.0}
    given = load("budget.epochs=20", "method=feather", "checkpoint=x.pt", name="fashion-mnist-lenet5")
    assert given.finetune.weight_decay == 1e-4


@pytest.mark.parametrize("method", ["ham", "rigl+ham"])
def test_ham_is_clipped_unless_the_recipe_says_otherwise(method):
    assert load(f"method={method}", name="fashion-mnist-lenet5").finetune.clip_norm == 3
    assert (
        load(f"method={method}", "finetune.clip_norm=7", name="fashion-mnist-lenet5").finetune.clip_norm == 7
    )
    own = load(f"method={method}", "method_settings={alpha: 20}", name="fashion-mnist-lenet5")
    assert own.finetune.clip_norm is None
    assert load(name="fashion-mnist-lenet5").finetune.clip_norm is None


def test_files_state_budgets_too(tmp_path: Path):
    (tmp_path / "base.yaml").write_text("extends: digits\nbudget: {epochs: 8}\n")
    (tmp_path / "own.yaml").write_text("extends: base.yaml\nfinetune: {epochs: 6}\n")
    assert epochs(load(name=str(tmp_path / "base.yaml"))) == (4, 4)
    assert epochs(load(name=str(tmp_path / "own.yaml"))) == (2, 6)
    assert epochs(load("budget.epochs=4", name=str(tmp_path / "own.yaml"))) == (2, 2)
    assert epochs(load("budget.epochs=null", name=str(tmp_path / "base.yaml"))) == (10, 5)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["budget.epochs=0"], r"^recipe digits: budget.epochs is 0, but must be greater than or equal to 1$"),
        (["budget.epochs=1"], r"^recipe digits: budget.epochs is 1, but one-shot pruning of an untrained"),
        (["budget.epochs=6", "dense.epochs=7"], r"budget.epochs is 6, but dense.epochs alone is 7; leave one"),
        (
            ["budget.epochs=6", "dense.epochs=2", "finetune.epochs=3"],
            r"budget.epochs is 6, but dense.epochs 2 and finetune.epochs 3 are 5 together; leave one of",
        ),
        (["budget.epochs=6", "schedule=gradual", "end=7"], r"gradual up to epoch 7.0, but finetune.epochs is 6"),
        (["budget=6"], r"^override budget is a section; give one of budget.epochs$"),
    ],
)  # fmt: skip
def test_a_budget_that_does_not_fit_is_one_sentence(overrides: list[str], sentence: str):
    with pytest.raises(RecipeError, match=sentence):
        load(*overrides)


def test_what_dense_training_has_alone():
    assert set(DENSE_ALONE) == set(Dense.model_fields) - set(Training.model_fields)


def test_cram_goes_with_the_dense_phase(tmp_path: Path):
    (tmp_path / "own.yaml").write_text("extends: digits\ndense: {cram: true}\n")
    assert load("budget.epochs=6", name=str(tmp_path / "own.yaml")).dense.cram is not None
    assert load("budget.epochs=6", "method=st-3", name=str(tmp_path / "own.yaml")).dense.cram is None
    with pytest.raises(RecipeError, match=r"dense\.cram is given, but dense\.epochs is 0"):
        load("budget.epochs=6", "method=st-3", "cram=true")


def test_soft_methods_clip_gradients_unless_told_otherwise():
    assert load("method=st-3").finetune.clip_norm == 3
    assert load("method=feather", "finetune.clip_norm=1").finetune.clip_norm == 1


@pytest.mark.parametrize(
    ("overrides", "weight_decay"),
    [
        (["sparsity=0.94"], 5e-4),
        (["sparsity=0.95"], 0.0),
        (["sparsity=98%", "method=ham"], 0.0),
        (["sparsity=0.98", "finetune.weight_decay=1e-4"], 1e-4),
        (["sparsity=0.98", "method=feather"], 5e-4),
        (["sparsity=0.98", "schedule=gradual"], 5e-4),
    ],
)
def test_weight_decay_that_is_left_open(tmp_path: Path, overrides: list[str], weight_decay: float):
    path = tmp_path / "own.yaml"
    path.write_text(
        "title: t\nmodel: resnet20\ndata: {name: digits}\ndense: {epochs: 1}\nprune: {sparsity: 0.5}\n"
        "finetune: {epochs: 1}\n"
    )
    assert load(*overrides, name=str(path)).finetune.weight_decay == weight_decay
