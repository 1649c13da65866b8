"""``gpmt convert``: from the files of any tool to plain or sparse weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from gpmt.cli.files import (
    Force,
    KeepSignedZeros,
    SkipBad,
    Source,
    Values,
    Weights,
    about_signs,
    read,
    refuse_existing,
)
from gpmt.cli.narration import working
from gpmt.cli.options import AsJson, Quiet, Verbose, check_exists, examples, print_json
from gpmt.errors import CheckpointError

EXAMPLES = examples(
    "gpmt convert pruned.pt model.sparse.safetensors",
    "gpmt convert model.sparse.safetensors model.pt",
    "gpmt convert lightning.ckpt model.pt --masks masks.safetensors",
    "gpmt convert weight_mask.npy pruned.pt --weights resnet50.pth",
    "gpmt convert damaged.sparse.safetensors rescued.pt --skip-bad",
)


def convert(
    source: Source,
    out: Annotated[
        Path | None,
        typer.Argument(
            metavar="[OUT]",
            help="File to write; its suffix is the format: .pt, .pth, .th, .tar, .safetensors or "
            ".sparse.safetensors.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "--out", "-o", metavar="OUT", help="The same as OUT, as elsewhere."),
    ] = None,
    weights: Weights = None,
    masks_file: Annotated[
        Path | None, typer.Option("--masks", metavar="FILE", help="Write the masks too, if IN has some.")
    ] = None,
    values: Values = "exact",
    keep_signed_zeros: KeepSignedZeros = False,
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    force: Force = False,
) -> None:
    """Read weights of any tool, with their masks, and write them as plain or sparse weights.

    It reads torch.save, safetensors, sparse files, Hugging Face folders, ONNX, torch.nn.utils.prune, Lightning,
    SparseML, NNCF, fasterai, compressed-tensors, and masks of NNI and the published scripts; `gpmt export` writes for
    other programs.
    """
    from gpmt.formats.suffixes import SPARSE_SUFFIX, check_suffix

    if (out is None) == (output is None):
        raise CheckpointError("give the file to write once, as OUT or with -o")
    out = output if out is None else out
    assert out is not None
    check_suffix(out)
    refuse_existing(source, out, masks_file, force=force)
    sparse = out.name.lower().endswith(SPARSE_SUFFIX)
    if values != "exact" and not sparse:
        raise CheckpointError(f"--values {values} is for sparse files; let {out} end in {SPARSE_SUFFIX}")
    if keep_signed_zeros and not sparse:
        raise CheckpointError(f"--keep-signed-zeros is for sparse files; leave it out, {out} keeps them")
    check_exists(source)

    from gpmt.formats.bits import SignedZeros
    from gpmt.formats.checkpoint import save_checkpoint, write_sparse
    from gpmt.formats.sparse.header import Values as Kinds

    silent = quiet or as_json
    checkpoint = read(source, weights=weights, skip_bad=skip_bad, quiet=silent)
    if masks_file is not None and checkpoint.masks is None:
        raise CheckpointError(
            f"{source} has no masks beside its zeros ({checkpoint.source}); leave out --masks"
        )
    error, negative_zeros = 0.0, 0
    with working(f"writing {out}", quiet=silent):
        if masks_file is not None and checkpoint.masks is not None:
            checkpoint.masks.save(masks_file)
        if sparse:
            signs: SignedZeros = "keep" if keep_signed_zeros else "drop"
            size = write_sparse(out, checkpoint, cast("Kinds", values), signs)
            error, negative_zeros = size.error, size.negative_zeros
        else:
            save_checkpoint(out, checkpoint)

    masks = checkpoint.masks
    document: dict[str, Any] = {
        "input": str(source),
        "source": checkpoint.source,
        "output": str(out),
        "bytes": out.stat().st_size,
        "tensors": len(checkpoint.state_dict),
        "masks": None if masks is None else len(masks),
        "pruned": None if masks is None else masks.total_pruned,
        "error": error,
        "negative_zeros": negative_zeros,
        "left_out": dict(checkpoint.damaged),
    }
    if as_json:
        print_json(document)
    elif not quiet:
        from gpmt.terminal.tables import console

        screen = console()
        screen.print(f"{source}: {checkpoint.source}, {len(checkpoint.state_dict)} tensors")
        if masks is not None:
            screen.print(f"its masks prune {masks.total_pruned:,} of {masks.total_numel:,} weights")
        rounded = f"; largest rounding error {error:.3g}" if error else ""
        screen.print(
            f"wrote {out}, {out.stat().st_size:,} bytes{rounded}"
            + (f", and {masks_file}" if masks_file else "")
            + about_signs(negative_zeros)
        )
