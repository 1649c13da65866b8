import pytest

from gpmt.errors import RecipeError
from gpmt.training.recipes.files import load_recipe


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("log=wandb", ("wandb",)),
        ("log=wandb,mlflow, wandb", ("wandb", "mlflow")),
        ("log=[trackio, tensorboard]", ("trackio", "tensorboard")),
        ("log=null", ()),
    ],
)
def test_trackers_are_a_list_or_names_with_commas(given: str, names: tuple[str, ...]):
    recipe = load_recipe("digits", [given])
    assert recipe.log == names
    assert not recipe.log_online


def test_an_unknown_tracker():
    with pytest.raises(RecipeError, match="log is wandbd, which is not known; did you mean wandb"):
        load_recipe("digits", ["log=wandbd"])
    with pytest.raises(RecipeError, match="log is 3"):
        load_recipe("digits", ["log=3"])
