"""Writing LLVM IR and compiling it: the processor, the JIT compiler and its cache, and building blocks of kernels."""
