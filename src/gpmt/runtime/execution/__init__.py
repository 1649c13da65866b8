"""Running a lowered graph: all threads on one sample, or each thread on samples of its own."""
