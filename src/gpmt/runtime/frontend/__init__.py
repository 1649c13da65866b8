"""From a PyTorch network to a graph: its calls to ATen are recorded and translated."""
