import pytest

from gpmt.errors import RecipeError
from gpmt.training.sweep.grid import make_grid


def test_the_grid_is_every_combination_in_a_stable_order():
    made = make_grid(
        "digits", ["sparsity=0.8,0.9", "finetune.lr=0.2", "seed=0,1"], ["GP: min_kept=0", "GP + MT:"]
    )
    assert made.axes == ("sparsity", "seed")
    assert [point.title for point in made.points][:5] == [
        "GP sparsity=0.8 seed=0",
        "GP sparsity=0.8 seed=1",
        "GP sparsity=0.9 seed=0",
        "GP sparsity=0.9 seed=1",
        "GP + MT sparsity=0.8 seed=0",
    ]
    last = made.points[-1]
    assert last.folder == "gp-mt,sparsity=0.9,seed=1"
    assert last.overrides == ("finetune.lr=0.2", "sparsity=0.9", "seed=1")
    assert (last.recipe.prune.sparsity, last.recipe.seed, last.recipe.prune.min_kept) == (0.9, 1, "0.25%")
    assert made.points[0].recipe.prune.min_kept == 0
    assert {point.recipe.finetune.lr for point in made.points} == {0.2}


def test_brackets_hold_a_list_together_and_folders_are_safe():
    made = make_grid("cifar10-resnet20", ["mean=[0.1,0.2,0.3],[0.4,0.5,0.6]", "data.root=a/b,c/d"])
    assert made.points[-1].recipe.data.mean == (0.4, 0.5, 0.6)
    assert made.points[0].folder == "mean=%5B0.1%2C0.2%2C0.3%5D,root=a%2Fb"
    long = make_grid("digits", ["checkpoint=" + ",".join("x" * 300 + end for end in "ab")])
    assert len({point.folder for point in long.points}) == 2
    assert all(len(point.folder) <= 200 for point in long.points)


def test_a_variant_replaces_what_is_set_for_all():
    made = make_grid("digits", ["min_kept=7"], ["plain:", "floor: min_kept=9 'title=two words'"])
    assert [point.recipe.prune.min_kept for point in made.points] == [7, 9]
    assert made.points[1].recipe.title == "two words"
    assert [point.folder for point in made.points] == ["plain", "floor"]


@pytest.mark.parametrize(
    ("settings", "variants", "sentence"),
    [
        (["sparsty=0.8,0.9"], [], "^override sparsty is not a key of a recipe; did you mean sparsity"),
        (["epochs=1,2"], [], "^override epochs could be budget.epochs or dense.epochs or finetune.ep"),
        (["seed"], [], "^override seed has no value; write key=value, or key=A,B for several$"),
        (["seed=0,,1"], [], "^seed=0,,1 has an empty value; write the values with one comma between them$"),
        (["sparsity=0.9,1.5"], [], "prune.sparsity is 1.5, but must be at least 0 and below 1"),
        (["sparsity=0.9,0.90"], [], "^sparsity=0.9 and sparsity=0.90 are the same run; leave one of them out"),
        (["seed=1", "seed=2,3"], [], "^seed is given twice; give all its values in one list, such as seed="),
        (["seed=1"], [], "^the sweep has a single run; give a list of values, such as seed=0,1,2, or --var"),
        ([], ["GP"], "^variant 'GP' has no name; write 'NAME: key=value key=value'$"),
        ([], ["min_kept=0:"], "has no name"),
        ([], ["+: min_kept=0"], "has no name"),
        ([], ["GP:", "GP: min_kept=0"], "^variant GP is given twice"),
        ([], ["GP: 'min_kept=0"], "^variant GP cannot be read .No closing quotation."),
        ([], ["GP: min_kept=0,1"], "^variant GP has several values of min_kept, but a variant has one of each"),
        (["min_kept=0,1"], ["GP: min_kept=0"], "^variant GP sets min_kept, which the grid varies; give it in"),
        ([], ["GP:", "gp plain:"], "^GP and gp plain are the same run; leave one of them out$"),
        ([], ["A+B:", "A-B: min_kept=0"], r"^A\+B and A-B would share the folder a-b; rename a variant$"),
    ],
)  # fmt: skip
def test_a_grid_that_is_not_valid(settings: list[str], variants: list[str], sentence: str):
    with pytest.raises(RecipeError, match=sentence):
        make_grid("digits", settings, variants)
