"""The thread pool that runs tables of steps, and the memory that the steps work in."""
