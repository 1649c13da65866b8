"""Recipes as YAML files: found by name, one extending another, changed by ``key=value``."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from gpmt.errors import RecipeError
from gpmt.suggestions import did_you_mean
from gpmt.training.recipes.schema import Recipe

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


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Return a shipped recipe by name, or that of a YAML file by path, changed by ``key=value`` overrides.

    A key is dotted (``finetune.lr=0.01``); its last part is enough where only one section has it
    (``sparsity=0.95``). Values are read as YAML. A recipe may extend another, given by shipped name or by a
    path beside it: ``extends: NAME`` takes all its settings, of which the file's own replace those that they
    name. Raises RecipeError with every error, one on a line.
    """
    return make_recipe(_extended(name), overrides, label=f"recipe {name}")


def make_recipe(settings: Mapping[str, Any], overrides: Sequence[str] = (), *, label: str) -> Recipe:
    """Return the recipe of these settings, changed by overrides as in `load_recipe`; errors begin with `label`."""
    settings = dict(settings)
    for override in overrides:
        _apply(settings, override)
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        sentences = [_sentence(detail) for detail in error.errors(include_url=False)]
        if len(sentences) == 1:
            raise RecipeError(f"{label}: {sentences[0]}") from error
        lines = "".join(f"\n  {sentence}" for sentence in sentences)
        raise RecipeError(f"{label} has {len(sentences)} errors:{lines}") from error


def _extended(name: str, extending: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read a recipe's settings over those of the recipe that it extends."""
    if name in extending:
        raise RecipeError(
            f"recipe {name} extends itself ({' → '.join((*extending, name))}); break the circle"
        )
    settings = _read(name)
    parent = settings.pop("extends", None)
    if parent is None:
        return settings
    if not isinstance(parent, str):
        raise RecipeError(f"recipe {name} has extends {parent!r}, but must name one recipe")
    if parent not in shipped():
        parent = str(Path(name).parent / parent)
    return _merged(_extended(parent, (*extending, name)), settings)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay settings over others, section by section."""
    merged = dict(below)
    for key, value in above.items():
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
            reason = getattr(error, "strerror", None) or error
            raise RecipeError(
                f"recipe {name} cannot be read ({reason}); give a YAML file or a shipped name"
            ) from error
    else:
        raise RecipeError(f"recipe {name} is not known; {did_you_mean(name, shipped())}")
    try:
        settings = yaml.load(text, Loader=_UniqueKeys)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise RecipeError(f"recipe {name} is not valid YAML ({error.problem}{place}); correct it") from error
    except yaml.YAMLError as error:  # a byte that YAML does not allow
        raise RecipeError(f"recipe {name} is not valid YAML ({error}); correct it") from error
    if not isinstance(settings, dict):
        raise RecipeError(f"recipe {name} holds no settings; it must have keys such as title, model and data")
    return settings


class _UniqueKeys(yaml.SafeLoader):
    """Safe loading that refuses a key given twice, where plain YAML would silently take the second."""

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


def _keys(section: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of a recipe."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def _apply(settings: dict[str, Any], override: str) -> None:
    """Set the value of one ``key=value``."""
    key, equals, text = override.partition("=")
    if not equals:
        raise RecipeError(f"override {override} has no value; write key=value, such as sparsity=0.9")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    *sections, last = full_key(key.strip()).split(".")
    for section in sections:
        inner = settings.get(section)
        settings[section] = inner = dict(inner) if isinstance(inner, Mapping) else {}
        settings = inner
    settings[last] = value


def full_key(key: str) -> str:
    """Complete a key of an override to its dotted form."""
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


def _sentence(detail: Any) -> str:
    """Turn one of pydantic's errors into a line: the key, its value and the remedy."""
    key = ".".join(str(part) for part in detail["loc"])
    match detail["type"]:
        case "missing":
            return f"{key} is missing; add it"
        case "extra_forbidden":
            *sections, last = detail["loc"]
            return f"{key} is not a key of a recipe; {did_you_mean(last, _fields_at(sections))}"
        case "value_error" if not detail["loc"]:  # one of our own sentences, about the recipe as a whole
            return str(detail["ctx"]["error"])
        case "value_error":  # one of our own sentences, which starts with the name of a field
            message = str(detail["ctx"]["error"])
            *sections, last = detail["loc"]
            if not message.startswith(str(last)):
                sections = [*sections, last]
            return ".".join([*map(str, sections), message])
        case "model_type" | "dict_type":
            return f"{key} is {detail['input']!r}, but must be a section with keys of its own"
    problem = (
        detail["msg"]
        .replace("Input should", "must")
        .replace("a valid tuple", "a list")
        .replace("a valid", "a")
    )
    return f"{key} is {detail['input']!r}, but {problem}"


def _fields_at(sections: Sequence[Any]) -> list[str]:
    section: Any = Recipe
    for name in sections:
        section = section.model_fields[name].annotation
    return list(section.model_fields)
