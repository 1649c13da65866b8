"""A sweep: a recipe run with every combination of a grid of settings, and its results."""
