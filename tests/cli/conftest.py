"""Every command runs in a folder of its own; the files that commands are tried on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.cli.commands import multiplied_weights, sparse_weights, weights

import gpmt as package
from gpmt.training.models import construct
from gpmt.training.recipes.files import load_recipe
from gpmt.training.run.run_folder import RunFolder


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def dense(tmp_path: Path) -> str:
    prefixed = {f"module.{name}": tensor for name, tensor in weights().items()}
    torch.save({"epoch": 3, "state_dict": prefixed, "best_acc1": 91.5}, tmp_path / "dense.pth.tar")
    return "dense.pth.tar"


@pytest.fixture
def pruned(tmp_path: Path) -> str:
    torch.save({"epoch": 3, "state_dict": sparse_weights()}, tmp_path / "pruned.pt")
    return "pruned.pt"


@pytest.fixture
def multiplied(tmp_path: Path) -> str:
    """Weights with -0.0 where a mask pruned negative ones."""
    torch.save(multiplied_weights(), tmp_path / "multiplied.pt")
    return "multiplied.pt"


@pytest.fixture
def lenet(tmp_path: Path) -> str:
    """Weights of LeNet-5, pruned to 80 %; the file does not name its network."""
    torch.manual_seed(0)
    network = construct("lenet5-caffe", num_classes=10, input_shape=(1, 28, 28))
    package.prune_(network, sparsity=0.8)
    torch.save(network.state_dict(), tmp_path / "lenet.pt")
    return "lenet.pt"


@pytest.fixture
def run(tmp_path: Path) -> str:
    """The folder of a run, of a network in the channels-last format with 1×1 and depthwise kernels."""
    torch.manual_seed(0)
    network = construct("mobilenet-digits", num_classes=10, input_shape=(1, 8, 8))
    network.to(memory_format=torch.channels_last)
    about = {"model": {"name": "mobilenet-digits"}, "input_shape": [1, 8, 8]}
    folder = RunFolder(tmp_path / "run")
    folder.start(load_recipe("digits"), resume=False)
    folder.save_weights(folder.dense, network.state_dict(), about)
    package.prune_(network, sparsity=0.8, min_kept=20).masks().save(folder.masks)
    folder.save_weights(folder.model, network.state_dict(), about)
    return "run"


@pytest.fixture(scope="module")
def program_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of compiled programs of the module's own, and PyTorch's number of threads as it was."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPMT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
    torch.set_num_threads(threads)
