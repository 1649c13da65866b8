import pytest

from gpmt.training.recipes.files import load_recipe


def test_a_recipe_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        load_recipe("digits").seed = 1
