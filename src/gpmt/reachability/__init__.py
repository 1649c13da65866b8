"""Which weights are on a path of kept weights from the input of a network to its output."""
