"""Where the elements of images are in memory, and where convolutions read them."""
