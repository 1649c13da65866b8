"""Readers of other tools' files: one module an importer, found by `registry` in the folder of its kind."""
