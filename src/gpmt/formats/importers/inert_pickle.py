"""Pickles read as plain data: the calls that they ask for are recorded, and none is made."""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Container
from dataclasses import dataclass
from mmap import mmap
from typing import IO, Any, cast


class InertError(Exception):
    """A pickle that is damaged or uses what is not allowed; the text says which."""


@dataclass(frozen=True)
class Global:
    """The name of something importable."""

    name: str


@dataclass(eq=False)
class Call:
    """A call that the pickle asks for: the callable's name, its arguments, and the state set on the result."""

    name: str
    args: tuple[Any, ...]
    state: Any = None


@dataclass(eq=False)
class Persistent:
    """A reference to something that is stored beside the pickle."""

    key: Any


def read_pickle(file: IO[bytes] | mmap, allowed: Container[str], *, steps: int) -> Any:
    """Read one pickle from where `file` stands, and leave `file` behind its end.

    Returns numbers, strings, bytes, tuples, lists and dicts with plain keys, with `Global`, `Call` and `Persistent`
    in the places of what would have to be imported, called or loaded. Tuples and lists may hold each other more
    than once, so that a walk over all of a hostile pickle may never end: look only where something is expected.

    Raises `InertError` for a pickle that is cut short or damaged or takes more than `steps` opcodes, and for a
    global that is not in `allowed`.
    """
    interpreter = _Interpreter(allowed)
    try:
        for step, (opcode, argument, _) in enumerate(pickletools.genops(cast("IO[bytes]", file))):
            if opcode.name == "STOP":
                return interpreter.stack.pop()
            if step >= steps:
                raise InertError("it takes too many steps")
            interpreter.run(opcode.name, argument)
    except InertError:
        raise
    except Exception as error:  # a damaged pickle can make its parser raise anything
        raise InertError(f"it is damaged ({type(error).__name__})") from error
    raise InertError("it is cut short")


class _Interpreter:
    """The stack and the memo of a pickle, and its opcodes."""

    def __init__(self, allowed: Container[str]) -> None:
        self.allowed = allowed
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self, opcode: str, argument: Any) -> None:
        if opcode in _VALUES:
            self.stack.append(argument)
        elif action := _ACTIONS.get(opcode):
            action(self, argument)
        else:
            raise InertError(f"it uses the opcode {opcode}, which is not read")

    def pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.outer.pop()
        return items

    def mark(self, _: Any) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def put(self, index: Any) -> None:
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def get(self, index: Any) -> None:
        self.stack.append(self.memo[index])

    def last(self, count: int) -> None:
        items = [self.stack.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(items)))

    def import_name(self, name: Any) -> None:
        """Both forms of a global: "module name" as the argument, or the two on the stack."""
        if name is None:
            parts = self.stack.pop(), self.stack.pop()
            if not all(isinstance(part, str) for part in parts):
                raise InertError("it has a global without a name")
            name = " ".join(reversed(parts))
        dotted = ".".join(name.split(" ", 1))
        if dotted not in self.allowed:
            raise InertError(f"it needs {dotted[:100].encode('unicode_escape').decode()}")
        self.stack.append(Global(dotted))

    def reduce(self, _: Any) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Global) or not isinstance(args, tuple):
            raise InertError("it calls something that is not a function")
        self.stack.append(Call(function.name, args))

    def build(self, _: Any) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Call):
            raise InertError("it sets the state of something that has none")
        self.stack[-1].state = state

    def extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise InertError("it appends to something that is not a list")
        self.stack[-1].extend(items)

    def update(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict) or len(items) % 2:
            raise InertError("it sets entries of something that is not a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # The hash of a tuple that holds itself many times over would never be done.
            if not isinstance(key, (str, int)):
                raise InertError("it has a dict with keys that are not strings")
            self.stack[-1][key] = value


_VALUES = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BINSTRING", "SHORT_BINSTRING"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
_ACTIONS: dict[str, Callable[[_Interpreter, Any], None]] = {
    "PROTO": lambda interpreter, _: None,
    "FRAME": lambda interpreter, _: None,
    "MARK": _Interpreter.mark,
    "NONE": lambda interpreter, _: interpreter.stack.append(None),
    "NEWTRUE": lambda interpreter, _: interpreter.stack.append(True),
    "NEWFALSE": lambda interpreter, _: interpreter.stack.append(False),
    "EMPTY_TUPLE": lambda interpreter, _: interpreter.stack.append(()),
    "EMPTY_LIST": lambda interpreter, _: interpreter.stack.append([]),
    "EMPTY_DICT": lambda interpreter, _: interpreter.stack.append({}),
    "TUPLE": lambda interpreter, _: _push_tuple(interpreter),
    "TUPLE1": lambda interpreter, _: interpreter.last(1),
    "TUPLE2": lambda interpreter, _: interpreter.last(2),
    "TUPLE3": lambda interpreter, _: interpreter.last(3),
    "APPEND": lambda interpreter, _: interpreter.extend([interpreter.stack.pop()]),
    "APPENDS": lambda interpreter, _: interpreter.extend(interpreter.pop_mark()),
    "SETITEM": lambda interpreter, _: interpreter.update(
        [interpreter.stack.pop(), interpreter.stack.pop()][::-1]
    ),
    "SETITEMS": lambda interpreter, _: interpreter.update(interpreter.pop_mark()),
    "BINPUT": _Interpreter.put,
    "LONG_BINPUT": _Interpreter.put,
    "MEMOIZE": _Interpreter.put,
    "BINGET": _Interpreter.get,
    "LONG_BINGET": _Interpreter.get,
    "GLOBAL": _Interpreter.import_name,
    "STACK_GLOBAL": _Interpreter.import_name,
    "REDUCE": _Interpreter.reduce,
    "BUILD": _Interpreter.build,
    "BINPERSID": lambda interpreter, _: interpreter.stack.append(Persistent(interpreter.stack.pop())),
}


def _push_tuple(interpreter: _Interpreter) -> None:
    items = interpreter.pop_mark()
    interpreter.stack.append(tuple(items))
