"""A recipe: one experiment as a readable YAML file, checked as a whole before anything runs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)

from gpmt.core.allocate import Allocation
from gpmt.core.budget import parse_min_kept, parse_sparsity
from gpmt.errors import RecipeError
from gpmt.training import datasets, models
from gpmt.training.names import did_you_mean


class Section(BaseModel):
    """Settings that cannot change, with no room for unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, coerce_numbers_to_str=True)


class Data(Section):
    """The data set, where it lies, and how its pixels are augmented and normalised.

    Paths are relative to the folder in which the command runs. `mean` and `std` default to those of the
    training split.
    """

    name: Annotated[str, AfterValidator(lambda name: _known_data(name))]
    root: Path | None = None
    crop_padding: int = Field(0, ge=0)
    flip: bool = False
    mean: tuple[float, ...] | None = None
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = None


class Training(Section):
    """SGD with a cosine learning rate, set once per epoch; the loss is cross-entropy."""

    epochs: int = Field(0, ge=0)
    batch_size: int = Field(128, ge=2)
    lr: float = Field(0.05, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(5e-4, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    warmup_epochs: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> "Training":
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov is true, but momentum is 0; give momentum, such as 0.9")
        if self.epochs and self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs is {self.warmup_epochs}, but must be below epochs, which is {self.epochs}"
            )
        return self

    def learning_rate(self, epoch: int) -> float:
        """Return the rate of `epoch` (from 0): a linear rise over the warm-up epochs, then half a cosine.

        >>> recipe = Training(epochs=4, lr=1.0, warmup_epochs=2)
        >>> [recipe.learning_rate(epoch) for epoch in range(4)]
        [0.5, 1.0, 1.0, 0.5]
        """
        if epoch < self.warmup_epochs:
            return self.lr * (epoch + 1) / self.warmup_epochs
        progress = (epoch - self.warmup_epochs) / (self.epochs - self.warmup_epochs)
        return self.lr * 0.5 * (1 + math.cos(math.pi * progress))


class Dense(Training):
    """Where the dense network comes from: a checkpoint, training from scratch, or both one after the other."""

    checkpoint: Path | None = None

    @model_validator(mode="after")
    def _has_weights(self) -> "Dense":
        if self.checkpoint is None and not self.epochs:
            raise ValueError("checkpoint is missing and dense.epochs is 0; give one of them, or both")
        return self


class Prune(Section):
    """What is pruned, and how far; the terms are those of `gpmt.plan`."""

    sparsity: Annotated[float | str, PlainValidator(lambda value: _parsed(value, parse_sparsity))]
    min_kept: Annotated[
        int | str, PlainValidator(lambda value: _parsed(value, lambda v: parse_min_kept(v, 0)))
    ] = 0
    allocation: Allocation = "exact"
    schedule: Literal["one-shot"] = "one-shot"
    exclude: Annotated[
        tuple[str, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
    ] = ()


class Recipe(Section):
    """One experiment: dense training or a checkpoint, pruning, and fine-tuning with the masks fixed."""

    title: str
    about: str = ""
    model: Annotated[str, AfterValidator(models.check_name)]
    seed: int = Field(0, ge=0)
    data: Data
    dense: Dense
    prune: Prune
    finetune: Training

    def to_yaml(self) -> str:
        """Return the recipe with every default written out; it reads back as the same recipe."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)


def shipped() -> tuple[str, ...]:
    """Return the names of the recipes that come with the package."""
    return tuple(
        sorted(
            p.name.removesuffix(".yaml") for p in files("gpmt.recipes").iterdir() if p.name.endswith(".yaml")
        )
    )


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Return a shipped recipe by name, or that of a YAML file by path, changed by ``key=value`` overrides.

    A key is dotted (``finetune.lr=0.01``); its last part is enough where only one section has it
    (``sparsity=0.95``). Values are read as YAML. Raises RecipeError with every error, one on a line.
    """
    settings = _read(name)
    for override in overrides:
        _apply(settings, override)
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        sentences = [_sentence(detail) for detail in error.errors(include_url=False)]
        if len(sentences) == 1:
            raise RecipeError(f"recipe {name}: {sentences[0]}") from error
        lines = "".join(f"\n  {sentence}" for sentence in sentences)
        raise RecipeError(f"recipe {name} has {len(sentences)} errors:{lines}") from error


def _read(name: str) -> dict[str, Any]:
    if name in shipped():
        text = files("gpmt.recipes").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    elif "/" in name or Path(name).suffix in (".yaml", ".yml"):
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
    *sections, last = _full_key(key.strip()).split(".")
    for section in sections:
        inner = settings.get(section)
        settings[section] = inner = dict(inner) if isinstance(inner, Mapping) else {}
        settings = inner
    settings[last] = value


def _full_key(key: str) -> str:
    """Complete a key of an override to its dotted form."""
    known = list(_keys())
    matches = [full for full in known if full == key] or [full for full in known if full.endswith(f".{key}")]
    if inside := [full for full in known if full.startswith(f"{key}.")]:
        raise RecipeError(f"override {key} is a section; give one of {', '.join(inside)}")
    if len(matches) > 1:
        raise RecipeError(f"override {key} could be {' or '.join(matches)}; give the dotted key")
    if not matches:
        short = [full.rpartition(".")[2] for full in known] if "." not in key else known
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


def _known_data(name: str) -> str:
    if name not in datasets.NAMES:
        raise ValueError(f"name is {name}, which is not known; {did_you_mean(name, datasets.NAMES)}")
    return name


def _parsed(value: Any, parse: Any) -> Any:
    """Return `value` as it was given once `parse` accepts it."""
    parse(value)
    return value
