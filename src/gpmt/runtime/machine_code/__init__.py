"""Machine code that is written byte by byte, where the pattern of the weights is in the code."""
