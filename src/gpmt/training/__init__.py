"""Training, pruning and fine-tuning as one run described by a recipe."""
