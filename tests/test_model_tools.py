import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from gpmt.errors import CheckpointError
from gpmt.model_tools import evaluating, keeping_modes, quiet, split_example, unwrap


@pytest.fixture
def network() -> nn.Sequential:
    """A network in training, with one layer in evaluation mode."""
    made = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    made[1].eval()
    return made


def modes(module: nn.Module) -> list[bool]:
    return [part.training for part in module.modules()]


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_a_plain_model_is_its_own_original(network: nn.Module) -> None:
    assert unwrap(network) is network


def test_nested_wrappers_are_taken_off(network: nn.Module) -> None:
    for wrapped in (
        DataParallel(network),
        torch.compile(network),
        DataParallel(torch.compile(network)),
        torch.compile(DataParallel(network)),
    ):
        assert unwrap(wrapped) is network


@pytest.mark.usefixtures("process_group")
def test_a_distributed_wrapper_is_taken_off(network: nn.Module) -> None:
    assert unwrap(torch.compile(DistributedDataParallel(network))) is network


def test_modes_come_back_layer_by_layer(network: nn.Module) -> None:
    with keeping_modes(network):
        network.eval()
    assert modes(network) == [True, True, False]


def test_modes_come_back_after_an_exception(network: nn.Module) -> None:
    def fail() -> None:
        with keeping_modes(network):
            network.eval()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert modes(network) == [True, True, False]


def test_evaluation_turns_caches_off_and_on_again(network: nn.Module) -> None:
    caching, uncached, other = (SimpleNamespace(use_cache=value) for value in (True, False, "auto"))
    network.config = caching
    network[0].config, network[1].config = uncached, other
    with evaluating(network):
        assert modes(network) == [False] * 3
        assert [config.use_cache for config in (caching, uncached, other)] == [False, False, "auto"]
    assert [config.use_cache for config in (caching, uncached, other)] == [True, False, "auto"]
    assert modes(network) == [True, True, False]
    with pytest.raises(ZeroDivisionError), evaluating(network):
        raise ZeroDivisionError
    assert [config.use_cache for config in (caching, uncached, other)] == [True, False, "auto"]
    assert modes(network) == [True, True, False]


def test_quiet_restores_levels() -> None:
    logger = logging.getLogger("gpmt.tests.quiet")
    logger.setLevel(logging.INFO)
    with quiet("gpmt.tests.quiet"):
        assert not logger.isEnabledFor(logging.CRITICAL)
    assert logger.level == logging.INFO
    with pytest.raises(ZeroDivisionError), quiet("gpmt.tests.quiet"):
        raise ZeroDivisionError
    assert logger.level == logging.INFO


X = torch.ones(1)


@pytest.mark.parametrize(
    ("example", "positional", "named"),
    [(X, (X,), {}), ([X, X], (X, X), {}), ((X,), (X,), {}), ({"x": X}, (), {"x": X}), ((), (), {})],
)
def test_examples_are_split_into_arguments(example: Any, positional: Any, named: Any) -> None:
    assert split_example(example, CheckpointError) == (positional, named)


@pytest.mark.parametrize("example", ["x", 3, None, {1}])
def test_an_example_of_another_type_is_refused(example: object) -> None:
    message = (
        rf"^the example is of type {type(example).__name__}, but must be a tensor, a tuple of tensors, or a"
    )
    with pytest.raises(CheckpointError, match=message):
        split_example(example, CheckpointError)
