"""Plans: the counts of each tensor, and the masks."""
