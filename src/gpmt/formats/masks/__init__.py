"""Masks as files: bits by name, Rice-coded, in a safetensors container."""
