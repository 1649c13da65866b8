"""``gpmt plan``: decide which weights would be pruned, without pruning any."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpmt.atomic import check_output
from gpmt.cli.files import Force, refuse_existing
from gpmt.cli.narration import working
from gpmt.cli.options import (
    Allocation,
    AsJson,
    Calibrate,
    CalibrationBatch,
    CalibrationSamples,
    Exclude,
    Granularity,
    InputShape,
    MaxMacs,
    Minimums,
    ModelName,
    Pattern,
    Quiet,
    Scope,
    Scores,
    Seed,
    SequenceLength,
    ShowBlocks,
    Sparsities,
    Split,
    Verbose,
    Within,
    check_exists,
    examples,
    print_json,
)
from gpmt.cli.requests import plan_options, sparsities_of, sparsity_of, with_macs
from gpmt.cli.scoring import Scoring
from gpmt.errors import BudgetError

EXAMPLES = examples(
    "gpmt plan resnet50.pth --sparsity 0.9 --min-kept 0.05%",
    "gpmt plan vit.pth --sparsity '*.attn.*=0.8' --sparsity '*=0.9' --split '*.qkv.weight=q,k,v' --blocks",
    "gpmt plan resnet50.pth --sparsity 0.9 -o plan.json",
    "gpmt plan resnet20.pth -s 0.9 --model resnet20 --scores fisher --calibrate cifar10:cifar",
    "gpmt plan resnet50.pth --what-if --paths --model torchvision:resnet50",
    "gpmt plan vit.pth --what-if -s 0.8 -s 0.9 --at-least 5%",
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
    pattern: Pattern = None,
    max_macs: MaxMacs = None,
    allocation: Allocation = "exact",
    granularity: Granularity = "weight",
    seed: Seed = 0,
    scores: Scores = None,
    calibrate: Calibrate = None,
    samples: CalibrationSamples = 128,
    batch_size: CalibrationBatch = None,
    sequence_length: SequenceLength = None,
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
    what_if: Annotated[
        bool,
        typer.Option(
            "--what-if",
            help="A line for each of several sparsities: the usual ones, or those that --sparsity gives.",
            show_default=False,
        ),
    ] = False,
    at_least: Annotated[
        str, typer.Option(help="With --what-if: the share of its weights that every block is to keep.")
    ] = "1%",
    paths: Annotated[
        bool,
        typer.Option(
            "--paths",
            help="With --what-if: the effective sparsity too, which counts weights on no path from input to output "
            "as pruned. The network has to be known: --model.",
            show_default=False,
        ),
    ] = False,
    model: ModelName = None,
    input_shape: InputShape = None,
    blocks: ShowBlocks = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    force: Force = False,
) -> None:
    """Show how many weights every tensor would keep at a sparsity, and write the plan; nothing is pruned.

    --what-if tells of several sparsities how many blocks would be empty, and which minimum prevents it.

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
        pattern=pattern,
        max_macs=max_macs,
    )
    wanted = sparsity_of(sparsity) if sparsity and not what_if else None
    if what_if:
        if out is not None:
            raise BudgetError("--what-if compares plans and writes none; leave out one of --what-if and -o")
        several = sparsities_of(sparsity or [])
    elif paths:
        raise BudgetError("--paths belongs to --what-if; of a pruned file, gpmt verify --paths follows them")
    elif not (sparsity or pattern or max_macs):
        raise BudgetError("give --sparsity, such as 0.9, --pattern or --max-macs, or --what-if for several")
    if scores is not None and out is not None:
        raise BudgetError(
            "a plan that --scores ranks cannot be written, since its counts say nothing without them; leave out -o, "
            "or prune with gpmt prune --scores"
        )
    scoring = Scoring.of(
        scores=scores,
        calibrate=calibrate,
        samples=samples,
        batch_size=batch_size,
        sequence_length=sequence_length,
        seed=seed,
    )
    check_exists(source)
    if out is not None:
        refuse_existing(source, out, force=force)
        check_output(out)

    from gpmt.cli.network import find_network
    from gpmt.formats.load import load
    from gpmt.planning.what_if import what_if as compare
    from gpmt.prune import plan as make_plan
    from gpmt.terminal.plan_tables import print_plan, print_what_if
    from gpmt.terminal.tables import console

    silent = quiet or as_json
    with working(f"reading {source}", quiet=silent) as tell:
        checkpoint = load(source)
        network = find_network(checkpoint, model=model, input_shape=input_shape)
        prepared = scoring.prepare(checkpoint, network, model=model, tell=tell)
    macs = network.macs if network else None
    if what_if:
        if paths and network is None:
            raise BudgetError("--paths needs the network, which is not known; name it with --model")
        with working("comparing sparsities", quiet=silent) as tell:
            ranks = prepared.scores(sparsity=several[0] if several else 0, options=options, tell=tell)
            table = compare(
                prepared.target,
                several or None,
                at_least=at_least,
                macs=macs,
                paths=network.example if network and paths else None,
                scores=ranks,
                **options,
            )
        if as_json:
            print_json({"input": str(source), **table.to_dict(), **prepared.to_dict()})
        elif not quiet:
            print_what_if(table, out=console())
        return
    with working("choosing the weights to prune", quiet=silent) as tell:
        options = with_macs(options, network.example if network else None)
        ranks = prepared.scores(sparsity=wanted, options=options, tell=tell)
        decided = make_plan(prepared.target, sparsity=wanted, scores=ranks, **options)
    if out is not None:
        decided.save(out)
    if as_json:
        document = {"input": str(source), "output": None if out is None else str(out)}
        print_json(document | decided.to_dict() | {"dense_macs": macs} | prepared.to_dict())
    elif not quiet:
        print_plan(decided, macs=macs, blocks=blocks, out=console())
        if out is not None:
            console().print(f"wrote {out}; nothing is pruned")
