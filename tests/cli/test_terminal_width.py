"""What commands print on terminals of 80 and 120 columns: nothing is cut, nothing is wider."""

import re

import pytest
from tests.cli.commands import gpmt

from gpmt.training.recipes.files import shipped

WIDTHS = pytest.mark.parametrize("width", [80, 120])


@pytest.fixture(autouse=True)
def _terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
    monkeypatch.setenv("COLUMNS", str(width))


def printed(width: int, *arguments: object) -> list[str]:
    lines = re.sub(r"\x1b\[[\d;]*m", "", gpmt(*arguments).stdout).splitlines()
    assert max(map(len, lines)) <= width, max(lines, key=len)
    assert not any("…" in line for line in lines)
    return lines


@WIDTHS
def test_recipes_are_listed_under_their_whole_names(width: int):
    lines = printed(width, "recipes")
    listed = [line.split()[0] for line in lines if line.startswith("  ") and line.strip()]
    assert set(shipped()) <= set(listed)
    assert any("published" in line for line in lines)


@WIDTHS
@pytest.mark.usefixtures("program_cache")
def test_layers_keep_their_names_and_times(width: int, lenet: str):
    lines = printed(
        width, "bench", lenet, "--model", "lenet5-caffe", "--input", "1x28x28", "--threads", 1, "--seconds", 0,
        "--engines", "none", "--layers",
    )  # fmt: skip
    [heading] = [line.split() for line in lines if line.split()[:1] == ["layer"]]
    assert "ms" in heading
    for layer in ("conv1", "conv2", "fc1", "fc2"):
        assert any(line.split()[:1] == [layer] for line in lines), lines


@WIDTHS
def test_tensors_keep_their_names(width: int, lenet: str):
    for command in (
        ("inspect", lenet),
        ("verify", lenet),
        ("prune", lenet, "-o", "out.pt", "-s", "0.9", "--min-kept", "10"),
        ("prune", lenet, "-o", "less.pt", "-s", "0.5", "--dry-run"),
        ("plan", lenet, "-s", "conv*=0.9", "-s", "*=0.95", "--min-kept", "2% of tensor", "--blocks"),
    ):
        lines = printed(width, *command)
        for layer in ("conv1", "conv2", "fc1", "fc2"):
            assert any(line.split()[:1] in ([layer], [f"{layer}.weight"]) for line in lines)
        assert any("kept" in line.split() for line in lines)
