"""What is compared: the rows, sparsities, seeds and budget, and the runs that they make."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from gpmt.core.budget.budget import parse_sparsity
from gpmt.core.budget.minimum import AUTO
from gpmt.errors import RecipeError
from gpmt.training.compare.budget import EpochBudget, budget_of, changes, dense_phases, phases
from gpmt.training.compare.methods import ComparedMethod, Row, choose
from gpmt.training.recipes.files import load_recipe, make_recipe
from gpmt.training.recipes.overrides import full_key
from gpmt.training.recipes.pruning import SOFT, Prune
from gpmt.training.recipes.schema import Budget, Recipe
from gpmt.training.sweep.grid import Grid, Point, grid_of, make_point

DENSE = "dense"
"""The name of the runs that are never pruned."""
_WHAT = {"sparsity", "min_kept", "granularity", "scope", "exclude", "within", "pattern"}
"""Settings that say what is pruned, which all methods share; the others say when and how."""
_ONE_SHOT = "recalibrate"
"""The setting that all methods share which prune a trained network."""


@dataclass(frozen=True)
class Comparison:
    """The runs of a comparison in a table: rows, and a column for each sparsity.

    Attributes:
        base: the recipe.
        budget: the epochs of every run.
        rows: methods with and without floors.
        sparsities: as the recipes have them.
        seeds: in every cell.
        grid: all runs; `variant` is the name of a row, and ``dense`` for those that are never pruned.
    """

    base: Recipe
    budget: EpochBudget
    rows: tuple[Row, ...]
    sparsities: tuple[str, ...]
    seeds: tuple[int, ...]
    grid: Grid


def make_comparison(
    recipe: str,
    settings: Sequence[str] = (),
    *,
    methods: Sequence[str] | None = None,
    sparsities: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    min_kept: str | None = None,
    epochs: int | None = None,
    look_up: bool = True,
) -> Comparison:
    """Return the comparison of these methods on a recipe, every run with the same number of epochs in all.

    Args:
        recipe: a shipped recipe's name, or the path of a YAML file.
        settings: ``key=value`` changes the recipe for all runs.
        methods: names of `METHODS`; all of them if not given.
        sparsities: fractions of the weights; the recipe's if not given.
        seeds: one run each.
        min_kept: the minimum of the rows with floors; ``none`` for no such rows. If not given it is the recipe's, or
            ``auto`` where the recipe has none.
        epochs: the budget, the recipe's if not given.
        look_up: whether the names of networks and data are looked up, which imports PyTorch.

    Raises RecipeError and BudgetError for what is not valid.

    >>> found = make_comparison("digits", methods=["GP", "gradual"], sparsities=["0.9", "0.95"], seeds=[0])
    >>> [row.name for row in found.rows], found.budget
    (['GP', 'GP+MT', 'gradual', 'gradual+MT'], EpochBudget(total=15, dense=10))
    >>> [point.title for point in found.grid.points][:3]
    ['dense sparsity=0 seed=0', 'GP sparsity=0.9 seed=0', 'GP sparsity=0.95 seed=0']
    """
    # The epochs of each phase are given for every method, so that there is no budget left to divide.
    base = load_recipe(recipe, settings, look_up=look_up).model_copy(update={"budget": Budget(epochs=None)})
    _check_settings(settings)
    floor = base.prune.min_kept or AUTO if min_kept is None else _floor(recipe, min_kept)
    rows = choose(methods, floor)
    budget = budget_of(base, epochs)
    wanted = _distinct("sparsity", list(map(_decimal, sparsities or [str(base.prune.sparsity)])))
    if any(parse_sparsity(sparsity) == 0 for sparsity in wanted):
        raise RecipeError("a sparsity of 0 is the dense network, which has a row of its own; leave it out")
    _distinct("seed", [str(seed) for seed in seeds])
    unpruned = {**_pruning(base, ComparedMethod(DENSE), None), **dense_phases(base, budget)}
    prepared = [(DENSE, unpruned, ["0"])]
    for row in rows:
        trained = phases(base, budget, starts_dense=row.method.starts_dense)
        if row.method.prune.get("method") in SOFT and trained["finetune.lr_schedule"] == "restart":
            trained["finetune.lr_schedule"] = (
                "linear"  # they prune at every step, where restarts have no meaning
            )
        prepared.append((row.name, {**trained, **_pruning(base, row.method, row.floor)}, wanted))
    points = [
        _point(base, name, changes(base, changed), sparsity, seed, look_up=look_up)
        for name, changed, listed in prepared
        for sparsity in listed
        for seed in seeds
    ]
    grid = grid_of(base, ("sparsity", "seed"), points)
    return Comparison(base, budget, tuple(rows), tuple(wanted), tuple(seeds), grid)


def _point(
    base: Recipe, name: str, changed: Mapping[str, Any], sparsity: str, seed: int, *, look_up: bool
) -> Point:
    values = {"sparsity": sparsity, "seed": str(seed)}
    overrides = [f"{key}={_text(value)}" for key, value in {**changed, **values}.items()]
    recipe = make_recipe(base.model_dump(mode="json"), overrides, label=name, look_up=look_up)
    return make_point(name, values, overrides, recipe)


def _pruning(base: Recipe, method: ComparedMethod, floor: int | str | None) -> dict[str, Any]:
    """Return the settings that say when and how a method prunes, by dotted key."""
    prune = {
        name: field.get_default(call_default_factory=True)
        for name, field in Prune.model_fields.items()
        if name not in _WHAT
    }
    prune |= {**method.prune, "min_kept": 0 if floor is None else floor}
    if method.starts_dense:
        prune[_ONE_SHOT] = getattr(base.prune, _ONE_SHOT)
    return {f"prune.{name}": value for name, value in prune.items()}


def _check_settings(settings: Sequence[str]) -> None:
    """Refuse settings of all runs that the methods differ in, or that have an option."""
    options = {"prune.sparsity": "--sparsity", "seed": "--seeds"}
    for setting in settings:
        key = full_key(setting.partition("=")[0].strip())
        section, _, name = key.rpartition(".")
        if option := options.get(key):
            raise RecipeError(f"{setting} is given for all runs; give the values with {option}")
        if section == "prune" and name not in (*_WHAT, _ONE_SHOT):
            raise RecipeError(f"{setting} is given for all runs, but methods differ in it; leave it out")


def _floor(recipe: str, text: str) -> int | str | None:
    """Return the minimum that an option gives, as a recipe has it; None for ``none``."""
    if text.strip().lower() == "none":
        return None
    return load_recipe(recipe, [f"prune.min_kept={text}"], look_up=False).prune.min_kept


def _decimal(text: str) -> str:
    """Return a sparsity as a decimal where it is one, so that 90% and 0.90 are the same runs as 0.9."""
    exact = parse_sparsity(text.strip())
    decimal = f"{float(exact)}"
    return decimal if Fraction(decimal) == exact else text.strip()


def _distinct(what: str, values: list[str]) -> list[str]:
    if twice := {value for value in values if values.count(value) > 1}:
        raise RecipeError(f"{what} {min(twice)} is given twice; give every value once")
    return values


def _text(value: Any) -> str:
    """Return a value as an override gives it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)
