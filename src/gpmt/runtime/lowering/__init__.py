"""From a graph to steps: which kernels can compute each operator, and what they cost."""
