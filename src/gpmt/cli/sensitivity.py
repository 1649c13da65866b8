"""``gpmt sensitivity``: how much each block of a network can be pruned alone, and the plan that this suggests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gpmt.atomic import atomic_path, check_output
from gpmt.cli.files import Force, refuse_existing
from gpmt.cli.measuring import IMAGES, RECALIBRATION, Progress, Request
from gpmt.cli.narration import working
from gpmt.cli.options import (
    AsJson,
    CalibrationBatch,
    Exclude,
    InputShape,
    Minimums,
    ModelName,
    Quiet,
    Scope,
    SequenceLength,
    Split,
    Verbose,
    check_exists,
    examples,
    print_json,
)
from gpmt.cli.requests import blocks_of, min_kept_of
from gpmt.core.budget.budget import parse_sparsity
from gpmt.errors import BudgetError, CheckpointError
from gpmt.warning import warn

if TYPE_CHECKING:
    from gpmt.planning.plan import Plan
    from gpmt.sensitivities.result import Metric, Sensitivity

EXAMPLES = examples(
    "gpmt sensitivity resnet20.pth --model resnet20 --data cifar10:cifar -o sensitivity.json",
    "gpmt sensitivity runs/digits --data digits --images 200 --sparsities 80%,90%,95% --metric loss",
    "gpmt sensitivity resnet20.pth --model resnet20 -o sensitivity.json --resume --suggest 0.9 --plan plan.json",
    "gpmt sensitivity my-llm --data text.txt --images 32 --blocks '*.q_proj' -o sensitivity.json",
)


def sensitivity(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Weights of a known network, a Hugging Face folder, or a run's folder."
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="What the network is run on: NAME:FOLDER of a data set such as cifar10, imagefolder or hf, whose "
            "training samples are used; digits; or for a language model a text (.txt, or .jsonl).",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help=f"Samples, or sequences of tokens, always the same ones; usually {IMAGES:,}.",
            show_default=False,
        ),
    ] = None,
    batch_size: CalibrationBatch = None,
    sequence_length: SequenceLength = None,
    sparsities: Annotated[
        str | None,
        typer.Option(
            "--sparsities",
            "-s",
            metavar="LIST",
            help="Fractions of each block to prune; usually 50%,70%,80%,90%,95%,98%,99%.",
            show_default=False,
        ),
    ] = None,
    blocks: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Measure only these blocks: a name, a glob, or re:REGEX; may be given several times.",
            show_default=False,
        ),
    ] = None,
    scope: Scope = None,
    exclude: Exclude = None,
    split: Split = None,
    metric: Annotated[
        Literal["top1", "loss"] | None,
        typer.Option(
            metavar="NAME",
            help="What is shown: top1 or loss; both are measured. Usually top1, for language models loss.",
            show_default=False,
        ),
    ] = None,
    recalibrate: Annotated[
        bool | None,
        typer.Option(
            "--recalibrate/--no-recalibrate",
            help=f"Measure the statistics of batch normalisation again each time, on {RECALIBRATION} of the samples; "
            "on where there are any.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "--out",
            "-o",
            metavar="OUT",
            help="Write what is measured as JSON, after each block.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with what OUT holds, and take from it what is not said again: data, images, sparsities.",
            show_default=False,
        ),
    ] = False,
    suggest: Annotated[
        str | None,
        typer.Option(
            metavar="RATIO",
            help="Share out this sparsity of the whole scope so that the measured losses add up to least.",
            show_default=False,
        ),
    ] = None,
    min_kept: Minimums = None,
    plan: Annotated[
        Path | None,
        typer.Option(
            metavar="PLAN", help="Write what --suggest comes to, for gpmt prune --plan.", show_default=False
        ),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw it, as .svg, .pdf or .png: a line for each block, a field for each sparsity.",
            show_default=False,
        ),
    ] = None,
    model: ModelName = None,
    input_shape: InputShape = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    force: Force = False,
) -> None:
    """Measure the accuracy with each block pruned alone, at several sparsities, and suggest how to share them out.

    Everything else stays dense, and FILE is not changed. The time is that of one evaluation for each block and
    sparsity, and of the recalibration. Training samples are used, so that the test data can judge the result.

    --suggest assumes that losses add, which holds less, the more is pruned: measure what comes of the plan.
    """
    wanted = None if suggest is None else parse_sparsity(suggest)
    if wanted is None and (plan is not None or min_kept):
        given = "--plan" if plan is not None else "--min-kept"
        raise BudgetError(f"{given} belongs to --suggest; give it too, such as --suggest 0.9")
    options: dict[str, Any] = {"scope": scope or None, "exclude": exclude or (), "blocks": blocks_of(split)}
    minimum = min_kept_of(min_kept)
    check_exists(source)
    _check_outputs(source, out, [plan, figure], resume=resume, force=force)
    picture = None if figure is None else _format(figure)
    going_on = resume and out is not None and out.exists()
    request = Request(data, images, batch_size, sequence_length, model, sparsities, recalibrate)
    request.check(going_on=going_on)

    from gpmt.cli.network import find_network
    from gpmt.cli.scoring import make_runnable, read_batches
    from gpmt.formats.hub_network import quiet_transformers
    from gpmt.formats.load import load
    from gpmt.sensitivities.measure import measure
    from gpmt.sensitivities.result import Sensitivity

    before = None
    if going_on and out is not None:
        before = Sensitivity.load(out)
        request = request.going_on_with(before)
        request.check(going_on=False)
    silent = quiet or as_json
    with working(f"reading {source}", quiet=silent) as tell:
        checkpoint = load(source)
        network = find_network(checkpoint, model=request.model, input_shape=input_shape)
        target: Any = checkpoint.state_dict if network is None else network.module
        runnable = make_runnable(checkpoint, network, model=request.model)
        samples: list[Any] = []
        if before is None or not before.complete:
            tell(f"reading {request.data}")
            calibration = request.calibration()
            samples = list(read_batches(calibration, checkpoint, network, runnable, model=request.model))
    with working("measuring", quiet=silent) as tell, quiet_transformers():
        progress = Progress(out, tell, quiet=silent)
        with progress:
            found = measure(
                runnable.network,
                samples,
                target,
                sparsities=request.fractions(),
                only=blocks or None,
                **options,
                recalibrate=request.recalibration(samples),
                resume=before,
                settings=request.settings(),
                own_masks=runnable.own_masks,
                on_block=progress.block,
                on_cell=progress.cell,
            )
    suggestion = None
    if wanted is not None:
        suggestion = found.suggest(target, wanted, min_kept=minimum, **options)
        for text in suggestion.warnings:
            warn(text)
        if plan is not None:
            suggestion.save(plan)
    if figure is not None and picture is not None:
        drawing = found.figure(metric, plan=suggestion).rendered(picture)
        with atomic_path(figure) as temporary:
            temporary.write_bytes(drawing)
    if as_json:
        names = {"input": source, "output": out, "plan": plan, "figure": figure}
        print_json(
            {name: None if path is None else str(path) for name, path in names.items()}
            | found.to_dict()
            | {"suggestion": None if suggestion is None else suggestion.to_dict()}
        )
    elif not quiet:
        _print(found, metric, suggestion, [path for path in (out, plan, figure) if path is not None])


def _check_outputs(
    source: Path, out: Path | None, others: Sequence[Path | None], *, resume: bool, force: bool
) -> None:
    """Raise `CheckpointError` for files that cannot be written, or that must not be replaced."""
    if resume and out is None:
        raise CheckpointError("--resume goes on with the file of -o, which is missing; give -o FILE")
    if out is not None and out.exists() and not (resume or force):
        raise CheckpointError(
            f"{out} exists; give another name, --resume to go on with it, or --force to replace it"
        )
    refuse_existing(source, out, *others, force=True)
    refuse_existing(source, *others, force=force)
    for path in (out, *others):
        if path is not None:
            check_output(path)


def _format(figure: Path) -> str:
    """Return the format of a figure, once it is known that figures can be drawn here."""
    from gpmt.errors import FigureError
    from gpmt.extras import import_extra
    from gpmt.report.figures.kinds import format_of

    found = format_of(figure)
    import_extra("matplotlib", FigureError)
    return found


def _print(
    found: Sensitivity, metric: Metric | None, suggestion: Plan | None, written: Sequence[Path]
) -> None:
    from gpmt.terminal.fitting import Column, draw_table
    from gpmt.terminal.tables import console

    screen = console()
    (_, weights, *titles), *rows = found.table(metric)
    names, sizes, *values = zip(*rows, strict=True)
    columns = [Column(weights, sizes, spare=1)]
    # Of the sparsities, the lowest tell least.
    columns += [
        Column(title, cells, spare=10 + place)
        for place, (title, cells) in enumerate(zip(titles, values, strict=True))
    ]
    if suggestion is not None:
        densities = {row.name: f"{row.density:.2%}" for row in suggestion.blocks}
        columns.append(Column("kept by\nthe plan", [densities[name] for name in names]))
    screen.print(draw_table(Column("block", names, justify="left"), columns, screen.width))
    screen.print(found.summary(metric))
    if suggestion is not None:
        screen.print(f"suggested: {suggestion.summary()}")
        screen.print("assuming that losses add; gpmt prune --plan and gpmt eval tell what comes of it")
    if written:
        screen.print(f"wrote {' and '.join(map(str, written))}")
