import re
import sys
import tomllib
from pathlib import Path

import pytest

from gpmt.errors import DataError, RecipeError
from gpmt.extras import _EXTRAS, _INDEX_NAMES, import_extra, missing


@pytest.mark.parametrize(
    ("package", "extra", "error"), [("timm", "train", RecipeError), ("transformers", "hf", DataError)]
)
def test_a_missing_package_is_named_with_the_extra_that_installs_it(monkeypatch, package, extra, error):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(error) as caught:
        import_extra(package, error)
    assert str(caught.value) == (
        f"{package} is not installed; pip install {package} brings it, pip install '.[{extra}]' in gpmt's folder all "
        f"of {extra}"
    )


def test_the_extras_are_those_of_the_package():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    declared = {
        re.split(r"[><=]", requirement)[0].lower(): extra
        for extra, requirements in project["optional-dependencies"].items()
        for requirement in requirements
        if extra != "dev"
    }
    for package, extra in _EXTRAS.items():
        assert declared[_INDEX_NAMES.get(package, package)] == extra
    assert missing("another") == "another is not installed; pip install another brings it"


def test_a_broken_package_is_to_be_installed_again(monkeypatch, tmp_path):
    (tmp_path / "broken_package.py").write_text("raise ImportError('needs numpy<2. Found 2.4\\nmore')\n")
    monkeypatch.syspath_prepend(tmp_path)
    sentence = r"^broken_package cannot be imported \(needs numpy<2\. Found 2\.4\); reinstall it$"
    with pytest.raises(DataError, match=sentence):
        import_extra("broken_package", DataError)


def test_a_package_that_misses_another_one_is_not_called_missing(monkeypatch, tmp_path):
    (tmp_path / "incomplete_package.py").write_text("import a_module_that_does_not_exist\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_module_that_does_not_exist"):
        import_extra("incomplete_package", DataError)
