"""``gpmt plan``: decide which weights would be pruned, without pruning any."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpmt.cli.files import Force, refuse_existing
from gpmt.cli.narration import working
from gpmt.cli.options import (
    Allocation,
    AsJson,
    Exclude,
    Granularity,
    InputShape,
    Minimums,
    ModelName,
    Quiet,
    Scope,
    Seed,
    ShowBlocks,
    Sparsities,
    Split,
    Verbose,
    Within,
    check_exists,
    examples,
    print_json,
)
from gpmt.cli.requests import plan_options, sparsity_of
from gpmt.errors import BudgetError

EXAMPLES = examples(
    "gpmt plan resnet50.pth --sparsity 0.9 --min-kept 0.05%",
    "gpmt plan vit.pth --sparsity '*.attn.*=0.8' --sparsity '*=0.9' --split '*.qkv.weight=q,k,v' --blocks",
    "gpmt plan resnet50.pth --sparsity 0.9 -o plan.json",
)


def plan(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN", help="Weights: .pt, .pth, .safetensors, of any known tool, or a run's folder."
        ),
    ],
    sparsity: Sparsities = None,
    min_kept: Minimums = None,
    scope: Scope = None,
    exclude: Exclude = None,
    within: Within = "network",
    split: Split = None,
    allocation: Allocation = "exact",
    granularity: Granularity = "weight",
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "--out",
            "-o",
            metavar="PLAN",
            help="Write the plan as JSON: how many weights every block keeps. Edit it, and give it to gpmt prune.",
        ),
    ] = None,
    model: ModelName = None,
    input_shape: InputShape = None,
    blocks: ShowBlocks = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    force: Force = False,
) -> None:
    """Show how many weights every tensor would keep at a sparsity, and write the plan; nothing is pruned.

    The numbers in the plan may be edited, as long as they add up to its totals; gpmt prune --plan prunes to
    exactly these.
    """
    options = plan_options(
        min_kept=min_kept,
        scope=scope,
        exclude=exclude,
        split=split,
        within=within,
        allocation=allocation,
        granularity=granularity,
        seed=seed,
    )
    if not sparsity:
        raise BudgetError("give --sparsity, such as 0.9")
    wanted = sparsity_of(sparsity)
    check_exists(source)
    if out is not None:
        from gpmt.atomic import check_output

        refuse_existing(source, out, force=force)
        check_output(out)

    from gpmt.cli.network import find_network
    from gpmt.formats.load import load
    from gpmt.prune import plan as make_plan

    silent = quiet or as_json
    with working(f"reading {source}", quiet=silent):
        checkpoint = load(source)
        network = find_network(checkpoint, model=model, input_shape=input_shape)
    with working("choosing the weights to prune", quiet=silent):
        target = network.module if network else checkpoint.state_dict
        decided = make_plan(target, sparsity=wanted, **options)
    if out is not None:
        decided.save(out)
    macs = network.macs if network else None
    if as_json:
        document = {"input": str(source), "output": None if out is None else str(out)}
        print_json(document | decided.to_dict() | {"dense_macs": macs})
    elif not quiet:
        from gpmt.report.plan_tables import print_plan
        from gpmt.report.tables import console

        print_plan(decided, macs=macs, blocks=blocks, out=console())
        if out is not None:
            typer.echo(f"wrote {out}; nothing is pruned")
