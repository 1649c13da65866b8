"""Constants that are added to tokens one after the other become one."""

from __future__ import annotations

from dataclasses import replace

from gpmt.runtime.ir.operators import PlaceTokens
from gpmt.runtime.passes.rewriting import Rewriter, rule


@rule(PlaceTokens)
def merge_places(graph: Rewriter, place: PlaceTokens) -> bool:
    """Place tokens once, among the sum of the constants."""
    before = graph.sole_producer(place.input)
    if not isinstance(before, PlaceTokens):
        return False
    constant = place.constant.copy()
    constant[place.first : place.first + len(before.constant)] += before.constant
    both = replace(place, input=before.input, constant=constant, first=place.first + before.first)
    graph.replace(before, both)
    return True
