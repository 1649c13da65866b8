"""Global magnitude pruning with a minimum threshold, exact, for PyTorch networks."""

from gpmt.core.masks import Masks
from gpmt.core.scope import find_scope
from gpmt.errors import GpmtError
from gpmt.prune import Plan, plan, prune_

__all__ = ["GpmtError", "Masks", "Plan", "find_scope", "plan", "prune_"]
