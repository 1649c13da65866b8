"""Kernels, one in a file: the native code of one kind of step, as LLVM IR for given sizes and one kind of processor.

The argument `item` of a kernel is the index of a work item; threads do the items of a step in any order. Where a
docstring gives no dtype, arrays are float32. A kernel may read up to `OVERREAD` elements behind the last plane of a
buffer; these do not change its results. Code of several kernels is in `shared/`.
"""
