"""Recipes as YAML files: found by name or path, extended by one another, changed by ``key=value``."""

from collections.abc import Collection, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from gpmt.errors import RecipeError
from gpmt.suggestions import did_you_mean
from gpmt.training.recipes.budget import fill_in, split_budget
from gpmt.training.recipes.overrides import apply_override
from gpmt.training.recipes.schema import Recipe
from gpmt.training.recipes.section import NAMES_ALONE
from gpmt.training.recipes.validation_errors import error_line

YAML_SUFFIXES = (".yaml", ".yml")
_SHIPPED = "gpmt.training.recipes.shipped"


def shipped() -> tuple[str, ...]:
    """Return the names of the recipes that come with the package."""
    names = (file.name for file in files(_SHIPPED).iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


def shipped_text(name: str) -> str:
    """Return a shipped recipe as it was written, comments included."""
    return files(_SHIPPED).joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def short_name(recipe: str) -> str:
    """Return a recipe's name without folder and suffix, to name what comes of it.

    >>> short_name("imagenet-resnet50-gp95.3"), short_name("own/mine.yaml")
    ('imagenet-resnet50-gp95.3', 'mine')
    """
    path = Path(recipe)
    return path.stem if path.suffix in YAML_SUFFIXES else path.name


def load_recipe(name: str, overrides: Sequence[str] = (), *, look_up: bool = True) -> Recipe:
    """Return a shipped recipe by name, or that of a YAML file by path, changed by ``key=value`` overrides.

    A key is dotted (``finetune.lr=0.01``); its last part is enough where only one section has it
    (``sparsity=0.95``). Values are read as YAML. A recipe may extend another, given by shipped name or by a
    path relative to the file: ``extends: NAME`` takes all its settings, and the file's own replace the settings
    that they name. A warm-up that was taken over is shortened to fit into fewer epochs. Without `look_up`, the
    names of network and data are taken as they are, so that PyTorch is not imported.

    Raises RecipeError with all errors, one on a line.
    """
    settings, fixed = _read_extended(name)
    return make_recipe(settings, overrides, label=f"recipe {name}", look_up=look_up, fixed=fixed)


def make_recipe(
    settings: Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    label: str,
    look_up: bool = True,
    fixed: frozenset[str] = frozenset(),
) -> Recipe:
    """Return the recipe of these settings, changed by overrides as in `load_recipe`; errors begin with `label`.

    `fixed` are the dotted keys that were given together with a budget, or after it.
    """
    settings = dict(settings)
    changed = {apply_override(settings, override) for override in overrides}
    _shorten_warmup(settings, changed)
    try:
        split_budget(settings, _fixed(fixed, changed))
    except RecipeError as error:
        raise RecipeError(f"{label}: {error}") from None
    fill_in(settings)
    try:
        return Recipe.model_validate(settings, context=None if look_up else NAMES_ALONE)
    except ValidationError as error:
        lines = [error_line(detail) for detail in error.errors(include_url=False)]
        if len(lines) == 1:
            raise RecipeError(f"{label}: {lines[0]}") from error
        listed = "".join(f"\n  {line}" for line in lines)
        raise RecipeError(f"{label} has {len(lines)} errors:{listed}") from error


def _fixed(before: frozenset[str], changed: Collection[str]) -> frozenset[str]:
    """Return the keys that a budget leaves alone: those that were given with it or later."""
    return frozenset(changed) if "budget.epochs" in changed else before | frozenset(changed)


def _read_extended(name: str, extending: tuple[str, ...] = ()) -> tuple[dict[str, Any], frozenset[str]]:
    """Return a recipe's settings, merged into those of the recipe that it extends, and its `fixed` keys."""
    if name in extending:
        raise RecipeError(
            f"recipe {name} extends itself ({' → '.join((*extending, name))}); remove one of these extends"
        )
    settings = _read(name)
    parent = settings.pop("extends", None)
    sections = {key: value for key, value in settings.items() if isinstance(value, Mapping)}
    changed = {f"{name}.{key}" for name, section in sections.items() for key in section}
    if parent is None:
        return settings, _fixed(frozenset(), changed)
    if not isinstance(parent, str):
        raise RecipeError(f"recipe {name} has extends {parent!r}, but must name one recipe")
    if parent not in shipped():
        parent = str(Path(name).parent / parent)
    inherited, fixed = _read_extended(parent, (*extending, name))
    merged = _merged(inherited, settings)
    _shorten_warmup(merged, changed)
    return merged, _fixed(fixed, changed)


def _shorten_warmup(settings: dict[str, Any], changed: Collection[str]) -> None:
    """Fit the warm-up of a phase, where it was taken over, into the epochs that were changed."""
    for phase in ("dense", "finetune"):
        section = settings.get(phase)
        if f"{phase}.epochs" not in changed or f"{phase}.warmup_epochs" in changed:
            continue
        if isinstance(section, Mapping):
            epochs, warmup = section["epochs"], section.get("warmup_epochs")
            if type(epochs) is type(warmup) is int and 0 < epochs <= warmup:
                settings[phase] = {**section, "warmup_epochs": epochs - 1}


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `changes` made to it, section by section."""
    merged = dict(base)
    for key, value in changes.items():
        inner = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(inner, Mapping)
        merged[key] = _merged(inner or {}, value) if both else value
    return merged


def _read(name: str) -> dict[str, Any]:
    if name in shipped():
        text = shipped_text(name)
    elif "/" in name or Path(name).suffix in YAML_SUFFIXES:
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            cause = getattr(error, "strerror", None) or error
            raise RecipeError(
                f"recipe {name} cannot be read ({cause}); give a YAML file or a shipped name"
            ) from error
    else:
        raise RecipeError(f"recipe {name} is not known; {did_you_mean(name, shipped())}")
    try:
        settings = yaml.load(text, Loader=_UniqueKeys)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise RecipeError(f"recipe {name} is not valid YAML ({error.problem}{place}); correct it") from error
    except yaml.YAMLError as error:  # such as a byte that YAML does not allow
        raise RecipeError(f"recipe {name} is not valid YAML ({error}); correct it") from error
    if not isinstance(settings, dict):
        raise RecipeError(
            f"recipe {name} does not hold settings; it must have keys such as title, model and data"
        )
    return settings


class _UniqueKeys(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, where plain YAML takes the second without a warning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: list[Any] = []  # a key may be unhashable, which the loader itself refuses
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key} is given twice", key_node.start_mark
                )
            seen.append(key)
        return super().construct_mapping(node, deep)
