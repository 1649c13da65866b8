"""Passes over a graph: fewer operators with the same result."""
