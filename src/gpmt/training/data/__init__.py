"""Data: what training asks of it, data sets by name, and how samples become inputs."""
