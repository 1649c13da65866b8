from pathlib import Path

import pytest

from gpmt.errors import RecipeError
from gpmt.training.recipes.files import load_recipe


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
