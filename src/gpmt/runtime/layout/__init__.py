"""Where the numbers of a value lie in memory, and what convolutions read of them."""
