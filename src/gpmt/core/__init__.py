"""Pure functions over named tensors: which can be pruned, and which of their weights stay."""
