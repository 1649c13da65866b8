"""Recurrent layers, step by step: LSTM, GRU and plain ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F

from gpmt.reachability.contractions import contract
from gpmt.reachability.elementwise import add, multiply
from gpmt.reachability.rules import rule
from gpmt.reachability.signal import Call, Signal, Unsupported

State = tuple[Signal, ...]
Cell = Callable[[Signal, State, Sequence[Signal]], State]
"""From the input of one step, the state before it and the weights to the state after it, the output first."""


def _gates(source: Signal, hidden: Signal, weights: Sequence[Signal], count: int) -> list[list[Signal]]:
    """Return what the gates get from the input and from the hidden state."""
    parts = []
    for value, weight, bias in zip((source, hidden), weights, (*weights[2:4], None, None), strict=False):
        total = contract(F.linear, value, weight)
        total = add(total, bias) if bias is not None else total
        parts.append([_chunk(total, i, count) for i in range(count)])
    return parts


def _chunk(signal: Signal, index: int, count: int) -> Signal:
    return signal.changed(lambda t: t.chunk(count, -1)[index])


def _lstm_step(source: Signal, state: State, weights: Sequence[Signal]) -> State:
    hidden, cell = state
    pairs = zip(*_gates(source, hidden, weights, 4), strict=True)
    enter, forget, new, out = (add(one, other) for one, other in pairs)
    cell = add(multiply(forget.always(), cell), multiply(enter.always(), new))
    return multiply(out.always(), cell), cell


def _gru_step(source: Signal, state: State, weights: Sequence[Signal]) -> State:
    (hidden,) = state
    from_input, from_hidden = _gates(source, hidden, weights, 3)
    reset, update = (add(from_input[i], from_hidden[i]).always() for i in range(2))
    new = add(from_input[2], multiply(reset, from_hidden[2]))
    return (add(multiply(update, hidden), multiply(update, new)),)


def _plain_step(source: Signal, state: State, weights: Sequence[Signal]) -> State:
    pairs = zip(*_gates(source, state[0], weights, 1), strict=True)
    return tuple(add(one, other) for one, other in pairs)


_CELLS: dict[str, Cell] = {
    "lstm": _lstm_step,
    "gru": _gru_step,
    "rnn_tanh": _plain_step,
    "rnn_relu": _plain_step,
    "lstm_cell": _lstm_step,
    "gru_cell": _gru_step,
    "rnn_tanh_cell": _plain_step,
    "rnn_relu_cell": _plain_step,
}


@rule("lstm", "gru", "rnn_tanh", "rnn_relu")
def _layers(call: Call) -> list[Signal]:
    """Run all layers and directions over all steps."""
    arguments = call.arguments
    if "batch_sizes" in arguments:
        raise Unsupported
    cell, source, states = _CELLS[call.name], call.signal("input"), arguments["hx"]
    states = list(states) if isinstance(states, list | tuple) else [states]
    each, directions = (4 if arguments["has_biases"] else 2), 1 + arguments["bidirectional"]
    if len(arguments["params"]) != each * directions * arguments["num_layers"]:
        raise Unsupported  # projected
    time = 1 if arguments["batch_first"] and len(source.shape) == 3 else 0
    steps = [_at(source, time, i) for i in range(source.shape[time])]
    finals: list[State] = []
    for _ in range(arguments["num_layers"]):
        sides = []
        for direction in range(directions):
            weights = arguments["params"][len(finals) * each :][:each]
            state: State = tuple(_at(part, 0, len(finals)) for part in states)
            outputs = []
            for step in reversed(steps) if direction else steps:
                state = cell(step, state, weights)
                outputs.append(state[0])
            finals.append(state)
            sides.append(outputs[::-1] if direction else outputs)
        steps = [_joined(list(parts), torch.cat, -1) for parts in zip(*sides, strict=True)]
    last = [_joined(list(parts), torch.stack, 0) for parts in zip(*finals, strict=True)]
    return [_joined(steps, torch.stack, time), *last]


@rule("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")
def _cell(call: Call) -> list[Signal]:
    state = call.arguments["hx"]
    weights = [call.arguments.get(name) for name in ("w_ih", "w_hh", "b_ih", "b_hh")]
    found = [weight for weight in weights if weight is not None]
    return list(
        _CELLS[call.name](
            call.signal("input"), tuple(state) if isinstance(state, list | tuple) else (state,), found
        )
    )


def _at(signal: Signal, dim: int, index: int) -> Signal:
    return signal.changed(lambda t: t.select(dim, index))


def _joined(signals: Sequence[Signal], join: Callable[..., torch.Tensor], dim: int) -> Signal:
    nonzero = join([signal.nonzero for signal in signals], dim)
    if all(signal.reached is None for signal in signals):
        return Signal(nonzero)
    return Signal(nonzero, join([signal.by_input for signal in signals], dim))
