"""One run of a recipe: dense training, pruning and fine-tuning, with exact resuming.

Each of these modules calls the next: `run` (checks, start and end) → `experiment` (both phases) → `phase` (the epochs
of one) → `loop` (one epoch). `setup` holds what the phases work with; the other modules are called by these.
"""
