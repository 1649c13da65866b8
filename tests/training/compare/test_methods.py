import pytest

from gpmt import allocations
from gpmt.errors import RecipeError
from gpmt.training.compare.methods import METHODS, choose
from gpmt.training.recipes.pruning import Prune


def test_all_methods_come_with_and_without_floors_where_they_have_meaning():
    names = [row.name for row in choose(None, "0.25%")]
    assert names[:4] == ["GP", "GP+MT", "uniform", "uniform+MT"]
    assert "random" in names
    assert "random+MT" not in names
    assert len(names) == sum(1 + method.floors for method in METHODS)
    without = choose(None, None)
    assert [row.name for row in without] == [method.name for method in METHODS]
    assert all(row.floor is None for row in without)
    assert choose(None, 0) == without


def test_settings_of_methods_are_those_of_recipes():
    for method in METHODS:
        prune = Prune(sparsity=0.9, **method.prune)
        assert prune.allocation in allocations.names()
        assert method.starts_dense == prune.needs_weights, method.name


@pytest.mark.parametrize("names", [["ac/dc+mt", "GRADUAL"], ["ACDC+MT", "gradual", "gradual+mt"]])
def test_names_are_found_in_any_case_and_order(names: list[str]):
    assert [row.name for row in choose(names, 60)] == ["gradual", "gradual+MT", "AC/DC+MT"]


@pytest.mark.parametrize(
    ("names", "floor", "sentence"),
    [
        (["GP", "gradul"], 60, "^method 'gradul' is not known; did you mean gradual?"),
        (["xyz"], 60, "^method 'xyz' is not known; known are AC/DC, "),
        (["GP+MT"], None, r"^GP\+MT is asked for, but --min-kept is none; give a floor, such as 0.05% or auto$"),
        (["random+MT"], 60, "^random is compared without floors only; give random$"),
        ([], 60, "^--methods names no method; give some, such as GP,gradual$"),
    ],
)  # fmt: skip
def test_names_that_are_not_methods(names: list[str], floor: int | None, sentence: str):
    with pytest.raises(RecipeError, match=sentence):
        choose(names, floor)
