"""``gpmt eval``: the accuracy of a checkpoint, its sparsity and its cost, beside the published row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpmt.cli.options import AsJson, ModelName, Quiet, Verbose, check_exists, examples, print_json
from gpmt.errors import GpmtError

if TYPE_CHECKING:
    from rich.table import Table

    from gpmt.formats.checkpoint import Checkpoint
    from gpmt.training.evaluation import Evaluation
    from gpmt.training.recipes.schema import Recipe

EXAMPLES = examples(
    "gpmt eval gp90.pth.tar --recipe imagenet-resnet50-gp90 data.root=imagenet",
    "gpmt eval resnet18.pth --model torchvision:resnet18 --data imagenet --root imagenet test_limit=1000",
    "gpmt eval runs/cifar10-resnet20",
    "gpmt eval hf:my-classifier --data hf --root my-dataset",
)


def eval(
    target: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A checkpoint, the folder of a run, or hf:FOLDER, a network with weights of its own.",
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Settings of the data: root, mean, std, size, resize, interpolation, test_limit, workers.",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE",
            help="The experiment that FILE belongs to: a shipped name or a YAML file, which names the network, the "
            "data, and the accuracy published. The folder of a run has its own.",
        ),
    ] = None,
    model: ModelName = None,
    data: Annotated[str | None, typer.Option(metavar="NAME", help="The data set, such as imagenet.")] = None,
    root: Annotated[Path | None, typer.Option(metavar="FOLDER", help="The folder of the data set.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 64,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Evaluate a checkpoint on the test split of a data set, and show its sparsity, layers and MACs.

    Files of torch.save may hold bare weights, names prefixed `module.`, a training state with optimiser, or tensors
    saved on a GPU. With a recipe, the published accuracy is shown beside the measured one. The result does not change
    the exit code; to check a file against a sparsity and masks, see `gpmt verify`.
    """
    if not target.startswith("hf:"):
        check_exists(Path(target))
    if recipe is not None:
        from gpmt.training.recipes.files import load_recipe

        load_recipe(recipe, overrides or [], look_up=False)

    from accelerate import PartialState

    from gpmt.formats.load import load
    from gpmt.formats.run_result import RECIPE, is_run
    from gpmt.training.evaluation import evaluate_checkpoint

    checkpoint = None
    if target.startswith("hf:"):
        model = target
    else:
        path = Path(target)
        if is_run(path):
            recipe = recipe or str(path / RECIPE)
        checkpoint = load(path)
    resolved = _recipe_for(checkpoint, recipe, overrides or [], model=model, data=data, root=root)
    result = evaluate_checkpoint(resolved, checkpoint, batch_size=batch_size, quiet=quiet)
    if not PartialState().is_main_process:
        return
    if as_json:
        print_json({"file": target, **result.to_dict()})
    elif not quiet:
        _print(result)


def _recipe_for(
    checkpoint: Checkpoint | None,
    recipe: str | None,
    overrides: list[str],
    *,
    model: str | None,
    data: str | None,
    root: Path | None,
) -> Recipe:
    """Return the given recipe, else one made of the options, with the checkpoint as its dense network."""
    from gpmt.training.recipes.files import load_recipe, make_recipe

    settings = {
        "model": model,
        "data.name": data,
        "data.root": root,
        "dense.checkpoint": checkpoint and checkpoint.path,
    }
    # A JSON string is valid YAML for any path.
    given = [f"{key}={json.dumps(str(value))}" for key, value in settings.items() if value is not None]
    if recipe is not None:
        return load_recipe(recipe, [*given, *overrides])

    from gpmt.cli.network import recorded_name

    if model is None and checkpoint is not None:
        model = recorded_name(checkpoint)
    if model is None:
        raise GpmtError(
            f"{settings['dense.checkpoint']} does not say which network it belongs to; "
            "name it with --model, or give --recipe"
        )
    if data is None:
        raise GpmtError(
            "there are no data to evaluate on; give --data NAME and --root FOLDER, or --recipe NAME data.root=FOLDER"
        )
    bare = {"title": "evaluation", "model": model, "data": {}, "prune": {"sparsity": 0}, "finetune": {}}
    return make_recipe(bare, [*given, *overrides], label="gpmt eval")


def _print(result: Evaluation) -> None:
    from gpmt.terminal.tables import check_lines, console, count_table

    screen = console()
    verification, score = result.verification, result.score
    screen.print(count_table(verification.tensors, macs=result.macs, unit=verification.unit, out=screen))
    screen.print(check_lines(verification))
    macs = result.total_macs
    screen.print(
        f"{result.recipe.model}: {result.parameters:,} parameters, {macs['dense']:,} MACs, "
        f"{macs['sparse']:,} without the zeros"
    )
    screen.print(_score_table(result))
    if (top1 := result.published_top1) is not None:
        difference, source = score.top1 - top1, result.recipe.expects.source
        screen.print(
            f"top-1 is {abs(difference) * 100:.2f} points {'below' if difference < 0 else 'above'} "
            f"the published {top1:.2%}{f' ({source})' if source else ''}",
        )
    for note in result.notes():
        screen.print(f"note: {note}")
    screen.print(
        f"{score.images:,} images in {result.seconds:.1f} s ({score.images / result.seconds:,.1f} images/s)"
    )


def _score_table(result: Evaluation) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("", "sparsity", "top-1", "top-5", "loss", "images"):
        table.add_column(column, justify="right" if column else "left")
    score = result.score
    top5 = "–" if score.top5 is None else f"{score.top5:.2%}"
    table.add_row(
        "measured",
        f"{result.sparsity:.4%}",
        f"{score.top1:.2%}",
        top5,
        f"{score.loss:.4f}",
        f"{score.images:,}",
    )
    if result.published_top1 is not None:
        table.add_row("published", f"{result.published_sparsity:.4%}", f"{result.published_top1:.2%}")
    return table
