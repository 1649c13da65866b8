"""The table of handlers: which function translates calls of an ATen operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from gpmt.runtime.frontend.builder import Arguments, Builder, Unsupported

Handler = Callable[[Builder, Arguments, Sequence[Tensor]], None]
ResultHandler = Callable[[Builder, Arguments, Tensor], None]

HANDLERS: dict[str, Handler] = {}
"""By the names of operators. A handler adds operators to the graph that make the results of a call.

Where there are none it raises `Unsupported`, and adds nothing.
"""


def handles(*names: str) -> Callable[[ResultHandler], ResultHandler]:
    """Register a handler that makes the first result of a call; the others must not be read."""

    def register(handler: ResultHandler) -> ResultHandler:
        def translate(builder: Builder, arguments: Arguments, results: Sequence[Tensor]) -> None:
            _check_not_empty(results[:1])
            builder.check_not_read(results[1:])
            handler(builder, arguments, results[0])

        HANDLERS.update(dict.fromkeys(names, translate))
        return handler

    return register


def handles_all_results(*names: str) -> Callable[[Handler], Handler]:
    """Register a handler that makes all results of a call."""

    def register(handler: Handler) -> Handler:
        def translate(builder: Builder, arguments: Arguments, results: Sequence[Tensor]) -> None:
            _check_not_empty(results)
            handler(builder, arguments, results)

        HANDLERS.update(dict.fromkeys(names, translate))
        return handler

    return register


def _check_not_empty(results: Sequence[Tensor]) -> None:
    if not all(result.numel() for result in results):
        raise Unsupported("its result is empty")
