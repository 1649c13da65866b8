"""The reference of the Python interface: every public name, in groups, each described by its docstring."""

from __future__ import annotations

import gpmt

GROUPS: dict[str, tuple[str, list[str]]] = {
    "pruning": (
        "Planning and pruning",
        [
            "plan",
            "prune_",
            "Plan",
            "Masks",
            "find_scope",
            "Blocks",
            "Split",
            "what_if",
            "WhatIf",
            "sensitivity",
            "Sensitivity",
        ],
    ),
    "training": (
        "Pruning while training",
        [
            "Pruner",
            "Schedule",
            "Event",
            "OneShot",
            "Gradual",
            "ACDC",
            "CrAM",
            "integrations.lightning.PruningCallback",
            "integrations.transformers.PruningCallback",
        ],
    ),
    "methods": ("Methods of pruning", ["Method", "Hard", "Feather", "ST3", "HAM", "RigL", "SET"]),
    "scores": ("Scores", [f"scores.{name}" for name in gpmt.scores.__all__]),
    "one_shot": ("Accuracy without training", ["compensate", "Compensation", "recalibrate"]),
    "checks": ("Checks", ["verify", "Verification", "effective_sparsity", "EffectiveSparsity"]),
    "files": ("Files", ["load", "save_sparse", "load_sparse", "SparseFile", "SparseSize"]),
    "runtime": ("The CPU runtime", ["compile", "load_program", "Program"]),
    "errors": ("Errors and warnings", ["GpmtError", "BudgetError", "GpmtWarning"]),
}
"""The title of each page, and the names on it."""


def ungrouped() -> set[str]:
    """Return the public names that are on no page."""
    grouped = {name for _, names in GROUPS.values() for name in names}
    return set(gpmt.__all__) - {"scores"} - grouped


def python_pages() -> dict[str, str]:
    """Return the text of each page by its address.

    Raises:
        ValueError: a public name is in no group.
    """
    if missing := sorted(ungrouped()):
        raise ValueError(f"docs/hooks/python_pages.py: {', '.join(missing)}: in no group of the reference")
    return {f"reference/python/{page}.md": _page(title, names) for page, (title, names) in GROUPS.items()}


def _page(title: str, names: list[str]) -> str:
    return f"# {title}\n\n" + "\n".join(f"::: gpmt.{name}\n" for name in names)
