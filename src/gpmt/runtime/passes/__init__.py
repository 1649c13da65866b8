"""Passes over graphs, one a file: `pipeline` lists them in their order."""
