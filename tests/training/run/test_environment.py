import platform

import pytest
import torch
from accelerate import Accelerator

from gpmt.training.run import environment


def test_the_versions_are_those_that_are_installed():
    found = environment.versions()
    assert list(found) == ["python", "torch", "gpmt", "torchvision", "accelerate", "numpy"]
    assert (found["python"], found["torch"]) == (platform.python_version(), torch.__version__)
    assert all(text[0].isdigit() for text in found.values())


def test_the_machine_is_described(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(environment, "cpu_name", lambda: "A CPU")
    found = environment.machine(Accelerator(cpu=True))
    assert found == {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": "A CPU",
        "threads": torch.get_num_threads(),
        "device": "cpu",
        "processes": 1,
        "mixed_precision": "no",
    }
