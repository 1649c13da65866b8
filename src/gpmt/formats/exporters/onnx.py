"""ONNX: a network that other runtimes open, its weights under their names and with their zeros.

The exporter of PyTorch is told not to optimise, since its optimiser folds batch norms into convolutions and
transposes weights, under new names. Only constants that no parameter goes into are folded here; runtimes do the rest
when they load the file.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gpmt.atomic import atomic_path, check_output
from gpmt.errors import CheckpointError, first_sentence
from gpmt.extras import missing
from gpmt.formats.exporters.exported_network import ExportedNetwork, exported
from gpmt.formats.exporters.roundtrip import TOLERANCE, Report, check_outputs, check_weights, tensors
from gpmt.model_tools import Example, quiet

OLDEST_OPSET = 18
"""The oldest that torch.onnx writes by itself."""

LIMIT = 2**31 - 2**20
"""Bytes of weights that fit into one file, which protobuf limits to 2 GiB, beside the graph."""


@dataclass(frozen=True)
class OnnxReport(Report):
    """What `export_onnx` wrote.

    Attributes:
        opset: the version of the operators.
        inputs, outputs: their shapes by name; the dynamic dimension is "batch".
    """

    opset: int
    inputs: dict[str, tuple[int | str, ...]]
    outputs: dict[str, tuple[int | str, ...]]


def export_onnx(
    module: nn.Module,
    path: str | os.PathLike[str],
    example: Example,
    *,
    check: bool = True,
    opset: int | None = None,
    tolerance: float = TOLERANCE,
) -> OnnxReport:
    """Write a network as ONNX for batches of any size, atomically, and verify the file.

    The network is exported in evaluation mode, and is afterwards as it was. All weights are inside the file, and each
    prunable tensor must be there bit for bit. Nothing of the example is written but its shapes.

    Args:
        module: the network; wrappers of `DataParallel` and `torch.compile` are taken off.
        path: the file, usually ``.onnx``.
        example: inputs with a batch dimension of any size: a tensor, a tuple of tensors, or a dict by the names of
            the arguments, as networks of transformers take.
        check: also run the file with onnxruntime, and compare its outputs with PyTorch's for batches of 1 and 3.
        opset: the version of ONNX's operators, at least 18; by default what torch.onnx takes.
        tolerance: how far an output may differ in that check, as a fraction of its largest magnitude. Rounding alone
            takes most networks 1e-7 to 1e-6 apart, and further those that amplify it.

    Raises:
        CheckpointError: a package that is missing, an example that does not fit, an operator that ONNX does not have,
            weights of more than 2 GiB, a file that cannot be written or that fails a check.
        ScopeError: the network has no prunable tensor, or a reparametrised one.
    """
    need("onnx", "onnxscript", *(["onnxruntime"] if check else []))
    import onnx

    check_output(path)
    newest = onnx.defs.onnx_opset_version()
    if opset is not None and not OLDEST_OPSET <= opset <= newest:
        raise CheckpointError(f"opset is {opset}, but must be from {OLDEST_OPSET} to {newest}")
    size = sum(t.numel() * t.element_size() for t in {*module.parameters(), *module.buffers()})
    if size > LIMIT:
        raise CheckpointError(
            f"the weights take {size:,} bytes, but one ONNX file holds {LIMIT:,}; export a torch.export program "
            "instead"
        )
    with exported(module, example) as network, atomic_path(path) as temporary:
        proto = _convert(network, opset)
        temporary.write_bytes(proto.SerializeToString(deterministic=True))
        written = onnx.load(temporary)
        _valid(written, path)
        found = written.opset_import[0].version
        if opset not in (None, found):
            raise CheckpointError(
                f"the network cannot be written in opset {opset}, only in {found}; leave out opset"
            )
        stored = {initializer.name: _tensor(initializer) for initializer in written.graph.initializer}
        counts = check_weights(network, stored, path)
        errors = _check_runtime(network, temporary, path, tolerance) if check else {}
        return OnnxReport(
            path=Path(path),
            bytes=temporary.stat().st_size,
            opset=found,
            inputs={value.name: _shape(value) for value in written.graph.input},
            outputs={value.name: _shape(value) for value in written.graph.output},
            tensors=counts,
            unused=tuple(name for name in network.scope.tensors if name not in counts),
            errors=errors,
        )


def need(*packages: str) -> None:
    """Raise `CheckpointError` for the first of these packages that is not installed."""
    for package in packages:
        try:
            import_module(package)
        except ModuleNotFoundError:
            raise CheckpointError(missing(package)) from None


def _convert(network: ExportedNetwork, opset: int | None) -> Any:
    """Translate the graph into an onnx.ModelProto with short names, and without paths of source files."""
    from onnx_ir.passes import common
    from onnxscript import optimizer

    parameters = {name for name, _ in network.module.named_parameters(remove_duplicate=False)}

    def should_fold(node: Any) -> bool | None:
        """Return False for what is computed from parameters, None (the optimiser decides) for the rest."""
        return False if any(value is not None and value.name in parameters for value in node.inputs) else None

    with quiet("torch.onnx", "onnxscript", "onnx_ir"), warnings.catch_warnings():
        # PyTorch 2.10 warns of its own copies of graphs.
        warnings.filterwarnings("ignore", r".isinstance\(treespec, LeafSpec\)", FutureWarning)
        try:
            program = torch.onnx.export(
                network.program, dynamo=True, optimize=False, verbose=False, opset_version=opset
            )
        except Exception as error:  # an operator's translation can raise anything
            raise CheckpointError(f"{type(network.module).__name__} {_obstacle(error)}") from error
        assert program is not None
        model: Any = program.model
        names = [value.name for value in model.graph.inputs]
        optimizer.inline(model)
        optimizer.fold_constants(model, should_fold=should_fold)
        tidy: tuple[Any, ...] = (
            common.RemoveUnusedNodesPass,
            common.RemoveUnusedFunctionsPass,
            common.RemoveUnusedOpsetsPass,
            common.ClearMetadataAndDocStringPass,
            common.OutputFixPass,  # an input that is an output too, or one output twice
        )
        for make in tidy:
            make()(model)
        for value, name in zip(model.graph.outputs, _output_names(network.outputs(1)), strict=True):
            if not value.is_initializer():
                value.name = f"{name}_output" if name in names or name in model.graph.initializers else name
        for value, name in zip(model.graph.inputs, names, strict=True):
            value.name = name
        proto = program.model_proto
    _name_batch(proto)
    return proto


def _output_names(outputs: object) -> list[str]:
    """Name the outputs: by their keys where a network returns some, else "output" or "output_0" and so on."""
    if isinstance(outputs, Mapping) and all(isinstance(value, Tensor) for value in outputs.values()):
        return list(map(str, outputs))
    count = len(tensors(outputs))
    return ["output"] if count == 1 else [f"output_{i}" for i in range(count)]


def _name_batch(proto: Any) -> None:
    """Call the dynamic dimension "batch", which torch.export calls something like "s77"."""
    symbol = proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in [*proto.graph.input, *proto.graph.output, *proto.graph.value_info]:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = re.sub(rf"\b{re.escape(symbol)}\b", "batch", dimension.dim_param)


def _obstacle(error: BaseException) -> str:
    """Return the operator that could not be translated, from the innermost of a chain of errors."""
    while error.__cause__ is not None:
        error = error.__cause__
    if match := re.search(r"OpOverload\(op='(.+?)', overload='(.+?)'\)", str(error)):
        name = match[1] if match[2] == "default" else f"{match[1]}.{match[2]}"
        return (
            f"uses the operator {name}, for which torch.onnx has no translation; replace it in the network, or "
            "export a torch.export program instead"
        )
    return f"cannot be translated to ONNX: {first_sentence(error)}; export a torch.export program instead"


def _valid(proto: Any, path: str | os.PathLike[str]) -> None:
    import onnx

    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise CheckpointError(
            f"{path} would not be valid ONNX ({first_sentence(error)}); nothing was written, "
            "export a torch.export program instead"
        ) from error


def _check_runtime(
    network: ExportedNetwork, file: Path, path: str | os.PathLike[str], tolerance: float
) -> dict[int, float]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised

    def outputs_of(size: int) -> Sequence[Tensor]:
        positional, named = network.inputs(size)
        given = {**dict(zip(names, positional, strict=False)), **named}
        feed = {name: tensor.cpu().numpy() for name, tensor in given.items() if name in names}
        return [torch.from_numpy(output) for output in session.run(None, feed)]

    try:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_inputs()]
        return check_outputs(network, outputs_of, path, reader="onnxruntime", tolerance=tolerance)
    except CheckpointError:
        raise
    except Exception as error:  # onnxruntime has a class for each of its codes
        raise CheckpointError(
            f"{path} does not run with onnxruntime ({first_sentence(error)}); nothing was written; leave the check "
            "out where another runtime is meant"
        ) from error


def _tensor(initializer: Any) -> Tensor:
    """Read an initialiser as a tensor; bfloat16 goes through integers, as NumPy does not have it."""
    import numpy as np
    from onnx import TensorProto, numpy_helper

    array = np.array(numpy_helper.to_array(initializer))
    if initializer.data_type == TensorProto.BFLOAT16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _shape(value: Any) -> tuple[int | str, ...]:
    return tuple(d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim)
