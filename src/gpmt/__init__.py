"""Global magnitude pruning with a minimum threshold, exact, for PyTorch networks."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpmt import scores as scores
    from gpmt.compensation.compensate import Compensation, compensate
    from gpmt.core.blocks.blocks import Blocks, Split
    from gpmt.core.schedule.schedule import ACDC, Event, Gradual, OneShot, Schedule
    from gpmt.core.scope.scope import find_scope
    from gpmt.errors import BudgetError, GpmtError
    from gpmt.formats.load import load
    from gpmt.formats.sparse.reader import SparseFile, load_sparse
    from gpmt.formats.sparse.writer import SparseSize, save_sparse
    from gpmt.masks import Masks
    from gpmt.planning.plan import Plan
    from gpmt.planning.what_if import WhatIf, what_if
    from gpmt.prune import plan, prune_
    from gpmt.pruner.cram import CrAM
    from gpmt.pruner.methods.feather import Feather
    from gpmt.pruner.methods.ham import HAM
    from gpmt.pruner.methods.hard import Hard
    from gpmt.pruner.methods.method import Method
    from gpmt.pruner.methods.rigl import RigL
    from gpmt.pruner.methods.set_ import SET
    from gpmt.pruner.methods.st3 import ST3
    from gpmt.pruner.pruner import Pruner
    from gpmt.reachability.effective_sparsity import EffectiveSparsity, effective_sparsity
    from gpmt.recalibration import recalibrate
    from gpmt.runtime.program import Program, compile, load_program
    from gpmt.sensitivities.measure import sensitivity
    from gpmt.sensitivities.result import Sensitivity
    from gpmt.verification import Verification, verify
    from gpmt.warning import GpmtWarning

# Names are imported when first used, so that `gpmt --help` does not wait for PyTorch.
_HOME = {
    "ACDC": "gpmt.core.schedule.schedule",
    "Blocks": "gpmt.core.blocks.blocks",
    "BudgetError": "gpmt.errors",
    "Compensation": "gpmt.compensation.compensate",
    "CrAM": "gpmt.pruner.cram",
    "EffectiveSparsity": "gpmt.reachability.effective_sparsity",
    "Event": "gpmt.core.schedule.schedule",
    "Feather": "gpmt.pruner.methods.feather",
    "GpmtError": "gpmt.errors",
    "GpmtWarning": "gpmt.warning",
    "Gradual": "gpmt.core.schedule.schedule",
    "HAM": "gpmt.pruner.methods.ham",
    "Hard": "gpmt.pruner.methods.hard",
    "Masks": "gpmt.masks",
    "Method": "gpmt.pruner.methods.method",
    "OneShot": "gpmt.core.schedule.schedule",
    "Plan": "gpmt.planning.plan",
    "Program": "gpmt.runtime.program",
    "Pruner": "gpmt.pruner.pruner",
    "RigL": "gpmt.pruner.methods.rigl",
    "SET": "gpmt.pruner.methods.set_",
    "ST3": "gpmt.pruner.methods.st3",
    "Schedule": "gpmt.core.schedule.schedule",
    "Sensitivity": "gpmt.sensitivities.result",
    "SparseFile": "gpmt.formats.sparse.reader",
    "SparseSize": "gpmt.formats.sparse.writer",
    "Split": "gpmt.core.blocks.blocks",
    "Verification": "gpmt.verification",
    "WhatIf": "gpmt.planning.what_if",
    "compensate": "gpmt.compensation.compensate",
    "compile": "gpmt.runtime.program",
    "effective_sparsity": "gpmt.reachability.effective_sparsity",
    "find_scope": "gpmt.core.scope.scope",
    "load": "gpmt.formats.load",
    "load_program": "gpmt.runtime.program",
    "load_sparse": "gpmt.formats.sparse.reader",
    "plan": "gpmt.prune",
    "prune_": "gpmt.prune",
    "recalibrate": "gpmt.recalibration",
    "save_sparse": "gpmt.formats.sparse.writer",
    "sensitivity": "gpmt.sensitivities.measure",
    "verify": "gpmt.verification",
    "what_if": "gpmt.planning.what_if",
}

_PACKAGES = {"scores"}
"""Names that are packages of functions: `gpmt.scores.taylor`."""

__all__ = [
    "ACDC",
    "HAM",
    "SET",
    "ST3",
    "Blocks",
    "BudgetError",
    "Compensation",
    "CrAM",
    "EffectiveSparsity",
    "Event",
    "Feather",
    "GpmtError",
    "GpmtWarning",
    "Gradual",
    "Hard",
    "Masks",
    "Method",
    "OneShot",
    "Plan",
    "Program",
    "Pruner",
    "RigL",
    "Schedule",
    "Sensitivity",
    "SparseFile",
    "SparseSize",
    "Split",
    "Verification",
    "WhatIf",
    "compensate",
    "compile",
    "effective_sparsity",
    "find_scope",
    "load",
    "load_program",
    "load_sparse",
    "plan",
    "prune_",
    "recalibrate",
    "save_sparse",
    "scores",
    "sensitivity",
    "verify",
    "what_if",
]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"gpmt.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'gpmt' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
