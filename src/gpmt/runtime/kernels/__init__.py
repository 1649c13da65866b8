"""Kernels: what a layer does in native code, as LLVM IR made for its sizes and for one processor."""
