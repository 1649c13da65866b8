"""The errors that a user can meet; the text of each is one sentence with the name, the value and the remedy."""

import re


class GpmtError(ValueError):
    """A request that cannot be met as it stands; the command line prints it and exits with code 2."""


class ScopeError(GpmtError):
    """No prunable tensor, or a pattern, name or layer that cannot be resolved."""


class BudgetError(GpmtError):
    """A sparsity or minimum that is not a valid number, or that no mask can satisfy."""


class WeightsError(GpmtError):
    """Weights that cannot be ranked: NaN, infinity, no data, or changed since they were planned."""


class CalibrationError(GpmtError):
    """Batches that a network cannot be run on, or whose loss cannot be used."""


class ScoresError(GpmtError):
    """Scores that cannot be computed, that cannot rank weights, or that do not fit the network."""


class MaskError(GpmtError):
    """Masks that do not fit the network or file they are used with."""


class MethodError(GpmtError):
    """A way to prune while training that is not known, or that cannot work with this optimiser or schedule."""


class PlanError(GpmtError):
    """A plan that cannot be read, does not add up, or does not fit the network it is used with."""


class CheckpointError(GpmtError):
    """A file that cannot be read safely, or an output that cannot be written."""


class RecipeError(GpmtError):
    """A recipe or an override that is not valid."""


class DataError(GpmtError):
    """A data set that is missing or not what the recipe says."""


class RuntimeProgramError(GpmtError):
    """A network, an input or a machine that the CPU runtime cannot work with."""


class FigureError(GpmtError):
    """A figure or table that cannot be drawn of what was given, or in the form asked for."""


class ReportError(GpmtError):
    """A report that has nothing to tell, or a file of it that cannot be read."""


def first_line(error: BaseException) -> str:
    """Return the first line of what an error of another library says, or its type where it says nothing.

    >>> first_line(ValueError("the shapes differ. Try another.\\nDetails follow")), first_line(KeyError())
    ('the shapes differ. Try another.', 'KeyError')
    """
    return (str(error).strip() or type(error).__name__).split("\n")[0]


def first_sentence(error: BaseException) -> str:
    """Return the first sentence of what an error of another library says, or its type where it says nothing.

    Terminal colours are left out.

    >>> first_sentence(ValueError("the shapes differ. Try another.\\nDetails follow"))
    'the shapes differ'
    """
    text = re.sub(r"\x1b\[\d*m", "", str(error)).strip()
    return re.split(r"\n|\. ", text)[0].rstrip(".:") or type(error).__name__
