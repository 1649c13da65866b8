"""Which tensors of a network can be pruned, and what lies outside."""
