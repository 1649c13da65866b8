"""The program as a whole: its help, its exit codes, and what becomes of files when it is stopped."""

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from tests.cli.commands import gpmt
from tests.waiting import DEADLINE_SECONDS
from typer.testing import CliRunner

import gpmt as package
from gpmt.cli import app

SOURCE = Path(package.__file__).parents[1]


def test_usage_errors(dense: str) -> None:
    for arguments in (["prune", dense], ["prune"], ["frobnicate"], ["verify", dense, "--tolerance", "x"]):
        result = gpmt(*arguments, code=2)
        assert "Traceback" not in result.output
    assert gpmt("--version").stdout.strip() == "0.1.0"
    assert "Commands" in CliRunner().invoke(app, []).output


@pytest.mark.parametrize("command", ["prune", "inspect", "verify", "diff"])
def test_help_has_examples(command: str) -> None:
    printed = gpmt(command, "--help").stdout
    assert f"gpmt {command} " in printed.split("Examples")[1]
    assert "--json" in printed


def script(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return run_code("from gpmt.cli import main; main()", *arguments, **options)


def run_code(code: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_SECONDS,
        **options,
    )


def test_the_script_reports_on_stderr_and_by_exit_code(dense: str) -> None:
    done = script("prune", dense, "-o", "out.pt", "--sparsity", "1.5")
    assert done.returncode == 2
    assert done.stdout == ""
    assert (
        done.stderr
        == 'error: sparsity is 1.5, but must be at least 0 and below 1; for 1.5 % give 0.015 or "1.5%"\n'
    )
    assert not Path("out.pt").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            "from json import missing_name",
            "json cannot be imported (cannot import name 'missing_name' from 'json' ",
        ),
        ("raise ImportError('it needs\\nmore')", "a package cannot be imported (it needs); reinstall it\n"),
        (
            "import a_missing_package.part",
            "a_missing_package is not installed; pip install a_missing_package brings it\n",
        ),
    ],
)
def test_a_package_that_cannot_be_imported(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "yaml.py").write_text(f"{content}\n")
    done = script("recipes", env=os.environ | {"PYTHONPATH": f"{tmp_path}:{SOURCE}"})
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {sentence}")


WITHOUT_TORCH = """
import sys
from gpmt.cli import main
try:
    main()
finally:
    assert "torch" not in sys.modules, sorted(sys.modules)
"""


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("--help", 0),
        ("--version", 0),
        ("prune --help", 0),
        ("frobnicate", 2),
        ("recipes", 0),
        ("recipes imagenet-resnet50-gp90 --resolved", 0),
        ("recipes nosuch", 2),
        ("run nosuch", 2),
        ("run digits sparsity=2", 2),
        ("run digits nosuch=1", 2),
        ("sweep digits seed=1", 2),
        ("sweep digits sparsity=0.5,2", 2),
        ("compare digits --sparsity 2", 2),
        ("compare digits --methods nosuch", 2),
        ("prune in.pt", 2),
        ("prune in.pt -o out.pt --sparsity 2", 2),
        ("prune in.pt -o out.pt --sparsity 0.5 --min-kept x", 2),
        ("prune in.pt -o out.pt --sparsity 0.5 --allocation nosuch", 2),
        ("prune in.pt -o out.xyz --sparsity 0.5", 2),
        ("prune in.pt -o out.pt --sparsity 0.5", 2),
        ("verify in.pt --min-kept x", 2),
        ("verify in.pt", 2),
        ("inspect in.pt", 2),
        ("diff in.pt in.pt", 2),
        ("convert in.pt out.xyz", 2),
        ("convert in.pt out.pt", 2),
        ("export nosuch in.pt -o out", 2),
        ("export onnx in.pt -o out", 2),
        ("bench in.pt --engines nosuch", 2),
        ("bench in.pt", 2),
        ("eval in.pt", 2),
        ("eval hf:folder --recipe nosuch", 2),
        ("demo --sparsities 1", 2),
    ],
)
def test_pytorch_is_not_imported_where_it_is_not_needed(command: str, code: int) -> None:
    done = run_code(WITHOUT_TORCH, *command.split())
    assert (done.returncode, "AssertionError" in done.stderr) == (code, False), done.stderr


def test_a_warning_is_a_line_on_stderr(dense: str, monkeypatch: pytest.MonkeyPatch) -> None:
    load = package.load

    def told(path: Path) -> object:
        warnings.warn("not as meant", package.GpmtWarning, stacklevel=1)
        return load(path)

    monkeypatch.setattr("gpmt.formats.load.load", told)
    result = gpmt("prune", dense, "-o", "out.pt", "--sparsity", "0.5", "--quiet")
    assert (result.stdout, result.stderr) == ("", "warning: not as meant\n")
    with pytest.warns(package.GpmtWarning, match="not as meant"):  # outside of a command it is one as ever
        told(Path(dense))


@pytest.fixture
def files_without_pickle(dense: str) -> None:
    """Weights as safetensors, pruned, and their masks."""
    gpmt("convert", dense, "dense.safetensors")
    gpmt("convert", dense, "dense.sparse.safetensors")
    gpmt("prune", dense, "-o", "pruned.safetensors", "-s", "0.5", "--masks", "masks.safetensors")


@pytest.mark.usefixtures("files_without_pickle")
@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("diff dense.safetensors dense.safetensors", 0),
        ("diff dense.safetensors pruned.safetensors --json", 1),
        ("diff dense.safetensors dense.sparse.safetensors", 0),
        ("diff masks.safetensors masks.safetensors", 0),
        ("diff masks.safetensors dense.safetensors", 2),
        ("inspect dense.safetensors", 0),
        ("inspect pruned.safetensors dense.sparse.safetensors masks.safetensors --json", 0),
        ("inspect masks.safetensors", 0),
        ("inspect masks.safetensors --json", 0),
    ],
)
def test_files_that_pytorch_is_not_needed_for(command: str, code: int) -> None:
    done = run_code(WITHOUT_TORCH, *command.split())
    assert (done.returncode, "AssertionError" in done.stderr) == (code, False), done.stderr
    assert gpmt(*command.split(), code=code).stdout == done.stdout


@pytest.mark.slow
def test_a_closed_pipe_is_quiet(dense: str) -> None:
    command = f"{sys.executable} -c 'from gpmt.cli import main; main()' inspect {dense} --json | head -c 1"
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS
    )
    assert (done.stdout, done.stderr) == ("{", "")


@pytest.mark.slow
def test_no_space_left(dense: str) -> None:
    code = """
import resource, sys
from gpmt.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
main()
"""
    # First without the limit, as the files in which numba keeps what it compiles are larger.
    gpmt("prune", dense, "-o", "earlier.pt", "--sparsity", "0.5")
    before = sorted(os.listdir())
    command = [sys.executable, "-B", "-c", code, "prune", dense, "-o", "out.pt", "--sparsity", "0.5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS)
    assert done.returncode == 2
    assert done.stderr.startswith("error: out.pt cannot be written: no space left in ")
    assert sorted(os.listdir()) == before


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_while_writing_leaves_nothing(dense: str, sent: signal.Signals, code: int) -> None:
    script_text = f"""
import signal, time, torch
from gpmt.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
write = torch.save
def interrupted(obj, path):
    write(obj, path)
    signal.raise_signal({int(sent)})  # to this thread: another one could take it while this one sleeps
    while True:
        time.sleep(0.01)
torch.save = interrupted
main()
"""
    before = sorted(os.listdir())
    command = [sys.executable, "-c", script_text, "prune", dense, "-o", dense, "--force", "--sparsity", "0.5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    if sent == signal.SIGINT:
        assert done.stderr == "interrupted; no file is half-written\n"
    assert sorted(os.listdir()) == before
    gpmt("verify", dense, "--sparsity", "0")
