"""``gpmt prune``: prune a checkpoint, without data or training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from gpmt import allocations
from gpmt.cli.files import Force
from gpmt.cli.narration import working
from gpmt.cli.options import (
    AsJson,
    Exclude,
    Granularity,
    InputShape,
    MinKept,
    ModelName,
    Quiet,
    Scope,
    Sparsity,
    Verbose,
    check_exists,
    check_request,
    examples,
    print_json,
)
from gpmt.errors import CheckpointError

if TYPE_CHECKING:
    from gpmt.core.units import names

ALLOCATIONS = allocations.names()
_OTHER_SUFFIXES = (".bin", ".ckpt", ".h5", ".npz", ".onnx", ".pt2")
EXAMPLES = examples(
    "gpmt prune resnet50.pth -o pruned.pth --sparsity 0.9 --min-kept 0.05%",
    "gpmt prune model.safetensors -o pruned.safetensors --sparsity 90% --exclude 'classifier.*'",
    "gpmt prune resnet50.pth -o pruned.pth --sparsity 0.9 --model torchvision:resnet50 --input 3x224x224",
    "gpmt prune my-bert -o my-bert-sparse --sparsity 0.5",
    "gpmt prune rnn.pt -o out.pt --granularity column --scope W1 --scope U1 --sparsity 72/89 --min-kept 8",
)


def prune(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN", help="Weights: .pt, .pth, .safetensors, of any known tool, or a run's folder."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--output",
            "--out",
            "-o",
            metavar="OUT",
            help="File to write; its suffix is the format, such as .pth or .sparse.safetensors. Of a Hugging Face "
            "folder also a folder, which opens like IN.",
        ),
    ],
    sparsity: Sparsity,
    min_kept: MinKept = "0",
    scope: Scope = None,
    exclude: Exclude = None,
    allocation: Annotated[
        str, typer.Option(help=f"{', '.join(ALLOCATIONS[:-1])} or {ALLOCATIONS[-1]}.")
    ] = "exact",
    granularity: Granularity = "weight",
    seed: Annotated[int, typer.Option(help="For allocations that draw at random.")] = 0,
    masks_file: Annotated[
        Path | None, typer.Option("--masks", metavar="FILE", help="Write the masks too, to fine-tune with.")
    ] = None,
    model: ModelName = None,
    input_shape: InputShape = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    force: Force = False,
) -> None:
    """Prune a checkpoint to exactly the sparsity asked for, and write it to OUT.

    The smallest magnitudes of the whole network go to zero; --min-kept guarantees every layer its largest
    weights. Everything else in the file is kept.
    """
    from gpmt.atomic import check_output
    from gpmt.formats.file_format import is_hub_folder
    from gpmt.formats.run_result import weights_file
    from gpmt.formats.suffixes import SUFFIXES, check_suffix

    check_request(sparsity=sparsity, min_kept=min_kept, granularity=granularity)
    allocations.check_name(allocation)
    to_folder = is_hub_folder(weights_file(source)) and out.suffix.lower() not in (
        *SUFFIXES,
        *_OTHER_SUFFIXES,
    )
    if not to_folder:
        check_suffix(out)
    if masks_file is not None and check_output(masks_file) in (out.resolve(), weights_file(source).resolve()):
        raise CheckpointError(
            f"--masks is {masks_file}, which is IN or OUT; give the masks a file of their own"
        )
    for path in (out, masks_file):
        if path is not None and path.exists() and not force:
            raise CheckpointError(f"{path} exists; give another name, or --force to replace it")
    check_exists(source)

    from gpmt.cli.network import find_network
    from gpmt.formats.checkpoint import save_checkpoint
    from gpmt.formats.exporters.hub_copy import check_copy, copy_hub_folder
    from gpmt.formats.load import load
    from gpmt.prune import plan

    silent = quiet or as_json
    with working(f"reading {source}", quiet=silent):
        checkpoint = load(source)
        if to_folder:
            check_copy(checkpoint, out, force=force)
        network = find_network(checkpoint, model=model, input_shape=input_shape)
    with working("choosing the weights to prune", quiet=silent):
        decided = plan(
            network.module if network else checkpoint.state_dict,
            sparsity=sparsity,
            min_kept=min_kept,
            scope=scope or None,
            exclude=tuple(exclude or ()),
            allocation=allocation,
            granularity=cast("names.Granularity", granularity),
            seed=seed,
        )
        masks = decided.masks()
        masks.apply_(checkpoint.state_dict)
        checkpoint.masks = masks
        zeros = masks.total_numel - sum(int(checkpoint.state_dict[name].count_nonzero()) for name in masks)
    with working(f"writing {out}", quiet=silent):
        if masks_file is not None:
            masks.save(masks_file)
        left_out: tuple[str, ...] = ()
        if to_folder:
            left_out = copy_hub_folder(checkpoint, out, force=force)
        else:
            save_checkpoint(out, checkpoint)

    macs = network.macs if network else None
    if as_json:
        document: dict[str, Any] = {"input": str(source), "output": str(out)}
        document |= {
            "masks": str(masks_file) if masks_file else None,
            **decided.to_dict(),
            "zeros": zeros,
            "left_out": list(left_out),
            "dense_macs": macs,
        }
        print_json(document)
    elif not quiet:
        from gpmt.report.tables import console, plan_table

        screen = console()
        screen.print(plan_table(decided, macs=macs, out=screen))
        screen.print(decided.summary())
        screen.print(str(decided.judged))
        if zeros > masks.total_pruned:
            screen.print(
                f"note: {zeros:,} weights are zero, {zeros - masks.total_pruned:,} more than asked for, because they "
                f"were zero before; the file is {zeros / masks.total_numel:.4%} sparse"
            )
        screen.print(f"wrote {out}" + (f" and {masks_file}" if masks_file else ""))
        if left_out:
            screen.print(f"left out, since it would hold the weights of before: {', '.join(left_out)}")
        if checkpoint.other_keys:
            torch_file = out.suffix.lower() != ".safetensors"
            fate = "also in it, as before" if torch_file else "left out, since safetensors holds only tensors"
            screen.print(f"{fate}: {', '.join(checkpoint.other_keys)}")
