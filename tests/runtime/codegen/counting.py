"""Counts that kernels in tests add to, to show what they do once, twice or never."""

from gpmt.runtime.codegen.emitter import I64


def count_up(e, index, offset=0):
    """Write an addition of one to element `index + offset` of the int64 array at the argument "counts"."""
    address = e.add(e.arg("counts"), e.mul(e.add(index, offset), 8))
    e.store(e.add(e.load(address, I64), 1), address)
