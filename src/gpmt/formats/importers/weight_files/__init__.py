"""Importers of files with weights: how tensors are stored, whatever tool they come from."""
