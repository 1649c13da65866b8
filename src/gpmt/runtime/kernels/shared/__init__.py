"""Code of several kernels: base classes, and loops that they have in common."""
