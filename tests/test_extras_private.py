"""Private names of optional libraries: each one that gpmt uses must be there, in any version that it accepts."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.private_names import attributes, imported, last_parts, look_up

ATTRIBUTES: dict[str, Callable[[], Any]] = {
    "AcceleratorState._reset_state": lambda: library("accelerate.state").AcceleratorState._reset_state,
    "Accelerator._optimizers": lambda: library("accelerate").Accelerator(cpu=True)._optimizers,
    "WeightAveraging._average_model": lambda: (
        library("lightning.pytorch.callbacks").WeightAveraging()._average_model
    ),
    "AutoModelForImageClassification._model_mapping": lambda: (
        library("transformers").AutoModelForImageClassification._model_mapping
    ),
}


def library(name: str) -> Any:
    return pytest.importorskip(name)


@pytest.mark.parametrize("name", imported("extras_private"))
def test_a_private_import_exists(name: str) -> None:
    library(name.partition(".")[0])
    assert look_up(name) is not None


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_a_private_attribute_exists(name: str) -> None:
    ATTRIBUTES[name]()


def test_every_private_attribute_is_looked_up() -> None:
    assert attributes("extras_private") == last_parts(ATTRIBUTES)
