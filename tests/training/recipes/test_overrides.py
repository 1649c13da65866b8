from pathlib import Path

import pytest

from gpmt.errors import RecipeError
from gpmt.training.recipes.files import load_recipe


def test_overrides_take_dotted_keys_and_last_parts_that_occur_once():
    recipe = load_recipe(
        "digits",
        ["finetune.lr=1e-3", "sparsity=95%", "min_kept=12", "seed=3", "exclude=[stem.weight, classifier.*]"],
    )
    assert recipe.finetune.lr == 0.001
    assert recipe.dense.lr == 0.1
    assert (recipe.prune.sparsity, recipe.prune.min_kept, recipe.seed) == ("95%", 12, 3)
    assert recipe.prune.exclude == ("stem.weight", "classifier.*")
    assert load_recipe("digits", ["exclude=null"]).prune.exclude is None


def test_a_minimum_may_be_a_share_of_each_tensor():
    assert load_recipe("digits", ["min_kept=5% of tensor"]).prune.min_kept == "5% of tensor"


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
        ("dense.lr=auto", r"dense.lr is auto, which follows from the dense phase; give a number here$"),
        ("dense.lr_schedule=restart", r"dense.lr_schedule is restart, which is for pruning; give another"),
        ("finetune.lr=0", r"finetune.lr is 0, but must be greater than 0$"),
        ("recalibrate=some", r"prune.recalibrate is 'some', but must be a"),
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
