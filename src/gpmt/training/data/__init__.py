"""The data of training: sources of batches, data sets by name, and transforms from samples to inputs."""
