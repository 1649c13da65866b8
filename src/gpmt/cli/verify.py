"""``gpmt verify``: check a file against the sparsity, minimum and masks it should have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from gpmt.cli.narration import working
from gpmt.cli.options import (
    AsJson,
    Exclude,
    Granularity,
    InputShape,
    Minimums,
    ModelName,
    Pattern,
    Quiet,
    Scope,
    ShowBlocks,
    Split,
    Verbose,
    Within,
    check_exists,
    examples,
    print_json,
)
from gpmt.cli.requests import blocks_of, min_kept_of, sparsity_of
from gpmt.core.units.names import PLURALS, check_granularity

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gpmt.core.blocks.blocks import BlockRule
    from gpmt.core.units import names
    from gpmt.planning import groups
    from gpmt.verification import Verification

EXAMPLES = examples(
    "gpmt verify pruned.pth --sparsity 0.9 --min-kept 0.05%",
    "gpmt verify finetuned.pth --sparsity 0.9 --masks masks.safetensors",
    "gpmt verify pruned.pth --model torchvision:resnet50 --paths",
)


def verify(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="The checkpoint to check, or the folder of a run.")
    ],
    sparsity: Annotated[
        list[str] | None,
        typer.Option(
            "--sparsity",
            "-s",
            metavar="[PATTERN=]RATIO",
            help="The sparsity asked for: 0.9, 90% or 9/10; of groups PATTERN=RATIO, as gpmt prune takes it.",
        ),
    ] = None,
    min_kept: Minimums = None,
    masks: Annotated[
        Path | None, typer.Option(metavar="MASKS", help="Masks whose pruned weights must all be zero.")
    ] = None,
    scope: Scope = None,
    exclude: Exclude = None,
    split: Split = None,
    within: Within = "network",
    pattern: Pattern = None,
    granularity: Granularity = "weight",
    tolerance: Annotated[
        int, typer.Option(help="Weights (or other units) by which the total may differ.")
    ] = 0,
    blocks: ShowBlocks = False,
    paths: Annotated[
        bool,
        typer.Option(
            "--paths",
            help="Also look for dead outputs, and for weights on no path from input to output. It needs the "
            "network: --model, or a file or folder that names it.",
            show_default=False,
        ),
    ] = False,
    model: ModelName = None,
    input_shape: InputShape = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Check that zeros are exactly where they were promised: totals, minimums, masks, no dead layer.

    Exit code 0: all checks pass; 1: one fails; 2: the request or a file is not valid; 130: interrupted.
    """
    wanted = sparsity_of(sparsity) if sparsity else None
    minimum = min_kept_of(min_kept, unit=PLURALS[check_granularity(granularity)])
    divided = blocks_of(split)
    check_exists(path)

    from gpmt.verification import verify as run_checks

    with working(f"checking {path}", quiet=quiet or as_json):
        network = _network(path, model, input_shape) if paths or model or input_shape else None
        result = run_checks(
            path,
            sparsity=wanted,
            min_kept=minimum,
            masks=masks,
            scope=scope or None,
            exclude=exclude or (),
            blocks=divided,
            granularity=cast("names.Granularity", granularity),
            within=cast("groups.Within", within),
            pattern=pattern,
            tolerance=tolerance,
        )
        if network is not None:
            result = _add_paths(result, *network, masks, divided)
    if as_json:
        print_json({"file": str(path), **result.to_dict()})
    elif not quiet:
        from gpmt.terminal.tables import check_lines, console, count_table, density_curve

        screen = console()
        rows = result.tensors
        screen.print(count_table(rows, unit=result.unit, blocks=blocks, floors=result.floors, out=screen))
        if line := density_curve([row.kept for row in rows], [row.numel for row in rows], out=screen):
            screen.print(line)
        screen.print(check_lines(result))
        if result.judged is not None:
            screen.print(str(result.judged))
    if not result.ok:
        raise typer.Exit(1)


def _network(
    path: Path, model: str | None, input_shape: str | None
) -> tuple[nn.Module, Tensor | dict[str, Tensor]]:
    from gpmt.cli.network import network_and_example
    from gpmt.formats.load import load

    return network_and_example(load(path), model=model, input_shape=input_shape)


def _add_paths(
    result: Verification,
    network: nn.Module,
    example: Tensor | dict[str, Tensor],
    masks: Path | None,
    blocks: Mapping[str, BlockRule] | None,
) -> Verification:
    """Follow the paths through the tensors that were verified, or through all that the network calls otherwise."""
    from gpmt.masks import Masks
    from gpmt.verification import add_paths

    names = [row.name for row in result.tensors]
    if not {*names} <= dict(network.named_parameters(remove_duplicate=False)).keys():
        return add_paths(result, network, example)
    stored = None if masks is None else Masks.load(masks, of=network)
    return add_paths(result, network, example, masks=stored, scope=names, blocks=blocks)
