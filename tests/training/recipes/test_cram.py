import pytest
from pydantic import ValidationError

from gpmt.errors import RecipeError
from gpmt.training.recipes.cram import Cram, from_bool
from gpmt.training.recipes.files import load_recipe


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("cram=true", Cram()),
        ("cram=false", None),
        ("dense.cram={rho: 0.1, sparsities: [0.5, 80%]}", Cram(rho=0.1, sparsities=(0.5, "80%"))),
    ],
)
def test_an_override_gives_it(override: str, expected: Cram | None):
    recipe = load_recipe("digits", [override])
    assert recipe.dense.cram == expected
    assert load_recipe("digits", []).dense.cram is None
    assert "cram:" in recipe.to_yaml()


def test_true_and_false_stand_for_settings():
    assert from_bool(True) == {}
    assert from_bool(False) is None
    assert from_bool({"rho": 1}) == {"rho": 1}


@pytest.mark.parametrize("settings", [{"rho": -1}, {"sparsities": []}, {"sparsities": [1.5]}, {"ro": 1}])
def test_settings_that_are_not_valid(settings):
    with pytest.raises(ValidationError):
        Cram(**settings)


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["dense.epochs=0", "schedule=gradual"], "dense.cram is given, but dense.epochs is 0; give epochs"),
        (
            ["precision=fp16"],
            "dense.cram is given, but compute.precision is fp16, which scales gradients; give bf16",
        ),
        (["dense.cram={rho: -1}"], "dense.cram.rho is -1"),
    ],
)
def test_recipes_that_it_does_not_fit(overrides: list[str], text: str):
    with pytest.raises(RecipeError, match=text):
        load_recipe("digits", ["cram=true", *overrides])
