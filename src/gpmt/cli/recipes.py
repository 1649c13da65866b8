"""``gpmt recipes``: the experiments that come with the package, and the results each expects."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpmt.cli.narration import working
from gpmt.cli.options import AsJson, Quiet, Verbose, examples, print_json
from gpmt.core.budget.budget import parse_sparsity
from gpmt.core.units.names import PLURALS
from gpmt.errors import RecipeError

if TYPE_CHECKING:
    from gpmt.training.recipes.schema import Recipe

EXAMPLES = examples(
    "gpmt recipes",
    "gpmt recipes imagenet-resnet50-gp90",
    "gpmt recipes imagenet-resnet50-gp90 --resolved > own.yaml",
)

NOTE = """\
Times are estimates where they begin with ~ or <; one-shot runs include the dense network, which --dense-from takes \
from another run. `gpmt recipes NAME` shows a recipe with its command, `gpmt run NAME data.root=FOLDER` starts it."""

_SCHEDULES = ("one-shot", "gradual", "ac-dc")


def recipes(
    name: Annotated[
        str | None, typer.Argument(help="Show this one: a shipped recipe's name, or the path of a YAML file.")
    ] = None,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Show NAME with all it inherits and every default.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """List the recipes that come with the package, by network and data, or show one of them."""
    from gpmt.training.recipes.files import load_recipe, shipped, shipped_text

    if name is None:
        if resolved:
            raise RecipeError("--resolved is given, but no NAME; name a recipe, such as digits")
        with working("reading the recipes", quiet=quiet or as_json):
            listed = [(name, load_recipe(name, look_up=False)) for name in shipped()]
        listed.sort(key=lambda item: _sort_key(*item))
        if as_json:
            print_json({"recipes": [_summary(*item) for item in listed]})
        elif not quiet:
            _print(listed)
        return
    recipe = load_recipe(name, look_up=name not in shipped())
    if as_json:
        print_json({**_summary(name, recipe), "settings": recipe.model_dump(mode="json")})
    elif not quiet:
        text = shipped_text(name) if name in shipped() else Path(name).read_text(encoding="utf-8")
        print(recipe.to_yaml() if resolved else text, end="")


def _sort_key(name: str, recipe: Recipe) -> tuple[Any, ...]:
    """Sort by data and network; within those the dense one comes first and the short ones last."""
    prune = recipe.prune
    return (
        _experiment(recipe),
        name.endswith("-short"),
        _SCHEDULES.index(prune.schedule),
        prune.method,
        prune.min_kept != 0,
        parse_sparsity(prune.sparsity),
        name,
    )


def _experiment(recipe: Recipe) -> str:
    return f"{recipe.data.name}, {recipe.model}"


def _summary(name: str, recipe: Recipe) -> dict[str, Any]:
    """Return the settings and expected results that are listed, ready for JSON; the accuracy is in percent."""
    prune = recipe.prune
    return {
        "name": name,
        "title": recipe.title,
        "about": recipe.about,
        "model": recipe.model,
        "data": recipe.data.name,
        "sparsity": prune.sparsity,
        "min_kept": prune.min_kept,
        "granularity": prune.granularity,
        "schedule": prune.schedule,
        "method": prune.method,
        **recipe.expects.model_dump(mode="json"),
    }


def _print(listed: list[tuple[str, Recipe]]) -> None:
    from gpmt.terminal.fitting import Column, draw_table
    from gpmt.terminal.tables import console

    screen = console()
    rows: list[tuple[str, ...]] = []
    for experiment, group in groupby(listed, key=lambda item: _experiment(item[1])):
        rows += [("",) * 7, (experiment,) + ("",) * 6]
        rows += [_row(name, recipe) for name, recipe in group]
    cells = list(zip(*rows, strict=True))
    columns = [
        Column("sparsity", cells[1]),
        Column("minimum", cells[2], spare=4),
        Column("method", cells[3], justify="left", spare=2),
        Column("published\ntop-1", cells[4], spare=5),
        Column("hardware", cells[5], justify="left", spare=1),
        Column("time", cells[6], spare=3),
    ]
    screen.print(
        draw_table(
            Column("recipe", cells[0], justify="left"),
            columns,
            screen.width,
            box=None,
            padding=1 if screen.width < 100 else 2,
        )
    )
    screen.print(f"\n{NOTE}")


def _row(name: str, recipe: Recipe) -> tuple[str, ...]:
    prune, expects = recipe.prune, recipe.expects
    dense = not parse_sparsity(prune.sparsity)
    return (
        f"  {name}",
        "dense" if dense else _sparsity(recipe),
        "" if prune.min_kept == 0 else str(prune.min_kept),
        "" if dense else prune.described,
        "" if expects.top1 is None else f"{expects.top1:.2f} %",
        expects.hardware,
        expects.time,
    )


def _sparsity(recipe: Recipe) -> str:
    sparsity = recipe.prune.sparsity
    granularity = recipe.prune.granularity
    if granularity != "weight":  # few enough to count
        return f"{sparsity} {'cols' if granularity == 'column' else PLURALS[granularity]}"
    return f"{float(100 * parse_sparsity(sparsity)):.5g} %"
