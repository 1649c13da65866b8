"""The wheel and the sdist, installed outside of the repository: the command runs, and no file is missing."""

import importlib.util
import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import gpmt

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "gpmt"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BACKEND = "hatchling"

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command without this repository on its path; return what it printed."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode and "No matching distribution found for hatchling" in done.stdout + done.stderr:
        pytest.skip(f"{BACKEND} is not installed, and no package index has it")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sdist, and the wheel that is built from it, as `python -m build` does."""
    folder = tmp_path_factory.mktemp("built")
    isolation = ["--no-isolation"] if importlib.util.find_spec(BACKEND) else []
    run(sys.executable, "-m", "build", *isolation, "--outdir", folder, ROOT, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


def package_files() -> set[str]:
    return {
        f"gpmt/{path.relative_to(SOURCE).as_posix()}"
        for path in SOURCE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_has_the_whole_package_and_nothing_else(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built["wheel"]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        (metadata,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        told = message_from_bytes(wheel.read(metadata))
    assert names == package_files()
    assert "gpmt/py.typed" in names
    assert any(name.endswith(".yaml") for name in names)
    assert (told["Name"], told["Version"]) == (PROJECT["name"], PROJECT["version"])
    assert told["Requires-Python"] == PROJECT["requires-python"]
    assert set(told.get_all("Provides-Extra", [])) == PROJECT["optional-dependencies"].keys()
    assert told.get_payload(decode=True) == (ROOT / "README.md").read_bytes()


def test_the_sdist_has_what_its_readers_need(built: dict[str, Path]) -> None:
    with tarfile.open(built["sdist"]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {f"src/{name}" for name in package_files()} <= names
    assert {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "SECURITY.md", "pyproject.toml"} <= names
    assert {"tests/test_distribution.py", "docs/choosing.md", "examples/plain.py"} <= names
    assert not [name for name in names if name.startswith((".venv", "build/", "runs/"))]


@pytest.fixture(params=["wheel", "sdist"])
def installed(request: pytest.FixtureRequest, built: dict[str, Path], tmp_path: Path) -> Path:
    """The programs of a fresh environment with gpmt in it; what gpmt needs is that of this environment."""
    home = tmp_path / "environment"
    venv.create(home, symlinks=True, with_pip=False)
    python = home / "bin" / "python"
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    isolation = ["--no-build-isolation"] if importlib.util.find_spec(BACKEND) else []
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps")
    run(*pip, "--ignore-installed", *isolation, built[request.param], cwd=tmp_path)
    return home / "bin"


USE = """
import gpmt, torch
torch.save({"fc.weight": torch.arange(1.0, 101).reshape(10, 10)}, "dense.pt")
print(gpmt.__file__, gpmt.plan("dense.pt", sparsity=0.9).kept, "gpmt" in torch.compiler.list_backends())
"""


def test_it_runs_outside_of_the_repository(installed: Path, tmp_path: Path) -> None:
    file, kept, is_backend = run(installed / "python", "-c", USE, cwd=tmp_path).split()
    assert Path(file).is_relative_to(installed.parent)
    assert (kept, is_backend) == ("10", "True")
    run(installed / "gpmt", "prune", "dense.pt", "-o", "pruned.pt", "--sparsity", "0.9", cwd=tmp_path)
    assert run(installed / "gpmt", "--version", cwd=tmp_path).strip().endswith(PROJECT["version"])
    recipes = run(installed / "gpmt", "recipes", cwd=tmp_path)
    assert all(path.stem in recipes for path in SOURCE.rglob("training/recipes/shipped/*.yaml"))


def test_this_environment_has_the_package_of_the_repository() -> None:
    assert Path(gpmt.__file__).parent == SOURCE
