"""How much each block of a network can be pruned alone: measured, kept in a file, and shared out to a budget."""
