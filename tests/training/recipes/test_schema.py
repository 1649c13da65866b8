import math
from pathlib import Path

import pytest

from gpmt.errors import RecipeError
from gpmt.training.recipes.files import load_recipe, shipped
from gpmt.training.recipes.schema import Training


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_are_valid_and_say_what_they_are(name, tmp_path: Path):
    recipe = load_recipe(name)
    assert recipe.title
    assert recipe.about
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(str(path)) == recipe


def test_the_published_experiment_has_the_published_numbers():
    recipe = load_recipe("cifar10-resnet32")
    assert (recipe.dense.epochs, recipe.dense.batch_size, recipe.dense.lr) == (300, 128, 0.05)
    assert (recipe.dense.momentum, recipe.dense.weight_decay) == (0.9, 1e-3)
    assert (recipe.finetune.epochs, recipe.finetune.lr, recipe.finetune.weight_decay) == (300, 0.01, 1e-3)


def test_overrides_take_dotted_keys_and_last_parts_that_occur_once():
    recipe = load_recipe(
        "digits",
        ["finetune.lr=1e-3", "sparsity=95%", "min_kept=12", "seed=3", "exclude=[stem.weight, classifier.*]"],
    )
    assert recipe.finetune.lr == 0.001
    assert recipe.dense.lr == 0.1
    assert (recipe.prune.sparsity, recipe.prune.min_kept, recipe.seed) == ("95%", 12, 3)
    assert recipe.prune.exclude == ("stem.weight", "classifier.*")


def test_overrides_reach_sections_that_a_recipe_leaves_out(tmp_path: Path):
    path = tmp_path / "own.yaml"
    path.write_text(
        "title: t\nmodel: resnet20\ndata: {name: digits}\nprune: {sparsity: 0.5}\nfinetune: {epochs: 1}\n"
    )
    assert load_recipe(str(path), ["checkpoint=dense.pt"]).dense.checkpoint == Path("dense.pt")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("sparsty=0.9", r"^override sparsty is not a key of a recipe; did you mean sparsity\?$"),
        ("finetune.lrr=1", r"^override finetune.lrr is not a key of a recipe; did you mean finetune.lr"),
        ("lr=1", r"^override lr could be dense.lr or finetune.lr; give the dotted key$"),
        ("prune=0.9", r"^override prune is a section; give one of prune.sparsity, prune.min_kept"),
        ("sparsity", r"^override sparsity has no value; write key=value, such as sparsity=0.9$"),
        ("sparsity=1", r"^recipe digits: prune.sparsity is 1, but must be at least 0 and below 1$"),
        ("sparsity=90", r"prune.sparsity is 90, but .*; for 90 % give 0.9"),
        ("min_kept=-1", r"prune.min_kept is -1, but must be a whole number"),
        ("allocation=magic", r"prune.allocation is 'magic', but must be one of .*exact, .*lamp"),
        ("schedule=slow", r"prune.schedule is 'slow', but must be 'one-shot', 'gradual' or 'ac-dc'"),
        ("end=3", r"prune.end is given, but schedule is one-shot; it is for gradual$"),
        ("accumulate=40", r"override accumulate could be dense.accumulate or finetune.accumulate"),
        ("finetune.accumulate=40", r"finetune.accumulate is 40, but parts of at least 2 of the 64"),
        ("seed=-1", r"seed is -1, but must be greater than or equal to 0$"),
        ("dense.epochs=0", r"dense.checkpoint is missing and dense.epochs is 0; give one of them"),
        ("finetune.momentum=0", r"finetune.nesterov is true, but is for sgd with momentum; give momentum"),
        ("dense.warmup_epochs=10", r"dense.warmup_epochs is 10, but must be below epochs, which is 10$"),
        ("finetune.lr=.nan", r"finetune.lr is nan, but must be a finite number"),
        ("data.std=[0]", r"data.std.0 is 0, but must be greater than 0"),
        ("model=resnet21", r"^recipe digits: model is resnet21, which is not known; did you mean resnet"),
        (
            "data.name=digit",
            r"^recipe digits: data.name is digit, which is not known; did you mean digits\?$",
        ),
    ],
)
def test_a_wrong_override_is_one_sentence(override, sentence):
    with pytest.raises(RecipeError, match=sentence):
        load_recipe("digits", [override])


def test_all_errors_come_at_once_one_on_a_line(tmp_path: Path):
    path = tmp_path / "bad.yaml"
    path.write_text(
        """
        titel: x
        model: resnet20
        data: {name: digits, flipp: true}
        dense: {epochs: 1, lr: fast}
        prune: {sparsity: 1.2}
        finetune: 3
        """
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(path))
    assert str(caught.value).splitlines() == [
        f"recipe {path} has 6 errors:",
        "  title is missing; add it",
        "  data.flipp is not a key of a recipe; did you mean flip?",
        "  dense.lr is 'fast', but must be a number, unable to parse string as a number",
        '  prune.sparsity is 1.2, but must be at least 0 and below 1; for 1.2 % give 0.012 or "1.2%"',
        "  finetune is 3, but must be a section with keys of its own",
        "  titel is not a key of a recipe; did you mean title?",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("seed: 1\nseed: 2\n", r"is not valid YAML \(seed is given twice in line 2, column 1\); correct"),
        ("data: [", r"is not valid YAML \(.* in line 1, column 8\)"),
        ("!!python/object/apply:os.system [ls]", r"is not valid YAML \(could not determine a constructor"),
        ("just words", r"holds no settings; it must have keys such as title, model and data"),
        ("", r"holds no settings"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path: Path, text: str, sentence: str):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=f"recipe {path} {sentence}"):
        load_recipe(str(path))


def test_an_unknown_recipe_is_answered_with_close_names():
    with pytest.raises(RecipeError, match=r"^recipe digit is not known; did you mean digits\?$"):
        load_recipe("digit")
    with pytest.raises(RecipeError, match=r"^recipe nowhere/x.yaml cannot be read \(No such file"):
        load_recipe("nowhere/x.yaml")


def test_a_recipe_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        load_recipe("digits").seed = 1


def test_learning_rate_warms_up_and_falls_like_half_a_cosine():
    settings = Training(epochs=10, lr=0.4, warmup_epochs=4)
    rates = [settings.learning_rate(epoch) for epoch in range(10)]
    assert rates[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert rates[4:] == pytest.approx([0.2 * (1 + math.cos(math.pi * step / 6)) for step in range(6)])
