"""Small words for writing a kernel in LLVM IR: arguments, loops, vectors, activations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from llvmlite import ir

from gpmt.runtime.ir.activation import Activation

I1, I8, I32, I64, F32 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()


def constant(value: int) -> ir.Constant:
    """Return a 64-bit integer constant."""
    return ir.Constant(I64, value)


class Emitter:
    """A function `void kernel(int64* args, int64 item)` that is being written.

    Addresses are 64-bit integers counted in bytes; `bytes_at` makes pointers of them where memory is touched.

    Attributes:
        lanes: numbers in a vector; `vector` is its type.
        item: the second argument.
        builder: llvmlite's, for what is not here.
    """

    def __init__(self, lanes: int, symbol: str = "kernel") -> None:
        self.lanes = lanes
        self.vector = ir.VectorType(F32, lanes)
        self.mask = ir.VectorType(I32, lanes)
        self.module = ir.Module(name=symbol)
        self.function = ir.Function(
            self.module, ir.FunctionType(ir.VoidType(), [I64.as_pointer(), I64]), symbol
        )
        self._args, self.item = self.function.args
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))

    def text(self) -> str:
        """End the function and return the module's text."""
        self.builder.ret_void()
        return str(self.module)

    def arg(self, index: int) -> ir.Value:
        """Return an argument: an address or an integer."""
        return self.builder.load(self.builder.gep(self._args, [constant(index)]))

    # Integers

    def add(self, left: ir.Value, right: ir.Value | int) -> ir.Value:
        """Return left + right."""
        return self.builder.add(left, constant(right) if isinstance(right, int) else right)

    def mul(self, left: ir.Value, right: int) -> ir.Value:
        """Return left · right, for a constant."""
        return self.builder.mul(left, constant(right))

    def divmod(self, left: ir.Value, right: int) -> tuple[ir.Value, ir.Value]:
        """Return the quotient and the remainder of a number that is not negative by a constant."""
        if right == 1:
            return left, constant(0)
        return self.builder.udiv(left, constant(right)), self.builder.urem(left, constant(right))

    # Control

    @contextmanager
    def loop(self, start: ir.Value | int, stop: ir.Value | int, step: int = 1) -> Iterator[ir.Value]:
        """Run what is written inside for start, start + step, ... below stop, which may be never."""
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
        """Return a pointer to a new variable, set to a value; LLVM keeps it in a register."""
        with self.builder.goto_entry_block():
            pointer = self.builder.alloca(value.type)
        self.builder.store(value, pointer)
        return pointer

    # Memory

    def pointer(self, address: ir.Value, kind: ir.Type) -> ir.Value:
        """Return a pointer to an address."""
        return self.builder.inttoptr(address, kind.as_pointer())

    def load(self, address: ir.Value, kind: ir.Type, offset: int = 0, align: int = 4) -> ir.Value:
        """Return what is at an address plus `offset` bytes."""
        return self.builder.load(self._at(address, kind, offset), align=align)

    def store(self, value: ir.Value, address: ir.Value, offset: int = 0, align: int = 4) -> None:
        """Write a value at an address plus `offset` bytes."""
        self.builder.store(value, self._at(address, value.type, offset), align=align)

    def prefetch(self, address: ir.Value, offset: int = 0, *, write: bool = False) -> None:
        """Ask for a cache line that will be read, or written, soon."""
        pointer = self._at(address, I8, offset)
        name = "llvm.prefetch.p0"
        if name not in self.module.globals:
            ir.Function(self.module, ir.FunctionType(ir.VoidType(), [pointer.type, I32, I32, I32]), name)
        use, keep, data = (ir.Constant(I32, number) for number in (int(write), 3, 1))
        self.builder.call(self.module.globals[name], [pointer, use, keep, data])

    def _at(self, address: ir.Value, kind: ir.Type, offset: int) -> ir.Value:
        bytes_at = self.builder.inttoptr(address, I8.as_pointer())
        if offset:
            bytes_at = self.builder.gep(bytes_at, [constant(offset)])
        return self.builder.bitcast(bytes_at, kind.as_pointer())

    # Vectors

    def splat(self, value: ir.Value | float) -> ir.Value:
        """Return a vector of one number."""
        if isinstance(value, float | int):
            return ir.Constant(self.vector, [float(value)] * self.lanes)
        single = self.builder.insert_element(
            ir.Constant(self.vector, ir.Undefined), value, ir.Constant(I32, 0)
        )
        zeros = ir.Constant(self.mask, [0] * self.lanes)
        return self.builder.shuffle_vector(single, ir.Constant(self.vector, ir.Undefined), zeros)

    def fma(self, left: ir.Value, right: ir.Value, plus: ir.Value) -> ir.Value:
        """Return left · right + plus, rounded once where the processor can."""
        kind = left.type
        name = f"llvm.fmuladd.{f'v{kind.count}' if isinstance(kind, ir.VectorType) else ''}f32"
        if name not in self.module.globals:
            ir.Function(self.module, ir.FunctionType(kind, [kind] * 3), name)
        return self.builder.call(self.module.globals[name], [left, right, plus])

    def keep(self, value: ir.Value, mask: ir.Value) -> ir.Value:
        """Return a vector with 0.0 where the mask (all bits or none) is 0."""
        bits = self.builder.and_(self.builder.bitcast(value, mask.type), mask)
        return self.builder.bitcast(bits, value.type)

    def number(self, kind: ir.Type, value: float) -> ir.Constant:
        """Return a constant of a float or vector type."""
        return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)

    def clamp(self, value: ir.Value, low: float, high: float) -> ir.Value:
        """Return a vector or number limited to [low, high]; NaN stays NaN."""
        builder = self.builder
        if low != float("-inf"):
            bound = self.number(value.type, low)
            value = builder.select(builder.fcmp_ordered("<", value, bound), bound, value)
        if high != float("inf"):
            bound = self.number(value.type, high)
            value = builder.select(builder.fcmp_ordered(">", value, bound), bound, value)
        return value

    def exp_negated(self, value: ir.Value) -> ir.Value:
        """Return e^-x to about two units in the last place; infinity below -88.4, e^-87 above 87.

        With n the whole number nearest to -x / ln 2, and s = x + n ln 2, it is 2^n e^-s where |s| <= ln 2 / 2; for
        e^-s a polynomial of degree 5, exact at 0, and elsewhere within 9.2e-8 of it (the least for this degree).
        """
        builder, kind = self.builder, value.type
        integers = ir.VectorType(I32, kind.count) if isinstance(kind, ir.VectorType) else I32
        whole = [23] * kind.count if isinstance(kind, ir.VectorType) else 23
        x = self.clamp(value, -88.8, 87.0)
        # 1.5 · 2^23 rounds what is added to it to a whole number, which is then in its last bits; 127 is the bias of
        # exponents, so that these bits, moved up, are those of 2^n: infinity for n = 128.
        magic = self.number(kind, 12582912.0 + 127)
        rounded = self.fma(x, self.number(kind, -1.4426950408889634), magic)
        power = builder.shl(builder.bitcast(rounded, integers), ir.Constant(integers, whole))
        n = builder.fsub(rounded, magic)
        # ln 2 in two parts, the first exact in products with n.
        s = self.fma(n, self.number(kind, 0.693359375), x)
        s = self.fma(n, self.number(kind, -2.12194440054690583e-4), s)
        square = builder.fmul(s, s)
        low = self.fma(s, self.number(kind, -0.9999997019767761), self.number(kind, 1.0))
        middle = self.fma(s, self.number(kind, -0.16667640209197998), self.number(kind, 0.49999144673347473))
        high = self.fma(s, self.number(kind, -0.008290222845971584), self.number(kind, 0.04189842566847801))
        polynomial = self.fma(square, self.fma(square, high, middle), low)
        return builder.fmul(polynomial, builder.bitcast(power, kind))

    def activate(self, value: ir.Value, activation: Activation) -> ir.Value:
        """Return what an activation makes of a vector or number."""
        builder, kind = self.builder, value.type
        if activation.kind == "clamp":
            return self.clamp(value, activation.low, activation.high)
        if activation.kind in ("silu", "sigmoid"):
            one = self.number(kind, 1.0)
            numerator = value if activation.kind == "silu" else one
            return builder.fdiv(numerator, builder.fadd(one, self.exp_negated(value)))
        if activation.kind == "hardswish":
            gate = self.clamp(builder.fadd(value, self.number(kind, 3.0)), 0.0, 6.0)
            return builder.fmul(builder.fmul(value, gate), self.number(kind, 1 / 6))
        return value
