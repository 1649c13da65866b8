"""From a graph to steps: which kernels can do each operator, and what they cost."""
