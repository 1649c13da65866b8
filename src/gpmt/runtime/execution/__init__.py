"""Running a lowered network: on one sample with all threads, or on a batch with a sample for each thread."""
