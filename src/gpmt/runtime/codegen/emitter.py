"""A builder for the LLVM IR of a kernel: arguments, integers, loops, memory, vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from llvmlite import ir

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
F32 = ir.FloatType()


def constant(value: int) -> ir.Constant:
    """Return a 64-bit integer constant."""
    return ir.Constant(I64, value)


def float_constant(kind: ir.Type, value: float) -> ir.Constant:
    """Return a constant of a float type, or of a vector type with equal elements."""
    return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)


class Emitter:
    """Writes one function, `void kernel(int64* args, int64 item)`.

    Addresses are 64-bit integers, in bytes. They become pointers only where memory is read or written.

    Args:
        lanes: elements of a vector register.
        args: names of the kernel's arguments, in their order.
        symbol: the function's name.

    Attributes:
        lanes: elements of a vector register.
        vector, mask: the types of a vector of float32 and of int32.
        item: the function's second argument, the index of the work item.
        builder: llvmlite's builder, for instructions that have no method here.
    """

    def __init__(self, lanes: int, args: Sequence[str], symbol: str = "kernel") -> None:
        self.lanes = lanes
        self._names = list(args)
        self.vector = ir.VectorType(F32, lanes)
        self.mask = ir.VectorType(I32, lanes)
        self.module = ir.Module(name=symbol)
        self.function = ir.Function(
            self.module, ir.FunctionType(ir.VoidType(), [I64.as_pointer(), I64]), symbol
        )
        self._args, self.item = self.function.args
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))

    def text(self) -> str:
        """End the function and return the LLVM IR of its module."""
        self.builder.ret_void()
        return str(self.module)

    def arg(self, name: str) -> ir.Value:
        """Return an argument of the kernel: an address or an integer."""
        return self.builder.load(self.builder.gep(self._args, [constant(self._names.index(name))]))

    def int64s(self, name: str, count: int) -> list[ir.Value]:
        """Return the first `count` elements of the int64 array that an argument is the address of."""
        return [self.load(self.arg(name), I64, 8 * i, align=8) for i in range(count)]

    # Integers

    def add(self, left: ir.Value, right: ir.Value | int) -> ir.Value:
        """Return left + right."""
        return self.builder.add(left, constant(right) if isinstance(right, int) else right)

    def mul(self, left: ir.Value, right: int) -> ir.Value:
        """Return left · right, where right is a constant."""
        return self.builder.mul(left, constant(right))

    def divmod(self, left: ir.Value, right: int) -> tuple[ir.Value, ir.Value]:
        """Return quotient and remainder of an integer that is not negative by a constant."""
        if right == 1:
            return left, constant(0)
        return self.builder.udiv(left, constant(right)), self.builder.urem(left, constant(right))

    def minimum(self, left: ir.Value, right: ir.Value) -> ir.Value:
        """Return the smaller of two integers."""
        return self.builder.select(self.builder.icmp_signed("<", left, right), left, right)

    def maximum(self, left: ir.Value, right: ir.Value) -> ir.Value:
        """Return the larger of two integers."""
        return self.builder.select(self.builder.icmp_signed(">", left, right), left, right)

    # Control

    @contextmanager
    def loop(self, start: ir.Value | int, stop: ir.Value | int, step: int = 1) -> Iterator[ir.Value]:
        """Write a loop over start, start + step, ... below stop, possibly none; the `with` block writes its body."""
        builder = self.builder
        start = constant(start) if isinstance(start, int) else start
        stop = constant(stop) if isinstance(stop, int) else stop
        before = builder.block
        body, after = builder.append_basic_block("body"), builder.append_basic_block("after")
        builder.cbranch(builder.icmp_signed("<", start, stop), body, after)
        builder.position_at_end(body)
        index = builder.phi(I64)
        index.add_incoming(start, before)
        yield index
        following = builder.add(index, constant(step))
        index.add_incoming(following, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, stop), body, after)
        builder.position_at_end(after)

    def variable(self, value: ir.Value) -> ir.Value:
        """Return a pointer to a new local variable, set to a value; LLVM keeps it in a register."""
        with self.builder.goto_entry_block():
            pointer = self.builder.alloca(value.type)
        self.builder.store(value, pointer)
        return pointer

    # Memory

    def pointer(self, address: ir.Value, kind: ir.Type) -> ir.Value:
        """Return a pointer to an address."""
        return self.builder.inttoptr(address, kind.as_pointer())

    def load(self, address: ir.Value, kind: ir.Type, offset: int = 0, align: int = 4) -> ir.Value:
        """Return the value at an address plus `offset` bytes."""
        return self.builder.load(self._pointer(address, kind, offset), align=align)

    def store(self, value: ir.Value, address: ir.Value, offset: int = 0, align: int = 4) -> None:
        """Write a value at an address plus `offset` bytes."""
        self.builder.store(value, self._pointer(address, value.type, offset), align=align)

    def prefetch(self, address: ir.Value, offset: int = 0, *, write: bool = False) -> None:
        """Prefetch a cache line that will be read, or written, soon."""
        pointer = self._pointer(address, I8, offset)
        name = "llvm.prefetch.p0"
        if name not in self.module.globals:
            ir.Function(self.module, ir.FunctionType(ir.VoidType(), [pointer.type, I32, I32, I32]), name)
        # Into all levels of the cache (3), and the one of data (1).
        access, locality, cache = (ir.Constant(I32, value) for value in (int(write), 3, 1))
        self.builder.call(self.module.globals[name], [pointer, access, locality, cache])

    def _pointer(self, address: ir.Value, kind: ir.Type, offset: int) -> ir.Value:
        pointer = self.builder.inttoptr(address, I8.as_pointer())
        if offset:
            pointer = self.builder.gep(pointer, [constant(offset)])
        return self.builder.bitcast(pointer, kind.as_pointer())

    # Vectors

    def splat(self, value: ir.Value | float) -> ir.Value:
        """Return a vector whose elements are all this value."""
        if isinstance(value, float | int):
            return ir.Constant(self.vector, [float(value)] * self.lanes)
        single = self.builder.insert_element(
            ir.Constant(self.vector, ir.Undefined), value, ir.Constant(I32, 0)
        )
        zeros = ir.Constant(self.mask, [0] * self.lanes)
        return self.builder.shuffle_vector(single, ir.Constant(self.vector, ir.Undefined), zeros)

    def fma(self, left: ir.Value, right: ir.Value, plus: ir.Value) -> ir.Value:
        """Return left · right + plus, rounded once where the processor has fused multiply-adds."""
        kind = left.type
        name = f"llvm.fmuladd.{f'v{kind.count}' if isinstance(kind, ir.VectorType) else ''}f32"
        if name not in self.module.globals:
            ir.Function(self.module, ir.FunctionType(kind, [kind] * 3), name)
        return self.builder.call(self.module.globals[name], [left, right, plus])

    def square_root(self, value: ir.Value) -> ir.Value:
        """Return the square roots of a vector."""
        name = f"llvm.sqrt.v{value.type.count}f32"
        if name not in self.module.globals:
            ir.Function(self.module, ir.FunctionType(value.type, [value.type]), name)
        return self.builder.call(self.module.globals[name], [value])

    def masked_store(self, value: ir.Value, address: ir.Value, inside: ir.Value) -> None:
        """Write the elements of a vector whose element in `inside`, of booleans, is true."""
        pointer, align = self._pointer(address, value.type, 0), ir.Constant(I32, 4)
        name = f"llvm.masked.store.v{value.type.count}f32.p0"
        if name not in self.module.globals:
            kinds = [value.type, pointer.type, I32, inside.type]
            ir.Function(self.module, ir.FunctionType(ir.VoidType(), kinds), name)
        self.builder.call(self.module.globals[name], [value, pointer, align, inside])

    def indices(self, first: ir.Value) -> ir.Value:
        """Return an int32 vector of first, first + 1, ..., given a 64-bit integer."""
        single = self.builder.insert_element(
            ir.Constant(self.mask, ir.Undefined), self.builder.trunc(first, I32), ir.Constant(I32, 0)
        )
        zeros = ir.Constant(self.mask, [0] * self.lanes)
        all_first = self.builder.shuffle_vector(single, ir.Constant(self.mask, ir.Undefined), zeros)
        return self.builder.add(all_first, ir.Constant(self.mask, list(range(self.lanes))))

    def apply_mask(self, value: ir.Value, mask: ir.Value) -> ir.Value:
        """Return a vector with 0.0 where the mask, an int32 vector of -1 and 0, is 0."""
        bits = self.builder.and_(self.builder.bitcast(value, mask.type), mask)
        return self.builder.bitcast(bits, value.type)
