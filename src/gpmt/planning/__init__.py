"""Plans: what is pruned in each tensor, and the masks."""
