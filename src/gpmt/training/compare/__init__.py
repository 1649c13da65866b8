"""A comparison: the same network, data and total budget under several methods of pruning, and its page."""
