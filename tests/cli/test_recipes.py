import json
from importlib.resources import files
from pathlib import Path

import pytest
from tests.cli.commands import gpmt

from gpmt.training.recipes.files import load_recipe, shipped

GUIDE = Path(__file__).parents[2] / "docs" / "recipes.md"


@pytest.fixture(scope="module")
def listing() -> list[str]:
    return [line.rstrip() for line in gpmt("recipes").stdout.splitlines()]


def row(listing: list[str], name: str) -> str:
    [found] = [line for line in listing if line.split()[:1] == [name]]
    return " ".join(found.split())


def test_every_recipe_has_a_row_under_its_experiment(listing: list[str]) -> None:
    rows = [line.split()[0] for line in listing if line.startswith("  ") and line.split()[0] in shipped()]
    assert sorted(rows) == list(shipped())
    start = listing.index("imagenet, torchvision:resnet50")
    assert [line.split()[0] for line in listing[start + 1 : start + 7]] == [
        f"imagenet-resnet50-{name}" for name in ("dense", "gp80", "gp90", "gp95.3", "gp98.05", "gpmt80")
    ]


def test_a_row_says_what_is_pruned_how_and_what_to_expect(listing: list[str]) -> None:
    assert row(listing, "imagenet-resnet50-gpmt95.3").endswith(
        "95.3 % 0.005% one-shot 71.55 % 8 × V100 ~25 h"
    )
    assert row(listing, "imagenet-resnet50-dense").endswith("dense 77.04 % 8 × V100 ~12.5 h")
    assert row(listing, "imagenet-resnet50-acdc98.05").endswith("98.05 % ac-dc 8 × V100 ~12.5 h")
    assert row(listing, "har2-fastgrnn-8-7").endswith("74/89 cols 7 one-shot 95.62 % 1 CPU core ~2.5 h")


def test_the_list_fits_a_terminal_of_100_columns(listing: list[str]) -> None:
    table = listing[: listing.index("", listing.index("mnist, lenet5-caffe"))]
    assert max(map(len, table)) <= 100


def test_the_guide_shows_the_list_as_it_is(listing: list[str]) -> None:
    table = "\n".join(listing[: listing.index("", listing.index("mnist, lenet5-caffe"))])
    assert f"```\n{table}\n```" in GUIDE.read_text(encoding="utf-8")


def test_json_lists_all_with_what_they_expect() -> None:
    listed = json.loads(gpmt("recipes", "--json").stdout)["recipes"]
    assert sorted(facts["name"] for facts in listed) == list(shipped())
    [facts] = [facts for facts in listed if facts["name"] == "imagenet-mobilenetv1-90-mt"]
    assert facts == {
        "name": "imagenet-mobilenetv1-90-mt",
        "title": "MobileNet-V1 on ImageNet, GP + MT 90 %",
        "about": "One-shot global pruning with a minimum for every layer, and 120 epochs with the masks fixed.",
        "model": "timm:mobilenetv1_100",
        "data": "imagenet",
        "sparsity": 0.9,
        "min_kept": "0.2%",
        "granularity": "weight",
        "schedule": "one-shot",
        "method": "hard",
        "top1": 63.94,
        "source": "arXiv 2209.14624",
        "hardware": "8 × V100",
        "time": "< 28 h",
        "device": "gpu",
        "on_cpu": "cifar10-mobilenetv2-98-mt-short",
    }


def test_a_name_shows_the_document_as_it_was_written() -> None:
    text = (
        files("gpmt.training.recipes.shipped")
        .joinpath("cifar10-resnet32-95.yaml")
        .read_text(encoding="utf-8")
    )
    assert gpmt("recipes", "cifar10-resnet32-95").stdout == text
    assert text.startswith("# gpmt run cifar10-resnet32-95 ")


def test_resolved_shows_what_is_inherited_and_reads_back(tmp_path: Path) -> None:
    resolved = gpmt("recipes", "cifar10-resnet32-95", "--resolved").stdout
    path = tmp_path / "own.yaml"
    path.write_text(resolved, encoding="utf-8")
    assert "extends" not in resolved
    assert load_recipe(str(path)) == load_recipe("cifar10-resnet32-95")
    assert gpmt("recipes", path).stdout == resolved
    facts = json.loads(gpmt("recipes", path, "--json").stdout)
    assert facts["settings"]["dense"]["epochs"] == 300


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["digit"], "error: recipe digit is not known; did you mean digits?"),
        (["--resolved"], "error: --resolved is given, but no NAME; name a recipe, such as digits"),
        (["own.yaml"], "error: recipe own.yaml cannot be read (No such file or directory); give a YAML file"),
    ],
)
def test_an_error_is_one_sentence(arguments: list[str], sentence: str) -> None:
    result = gpmt("recipes", *arguments, code=2)
    assert result.stderr.startswith(sentence)
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""
