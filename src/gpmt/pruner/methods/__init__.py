"""Methods: what happens to pruned weights while training. One file each; `registry.py` finds them by name."""
