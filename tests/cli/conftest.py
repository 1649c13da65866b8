"""Every command runs in a folder of its own."""

from pathlib import Path

import pytest
import torch
from tests.cli.commands import weights


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def dense(tmp_path: Path) -> str:
    prefixed = {f"module.{name}": tensor for name, tensor in weights().items()}
    torch.save({"epoch": 3, "state_dict": prefixed, "best_acc1": 91.5}, tmp_path / "dense.pth.tar")
    return "dense.pth.tar"
