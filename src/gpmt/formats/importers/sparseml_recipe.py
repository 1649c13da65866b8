"""Recipes of SparseML, as far as they say what was pruned.

A recipe is YAML, alone or between two lines ``---`` at the head of a Markdown text. Lists named ``modifiers`` or
``..._modifiers``, at the top or inside stages, hold what was done, each step as a mapping tagged with its class::

    pruning_modifiers:
      - !GMPruningModifier
        params: ["re:.*conv.*weight"]       # full names, re:REGEX, __ALL__ or __ALL_PRUNABLE__
        final_sparsity: 0.8                 # or a mapping {0.8: [names]}, in which case params is []

Values may refer to variables at the top of their stage or of the recipe, as ``eval(name)``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpmt.errors import CheckpointError

_REMEDY = "save its state_dict alone, and the zeros are read"
_LONGEST = 2**18  # characters; recipes that name every tensor of a large network have a tenth of it
_FRONT_MATTER = re.compile(r"^[ \t]*---[ \t]*$(.*?)^[ \t]*---[ \t]*$", re.DOTALL | re.MULTILINE)
_REPEATS, _MOST_REPEATS = re.compile(r"[*+{]"), 4
_REPEATED_GROUP = re.compile(r"\)[*+{]")
_EVAL = re.compile(r"eval\(\s*(\w+)\s*\)")
# What the modifiers call the sparsity they end with: most, AC/DC, top-KAST.
_SPARSITIES = ("final_sparsity", "compression_sparsity", "forward_sparsity")


@dataclass(frozen=True)
class PruningModifier:
    """One step of pruning.

    Attributes:
        name: its class, such as "GMPruningModifier".
        params: what it prunes: full names of tensors, "re:REGEX", "__ALL__", "__ALL_PRUNABLE__".
        sparsities: what it ends with, as far as the recipe says so in numbers; nothing for constant pruning.
    """

    name: str
    params: tuple[str, ...]
    sparsities: tuple[float, ...]


def read_recipe(path: Path, text: str) -> list[PruningModifier]:
    """Return the pruning modifiers of a recipe; `path` is the file that holds it.

    Nothing of the recipe is run: tags only name mappings, and an ``eval`` is looked up, not evaluated. Raises
    `CheckpointError` for text that is not a recipe, and for params that are not names or patterns.
    """
    container = _parse(path, text)
    modifiers = []
    for name, settings, variables in _tagged(container):
        if name.endswith("PruningModifier") and name != "LayerPruningModifier":
            modifiers.append(_read_modifier(path, name, settings, variables))
    return modifiers


def _parse(path: Path, text: str) -> Mapping[Any, Any]:
    import yaml

    class Loader(yaml.SafeLoader):
        """Plain data only; a tagged mapping becomes the pair of its tag and the mapping."""

        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            # Merge keys copy what they merge, so that a few lines could fill the memory.
            if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
                raise yaml.constructor.ConstructorError(problem="merge keys (<<) are not read")

    def tagged(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> tuple[str, Any]:
        return suffix, loader.construct_mapping(node, deep=True) if isinstance(node, yaml.MappingNode) else {}

    Loader.add_multi_constructor("!", tagged)
    if len(text) > _LONGEST:
        raise CheckpointError(
            f"{path}: its recipe has {len(text):,} characters, which is too long; {_REMEDY}"
        )
    front = _FRONT_MATTER.search(text)
    try:
        container = yaml.load(front[1] if front else text, Loader)
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or type(error).__name__
        raise CheckpointError(
            f"{path}: its recipe is not valid YAML{where} ({str(problem)[:100]}); {_REMEDY}"
        ) from None
    if not isinstance(container, Mapping):
        raise CheckpointError(f"{path}: its recipe has no sections; {_REMEDY}")
    return container


def _tagged(container: Mapping[Any, Any]) -> Iterator[tuple[str, Mapping[Any, Any], Mapping[Any, Any]]]:
    """Yield every modifier: its class, its settings, and the variables that these may refer to."""
    for key, group in container.items():
        if "modifiers" in str(key):
            yield from ((name, settings, container) for name, settings in _pairs(group))
        elif isinstance(group, Mapping):
            for inner, modifiers in group.items():
                if "modifiers" in str(inner):
                    scope = {**container, **group}
                    yield from ((name, settings, scope) for name, settings in _pairs(modifiers))


def _pairs(group: object) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    for item in group if isinstance(group, list) else ():
        if isinstance(item, tuple) and isinstance(item[1], Mapping):
            yield item


def _read_modifier(
    path: Path, name: str, settings: Mapping[Any, Any], variables: Mapping[Any, Any]
) -> PruningModifier:
    found = (settings[key] for key in _SPARSITIES if key in settings)
    sparsity = _value(next(found, None), variables)
    params = _value(settings.get("params"), variables)
    if isinstance(sparsity, Mapping):
        levels = [_value(level, variables) for level in sparsity]
        params = [param for names in sparsity.values() for param in _listed(_value(names, variables))]
    else:
        levels = [sparsity]
        params = _listed(params or "__ALL_PRUNABLE__")
    params = [_pattern(path, name, param) for param in params]
    numbers = tuple(float(level) for level in levels if isinstance(level, (int, float)) and 0 <= level <= 1)
    return PruningModifier(name, tuple(params), numbers)


def _value(value: object, variables: Mapping[Any, Any]) -> Any:
    """Return a setting, or the variable that it refers to."""
    reference = _EVAL.fullmatch(value) if isinstance(value, str) else None
    return variables.get(reference[1], value) if reference else value


def _listed(params: object) -> list[Any]:
    return list(params) if isinstance(params, list) else [params]


def _pattern(path: Path, modifier: str, param: object) -> str:
    """Return a checked name or pattern."""
    if not isinstance(param, str) or param.startswith("eval("):
        # Not repr of a list: aliases in YAML make a short text of endless length.
        shown = repr(param[:100]) if isinstance(param, str) else f"a value of type {type(param).__name__}"
        raise CheckpointError(
            f"{path}: {modifier} of its recipe prunes {shown}, which names no tensors; {_REMEDY}"
        )
    if not param.startswith("re:"):
        return param
    # SparseML writes its patterns into checkpoints as Python's repr does, with every backslash doubled.
    param = param.replace("\\\\", "\\")
    try:
        re.compile(param[3:])
    except (re.error, RecursionError, OverflowError) as error:
        raise CheckpointError(
            f"{path}: {modifier} of its recipe prunes {param[:100]!r}, which is not a regular expression "
            f"({error}); {_REMEDY}"
        ) from None
    # Python's engine can take for ever on some patterns; those that recipes have are far from it.
    if len(_REPEATS.findall(param)) > _MOST_REPEATS or _REPEATED_GROUP.search(param):
        raise CheckpointError(
            f"{path}: {modifier} of its recipe prunes {param[:100]!r}, which repeats too much to be matched safely; "
            f"{_REMEDY}"
        )
    return param
