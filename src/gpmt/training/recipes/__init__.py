"""Recipes: the settings of one experiment, and the YAML files that hold them."""
