"""A sweep: a recipe carried out over a grid of settings, with the results side by side."""
