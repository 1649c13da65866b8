"""Readers of the files that other pruning tools write, one module a tool."""
