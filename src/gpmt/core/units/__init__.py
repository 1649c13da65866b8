"""Granularity: what is pruned as one. A file for each unit, found by its name in `registry`.

A unit ranks by the sum of its magnitudes. With the sums in place of the weights everything else is as for single
weights: totals, floors, allocations, and ties in the order of the blocks and then of the units. Only the masks are
spread over the weights again.
"""
