"""Native threads that share the items of a step, and the memory that they work in."""
