"""Where the values of a tensor lie in memory, and where convolutions read them."""
