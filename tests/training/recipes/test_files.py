from pathlib import Path

import pytest

from gpmt.errors import RecipeError
from gpmt.training.recipes.files import load_recipe


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("seed: 1\nseed: 2\n", r"is not valid YAML \(seed is given twice in line 2, column 1\); correct"),
        ("data: [", r"is not valid YAML \(.* in line 1, column 8\)"),
        ("!!python/object/apply:os.system [ls]", r"is not valid YAML \(could not determine a constructor"),
        ("just words", r"does not hold settings; it must have keys such as title, model and data"),
        ("", r"does not hold settings"),
    ],
)
def test_a_file_that_is_not_a_recipe(tmp_path: Path, text: str, sentence: str):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=f"recipe {path} {sentence}"):
        load_recipe(str(path))


@pytest.mark.parametrize(("epochs", "warmup"), [(1, 0), (2, 1), (3, 1)])
def test_fewer_epochs_shorten_a_warm_up_that_was_taken_over(tmp_path: Path, epochs: int, warmup: int):
    assert load_recipe("digits", [f"dense.epochs={epochs}"]).dense.warmup_epochs == warmup
    (tmp_path / "own.yaml").write_text(f"extends: digits\ndense:\n  epochs: {epochs}\n")
    assert load_recipe(str(tmp_path / "own.yaml")).dense.warmup_epochs == warmup
    with pytest.raises(RecipeError, match="warmup_epochs is 4, but must be below epochs"):
        load_recipe("digits", [f"dense.epochs={epochs}", "dense.warmup_epochs=4"])


def test_without_look_ups_any_name_of_a_network_or_data_will_do():
    overrides = ["model=nosuch", "data.name=nosuch"]
    assert load_recipe("digits", overrides, look_up=False).model == "nosuch"
    with pytest.raises(RecipeError, match="2 errors"):
        load_recipe("digits", overrides)


def test_an_unknown_recipe_is_answered_with_close_names():
    with pytest.raises(RecipeError, match=r"^recipe digit is not known; did you mean digits\?$"):
        load_recipe("digit")
    with pytest.raises(RecipeError, match=r"^recipe nowhere/x.yaml cannot be read \(No such file"):
        load_recipe("nowhere/x.yaml")
