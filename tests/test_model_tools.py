import logging
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

import gpmt
from gpmt.errors import CheckpointError, GpmtError
from gpmt.model_tools import (
    evaluating,
    keeping_modes,
    logits_of,
    moved,
    not_a_network,
    part_of,
    plain_name,
    program_kind,
    quiet,
    split_example,
    unwrap,
)


def test_names_without_wrappers() -> None:
    layer = nn.Sequential(torch.compile(nn.Linear(2, 2)))
    assert [plain_name(name) for name in torch.compile(layer).state_dict()] == ["0.weight", "0.bias"]
    assert plain_name("module.weight") == "weight"
    assert plain_name("encoder.module.weight") == "encoder.module.weight"
    assert plain_name("module") == "module"


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


def programs() -> dict[str, Any]:
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
    exported = torch.export.export(network, (torch.ones(4, 4),))
    with warnings.catch_warnings(action="ignore"):  # PyTorch calls TorchScript deprecated
        script = torch.jit.script(network)
    return {
        "TorchScript program": script,
        "program of torch.export": exported,
        "graph of torch.fx": exported.module(),
    }


PROGRAMS = ["TorchScript program", "program of torch.export", "graph of torch.fx"]
USES: dict[str, Callable[[Any, Path], object]] = {
    "plan": lambda program, _: gpmt.plan(program, sparsity=0.5),
    "prune_": lambda program, _: gpmt.prune_(program, sparsity=0.5),
    "verify": lambda program, _: gpmt.verify(program),
    "find_scope": lambda program, _: gpmt.find_scope(program),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", PROGRAMS)
def test_of_a_program_the_state_dict_is_asked_for(kind: str, use: str, tmp_path: Path) -> None:
    program = programs()[kind]
    with pytest.raises(GpmtError) as refused:
        USES[use](program, tmp_path)
    message = str(refused.value)
    assert message.startswith(
        f"the network is a {kind}, in which no layers can be seen; give the module that it was"
    )
    # What it says works, and changes the program itself.
    state = eval(message.rpartition(", ")[2], {"program": program})
    plan = gpmt.prune_(state, sparsity=0.5)
    again = program.state_dict if kind == "program of torch.export" else program.state_dict()
    assert int((again["0.weight"] == 0).sum()) == plan.pruned == 8
    call = program.module() if kind == "program of torch.export" else program
    torch.testing.assert_close(call(torch.eye(4)), torch.relu(again["0.weight"].T + again["0.bias"]))


@pytest.mark.parametrize("target", [torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)), 3])
def test_what_is_no_network_is_refused_where_weights_are_asked_for(tmp_path: Path, target: Any) -> None:
    masks = gpmt.Masks.from_dense({"weight": torch.eye(2, dtype=torch.bool)})
    masks.save(tmp_path / "masks.safetensors")
    sentence = f"^{re.escape(not_a_network(target))}$"
    with pytest.raises(GpmtError, match=sentence):
        gpmt.save_sparse(target, tmp_path / "a.sparse.safetensors")
    with pytest.raises(GpmtError, match=sentence):
        masks.apply_(target)
    with pytest.raises(GpmtError, match=sentence):
        gpmt.load(tmp_path / "masks.safetensors", weights=target)


def test_a_program_of_torch_export_has_one_mode() -> None:
    with (
        pytest.raises(
            GpmtError, match=r"is a program of torch\.export, whose mode is fixed; give the module"
        ),
        evaluating(programs()["graph of torch.fx"]),
    ):
        pass
    with pytest.raises(
        GpmtError, match=r"the network is a program of torch\.export, which hides its forward"
    ):
        gpmt.compile(programs()["program of torch.export"], torch.ones(1, 4))
    assert program_kind(nn.Linear(2, 2)) is None


def test_a_graph_of_torch_fx_with_layers_is_a_network() -> None:
    graph = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    assert gpmt.prune_(graph, sparsity=0.5).pruned == 8


def test_inputs_move_with_their_containers() -> None:
    like = torch.zeros(1, dtype=torch.float64)
    given = {"a": [torch.ones(2), (torch.ones(1, dtype=torch.int32), "text")], "b": None}
    result = moved(given, like)
    assert result["a"][0].dtype == torch.float64
    assert result["a"][1][0].dtype == torch.int32
    assert (result["a"][1][1], result["b"]) == ("text", None)
    assert moved(like, like) is like


def test_the_parts_of_what_networks_return() -> None:
    tensor = torch.ones(2)
    assert logits_of(tensor) is tensor
    assert logits_of(SimpleNamespace(logits=tensor)) is tensor
    assert logits_of({"logits": tensor}) is tensor
    assert logits_of((tensor, 1)) == (tensor, 1)
    assert part_of({"loss": tensor}, "loss") is tensor
    assert part_of(SimpleNamespace(loss=None), "loss") is None
    assert part_of(tensor, "loss") is None
