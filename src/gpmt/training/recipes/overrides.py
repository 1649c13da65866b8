"""Changing the settings of a recipe by ``key=value``."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from gpmt.errors import RecipeError
from gpmt.suggestions import did_you_mean
from gpmt.training.recipes.schema import Recipe


def apply_override(settings: dict[str, Any], override: str) -> str:
    """Set the value of one ``key=value`` in the settings of a recipe, and return the dotted key.

    Raises RecipeError for a key that does not exist or is not unique.
    """
    key, equals, text = override.partition("=")
    if not equals:
        raise RecipeError(f"override {override} has no value; write key=value, such as sparsity=0.9")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    key = key.strip()
    full = full_key("finetune.lr" if (key, value) == ("lr", "auto") else key)  # only fine-tuning has it
    *sections, last = full.split(".")
    for section in sections:
        inner = settings.get(section)
        settings[section] = inner = dict(inner) if isinstance(inner, Mapping) else {}
        settings = inner
    settings[last] = value
    return full


def full_key(key: str) -> str:
    """Return the dotted key of a setting, given its last part or the whole key.

    Raises RecipeError for a key that does not exist or is not unique.
    """
    known = list(_keys())
    settings = [full for full in known if not full.startswith("expects.")]
    matches = [full for full in known if full == key] or [
        full for full in settings if full.endswith(f".{key}")
    ]
    if inside := [full for full in known if full.startswith(f"{key}.")]:
        raise RecipeError(f"override {key} is a section; give one of {', '.join(inside)}")
    if len(matches) > 1:
        raise RecipeError(f"override {key} could be {' or '.join(matches)}; give the dotted key")
    if not matches:
        short = [full.rpartition(".")[2] for full in settings] if "." not in key else known
        raise RecipeError(f"override {key} is not a key of a recipe; {did_you_mean(key, set(short))}")
    return matches[0]


def _keys(section: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of a recipe."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name
