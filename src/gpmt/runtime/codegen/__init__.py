"""LLVM IR and machine code: the processor, the JIT compiler, its cache on disk, and what kernels are written with."""
