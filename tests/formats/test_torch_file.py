"""Files of torch.save, read without running code from their pickles."""

import argparse
import re
import zipfile
from collections import OrderedDict
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.formats.checkpoints import Attack, assert_same, weights
from torch import nn

from gpmt.errors import CheckpointError
from gpmt.formats.torch_file import read_torch


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors", "a.SAFETENSORS", "a"])
def test_tensors_and_plain_values_are_read(tmp_path: Path, write: Any, name: str) -> None:
    beside = {
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1),
        "best": np.float64(0.5),
        "order": OrderedDict(a=1),
    }
    write({"state_dict": weights(), **beside}, tmp_path / name)
    found = read_torch(tmp_path / name)
    assert_same(found.pop("state_dict"), weights())
    assert found == beside


@pytest.mark.parametrize("where", ["top", "beside", "value"])
def test_code_in_a_pickle_is_refused_and_does_not_run(tmp_path: Path, write: Any, where: str) -> None:
    marker, path = tmp_path / "marker", tmp_path / "a.pt"
    attack = Attack(marker)
    held = {
        "top": attack,
        "beside": {"x": attack, "state_dict": weights()},
        "value": weights() | {"x": attack},
    }
    write(held[where], path)
    message = (
        r"a\.pt would run code from its pickle \(it needs (posix|nt)\.system\), which is refused; save its weights "
        r"again where it was made, with torch\.save\(model\.state_dict\(\), path\) or as safetensors$"
    )
    with pytest.raises(CheckpointError, match=message):
        read_torch(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("value", "needs"),
    [
        (nn.Linear(2, 2), r"torch\.nn\.modules\.linear\.Linear"),
        (Path("x"), r"pathlib\.\S+Path"),
        (np.array([print, None]), r"numpy\.dtype\('O8'\)"),
        (np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f4")])[0], r"numpy\.dtype\('V8'\)"),
        (np.str_("text"), r"numpy\.dtype\('U4'\)"),
    ],
)
def test_other_objects_are_refused_by_name(tmp_path: Path, write: Any, value: Any, needs: str) -> None:
    write({"state_dict": weights(), "x": value}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=rf"a\.pt would run code from its pickle \(it needs {needs}"):
        read_torch(tmp_path / "a.pt")


def test_a_whole_model_says_what_to_do(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"needs torch.*Linear.*save its weights again"):
        read_torch(tmp_path / "a.pt")


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_torchscript_is_refused(tmp_path: Path) -> None:
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "a.pt"))
    path = tmp_path / "a.pt"
    with pytest.raises(
        CheckpointError, match=r"a\.pt is a TorchScript program, whose code is not run"
    ) as error:
        read_torch(path)
    assert_weights_are_written(str(error.value), path, nn.Linear(2, 2))


@pytest.mark.filterwarnings(
    "ignore:The given buffer is not writable"
)  # PyTorch 2.10 about its own torch.export.load
def test_a_program_of_torch_export_is_called_one(tmp_path: Path) -> None:
    path = tmp_path / "a.pt2"
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)), path)
    with pytest.raises(
        CheckpointError, match=r"a\.pt2 is a program of torch\.export \(\.pt2\), whose code"
    ) as error:
        read_torch(path)
    assert_weights_are_written(str(error.value), path, nn.Linear(2, 2))


def test_a_program_of_an_older_torch_export(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt2", "w") as archive:
        for name in ("version", "serialized_exported_program.json", "serialized_state_dict.pt"):
            archive.writestr(name, "5.1")
    with pytest.raises(CheckpointError, match=r"a\.pt2 is a program of torch\.export \(\.pt2\), whose code"):
        read_torch(tmp_path / "a.pt2")


def assert_weights_are_written(message: str, program: Path, network: nn.Module) -> None:
    """Run the Python that a message asks for, and read the weights that it writes."""
    code = re.search(r"torch\.save\(.*'weights\.pt'\)", message)
    assert code
    weights = program.parent / "weights.pt"
    exec(code[0].replace("'weights.pt'", repr(str(weights))), {"torch": torch})
    assert read_torch(weights).keys() == network.state_dict().keys()


def test_a_truncated_file_says_so(tmp_path: Path, write: Any) -> None:
    write(weights(), tmp_path / "a.pt")
    whole = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        CheckpointError, match=r"a\.pt is truncated or damaged \(\w+\); copy or download it again$"
    ):
        read_torch(tmp_path / "a.pt")


def test_a_further_global_is_replaced_by_its_callable(tmp_path: Path, write: Any) -> None:
    write({"x": Decimal("1.50")}, tmp_path / "a.pt")
    assert read_torch(tmp_path / "a.pt", [(str, "decimal.Decimal")]) == {"x": "1.50"}
    with pytest.raises(CheckpointError, match=r"it needs decimal\.Decimal\), which is refused"):
        read_torch(tmp_path / "a.pt")


def test_the_users_safe_globals_stay(tmp_path: Path) -> None:
    torch.save({"state_dict": weights(), "args": argparse.Namespace()}, tmp_path / "a.pt")
    before = set(torch.serialization.get_safe_globals())
    with torch.serialization.safe_globals([argparse.Namespace]):
        read_torch(tmp_path / "a.pt")
        assert argparse.Namespace in torch.serialization.get_safe_globals()
    assert set(torch.serialization.get_safe_globals()) == before - {argparse.Namespace}
