"""One run of a recipe: dense training, pruning and fine-tuning, with exact resuming."""
