"""Masks as files: Rice-coded gaps between kept weights."""
