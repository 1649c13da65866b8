"""When to prune to which sparsity."""
