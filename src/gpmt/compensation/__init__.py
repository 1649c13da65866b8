"""Kept weights that make up for pruned ones, on masks that are given."""
