"""The grid of a sweep: which runs it has, and which settings of the recipe each changes."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from urllib.parse import quote

from gpmt.errors import RecipeError
from gpmt.training.recipes.files import load_recipe
from gpmt.training.recipes.overrides import full_key
from gpmt.training.recipes.schema import Recipe


@dataclass(frozen=True)
class Point:
    """One run of a sweep.

    `variant` is the name of its variant, empty in a sweep without any. `values` has its value on every axis, and
    `overrides` all settings that it changes, both as given. `folder` is its name in the sweep's folder.
    """

    variant: str
    values: Mapping[str, str]
    overrides: tuple[str, ...]
    recipe: Recipe
    folder: str

    @property
    def title(self) -> str:
        """The variant and the values that distinguish this run from the others."""
        return " ".join([*filter(None, [self.variant]), *(f"{k}={v}" for k, v in self.values.items())])

    @property
    def identity(self) -> str:
        """All settings that the result depends on; equal for runs that are the same."""
        return identity(self.recipe)

    @property
    def dense_identity(self) -> str | None:
        """All settings that the dense network depends on; None where the run does not train one."""
        if not self.recipe.dense.epochs:
            return None
        return self.recipe.model_dump_json(include={"model", "seed", "data", "compute", "dense"})


@dataclass(frozen=True)
class Grid:
    """All runs of a sweep in order, and the names of its axes."""

    base: Recipe
    axes: tuple[str, ...]
    points: tuple[Point, ...]


def identity(recipe: Recipe) -> str:
    """Return all settings that the result of a run depends on."""
    return recipe.model_dump_json(exclude={"title", "about", "expects", "log", "log_online"})


def make_grid(
    recipe: str, settings: Sequence[str] = (), variants: Sequence[str] = (), *, look_up: bool = True
) -> Grid:
    """Return every combination of the variants and the listed values of the settings.

    Args:
        recipe: a shipped recipe's name, or the path of a YAML file.
        settings: ``key=value`` changes every run, as in ``gpmt run``; ``key=a,b,c`` is an axis of the grid.
            Commas inside brackets belong to the value, as in ``mean=[0.1,0.2]``.
        variants: ``NAME: key=value key=value``, settings that change together, such as those of a method; they
            come before those of all runs. The first variant's runs come first; the last axis varies fastest.
        look_up: whether the names of networks and data are looked up, which imports PyTorch.

    Raises RecipeError for settings that are not valid, and for two runs that would be the same.

    >>> grid = make_grid("digits", ["sparsity=0.8,0.9", "seed=0,1"], ["GP: min_kept=0", "GP+MT:"])
    >>> len(grid.points), grid.axes
    (8, ('sparsity', 'seed'))
    >>> grid.points[-1].folder
    'gp-mt,sparsity=0.9,seed=1'
    """
    plain: dict[str, str] = {}
    axes: dict[str, list[str]] = {}
    for key, values in map(_parsed, settings):
        if key in plain or key in axes:
            raise RecipeError(f"{key} is given twice; give all its values in one list, such as {key}=A,B")
        if len(values) == 1:
            plain[key] = values[0]
        else:
            axes[key] = values
    named = _parsed_variants(variants, axes) if variants else {"": {}}
    if not axes and not variants:
        raise RecipeError(
            "the sweep has a single run; give a list of values, such as seed=0,1,2, or --variant"
        )
    points = []
    for variant, changes in named.items():
        for combination in product(*axes.values()):
            at = dict(zip(axes, combination, strict=True))
            overrides = tuple(f"{key}={value}" for key, value in {**plain, **changes, **at}.items())
            points.append(make_point(variant, at, overrides, load_recipe(recipe, overrides, look_up=look_up)))
    return grid_of(load_recipe(recipe, look_up=look_up), tuple(axes), points)


def make_point(variant: str, values: Mapping[str, str], overrides: Sequence[str], recipe: Recipe) -> Point:
    """Return a run with a folder's name that follows from its variant and values."""
    return Point(variant, values, tuple(overrides), recipe, _folder(variant, values))


def grid_of(base: Recipe, axes: Sequence[str], points: Sequence[Point]) -> Grid:
    """Return the grid of these runs; raise RecipeError where two are the same or would share a folder."""
    _check_distinct(points)
    return Grid(base, tuple(axes), tuple(points))


def _parsed(setting: str) -> tuple[str, list[str]]:
    """Split ``key=a,b`` into the key, as short as it can be, and its values."""
    key, equals, text = setting.partition("=")
    if not equals:
        raise RecipeError(f"override {setting} has no value; write key=value, or key=A,B for several")
    full = full_key(key.strip())
    values = [value.strip() for value in re.split(r",(?![^\[\]{}]*[\]}])", text)]
    if len(values) > 1 and "" in values:
        raise RecipeError(f"{setting} has an empty value; write the values with one comma between them")
    return _short(full), values


def _short(full: str) -> str:
    """Return the last part of a dotted key where that is enough to name it."""
    last = full.rpartition(".")[2]
    try:
        return last if full_key(last) == full else full
    except RecipeError:  # several sections have such a key
        return full


def _parsed_variants(variants: Sequence[str], axes: Mapping[str, Sequence[str]]) -> dict[str, dict[str, str]]:
    """Return the settings of every variant by its name."""
    named: dict[str, dict[str, str]] = {}
    for text in variants:
        name, colon, rest = text.partition(":")
        name = name.strip()
        if not colon or "=" in name or not _slug(name):
            raise RecipeError(f"variant {text!r} has no name; write 'NAME: key=value key=value'")
        if name in named:
            raise RecipeError(f"variant {name} is given twice; give each a name of its own")
        try:
            settings = shlex.split(rest)
        except ValueError as error:
            raise RecipeError(f"variant {name} cannot be read ({error}); write 'NAME: key=value'") from error
        named[name] = {}
        for key, values in map(_parsed, settings):
            if len(values) > 1:
                raise RecipeError(
                    f"variant {name} has several values of {key}, but a variant has one of each; "
                    "make it several variants, or give the list as a setting of all runs"
                )
            if key in axes:
                raise RecipeError(f"variant {name} sets {key}, which the grid varies; give it in one place")
            named[name][key] = values[0]
    return named


def _folder(variant: str, values: Mapping[str, str]) -> str:
    """Return a folder's name that can be read and is safe on any file system."""
    parts = [f"{key}={quote(value, safe='+%')}" for key, value in values.items()]
    name = ",".join([*filter(None, [_slug(variant)]), *parts])
    return name if len(name) <= 200 else f"{name[:180]}~{sha256(name.encode()).hexdigest()[:12]}"


def _slug(name: str) -> str:
    return re.sub(r"[^\w.]+", "-", name.lower()).strip("-.")


def _check_distinct(points: Sequence[Point]) -> None:
    by_identity: dict[str, Point] = {}
    by_folder: dict[str, Point] = {}
    for point in points:
        if twin := by_identity.get(point.identity):
            raise RecipeError(f"{twin.title} and {point.title} are the same run; leave one of them out")
        if twin := by_folder.get(point.folder):
            raise RecipeError(
                f"{twin.title} and {point.title} would share the folder {point.folder}; rename a variant"
            )
        by_identity[point.identity] = by_folder[point.folder] = point
