"""Inference on a CPU, where pruned weights cost nothing: `gpmt.compile`."""
