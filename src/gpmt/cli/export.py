"""``gpmt export``: a network for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from gpmt.cli.files import (
    Force,
    KeepSignedZeros,
    SkipBad,
    Source,
    Values,
    Weights,
    about_signs,
    disk_size,
    read,
    refuse_existing,
)
from gpmt.cli.narration import working
from gpmt.cli.options import AsJson, InputShape, ModelName, Quiet, Verbose, check_exists, examples, print_json
from gpmt.errors import CheckpointError

if TYPE_CHECKING:
    from gpmt.cli.hub_source import HubSource
    from gpmt.cli.network import Network
    from gpmt.formats.bits import SignedZeros
    from gpmt.formats.checkpoint import Checkpoint
    from gpmt.formats.exporters.roundtrip import Report

EXAMPLES = examples(
    "gpmt export sparse pruned.pt -o model.sparse.safetensors --values fp16",
    "gpmt export onnx pruned.pth -o model.onnx --model torchvision:resnet50 --input 3x224x224",
    "gpmt export program runs/cifar10-resnet20 -o resnet20.pt2",
    "gpmt export runtime pruned.pth -o model.program.safetensors --model torchvision:resnet50 --input 3x224x224",
    "gpmt export hub pruned.pt -o my-bert-sparse --model hf:my-bert",
    "gpmt export csr pruned.pt -o model.csr.pt",
)
WEIGHTS_ALONE = ("sparse", "dense", "csr", "csc")
FORMATS = ("sparse", "dense", "onnx", "program", "runtime", "hub", "csr", "csc")


def export(
    kind: Annotated[str, typer.Argument(metavar="FORMAT", help=f"One of {', '.join(FORMATS)}.")],
    source: Source,
    out: Annotated[
        Path, typer.Option("--output", "--out", "-o", metavar="OUT", help="File, or folder of hub, to write.")
    ],
    card: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a model card too: Markdown with the table of sparsity."),
    ] = None,
    model: ModelName = None,
    input_shape: InputShape = None,
    values: Values = "exact",
    keep_signed_zeros: KeepSignedZeros = False,
    tolerance: Annotated[
        float,
        typer.Option(
            help="Largest difference from PyTorch, of the largest output, for onnx, program and runtime."
        ),
    ] = 1e-5,
    opset: Annotated[int | None, typer.Option(help="Version of ONNX's operators, at least 18.")] = None,
    weights: Weights = None,
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    force: Force = False,
) -> None:
    """Write weights, or the network they belong to, for other programs.

    sparse: kept values and coded masks, a fraction of the size. dense: plain weights, by the suffix of OUT. onnx,
    program (torch.export) and runtime (gpmt.load_program): the network too, compared with PyTorch; they need --model
    where the file does not name it. hub: a folder as the Hugging Face hub has it, with the config, tokenizer and
    other files of IN, or of FOLDER with --model hf:FOLDER. csr, csc: PyTorch's sparse tensors.
    """
    from gpmt.formats.suffixes import check_format_suffix

    if kind not in FORMATS:
        raise CheckpointError(f"FORMAT is {kind}, but must be one of {', '.join(FORMATS)}")
    if values != "exact" and kind != "sparse":
        raise CheckpointError(f"--values {values} is for sparse files, not for {kind}; leave it out")
    if keep_signed_zeros and kind not in ("sparse", "csr", "csc"):
        raise CheckpointError(
            f"--keep-signed-zeros is for sparse, csr and csc; leave it out, {kind} keeps them"
        )
    check_format_suffix(out, kind)
    refuse_existing(source, None if kind == "hub" else out, card, force=force)
    check_exists(source)
    silent = quiet or as_json
    checkpoint = read(source, weights=weights, skip_bad=skip_bad, quiet=silent)
    network = _network(kind, checkpoint, model, input_shape)
    with working(f"writing {out}", quiet=silent):
        facts = _write(
            kind,
            checkpoint,
            network,
            out,
            values=values,
            signs="keep" if keep_signed_zeros else "drop",
            opset=opset,
            tolerance=tolerance,
            force=force,
        )
        if card is not None:
            _write_card(card, checkpoint, "model.safetensors" if kind == "hub" else out.name)
    if as_json:
        document = {"input": str(source), "source": checkpoint.source, "format": kind, "output": str(out)}
        print_json(
            document | facts | {"card": str(card) if card else None, "left_out": dict(checkpoint.damaged)}
        )
    elif not quiet:
        from gpmt.terminal.tables import console

        screen = console()
        screen.print(f"wrote {out}: {_describe(facts, values)}")
        if card is not None:
            screen.print(f"and {card}")


def _network(
    kind: str, checkpoint: Checkpoint, model: str | None, shape: str | None
) -> Network | HubSource | None:
    """Build the network that the weights belong to; for a hub folder, find what goes into it."""
    if kind in WEIGHTS_ALONE:
        return None
    if kind == "hub":
        from gpmt.cli.hub_source import find_hub_source

        return find_hub_source(checkpoint, model=model, input_shape=shape)
    from gpmt.cli.network import require_network

    return require_network(checkpoint, model=model, input_shape=shape)


def _write(
    kind: str,
    checkpoint: Checkpoint,
    network: Network | HubSource | None,
    out: Path,
    *,
    values: str,
    signs: SignedZeros,
    opset: int | None,
    tolerance: float,
    force: bool,
) -> dict[str, Any]:
    """Write OUT, and return the facts to print about it."""
    if kind == "sparse":
        from gpmt.formats.checkpoint import write_sparse
        from gpmt.formats.sparse.header import Values as Kinds

        size = write_sparse(out, checkpoint, cast("Kinds", values), signs)
        return {
            "bytes": size.bytes,
            "dense_bytes": size.dense_bytes,
            "error": size.error,
            "negative_zeros": size.negative_zeros,
        }
    if kind == "dense":
        from gpmt.formats.checkpoint import save_checkpoint
        from gpmt.formats.suffixes import SPARSE_SUFFIX

        if out.name.lower().endswith(SPARSE_SUFFIX):
            raise CheckpointError(f"{out} has the suffix of sparse files; give a dense file another name")
        save_checkpoint(out, checkpoint)
    elif kind in ("csr", "csc"):
        from gpmt.formats.exporters.csr import export_csr

        layout: Any = kind
        dropped = export_csr(
            checkpoint.state_dict, out, masks=checkpoint.masks, layout=layout, signed_zeros=signs
        )
        return {"bytes": disk_size(out), "negative_zeros": dropped}
    elif kind == "hub":
        return _write_hub(cast("HubSource", network), out, force)
    else:
        return _write_network(kind, cast("Network", network), out, opset, tolerance)
    return {"bytes": disk_size(out)}


def _write_hub(found: HubSource, out: Path, force: bool) -> dict[str, Any]:
    from gpmt.formats.exporters.hub import export_hub

    export_hub(found.weights, out, beside=found.beside, without=found.without, force=force)
    return {"bytes": disk_size(out), "beside": str(found.beside) if found.beside else None}


def _write_network(
    kind: str, network: Network, out: Path, opset: int | None, tolerance: float
) -> dict[str, Any]:
    if kind == "runtime":
        return _write_runtime(network, out, tolerance)
    from gpmt.formats.exporters.onnx import export_onnx
    from gpmt.formats.exporters.torch_export import export_program

    module, example = network.module, network.example
    report: Report
    if kind == "onnx":
        report = export_onnx(module, out, example, opset=opset, tolerance=tolerance)
    else:
        report = export_program(module, out, example, tolerance=tolerance)
    return {
        "bytes": report.bytes,
        "weights": report.weights,
        "zeros": report.zeros,
        "error": max(report.errors.values(), default=0.0),
    }


def _write_runtime(network: Network, out: Path, tolerance: float) -> dict[str, Any]:
    import torch

    from gpmt.cli.engines import call_engine, difference, random_inputs
    from gpmt.runtime.program import compile

    module, inputs = network.module.eval(), random_inputs(network.example)
    program = compile(module, inputs, tune=False)
    with torch.no_grad():
        error = difference(call_engine(program, inputs), call_engine(module, inputs))
    if not error <= tolerance:
        raise CheckpointError(
            f"{out} would give other outputs than the network, by {error:.1e} of the largest ({tolerance:.0e} is "
            "allowed); nothing was written, raise the tolerance if that will do"
        )
    size = program.save(out)
    on_torch = sum(len(label.split(", ")) for label, _ in program.fallbacks)
    return {"bytes": size.bytes, "dense_bytes": size.dense_bytes, "on_pytorch": on_torch, "error": error}


def _write_card(card: Path, checkpoint: Checkpoint, file: str) -> None:
    from gpmt.atomic import atomic_path
    from gpmt.formats.exporters.card import model_card

    text = model_card(checkpoint, name=file.split(".")[0], file=file)
    with atomic_path(card) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _describe(facts: dict[str, Any], values: str) -> str:
    """Say in words what was written, from the facts that a kind of file has."""
    text = f"{facts['bytes']:,} bytes"
    if dense := facts.get("dense_bytes"):
        text += f", {facts['bytes'] / dense:.1%} of the {dense:,} that its tensors take in memory"
    if "zeros" in facts:
        text += f"\n{facts['zeros']:,} of its {facts['weights']:,} prunable weights are zero"
    if beside := facts.get("beside"):
        text += f"\nits config, tokenizer and other files are those of {beside}"
    if on_pytorch := facts.get("on_pytorch"):
        text += f"\n{on_pytorch:,} {'operators run' if on_pytorch > 1 else 'operator runs'} on PyTorch"
    if "negative_zeros" not in facts and "error" in facts:
        text += f"\nits outputs differ from PyTorch's by at most {facts['error']:.1e} of the largest"
    elif facts.get("error"):
        text += f"\nits values are {values}, which changes a weight by {facts['error']:.3g} at most"
    elif "error" in facts:
        text += "\nits values are exact"
    return text + about_signs(facts.get("negative_zeros", 0))
