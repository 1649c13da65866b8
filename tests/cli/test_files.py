import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.cli.commands import error
from tests.cli.commands import gpmt as command

import gpmt
from gpmt.cli.files import disk_size, read, refuse_existing
from gpmt.errors import CheckpointError


def test_the_size_of_a_folder_is_that_of_all_its_files(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"12345")
    assert disk_size(tmp_path / "a") == 5
    (tmp_path / "inner" / "empty").mkdir(parents=True)
    (tmp_path / "inner" / "b").write_bytes(b"123")
    assert disk_size(tmp_path) == 8


def test_outputs_that_are_new_or_left_out_are_accepted(tmp_path: Path):
    refuse_existing(tmp_path / "in", tmp_path / "out", None, tmp_path / "masks", force=False)


def test_an_output_that_exists_needs_force(tmp_path: Path):
    (tmp_path / "out").touch()
    with pytest.raises(CheckpointError, match=r"out exists; give another name, or --force to replace it$"):
        refuse_existing(tmp_path / "in", tmp_path / "new", tmp_path / "out", force=False)
    refuse_existing(tmp_path / "in", tmp_path / "new", tmp_path / "out", force=True)


@pytest.mark.parametrize("outputs", [("in",), ("a", "a"), ("a", "b/../a"), ("link",)])
def test_force_does_not_replace_the_input_or_another_output(tmp_path: Path, outputs: tuple[str, ...]):
    (tmp_path / "in").touch()
    (tmp_path / "link").symlink_to("in")
    with pytest.raises(
        CheckpointError, match=rf"{outputs[-1]} is named twice, or is the input; give each output a"
    ):
        refuse_existing(tmp_path / "in", *(tmp_path / name for name in outputs), force=True)


def test_what_was_left_out_is_printed_on_stderr_even_when_quiet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "a.sparse.safetensors"
    gpmt.save_sparse({"a": torch.ones(3)}, path)
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    assert list(read(path, weights=None, skip_bad=True, quiet=True).damaged) == ["a"]
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"left out: {path}: a does not match its checksum")


def test_the_result_of_a_run_is_not_replaced_by_what_is_made_of_it(run: str):
    with pytest.raises(
        CheckpointError, match=r"model.pt is named twice, or is the input; give each output a"
    ):
        refuse_existing(Path(run), Path(run, "model.pt"), force=True)


COMMANDS = {
    "inspect": (),
    "verify": ("--masks", "run/masks.safetensors", "--min-kept", 20),
    "prune": ("-o", "out.pt", "--sparsity", "0.9"),
    "convert": ("out.sparse.safetensors",),
    "bench": ("--threads", 1, "--seconds", 0, "--engines", "none"),
    "eval": (),
}


@pytest.mark.usefixtures("program_cache")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "bench")) for name in COMMANDS]
)
def test_the_folder_of_a_run_is_its_model_to_every_command(run: str, name: str):
    document = json.loads(command(name, run, *COMMANDS[name], "--json").stdout)
    if name in ("prune", "convert"):
        assert list(gpmt.load("out.pt" if name == "prune" else "out.sparse.safetensors").state_dict) == list(
            gpmt.load("run/model.pt").state_dict
        )
    if name in ("inspect", "verify", "eval"):
        masks = gpmt.Masks.load("run/masks.safetensors")
        assert (document["weights"], document["pruned"]) == (masks.total_numel, masks.total_pruned)
    Path(run, "model.pt").unlink()
    assert error(name, run, *COMMANDS[name]).startswith(
        "run is the folder of a run without its result, model.pt;"
    )


def write_script(path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):  # PyTorch calls TorchScript deprecated
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))


def write_exported(path: Path) -> None:
    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),)), path)


def write_masks(path: Path) -> None:
    gpmt.Masks.from_dense({"weight": torch.eye(2, dtype=torch.bool)}).save(path)


NO_WEIGHTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "script.pt": (
        write_script,
        "script.pt is a TorchScript program, whose code is not run; give its weights, which ",
    ),
    "exported.pt2": (
        write_exported,
        "exported.pt2 is a program of torch.export (.pt2), whose code is not run; give ",
    ),
    "masks.safetensors": (
        write_masks,
        "masks.safetensors holds masks alone (masks of gpmt); give the weights they ",
    ),
}
FURTHER = {
    "diff": ("NAME",),
    "export": ("-o", "out.sparse.safetensors"),
    "eval": ("--data", "digits", "--model", "mobilenet-digits"),
}


@pytest.mark.parametrize("name", NO_WEIGHTS)
@pytest.mark.parametrize("command_name", [*COMMANDS, "diff", "export"])
def test_what_holds_no_weights_is_called_what_it_is(tmp_path: Path, name: str, command_name: str):
    write, sentence = NO_WEIGHTS[name]
    write(tmp_path / name)
    if name == "masks.safetensors" and command_name in ("inspect", "diff"):
        command(command_name, name, *[name] * (command_name == "diff"))  # which are also for masks
        return
    further = [name if word == "NAME" else word for word in {**COMMANDS, **FURTHER}[command_name]]
    further = [] if command_name == "verify" else further
    kind = ["sparse"] if command_name == "export" else []
    assert error(command_name, *kind, name, *further).startswith(sentence)
    assert [path.name for path in tmp_path.iterdir()] == [name]
