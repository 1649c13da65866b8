"""Pure functions over named tensors: what can be pruned, which weights stay, and the masks that say so."""
