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


def test_an_unknown_recipe_is_answered_with_close_names():
    with pytest.raises(RecipeError, match=r"^recipe digit is not known; did you mean digits\?$"):
        load_recipe("digit")
    with pytest.raises(RecipeError, match=r"^recipe nowhere/x.yaml cannot be read \(No such file"):
        load_recipe("nowhere/x.yaml")
