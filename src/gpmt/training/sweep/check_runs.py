"""Checking recipe, data, checkpoint and sparsity of every run of a grid before any of them starts."""

from collections.abc import Iterable

from torch import nn

from gpmt.errors import GpmtError
from gpmt.planning.decide import decide
from gpmt.training.data.source import Source
from gpmt.training.recipes.schema import Recipe
from gpmt.training.run.devices import computes_on_cpu
from gpmt.training.run.progress import Reporter
from gpmt.training.run.pruning import check_method
from gpmt.training.run.setup import new_network, plan_options, read_source
from gpmt.training.sweep.grid import Point
from gpmt.training.weights import load_weights


def check_runs(
    points: Iterable[Point], reporter: Reporter, *, tolerate: tuple[type[GpmtError], ...] = ()
) -> dict[str, str]:
    """Raise what a run would raise before it trains, as the same subclass of GpmtError, naming the run.

    Every data set is read and every network made once, on the CPU, and every pruning is planned on it; of points
    that differ in their seed alone only the first is checked. Errors of the classes in `tolerate` are not raised:
    their sentences are returned, by the folder of the run.
    """
    sources: dict[str, Source] = {}
    networks: dict[str, nn.Module] = {}
    checked: dict[str, str] = {}
    refused = {}
    for point in points:
        settings = point.recipe.model_dump_json(exclude={"seed"})
        if settings not in checked:
            checked[settings] = ""
            try:
                _check(point.recipe, sources, networks, reporter)
            except tolerate as error:
                checked[settings] = str(error)
            except GpmtError as error:
                raise type(error)(f"{point.title}: {error}") from error
        if checked[settings]:
            refused[point.folder] = checked[settings]
    return refused


def _check(
    recipe: Recipe, sources: dict[str, Source], networks: dict[str, nn.Module], reporter: Reporter
) -> None:
    computes_on_cpu(recipe)
    data = recipe.model_dump_json(include={"model", "data"})
    if data not in sources:
        sources[data] = read_source(recipe, reporter)
    source, checkpoint = sources[data], recipe.dense.checkpoint
    key = f"{data} {checkpoint}"
    if key not in networks:
        networks[key] = new_network(recipe, source)
        if checkpoint is not None:
            load_weights(networks[key], checkpoint.expanduser(), name=recipe.model)
    decide(networks[key], [recipe.prune.sparsity], **plan_options(recipe))
    check_method(recipe, source, networks[key])
