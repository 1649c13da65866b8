"""A finished sweep."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.training.sweep.sweeps import small_grid

from gpmt.training.sweep.runner import sweep


@pytest.fixture(autouse=True, scope="package")
def _one_thread_each() -> Iterator[None]:
    """The number of threads changes the last bits of sums."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="package")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("sweeps") / "digits"
    return out, sweep(small_grid(), out, command="gpmt sweep digits")


@pytest.fixture
def copied(swept: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    """A finished sweep of the test's own."""
    return shutil.copytree(swept[0], tmp_path / "copied")
