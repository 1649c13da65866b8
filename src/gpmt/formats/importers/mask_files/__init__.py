"""Importers of files with masks alone, which complete weights that lie elsewhere."""
